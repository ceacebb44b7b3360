"""The programs of this machine that run scripts: which are there, where, and what to install for those that are not."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from minwebhook.child.programs import PROGRAMS
from minwebhook.child.programs.executable import EXECUTABLE, program_of
from minwebhook.child.programs.program import Program
from minwebhook.child.variables import USUAL
from minwebhook.errors import BadRequest
from minwebhook.sandbox.plan import PROGRAM_PATHS

logger = logging.getLogger(__name__)

#: For a program to say that all is there that it needs.
_CHECK_TIMEOUT_S: Final = 20.0
#: What jobs have their own of, so that nothing can be shown to them there.
_OWN: Final = ("/tmp/", "/var/tmp/", "/proc/", "/dev/")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Found:
    """A program that is there."""

    path: str
    #: Where scripts must be let in for it to run, besides what all see.
    visible: tuple[str, ...]


class Programs:
    """What was found on PATH when the server started."""

    def __init__(self, found: Mapping[str, Found]) -> None:
        self._found = found
        self._reasons: dict[str, str] = {}

    @property
    def paths(self) -> dict[str, str]:
        """Programs by language."""
        return {language: found.path for language, found in self._found.items()}

    @property
    def visible(self) -> tuple[str, ...]:
        """Files and directories that they need."""
        return tuple(path for found in self._found.values() for path in found.visible)

    def missing(self, language: str) -> str:
        """What to do for a language that cannot be run here; "" if it can, as far as is known without trying."""
        if language not in PROGRAMS or language in self._found or not PROGRAMS[language].names:
            return self._reasons.get(language, "")
        return _advice(PROGRAMS[language], "is not installed")

    async def missing_after_check(self, language: str) -> str:
        """The same, after the program was tried, which is done once."""
        reason = self.missing(language)
        program = PROGRAMS.get(language)
        if reason or program is None or not program.check or language in self._reasons:
            return reason
        path = self._found[language].path
        works = await trio.to_thread.run_sync(_works, [path, *program.check])
        self._reasons[language] = "" if works else _advice(program, f"({path}) lacks what is needed, or is too old")
        return self._reasons[language]


def check_executable(language: str, source: bytes) -> None:
    """Raises :class:`BadRequest` if the program that a script of ``exec`` names in its first line is not there."""
    if language != EXECUTABLE.language:
        return
    name = program_of(source.partition(b"\n")[0].decode("utf-8-sig", "replace"))
    if name and shutil.which(name, path=USUAL["PATH"]) is None:
        raise BadRequest(f"language exec: {name} is not a program of this server; {EXECUTABLE.install}")


def find_programs(path: str | None = None) -> Programs:
    """Looks for all on ``path``, that of this process by default."""
    found = {}
    for language, program in PROGRAMS.items():
        where = next(filter(None, (shutil.which(name, path=path) for name in program.names)), None)
        if where is not None and any(f"{home}/".startswith(_OWN) for home in _home_of(where)):
            logger.warning("%s cannot be used: jobs have a /tmp of their own", where)
        elif where is not None:
            found[language] = Found(where, (*program.paths, *_home_of(where)))
    return Programs(found)


def _home_of(where: str) -> tuple[str, ...]:
    """The directories of a program that is not among those of the system: what it is installed in."""
    homes = []
    for path in dict.fromkeys((Path(where), Path(where).resolve())):
        home = path.parent.parent if path.parent.name == "bin" else path.parent
        if home != Path("/") and not any(f"{home}/".startswith(f"{known}/") for known in PROGRAM_PATHS):
            homes.append(str(home))
    return tuple(homes)


def _works(argv: list[str]) -> bool:
    try:
        done = subprocess.run(
            argv,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s cannot be tried: %s", argv[0], error)
        return False
    if done.returncode:
        logger.warning("%s: %s", argv[0], done.stderr.decode("utf-8", "replace")[-500:].strip())
    return done.returncode == 0


def _advice(program: Program, what: str) -> str:
    return f"language {program.language}: {program.title} {what} on this server; {program.install}, and start it again"
