"""Packages of npm, for scripts that bun or node runs: found and installed by bun, which runs nothing of them meanwhile."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from minwebhook.errors import PackageError
from minwebhook.packages.maker import Tool, has_system_certificates, npm_configuration
from minwebhook.settings import PackageSettings

_MISSING: Final = (
    "packages of npm are installed by bun, which is not here: pip install 'minwebhook[bun]', or put bun on the PATH"
)


class Bun:
    """Calls bun. ``cache`` is where it keeps what it fetched."""

    def __init__(self, settings: PackageSettings, program: str | None, cache: Path) -> None:
        """``program`` is its path; None if it is not there."""
        self._tool = Tool("bun", settings)
        self._program = program
        self._cache = cache

    @property
    def identity(self) -> tuple[str, ...]:
        """Packages may hold compiled code, for one kind of machine."""
        return ("npm", platform.machine())

    async def resolve(self, requirements: tuple[str, ...], directory: Path) -> tuple[str, ...]:
        """These requirements, ``name@versions`` or ``other@npm:name@versions``, and the bun.lock that they lead to."""
        self._write(directory, requirements)
        await self._run(directory, "--lockfile-only", wanted=requirements)
        return (*requirements, (directory / "bun.lock").read_text())

    async def install(self, content: tuple[str, ...], target: Path, directory: Path) -> None:
        """What :meth:`resolve` gave, in ``node_modules``."""
        *wanted, lock = content
        self._write(target, wanted)
        (target / "bun.lock").write_text(lock)
        await self._run(target, "--frozen-lockfile", "--backend=copyfile", wanted=tuple(wanted), home=directory)
        (target / ".npmrc").unlink()

    def note(self, content: tuple[str, ...]) -> dict[str, Any]:
        """What was asked for."""
        return {"npm": content[:-1]}

    def _write(self, directory: Path, requirements: Sequence[str]) -> None:
        directory.mkdir(exist_ok=True)
        named = dict(map(_parted, requirements))
        (directory / "package.json").write_bytes(orjson.dumps({"dependencies": named}))
        file = directory / ".npmrc"
        file.touch(0o600)
        file.write_text(npm_configuration(self._tool.settings.package_npm))

    async def _run(self, directory: Path, *flags: str, wanted: tuple[str, ...], home: Path | None = None) -> None:
        if self._program is None:
            raise PackageError(_MISSING)
        settings = self._tool.settings
        environment = self._tool.environment(home or directory) | {
            "BUN_INSTALL_CACHE_DIR": str(self._cache),
            "DO_NOT_TRACK": "1",
            "NODE_USE_SYSTEM_CA": "" if settings.package_ca or not has_system_certificates() else "1",
        }
        # Code of packages is never run here, whatever they ask for.
        argv = [self._program, "install", "--ignore-scripts", "--no-progress", "--no-summary", *flags]
        if settings.package_ca:
            argv.append(f"--cafile={settings.package_ca}")
        if settings.offline:
            argv.append("--offline")
        try:
            await self._tool.run(argv, environment, directory)
        except PackageError as error:
            raise PackageError(f"{error}{_advice(settings, wanted, self._cache)}") from None


def _parted(requirement: str) -> tuple[str, str]:
    """The name and what stands behind it; the name of a package may itself begin with ``@``."""
    at = requirement.index("@", 1)
    return requirement[:at], requirement[at + 1 :]


def _advice(settings: PackageSettings, wanted: tuple[str, ...], cache: Path) -> str:
    if not settings.offline:
        return ""
    place = cache if settings.package_cache else "package_cache/bun"
    names = " ".join(f"'{each}'" for each in wanted)
    return (
        f"\nThe server is offline: put what is missing into {place}. On a machine with a network, in an empty directory:\n"
        f"BUN_INSTALL_CACHE_DIR=CACHE/bun bun add --ignore-scripts {names}"
    )
