"""Starts the usual fork server on the best rung of the sandbox that works here, by trying them (docs/sandbox.md).

Trying means starting the real fork server and letting it make a real child: what works then works for jobs.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

from minwebhook.errors import SandboxError
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.zygote import Zygote
from minwebhook.sandbox.plan import DESCRIPTIONS, RUNGS, Network, Rung, Surroundings, make_plan
from minwebhook.settings import SandboxSettings

_MIN_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs scripts: the real binary, and the prefix that holds its library."""

    binary: str
    prefix: str


class Workshop:
    """Makes fork servers of one rung."""

    def __init__(self, settings: SandboxSettings, rung: Rung, directory: Path, interpreter: Interpreter) -> None:
        """``directory`` is for the mount points and scratch files of the sandboxes."""
        self._settings = settings
        self._rung = rung
        self._directory = directory
        self._interpreter = interpreter

    def make(self, surroundings: Surroundings, number: int) -> Zygote:
        """A fork server, not started yet. ``number`` is a small one that no other running one has."""
        root, scratch = self._directory / f"root-{number}", self._directory / f"scratch-{number}"
        for path in (root, scratch):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan = make_plan(
            self._settings,
            self._rung,
            surroundings,
            machine=platform.machine(),
            python_prefix=self._interpreter.prefix,
            root_directory=str(root),
            scratch_directory=str(scratch),
            number=number,
        )
        return Zygote(plan, self._interpreter.binary)


@dataclass(frozen=True, slots=True)
class Reached:
    """The rung that works, and why each better one does not."""

    rung: Rung
    refused: tuple[tuple[Rung, str], ...]
    workshop: Workshop

    @property
    def description(self) -> str:
        """What the rung gives, in one line."""
        return DESCRIPTIONS[self.rung]


def usual_surroundings(settings: SandboxSettings) -> Surroundings:
    """Those of scripts that ask for nothing special."""
    return Surroundings(cast(Network, settings.sandbox_network))


async def start_best(nursery: trio.Nursery, settings: SandboxSettings, directory: Path) -> tuple[Zygote, Reached]:
    """The usual fork server, running, on the best rung. ``directory`` is for the sandboxes' mount points and files.

    Raises :class:`SandboxError` that says what was tried if none works, or only ``none`` and that was not asked for.
    """
    interpreter = find_interpreter(settings.python)
    refused: list[tuple[Rung, str]] = []
    for rung in _candidates(settings):
        workshop = Workshop(settings, rung, directory, interpreter)
        zygote = workshop.make(usual_surroundings(settings), 0)
        try:
            await nursery.start(zygote.run)
            await _check(zygote)
        except SandboxError as error:
            zygote.stop()
            refused.append((rung, str(error)))
        else:
            return zygote, Reached(rung, tuple(refused), workshop)
    tried = "; ".join(f"{rung}: {reason}" for rung, reason in refused) or "nothing better than 'none' may be tried"
    raise SandboxError(
        f"scripts cannot be isolated here ({tried}). Run as root, or allow unprivileged user namespaces "
        "(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone), or accept running scripts "
        "without isolation with --insecure"
    )


def _candidates(settings: SandboxSettings) -> list[Rung]:
    if settings.sandbox == "auto":
        rungs = [rung for rung in RUNGS if rung != "root" or os.geteuid() == 0]
    else:
        rungs = [rung for rung in RUNGS if rung == settings.sandbox]
    return [rung for rung in rungs if rung != "none" or settings.insecure]


async def _check(zygote: Zygote) -> None:
    """Lets the fork server make one child. Raises :class:`SandboxError` if it cannot."""
    answered = trio.Event()
    outcome: list[tuple[Child | None, str]] = []

    def deliver(child: Child | None, reason: str) -> None:
        outcome.append((child, reason))
        answered.set()

    zygote.spawn("python3", deliver)
    await answered.wait()
    child, reason = outcome[0]
    if child is None:
        raise SandboxError(reason)
    child.end()


def find_interpreter(configured: str) -> Interpreter:
    """The interpreter of scripts: the configured one, or the one this program runs on (not its virtual environment)."""
    if not configured:
        return Interpreter(str(Path(sys.executable).resolve()), sys.base_prefix)
    ask = "import sys; print(*sys.version_info[:2]); print(sys.base_prefix); print(sys._base_executable)"
    try:
        answer = subprocess.run(
            [configured, "-I", "-S", "-c", ask], capture_output=True, text=True, check=True, timeout=20
        )
        version, prefix, binary = answer.stdout.splitlines()
        major, minor = (int(part) for part in version.split())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"the setting python = {configured!r} is not a Python interpreter: {error}") from error
    if (major, minor) < _MIN_PYTHON:
        raise SandboxError(f"the setting python = {configured!r} is Python {major}.{minor}; scripts need 3.11 or newer")
    return Interpreter(str(Path(binary).resolve()), prefix)
