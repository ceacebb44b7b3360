"""uv: how it is found, told what to do, and what its complaints mean. Finding and installing packages is all it does here."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from minwebhook.errors import PackageError
from minwebhook.packages.maker import Tool, has_system_certificates
from minwebhook.settings import PackageSettings

_PYPI: Final = "https://pypi.org/simple"
_HINT: Final = "install the extra: pip install 'minwebhook[packages]', or set uv to the path of the program"
_WHEEL_NAME: Final = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl")
_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*==\s*(?P<version>[^\s;]+)")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs scripts: its binary, and its version as ``3.11``."""

    binary: str
    version: str


def find_uv(configured: str) -> str:
    """The path of the program. Raises :class:`PackageError`."""
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise PackageError(f"the setting uv = {configured!r} is not a program")
        return str(Path(found).resolve())
    try:
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError, AttributeError):
        found = shutil.which("uv")
    if found is None:
        raise PackageError(f"packages cannot be installed: {_HINT}")
    return found


class Uv:
    """Calls uv for one interpreter. ``cache`` is where it keeps what it fetched."""

    def __init__(self, settings: PackageSettings, interpreter: Interpreter, cache: Path) -> None:
        self._settings = settings
        self._tool = Tool("uv", settings)
        self.interpreter: Final = interpreter
        self._cache = cache

    @property
    def identity(self) -> tuple[str, ...]:
        """Packages are for one version of Python on one kind of machine."""
        return (self.interpreter.version, platform.machine())

    def note(self, content: tuple[str, ...]) -> dict[str, Any]:
        """The interpreter and the pins."""
        return {"python": self.interpreter.version, "packages": content}

    async def resolve(self, requirements: tuple[str, ...], directory: Path) -> tuple[str, ...]:
        """Pins for all that the requirements need. ``directory`` is for files meanwhile."""
        asked, found = directory / "asked.txt", directory / "found.txt"
        asked.write_text("\n".join(requirements) + "\n")
        await self._run(
            directory,
            *("pip", "compile", str(asked), "--output-file", str(found), "--no-header", "--no-annotate"),
            asked=requirements,
        )
        return tuple(line for line in found.read_text().splitlines() if line and not line.startswith("#"))

    async def install(self, content: tuple[str, ...], target: Path, directory: Path) -> None:
        """Installs exactly these pins into ``target``."""
        asked = directory / "pins.txt"
        asked.write_text("\n".join(content) + "\n")
        await self._run(
            directory,
            *("pip", "install", "--target", str(target), "--no-deps", "--requirements", str(asked)),
            *("--compile-bytecode", "--link-mode", "copy"),
            asked=content,
        )

    async def _run(self, directory: Path, *arguments: str, asked: tuple[str, ...]) -> None:
        builds = () if self._settings.package_builds else ("--only-binary", ":all:")
        argv = [find_uv(self._settings.uv), *arguments, "--python", self.interpreter.binary, *builds]
        try:
            await self._tool.run(argv, self._environment(directory), directory)
        except PackageError as error:
            raise PackageError(f"{error}{self._advice(asked)}") from None

    def _environment(self, directory: Path) -> dict[str, str]:
        settings = self._settings
        *first, last = settings.package_index or (_PYPI,)
        return self._tool.environment(directory) | {
            "UV_CACHE_DIR": str(self._cache),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_KEYRING_PROVIDER": "disabled",
            "UV_DEFAULT_INDEX": last,
            "UV_INDEX": " ".join(first),
            "UV_FIND_LINKS": ",".join(settings.package_wheelhouse),
            "UV_OFFLINE": "1" if settings.offline else "",
            "SSL_CERT_FILE": settings.package_ca,
            # Without certificates of the system there are those that uv brings along.
            "UV_SYSTEM_CERTS": "" if settings.package_ca or not has_system_certificates() else "1",
        }

    def _advice(self, asked: tuple[str, ...]) -> str:
        """What to do about packages that are missing while nothing may be fetched."""
        if not self._settings.offline:
            return ""
        if not self._settings.package_wheelhouse:
            return "\nThe server is offline: set package_wheelhouse to a directory and put the wheels into it."
        missing = missing_wheels(asked, _wheels_in(self._settings.package_wheelhouse))
        names = " ".join(f"'{each}'" for each in missing or asked)
        place = self._settings.package_wheelhouse[0]
        return (
            f"\nThe server is offline: put the wheels of what is missing into {place}. On a machine with a network and "
            f"Python {self.interpreter.version}:\npip download --only-binary=:all: --dest WHEELS {names}"
        )


def missing_wheels(pins: tuple[str, ...], wheels: list[str]) -> list[str]:
    """The pins for which there is no wheel of that name and version, whatever interpreter it is for."""
    there = {
        (_normalized(match["name"]), match["version"]) for name in wheels if (match := _WHEEL_NAME.fullmatch(name))
    }
    return [
        pin
        for pin in pins
        if (match := _PIN.match(pin)) is None or (_normalized(match["name"]), match["version"]) not in there
    ]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wheels_in(directories: tuple[str, ...]) -> list[str]:
    return [entry.name for directory in directories if Path(directory).is_dir() for entry in Path(directory).iterdir()]
