"""Modules from elsewhere for scripts of deno: ``npm:``, ``jsr:`` and ``https:``, found and fetched by deno itself.

A set has a directory for deno (``DENO_DIR``) with what its lock names, and the lock. deno runs nothing of it meanwhile.
"""

from __future__ import annotations

import platform
import shutil
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


class Deno:
    """Calls deno. ``cache`` is where it keeps what it fetched."""

    def __init__(self, settings: PackageSettings, program: str | None, cache: Path) -> None:
        """``program`` is its path; None if it is not there."""
        self._tool = Tool("deno", settings)
        self._program = program
        self._cache = cache

    @property
    def identity(self) -> tuple[str, ...]:
        """Where modules come from is a part of what they are called."""
        return ("deno", platform.machine(), *self._addresses().values())

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
        """From the cache of all, what this lock names: packages of npm, and what was fetched from the hosts in question."""
        place = target / "deno"
        place.mkdir(parents=True)
        (target / _LOCK).write_text(lock)
        for registry in _folders(self._cache / "npm"):
            for name, version in _packages_of_npm(lock):
                package = registry / name
                for folder in (package / version, *package.glob(f"{version}_*")):
                    if folder.is_dir():
                        kept = place / folder.relative_to(self._cache)
                        shutil.copytree(folder, kept, symlinks=True)
                        if (about := package / "registry.json").is_file():
                            shutil.copyfile(about, kept.parent / about.name)
        if (self._cache / "remote").is_dir() and _has_modules(lock):
            shutil.copytree(self._cache / "remote", place / "remote")


def _folders(place: Path) -> list[Path]:
    return [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []


def _has_modules(lock: str) -> bool:
    found = orjson.loads(lock)
    return bool(found.get("jsr") or found.get("remote"))


def _packages_of_npm(lock: str) -> list[tuple[str, str]]:
    """Names and versions in a deno.lock, whose keys are ``name@version``, perhaps with what it was combined with."""
    found: dict[tuple[str, str], None] = {}
    for key in orjson.loads(lock).get("npm", {}):
        name, _, version = key[1:].partition("@")
        found[key[0] + name, version.partition("_")[0]] = None
    return list(found)


def _advice(settings: PackageSettings, modules: tuple[str, ...], cache: Path) -> str:
    if not settings.offline:
        return ""
    place = cache if settings.package_cache else "package_cache/deno"
    names = " ".join(f"'{each}'" for each in modules)
    return (
        f"\nThe server is offline: put what is missing into {place}. On a machine with a network:\n"
        f"DENO_DIR=CACHE/deno deno cache {names}"
    )
