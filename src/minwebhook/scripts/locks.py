"""What packages scripts of any language need, and what their locks say. Pure.

Three kinds of packages: of Python, of npm (for what bun or node runs), and of deno. Other languages have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal

from minwebhook.errors import BadRequest
from minwebhook.scripts import module_locks
from minwebhook.scripts.requirements import find_requirements, make_lock, pins_of
from minwebhook.scripts.specifiers import deno_requirements, named_apart, npm_requirements

PackageKind = Literal["python", "npm", "deno"]

#: The kind of packages by language.
KINDS: Final[Mapping[str, PackageKind]] = {
    "python3": "python",
    "bun": "npm",
    "bunnative": "npm",
    "nativets": "npm",
    "deno": "deno",
}


def first_lock(language: str, content: str) -> str | None:
    """The lock of new code: "" if it needs no packages, None if its packages have yet to be found."""
    kind = KINDS.get(language)
    if kind is None:
        return ""
    try:
        needs = find_requirements(content) if kind == "python" else modules_wanted(kind, [content])
    except BadRequest:  # whoever looks for them will say so
        return None
    return None if needs else ""


def modules_wanted(kind: PackageKind, codes: Iterable[str]) -> tuple[str, ...]:
    """What these codes, of TypeScript and one script together, import from elsewhere. Raises :class:`BadRequest`."""
    if kind == "deno":
        return tuple(sorted({each for code in codes for each in deno_requirements(code)}))
    versions: dict[str, list[str]] = {}
    for requirement in (each for code in codes for each in npm_requirements(code)):
        name, _, wanted = requirement.rpartition("@")
        known = versions.setdefault(name, [])
        if wanted != "latest" and wanted not in known:
            known.append(wanted)
    return tuple(sorted(each for name, known in versions.items() for each in _beside_each_other(name, known)))


def _beside_each_other(name: str, versions: list[str]) -> list[str]:
    """The requirements of a package of npm: the first version has its name, the others one of their own."""
    first, *others = versions or ["latest"]
    return [f"{name}@{first}", *(f"{named_apart(name, each)}@npm:{name}@{each}" for each in others)]


@lru_cache(maxsize=256)  # jobs ask for the same ones again and again
def texts_of(language: str, lock: str) -> tuple[str, ...]:
    """What is to be installed by this lock; nothing if it needs no packages. Raises :class:`BadRequest`.

    Of Python the pins; of the others what is asked for, and behind it the file of the program that finds it.
    """
    kind = KINDS.get(language)
    if not lock or kind is None:
        return ()
    if kind == "python":
        return pins_of(lock)
    read = module_locks.read_npm_lock(lock) if kind == "npm" else module_locks.read_deno_lock(lock)
    return () if read is None else (*read.wanted, read.file)


def lock_of(kind: PackageKind, texts: tuple[str, ...], python: str) -> str:
    """The lock that says this; ``python`` is the version of that for Python."""
    if kind == "python":
        return make_lock(python, texts)
    make = module_locks.make_npm_lock if kind == "npm" else module_locks.make_deno_lock
    return make(texts[:-1], texts[-1])


def needed_lock(language: str, lock: str | None) -> str | None:
    """The lock, or "" if it needs no packages."""
    try:
        return lock if lock is None or texts_of(language, lock) else ""
    except BadRequest:  # whoever installs it will say so
        return lock
