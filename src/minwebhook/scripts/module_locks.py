"""Locks of scripts in TypeScript: which packages in which versions. Pure.

A lock is two JSON texts with a line between them. For bun and node, as Windmill has it::

    {"dependencies": {"lodash": "latest"}}
    //bun.lock
    {... the file bun.lock, or <empty>}

and for deno ``{"imports": ["npm:lodash@4"]}``, ``//deno.lock``, and the file deno.lock.

Locks may come from clients. What they say is put together anew from what is allowed: names, versions and checksums. Where
packages come from is the server's business, so addresses are left out; patches, scripts and files cannot be said at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from minwebhook.errors import BadRequest
from minwebhook.scripts.specifiers import MAX_PACKAGES, is_deno_module, is_range

_EMPTY: Final = "<empty>"
_MAX_LOCKED: Final = 20_000
_SEPARATOR: Final = re.compile(r"\r?\n//(bun\.lock|bun\.lockb|deno\.lock)\r?\n")
_NAME: Final = re.compile(r"(?:@[A-Za-z0-9~][\w.~-]*/)?[A-Za-z0-9~_][\w.~-]*")
_REQUIREMENT: Final = re.compile(rf"(?P<name>{_NAME.pattern})@(?P<versions>.+)")
#: Versions of a package that is called otherwise than where it comes from.
_OF_ANOTHER: Final = re.compile(rf"npm:{_NAME.pattern}@(?P<versions>[^/@:]+)")
#: ``name@version`` with a version that is one: no address, no path, no repository.
_PINNED: Final = re.compile(rf"({_NAME.pattern})@(\d+\.\d+\.\d+[\w.+-]*)")
#: Commas that JSON does not have, behind the last member; strings are passed over.
_TRAILING: Final = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[}\]])')
#: Where a package is: below those that need it in a version of their own.
_PLACE: Final = re.compile(rf"{_NAME.pattern}(?:/{_NAME.pattern})*")
#: What bun.lock says about a package; not its programs, which would become links at places that a lock names.
_ABOUT: Final = frozenset(
    {"dependencies", "optionalDependencies", "peerDependencies", "optionalPeers", "os", "cpu", "libc"}
)
_HASH: Final = re.compile(r"[A-Za-z0-9+/=_-]*")
_DENO_KEYS: Final = ("version", "specifiers", "jsr", "npm", "redirects", "remote")
#: A version, and what the package was combined with: ``1.0.0_@team+peer@2.0.0``.
_COMBINED: Final = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}\.[0-9]{1,20}[\w.+@~-]*")
#: What a deno.lock names; deno makes paths of it, and so does what copies packages out of the cache.
_LOCKED: Final = re.compile(rf"{_NAME.pattern}@{_COMBINED.pattern}")
_NEEDED: Final = re.compile(rf"{_NAME.pattern}(?:@[^\0\\]*)?")
_SPECIFIER: Final = re.compile(rf"(?:npm|jsr):{_NAME.pattern}(?:@[^/\0\\]*)?")
_ADDRESS: Final = re.compile(r"https?://[^\s\"'\\]+")
_NEEDS: Final = ("dependencies", "optionalDependencies", "peerDependencies", "optionalPeers")


@dataclass(frozen=True, slots=True)
class ModuleLock:
    """What is asked for, and the file of the program that finds it."""

    #: ``name@versions`` for bun, modules for deno.
    wanted: tuple[str, ...]
    file: str


def npm_dependencies(requirements: Sequence[str]) -> dict[str, str]:
    """The ``dependencies`` of a package.json that ask for these: name -> versions, or ``npm:name@versions`` of another."""
    return {match["name"]: match["versions"] for each in requirements if (match := _REQUIREMENT.fullmatch(each))}


def make_npm_lock(requirements: Sequence[str], file: str) -> str:
    """The lock of these requirements, which led to this bun.lock."""
    head = orjson.dumps({"dependencies": npm_dependencies(requirements)}, option=orjson.OPT_INDENT_2).decode()
    return f"{head}\n//bun.lock\n{file.strip() or _EMPTY}"


def make_deno_lock(modules: Sequence[str], file: str) -> str:
    """The lock of these modules, which led to this deno.lock."""
    head = orjson.dumps({"imports": list(modules)}, option=orjson.OPT_INDENT_2).decode()
    return f"{head}\n//deno.lock\n{file.strip()}"


def read_npm_lock(lock: str) -> ModuleLock | None:
    """What a lock says; None if it asks for nothing. Raises :class:`BadRequest`."""
    head, kind, tail = _halves(lock)
    if kind == "bun.lockb":
        raise BadRequest("the lock is of an earlier format (bun.lockb): send none, and it is made anew")
    if kind != "bun.lock":
        raise BadRequest("the lock is none of bun: a package.json, a line //bun.lock, and a bun.lock")
    dependencies = head.get("dependencies") or {}
    if not isinstance(dependencies, dict):
        raise BadRequest("the lock: dependencies is an object of names and versions")
    wanted = []
    for name, versions in dependencies.items():
        if not (_NAME.fullmatch(name) and isinstance(versions, str) and _are_versions(versions)):
            raise BadRequest(f"the lock: {name[:100]!r} must be a name, with versions like ^1.2 and no address")
        wanted.append(f"{name}@{versions}")
    if not wanted:
        return None
    if tail.strip() in ("", _EMPTY):
        raise BadRequest("the lock asks for packages, and pins none of them: send none, and it is made anew")
    if len(wanted) > MAX_PACKAGES:
        raise BadRequest(f"the lock asks for {len(wanted)} packages; a script may have {MAX_PACKAGES}")
    return ModuleLock(tuple(sorted(wanted)), _checked_bun_lock(_parse(_TRAILING.sub(r"\1", tail)), dependencies))


def _are_versions(text: str) -> bool:
    match = _OF_ANOTHER.fullmatch(text)
    return is_range(text if match is None else match["versions"])


def read_deno_lock(lock: str) -> ModuleLock | None:
    """What a lock says; None if it asks for nothing. Raises :class:`BadRequest`."""
    head, kind, tail = _halves(lock)
    if kind != "deno.lock":
        raise BadRequest('the lock is none of deno: {"imports": [...]}, a line //deno.lock, and a deno.lock')
    wanted = head.get("imports")
    if not (isinstance(wanted, list) and all(isinstance(each, str) and is_deno_module(each) for each in wanted)):
        raise BadRequest("the lock: imports is a list of modules, npm:, jsr: or https:")
    if not wanted:
        return None
    if len(wanted) > MAX_PACKAGES:
        raise BadRequest(f"the lock asks for {len(wanted)} modules; a script may have {MAX_PACKAGES}")
    found = _parse(tail)
    kept: dict[str, Any] = {key: found[key] for key in _DENO_KEYS if key in found}
    _check_deno_lock(kept)
    kept["npm"] = {
        name: {key: value for key, value in each.items() if key != "tarball"}
        for name, each in kept.get("npm", {}).items()
    }
    return ModuleLock(tuple(sorted(wanted)), orjson.dumps(kept, option=orjson.OPT_INDENT_2).decode())


def _check_deno_lock(found: Mapping[str, Any]) -> None:
    """Raises :class:`BadRequest` if a name in it is none: what is no name may lead anywhere as a path."""
    for part in ("specifiers", "jsr", "npm", "redirects", "remote"):
        entries = found.get(part, {})
        if not isinstance(entries, dict) or len(entries) > _MAX_LOCKED:
            raise BadRequest(f"the lock: {part} is an object of at most {_MAX_LOCKED} entries")
        for key, value in entries.items():
            match part, value:
                case "npm" | "jsr", dict():
                    needs = [value.get(each, []) for each in _NEEDS]
                    fits = _LOCKED.fullmatch(key) is not None and all(map(_are_needs, needs))
                case "specifiers", str():
                    fits = bool(_SPECIFIER.fullmatch(key) and _COMBINED.fullmatch(value))
                case "redirects" | "remote", str():
                    fits = _ADDRESS.fullmatch(key) is not None
                case _:
                    fits = False
            if not fits:
                raise BadRequest(f"the lock: {key[:100]!r} in {part} is no package with its version, and no module")


def _are_needs(value: object) -> bool:
    """Whether these are names of packages, perhaps with versions; those of jsr say where each comes from."""
    return isinstance(value, list) and all(
        isinstance(each, str) and (_SPECIFIER.fullmatch(each) or _NEEDED.fullmatch(each)) for each in value
    )


def _halves(lock: str) -> tuple[dict[str, Any], str, str]:
    match = _SEPARATOR.search(lock)
    if match is None:
        return {}, "", ""
    return _parse(lock[: match.start()]), match[1], lock[match.end() :]


def _parse(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the lock is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("the lock: send JSON objects")
    return value


def _checked_bun_lock(found: Mapping[str, Any], dependencies: Mapping[str, str]) -> str:
    """The bun.lock with what is allowed in it."""
    packages = found.get("packages")
    if not isinstance(packages, dict) or len(packages) > _MAX_LOCKED:
        raise BadRequest("the lock: packages is an object of at most 20000 packages")
    kept = {}
    for place, entry in packages.items():
        match entry:
            case [str(name), str(), dict(about), str(integrity)] if (
                _PLACE.fullmatch(place) and _PINNED.fullmatch(name) and _HASH.fullmatch(integrity)
            ):
                kept[place] = [name, "", {key: about[key] for key in about if key in _ABOUT}, integrity]
            case _:
                raise BadRequest(f"the lock: {place[:100]!r} is no package of a registry with its version and checksum")
    shown = {
        "lockfileVersion": found.get("lockfileVersion", 1),
        **({"configVersion": found["configVersion"]} if "configVersion" in found else {}),
        "workspaces": {"": {"dependencies": dict(dependencies)}},
        "packages": kept,
    }
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()
