"""Lets a Python script import other scripts of its workspace, whose code comes with the job.

A script is the module of its path: ``f/team/tools`` is ``f.team.tools``. What is above it is a package with nothing in it.
"""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any, Final


def module_parts(path: str) -> list[str]:
    """The parts of the import name of a script path: ``-`` is ``_``, and so begins what begins with a digit."""
    parts = [part.replace("-", "_") for part in path.split("/")]
    return [f"_{part}" if part[:1].isdigit() else part for part in parts]


class WorkspaceFinder:
    """Finds and loads them (importlib's protocols of finders and loaders)."""

    def __init__(self, scripts: dict[str, str], sources: dict[str, bytes]) -> None:
        """``scripts`` are paths and code; ``sources`` gets the code of those that are loaded, by file name."""
        self._scripts: Final = {".".join(module_parts(path)): (f"{path}.py", code) for path, code in scripts.items()}
        self._packages: Final = {name for each in self._scripts for name in _above(each)}
        self._sources = sources

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A script, or what is above one; None for everything else."""
        if name in self._scripts:
            spec = ModuleSpec(name, _as_loader(self), origin=self._scripts[name][0], is_package=name in self._packages)
            spec.has_location = True
            return spec
        return ModuleSpec(name, None, is_package=True) if name in self._packages else None

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs the code of a script."""
        file, code = self._scripts[module.__name__]
        self._sources[file] = source = code.encode()
        exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the purpose of this process


def _as_loader(finder: Any) -> Any:
    """It is one, though it does not say so: the class of all loaders is not at hand here."""
    return finder


def offer(scripts: dict[str, str], sources: dict[str, bytes]) -> None:
    """From now on these can be imported."""
    sys.meta_path.insert(0, WorkspaceFinder(scripts, sources))


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
