"""Which scripts of the workspace a script imports, and in which version: found when it is deployed. Pure.

In TypeScript ``./x.ts`` and ``../y/z.ts`` are beside it, ``/f/folder/name.ts`` anywhere. In Python ``from .x import a`` and
``from ..y.z import a`` are beside it, ``from f.folder.name import a`` and ``from f.folder import name`` anywhere.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from minwebhook.errors import BadRequest
from minwebhook.scripts.model import TYPESCRIPT, Language, hash_to_hex, is_script_path, split_extension
from minwebhook.scripts.requirements import imports_of
from minwebhook.scripts.script import Script
from minwebhook.scripts.specifiers import imported_specifiers

#: Where a version keeps what it imports: path to hash, all that its imports import included.
FIELD: Final = "imports"
_MOST: Final = 100
_MAYBE_FROM: Final = re.compile(r"\bfrom\s+(?:\.|[ufg]\b)")
_IMPORT: Final = re.compile(r"\bimport\b")
_MAYBE_SCRIPT: Final = re.compile(r"\b[ufg]\s*\.")
#: A part of a module's name that stands for a part of a path that begins with a digit.
_DIGIT: Final = re.compile(r"_(?=\d)")


def imported_paths(language: Language, code: str, path: str) -> tuple[tuple[str, ...], ...]:
    """For each import of the script ``path`` with this code the paths that it may mean; one has to exist, all that do count."""
    if language in TYPESCRIPT:
        found: Iterable[tuple[str, ...]] = _of_typescript(code, path)
    elif language is Language.PYTHON3 and _may_import(code):
        found = _of_python(code, path)
    else:
        return ()
    return tuple(dict.fromkeys(found))


def _may_import(code: str) -> bool:
    """False if there is no import of a script in Python: cheap, and linear, to see whether a parse is worth it."""
    if _MAYBE_FROM.search(code) is not None:
        return True
    lines = (line for line in code.split("\n") if "import" in line)
    return any(
        (found := _IMPORT.search(line)) is not None and _MAYBE_SCRIPT.search(line, found.end()) is not None
        for line in lines
    )


def _of_typescript(code: str, path: str) -> Iterator[tuple[str, ...]]:
    for specifier in imported_specifiers(code):
        if specifier[0] in "./":
            name = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), specifier)).lstrip("/")
            known = split_extension(name)
            if known is not None and is_script_path(known[0]):
                yield (known[0],)


def _of_python(code: str, path: str) -> Iterator[tuple[str, ...]]:
    for node in imports_of(code):
        if isinstance(node, ast.Import):
            modules: list[tuple[str, ...]] = [(_path_of(alias.name.split(".")),) for alias in node.names]
        else:
            package = _package(node, path)
            names = package + (node.module.split(".") if node.module else [])
            modules = [(_path_of(names), _path_of([*names, alias.name])) for alias in node.names] if names else []
        for candidates in modules:
            if any(map(is_script_path, candidates)):
                yield tuple(filter(is_script_path, candidates))


def _package(node: ast.ImportFrom, path: str) -> list[str]:
    """The parts that a relative import begins with; nothing for one from the top, or of code without a place."""
    parts = path.split("/")
    return parts[: -node.level] if node.level else []


def _path_of(names: list[str]) -> str:
    return "/".join(_DIGIT.sub("", name, count=1) for name in names)


def pin_imports(language: Language, code: str, path: str, find: Callable[[str], Script | None]) -> Mapping[str, str]:
    """Path to hash of all that is imported, directly or not; ``find`` gives the version to import of what may be imported.

    What a version was pinned to when it was deployed stays so for those that import it, unless they import another version
    themselves. Raises :class:`BadRequest`.
    """
    pins: dict[str, str] = {}
    kind, family = ("TypeScript", TYPESCRIPT) if language in TYPESCRIPT else ("Python", {Language.PYTHON3})
    for candidates in imported_paths(language, code, path):
        if path in candidates:
            continue
        found = [script for name in candidates if (script := find(name)) is not None and script.language in family]
        if not found:
            names = " or ".join(candidates)
            raise BadRequest(
                f"the code imports {names}, which is no script in {kind} that you may read: deploy it first"
            )
        for script in found:
            pins[script.path] = hash_to_hex(script.hash)
            for inner, version in script.settings.get(FIELD, {}).items():
                if inner != path:
                    pins.setdefault(inner, version)
    if len(pins) > _MOST:
        raise BadRequest(f"the code imports {len(pins)} scripts, and may import {_MOST}")
    return pins
