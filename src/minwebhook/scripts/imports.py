"""Which scripts of the workspace a script in TypeScript imports, and in which version: found when it is deployed.

``./x.ts`` and ``../y/z.ts`` are beside it, ``/f/folder/name.ts`` anywhere. As everywhere, code is searched by a pattern.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Final

from minwebhook.errors import BadRequest
from minwebhook.scripts.model import TYPESCRIPT, Language, hash_to_hex, is_script_path, split_extension
from minwebhook.scripts.script import Script

#: Where a version keeps what it imports: path to hash, all that its imports import included.
FIELD: Final = "imports"
_MOST: Final = 100
_SPECIFIER: Final = re.compile(r"""\b(?:from|import)\s*\(?\s*(["'])((?:\.{1,2})?/[^"'\n]+)\1""")


def imported_paths(code: str, path: str) -> tuple[str, ...]:
    """The paths of the scripts that the script ``path`` with this code imports itself."""
    found = []
    for match in _SPECIFIER.finditer(code):
        name = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), match[2])).lstrip("/")
        known = split_extension(name)
        if known is not None and is_script_path(known[0]):
            found.append(known[0])
    return tuple(dict.fromkeys(found))


def pin_imports(language: Language, code: str, path: str, find: Callable[[str], Script | None]) -> Mapping[str, str]:
    """Path to hash of all that is imported, directly or not; ``find`` gives the version to import of what may be imported.

    What a version was pinned to when it was deployed stays so for those that import it, unless they import another version
    themselves. Raises :class:`BadRequest`.
    """
    pins: dict[str, str] = {}
    if language not in TYPESCRIPT:
        return pins
    for name in imported_paths(code, path):
        if name == path:
            continue
        script = find(name)
        if script is None or script.language not in TYPESCRIPT:
            raise BadRequest(
                f"the code imports {name}, which is no script in TypeScript that you may read: deploy it first"
            )
        pins[name] = hash_to_hex(script.hash)
        for inner, version in script.settings.get(FIELD, {}).items():
            if inner != path:
                pins.setdefault(inner, version)
    if len(pins) > _MOST:
        raise BadRequest(f"the code imports {len(pins)} scripts, and may import {_MOST}")
    return pins
