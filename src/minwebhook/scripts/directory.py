"""Deploying a directory: every file below it becomes the script of the same path.

``u/admin/hello.py`` is the Python script ``u/admin/hello``. An executable file whose
name has no ending is a script of the language ``exec``. Names that begin with a dot and ``__pycache__`` are
skipped; any other file that cannot be deployed ends the start, so that a typing error does not silently leave a webhook
dead. A file that did not change makes no new version, and summary, schema and settings given by other means stay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from minwebhook.errors import BadRequest, DeployError
from minwebhook.schemas.model import keep_edits
from minwebhook.schemas.validation import ANNOTATION, asks_for_validation
from minwebhook.scripts.imports import FIELD, imported_paths, pin_imports
from minwebhook.scripts.model import (
    EXTENSIONS,
    MAX_CONTENT_BYTES,
    Language,
    NewScript,
    ScriptPath,
    is_script_path,
    marked_language,
    split_extension,
)
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import ScriptStore

#: Language and code to the schema of the arguments; None if it cannot be read.
SchemaOf = Callable[[str, str], Awaitable[dict[str, Any] | None]]
#: Folders in folders, a bound for links that lead in circles.
MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of one file."""

    path: ScriptPath
    hash: int
    #: False when the live version was the same already.
    is_new: bool


async def _nothing_missing(_language: str) -> str:
    return ""


async def _no_schema(_language: str, _content: str) -> dict[str, Any] | None:
    return None


async def deploy_directory(
    store: ScriptStore,
    root: Path,
    workspace: str,
    created_by: str,
    now_ms: int,
    check: Callable[[str, bytes], None] = lambda _language, _code: None,
    *,
    missing: Callable[[str], Awaitable[str]] = _nothing_missing,
    read_schema: SchemaOf = _no_schema,
) -> list[Deployed]:
    """Deploy every file below ``root``, in order of their names.

    Everything is read before anything is deployed. ``check`` raises :class:`BadRequest` for a language and code that cannot
    be run here; ``missing`` says what to do if a language cannot; ``read_schema`` gives the schema of the arguments of a
    language and code. Raises :class:`DeployError` with the file's name and the
    reason.
    """
    files = await trio.to_thread.run_sync(_read_all, root)
    for language in {file.language: None for file in files.values()}:
        if reason := await missing(language.value):
            name = next(name for name, file in files.items() if file.language is language)
            raise DeployError(f"cannot deploy {name}: {reason}")
    deployed = []
    for name, file in _imported_first(files):
        try:
            check(file.language.value, file.content.encode())
            deployed.append(await _deploy(store, file, workspace, created_by, now_ms, read_schema))
        except BadRequest as error:
            raise DeployError(f"cannot deploy {name}: {error.detail}") from error
    return deployed


@dataclass(frozen=True, slots=True)
class _File:
    """What a file says of its script."""

    path: ScriptPath
    language: Language
    content: str


def _imported_first(files: dict[str, _File]) -> list[tuple[str, _File]]:
    """The files in order of their names, but each behind those that it imports."""
    names = {file.path: name for name, file in files.items()}
    ordered: dict[str, _File] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        file = files[name]
        for paths in imported_paths(file.language, file.content, file.path):
            for path in paths:
                if path in names:
                    add(names[ScriptPath(path)])
        ordered[name] = file

    for name in files:
        add(name)
    return list(ordered.items())


def _live(store: ScriptStore, workspace: str, path: str) -> Script | None:
    script = store.newest(workspace, path)
    return script if script is not None and script.is_live else None


async def _deploy(
    store: ScriptStore, file: _File, workspace: str, created_by: str, now_ms: int, read_schema: SchemaOf
) -> Deployed:
    """Make the file's code the live version of its path."""
    path, language, content = file.path, file.language, file.content
    # Parsing checks the code as a create request would, and finds its entry points.
    fresh = NewScript.parse(
        {"path": path, "summary": "", "description": "", "content": content, "language": language.value}
    )
    imports = pin_imports(language, content, path, lambda name: _live(store, workspace, name))
    before = store.newest(workspace, path)
    if (
        before is not None
        and before.is_live
        and (before.content, before.language, before.settings.get(FIELD, {})) == (content, language, imports)
    ):
        if before.lock_error_logs is not None:
            await store.forget_lock_error(workspace, before.hash)  # it is looked for anew
        return Deployed(path, before.hash, is_new=False)
    schema = await read_schema(language.value, content)
    if schema is None and asks_for_validation(language.value, content) and (before is None or before.schema is None):
        raise BadRequest(f"{ANNOTATION}: the signature of main cannot be read")
    if before is not None:
        fresh = replace(
            before.to_new(),
            content=content,
            language=language,
            no_main_func=fresh.no_main_func,
            has_preprocessor=fresh.has_preprocessor,
            lock=fresh.lock,
            # These two are about the earlier version, not about the script.
            settings={k: v for k, v in before.settings.items() if k not in ("draft_only", "deployment_message", FIELD)},
        )
    if imports:
        lock = store.lock_with(workspace, fresh.lock, imports)
        fresh = replace(fresh, settings={**fresh.settings, FIELD: imports}, lock=lock)
    if schema is not None:
        fresh = replace(fresh, schema=keep_edits(schema, fresh.schema))
    return Deployed(path, await store.create(workspace, fresh, created_by, now_ms), is_new=True)


def _read_all(root: Path) -> dict[str, _File]:
    """Every script file by its name relative to ``root``."""
    try:
        top = root.resolve(strict=True)
        names = list(_files(top, top, 0))
    except OSError as error:
        raise DeployError(f"cannot read the directory {error.filename or root}: {error.strerror}") from error
    except RuntimeError as error:  # see below
        raise DeployError(f"cannot read the directory {root}: a link that leads in a circle") from error
    scripts: dict[str, _File] = {}
    names_by_path: dict[str, str] = {}
    for file in names:
        name = file.relative_to(top).as_posix()
        script = _read(file, name, top)
        if script.path in names_by_path:
            raise DeployError(f"cannot deploy {name}: {names_by_path[script.path]} has the same script path")
        names_by_path[script.path] = name
        scripts[name] = script
    return scripts


def _files(folder: Path, top: Path, depth: int) -> Iterator[Path]:
    """The files below ``folder``, sorted by name; folders that are links are not entered but refused."""
    if depth > MAX_DEPTH:
        raise DeployError(f"cannot deploy {folder.relative_to(top).as_posix()}: folders are nested too deeply")
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            if entry.is_symlink():
                raise DeployError(f"cannot deploy {entry.relative_to(top).as_posix()}: it is a link to a directory")
            yield from _files(entry, top, depth + 1)
        else:
            yield entry


def _read(file: Path, name: str, top: Path) -> _File:
    """One file's path, language and code."""

    def refuse(reason: str) -> DeployError:
        return DeployError(f"cannot deploy {name}: {reason}")

    known = split_extension(name)
    if known is None and not file.suffix and os.access(file, os.X_OK):
        known = name, Language.EXEC
    if known is None:
        raise refuse(
            f"scripts are files ending in {', '.join(EXTENSIONS)}, and executable ones without an ending; "
            "remove it or begin its name with a dot"
        )
    path, language = known
    if not is_script_path(path):
        raise refuse("scripts are named u/<user>/<name> or f/<folder>/<name>, of letters, digits, - and _")
    try:
        # A link to a file is fine (mounted configuration is made of them) as long as it stays below the root.
        if not file.resolve(strict=True).is_relative_to(top):
            raise refuse("it is a link that leads out of the directory")
        if not stat.S_ISREG(file.stat().st_mode):
            raise refuse("it is not a regular file")
        with file.open("rb") as opened:
            data = opened.read(MAX_CONTENT_BYTES + 1)
    except OSError as error:
        raise refuse(f"it cannot be read ({error.strerror})") from error
    except RuntimeError as error:  # pathlib's word for a link to itself before Python 3.13
        raise refuse("it cannot be read (a link that leads in a circle)") from error
    if len(data) > MAX_CONTENT_BYTES:
        raise refuse(f"it is larger than {MAX_CONTENT_BYTES} bytes")
    try:
        # Some editors begin files with a byte order mark, which no interpreter takes.
        content = data.decode("utf-8-sig")
        return _File(ScriptPath(path), marked_language(language, content), content)
    except UnicodeDecodeError as error:
        raise refuse(f"it is not UTF-8 (byte {error.start})") from error
