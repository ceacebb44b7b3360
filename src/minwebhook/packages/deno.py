"""Modules from elsewhere for scripts of deno: ``npm:``, ``jsr:`` and ``https:``, found and fetched by deno itself.

A set has a directory for deno (``DENO_DIR``) with what its lock names, and the lock. deno runs nothing of it meanwhile.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import platform
import shutil
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from minwebhook.errors import PackageError
from minwebhook.packages.maker import Tool, has_system_certificates, npm_configuration, without_credentials
from minwebhook.settings import PackageSettings

_MISSING: Final = "deno is not here: pip install 'minwebhook[deno]', or put deno on the PATH"
_ENTRY: Final = "entry.ts"
_LOCK: Final = "deno.lock"
_JSR: Final = "https://jsr.io/"
#: What deno writes behind a module that it fetched: JSON with its address.
_METADATA: Final = b"\n// denoCacheMetadata="


class Deno:
    """Calls deno. ``cache`` is where it keeps what it fetched."""

    def __init__(self, settings: PackageSettings, program: str | None, cache: Path) -> None:
        """``program`` is its path; None if it is not there."""
        self._tool = Tool("deno", settings)
        self._program = program
        self._cache = cache

    @property
    def identity(self) -> tuple[str, ...]:
        """Where modules come from is a part of what they are called, and so is how sets are made: 2 has its own modules alone."""
        return ("deno", "2", platform.machine(), *self._addresses().values())

    async def resolve(self, requirements: tuple[str, ...], directory: Path) -> tuple[str, ...]:
        """These modules, and the deno.lock that they lead to."""
        await self._run(directory, requirements)
        return (*requirements, (directory / _LOCK).read_text())

    async def install(self, content: tuple[str, ...], target: Path, directory: Path) -> None:
        """What :meth:`resolve` gave: in ``deno``, and the lock as ``deno.lock``."""
        *modules, lock = content
        (directory / _LOCK).write_text(lock)
        await self._run(directory, tuple(modules), "--frozen")
        await trio.to_thread.run_sync(self._collect, target, lock)

    def note(self, content: tuple[str, ...]) -> dict[str, Any]:
        """What was asked for, and what deno must be told to find it."""
        return {"deno": content[:-1], "environment": self._addresses()}

    def _addresses(self) -> dict[str, str]:
        """Where modules come from, if not from where they usually do."""
        settings = self._tool.settings
        found = {}
        if settings.package_npm:
            found["NPM_CONFIG_REGISTRY"] = without_credentials(settings.package_npm)[0]
        if settings.package_jsr:
            found["JSR_URL"] = without_credentials(settings.package_jsr)[0]
        return found

    async def _run(self, directory: Path, modules: tuple[str, ...], *flags: str) -> None:
        if self._program is None:
            raise PackageError(_MISSING)
        settings = self._tool.settings
        (directory / _ENTRY).write_text("".join(f"import {orjson.dumps(each).decode()};\n" for each in modules))
        file = directory / ".npmrc"
        file.touch(0o600)
        file.write_text(npm_configuration(settings.package_npm))
        environment = (
            self._tool.environment(directory)
            | self._addresses()
            | {
                "DENO_DIR": str(self._cache),
                "DENO_NO_UPDATE_CHECK": "1",
                "DENO_NO_PROMPT": "1",
                "DENO_CERT": settings.package_ca,
                "DENO_TLS_CA_STORE": "" if settings.package_ca or not has_system_certificates() else "system",
            }
        )
        argv = [
            self._program,
            "install",
            "--entrypoint",
            "--quiet",
            "--no-config",
            f"--lock={directory / _LOCK}",
            *flags,
        ]
        if settings.package_hosts:
            argv.append(f"--allow-import={','.join(settings.package_hosts)}")
        if settings.offline:
            argv.append("--cached-only")
        try:
            await self._tool.run([*argv, str(directory / _ENTRY)], environment, directory)
        except PackageError as error:
            raise PackageError(f"{error}{_advice(settings, modules, self._cache)}") from None

    def _collect(self, target: Path, lock: str) -> None:
        """From the cache of all, what this lock names and nothing else: packages of npm, and modules by their addresses."""
        place = target / "deno"
        place.mkdir(parents=True)
        (target / _LOCK).write_text(lock)
        found = orjson.loads(lock)
        cache = self._cache.resolve()
        packages = _packages_of_npm(found.get("npm", {}))
        for registry in _folders(cache / "npm"):
            for name, version in packages:
                package = registry / _folder_of(name)
                for folder in (package / version, *package.glob(f"{glob.escape(version)}_*")):
                    if folder.is_dir() and folder.resolve() == folder:  # no link leads out of the cache
                        kept = place / folder.relative_to(cache)
                        shutil.copytree(folder, kept, symlinks=True)
                        about = package / "registry.json"
                        if about.is_file() and not about.is_symlink():
                            shutil.copyfile(about, kept.parent / about.name)
        modules = _Modules(cache / "remote")
        for file in modules.of(found, self._addresses().get("JSR_URL", _JSR)):
            kept = place / file.relative_to(cache)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, kept)


class _Modules:
    """What deno fetched from addresses: ``SCHEME/HOST/`` and the checksum of the rest of the address."""

    def __init__(self, place: Path) -> None:
        self._hosts = {scheme: _folders(place / scheme) for scheme in ("http", "https")}

    def of(self, lock: dict[str, Any], jsr: str) -> Iterator[Path]:
        """The files of the modules in a lock; ``jsr`` is the address of that registry."""
        for url in dict.fromkeys((*lock.get("remote", {}), *lock.get("redirects", {}))):
            yield from self._find(url)
        names: dict[str, None] = {}
        for key in lock.get("jsr", {}):
            name, version = _parted(key)
            names[name] = None
            for manifest in self._find(f"{jsr}{name}/{version}_meta.json"):
                yield manifest
                for path in orjson.loads(manifest.read_bytes().rpartition(_METADATA)[0]).get("manifest", {}):
                    yield from self._find(f"{jsr}{name}/{version}{path}")
        for name in names:
            yield from self._find(f"{jsr}{name}/meta.json")

    def _find(self, url: str) -> Iterator[Path]:
        """The file of this address, if it is there; how a folder is called by its host is deno's business."""
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # no address: it has no file
            return
        rest = f"{parts.path}?{parts.query}" if parts.query else parts.path
        checksum = hashlib.sha256(rest.encode()).hexdigest()
        for host in self._hosts.get(parts.scheme, ()):
            file = host / checksum
            if file.is_file() and not file.is_symlink() and _address_of(file) == url:
                yield file


def _address_of(file: Path) -> str | None:
    try:
        return str(orjson.loads(file.read_bytes().rpartition(_METADATA)[2])["url"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [each for each in place.iterdir() if each.is_dir() and each.resolve() == each]


def _packages_of_npm(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Names and versions in a deno.lock, whose keys are ``name@version``, perhaps with what it was combined with."""
    found: dict[tuple[str, str], None] = {}
    for key in keys:
        name, version = _parted(key)
        found[name, version.partition("_")[0]] = None
    return list(found)


def _folder_of(name: str) -> str:
    """What deno calls the folder of a package: capitals are told from small letters also where file systems do not."""
    if name == name.lower():
        return name
    return "_" + base64.b32encode(name.encode()).decode().rstrip("=").lower()


def _parted(key: str) -> tuple[str, str]:
    """Name and version, neither of which leads elsewhere as a path. Raises :class:`PackageError`."""
    name, _, version = key[1:].partition("@")
    name = key[:1] + name
    parts = [*name.split("/"), version]
    if "/" in version or "\0" in key or not {"", ".", ".."}.isdisjoint(parts):
        raise PackageError(f"the lock: {key[:100]!r} is no package")
    return name, version


def _advice(settings: PackageSettings, modules: tuple[str, ...], cache: Path) -> str:
    if not settings.offline:
        return ""
    place = cache if settings.package_cache else "package_cache/deno"
    names = " ".join(f"'{each}'" for each in modules)
    return (
        f"\nThe server is offline: put what is missing into {place}. On a machine with a network:\n"
        f"DENO_DIR=CACHE/deno deno cache {names}"
    )
