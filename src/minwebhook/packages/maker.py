"""What the programs that find and install packages have in common: their environment, their errors, their credentials."""

from __future__ import annotations

import base64
import os
import re
import ssl
import urllib.parse
from pathlib import Path
from typing import Any, Final, Protocol

from minwebhook.errors import PackageError
from minwebhook.packages.program import run_program
from minwebhook.settings import PackageSettings

#: Where nobody listens: a proxy for programs that shall not reach anything.
_NOWHERE: Final = "http://127.0.0.1:1"
_COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Maker(Protocol):
    """Finds and installs the packages of one kind of scripts.

    What is installed is said by texts: the pins of uv, or a whole lock.
    """

    @property
    def identity(self) -> tuple[str, ...]:
        """What sets differ by besides their packages."""

    async def resolve(self, requirements: tuple[str, ...], directory: Path) -> tuple[str, ...]:
        """What to install for these requirements; ``directory`` is for files meanwhile. Raises :class:`PackageError`."""

    async def install(self, content: tuple[str, ...], target: Path, directory: Path) -> None:
        """Installs exactly this into ``target``. Raises :class:`PackageError`."""

    def note(self, content: tuple[str, ...]) -> dict[str, Any]:
        """What a set is, for people, and for the processes that use it."""


class Tool:
    """A program of the server's own that fetches packages."""

    def __init__(self, name: str, settings: PackageSettings) -> None:
        self.name: Final = name
        self.settings: Final = settings

    async def run(self, argv: list[str], environment: dict[str, str], directory: Path) -> str:
        """Runs it in ``directory``; what it said. Raises :class:`PackageError` with that if it fails."""
        code, output = await run_program(
            argv,
            environment={name: value for name, value in environment.items() if value},
            directory=directory,
            timeout_s=self.settings.package_timeout_s,
        )
        text = redacted(_COLOR.sub("", output).strip(), self.secrets()).replace(str(directory), ".")
        if code != 0:
            raise PackageError(text or f"{self.name} ended with {code}")
        return text

    def environment(self, directory: Path) -> dict[str, str]:
        """Variables that all of them understand; empty ones are to be left out."""
        environment = {
            "PATH": os.defpath,
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
        }
        proxy = _NOWHERE if self.settings.offline else self.settings.package_proxy
        return environment | dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), proxy)

    def secrets(self) -> list[str]:
        """URLs that may hold credentials."""
        settings = self.settings
        return [*settings.package_index, settings.package_npm, settings.package_proxy]


def npm_configuration(registry: str) -> str:
    """The file .npmrc for a registry, whose URL may hold credentials: a name and a password, or a token alone."""
    if not registry:
        return ""
    plain, userinfo = without_credentials(registry)
    lines = [f"registry={plain}"]
    if userinfo:
        name, _, password = (urllib.parse.unquote(part) for part in userinfo.partition(":"))
        place = plain.partition(":")[2]
        if name and password:
            secret = base64.b64encode(f"{name}:{password}".encode()).decode()
            lines.append(f"{place}:_auth={secret}")
        else:
            lines.append(f"{place}:_authToken={password or name}")
    return "\n".join(lines) + "\n"


def without_credentials(url: str) -> tuple[str, str]:
    """A URL without them, ending in a slash, and they."""
    parts = urllib.parse.urlsplit(url)
    userinfo, _, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host, path=parts.path.rstrip("/") + "/")
    return urllib.parse.urlunsplit(plain), userinfo


def redacted(text: str, urls: list[str]) -> str:
    """``text`` without the credentials that are in ``urls``."""
    for url in urls:
        userinfo, at, _ = urllib.parse.urlsplit(url).netloc.rpartition("@")
        if not at:
            continue
        name, _, password = userinfo.partition(":")
        for secret in (userinfo, password or name):
            for spelled in {secret, urllib.parse.unquote(secret)} - {""}:
                text = text.replace(spelled, "****")
    return text


def has_system_certificates() -> bool:
    """Whether this machine has certificates to trust."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile is not None or (paths.capath is not None and any(Path(paths.capath).iterdir()))
