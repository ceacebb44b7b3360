"""Starts the usual fork server on the best rung of the sandbox that works here, by trying them (docs/sandbox.md).

Trying means starting the real fork server and letting it make a real child: what works then works for jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import trio

import minwebhook
from minwebhook.child import landlock
from minwebhook.errors import SandboxError
from minwebhook.http.listeners import Listener
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.engines import Engines
from minwebhook.runtimes.programs import Programs, find_programs
from minwebhook.runtimes.zygote import Zygote
from minwebhook.sandbox.cgroups import Groups
from minwebhook.sandbox.plan import (
    DESCRIPTIONS,
    LANDLOCK_SCOPE,
    LIMITS_OF_GROUPS,
    RUNGS,
    USER_NAMESPACE,
    Missing,
    Network,
    Rung,
    Surroundings,
    make_plan,
)
from minwebhook.settings import SandboxSettings

_MIN_PYTHON = (3, 11)
#: What bun, deno and node run.
JAVASCRIPT: Final = str(Path(minwebhook.__file__).parent / "child" / "javascript")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs scripts: the real binary, and the prefix that holds its library."""

    binary: str
    prefix: str


class Workshop:
    """Makes fork servers of one rung."""

    def __init__(
        self,
        settings: SandboxSettings,
        rung: Rung,
        directory: Path,
        interpreter: Interpreter,
        *,
        engines: Engines,
        without: Sequence[str],
        groups: Groups | None,
        programs: Programs,
        on_listening: Callable[[Listener], None],
        code_cache: str = "",
    ) -> None:
        """``directory`` is for the mount points and scratch files of the sandboxes. ``without`` names layers to leave out.
        ``code_cache`` is where that of deno will be, if anywhere.

        ``on_listening``: see :class:`Zygote`.
        """
        self._engines = {**engines.paths, "javascript": JAVASCRIPT} if engines.paths else {}
        if code_cache and engines.paths:
            self._engines["code_cache"] = code_cache
        self._on_listening = on_listening
        self._settings = settings
        self._rung = rung
        self._directory = directory
        self.interpreter: Final = interpreter
        self.programs: Final = programs
        self._without = without
        self._groups = groups

    @property
    def group_limits(self) -> frozenset[str]:
        """What control groups limit, of all processes of a job together: ``memory``, ``processes``."""
        return frozenset(LIMITS_OF_GROUPS) & self._groups.features if self._groups is not None else frozenset()

    def _scratch(self) -> Path:
        """Where jobs without a private /tmp have their directories: below one that their users may pass."""
        if self._rung != "landlock" or os.geteuid() != 0:
            return self._directory
        path = _public_scratch(self._directory)
        # Whoever made it before: in a directory like /tmp only its owner can remove it again.
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o711)
        if not _is_ours(path):
            raise SandboxError(f"{path} is not ours; remove it")
        return path

    def make(self, surroundings: Surroundings, number: int) -> Zygote:
        """A fork server, not started yet. ``number`` is a small one that no other running one has."""
        root, scratch = self._directory / f"root-{number}", self._scratch() / f"scratch-{number}"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch.mkdir(mode=0o711, parents=True, exist_ok=True)
        plan = make_plan(
            self._settings,
            self._rung,
            surroundings,
            machine=platform.machine(),
            python_prefix=self.interpreter.prefix,
            root_directory=str(root),
            scratch_directory=str(scratch),
            engines=self._engines,
            number=number,
            user_namespace=USER_NAMESPACE not in self._without,
            groups=self.group_limits,
            programs=self.programs.paths,
            visible=self.programs.visible,
        )
        return Zygote(plan, self.interpreter.binary, groups=self._groups, on_listening=self._on_listening)


def _public_scratch(directory: Path) -> Path:
    name = hashlib.sha256(bytes(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f".minwebhook-{name}"


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def clear(directory: Path) -> None:
    """Removes all that sandboxes made below ``directory``, and for it elsewhere. None of them may run."""
    shutil.rmtree(directory, ignore_errors=True)
    path = _public_scratch(directory)
    with contextlib.suppress(OSError):
        if _is_ours(path):
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Reached:
    """The rung that works, and what is missing: better rungs, and layers of this one."""

    rung: Rung
    missing: tuple[Missing, ...]
    workshop: Workshop

    @property
    def description(self) -> str:
        """What the rung gives, in one line."""
        return DESCRIPTIONS[self.rung]


def usual_surroundings(settings: SandboxSettings) -> Surroundings:
    """Those of scripts that ask for nothing special."""
    return Surroundings(cast(Network, settings.sandbox_network))


async def start_best(
    nursery: trio.Nursery,
    settings: SandboxSettings,
    directory: Path,
    *,
    engines: Engines = Engines(),  # noqa: B008 - it cannot be changed
    on_listening: Callable[[Listener], None] = lambda _: None,
    programs: Programs | None = None,
    code_cache: str = "",
) -> tuple[Zygote, Reached]:
    """The usual fork server, running, on the best rung. ``directory`` is for the sandboxes' mount points and files.

    ``programs`` are those that run scripts, looked for if none are given. ``code_cache`` is where that of deno will be.

    Raises :class:`SandboxError` that says what was tried if none works, or only ``none`` and that was not asked for.
    """
    interpreter = find_interpreter(settings.python)
    groups, unlimited = _open_groups()
    programs = programs or find_programs()
    missing: list[Missing] = []
    for rung, without in _candidates(settings):
        workshop = Workshop(
            settings,
            rung,
            directory,
            interpreter,
            engines=engines,
            programs=programs,
            without=without,
            groups=groups,
            on_listening=on_listening,
            code_cache=code_cache,
        )
        zygote = workshop.make(usual_surroundings(settings), 0)
        try:
            await nursery.start(zygote.run)
            await _check(zygote)
        except SandboxError as error:
            zygote.stop()
            # What is left out may be all that does not work; the reason of the better try is the telling one.
            if not without:
                missing += [Missing(name, str(error)) for name in (_LAYERS.get(rung) or (rung,))]
            else:
                missing[-1:] = [Missing(rung, str(error))]
        else:
            missing += [
                Missing(LIMITS_OF_GROUPS[feature], reason)
                for feature, reason in unlimited.items()
                # A user id of its own has a limit of its own, too.
                if feature != "processes" or not zygote.has_own_uids
            ]
            if rung != "none":
                missing += missing_scope(landlock.version())
            return zygote, Reached(rung, tuple(missing), workshop)
    tried = "; ".join(f"{each.name}: {each.reason}; {each.cure}" for each in missing)
    raise SandboxError(
        f"scripts cannot be isolated here ({tried or 'nothing may be tried'}). "
        "Make one of these work, or accept running scripts without isolation with --insecure"
    )


def missing_scope(version: int) -> list[Missing]:
    """What this version of Landlock (0: none) lacks, on every rung that wants it."""
    if version >= landlock.SCOPE_VERSION:
        return []
    has = f"version {version} of Landlock" if version else "no Landlock, or it is switched off"
    return [Missing(LANDLOCK_SCOPE, f"the kernel has {has}; version {landlock.SCOPE_VERSION} is needed")]


def _open_groups() -> tuple[Groups | None, Mapping[str, str]]:
    """Control groups, if they work, and why which limit of theirs cannot be had."""
    try:
        groups = Groups.open()
    except SandboxError as error:
        return None, dict.fromkeys(LIMITS_OF_GROUPS, str(error))
    return groups, groups.missing


#: Layers without which a rung still is one; a second try leaves them out.
_LAYERS: Final[dict[Rung, tuple[str, ...]]] = {"root": (USER_NAMESPACE,)}


def _candidates(settings: SandboxSettings) -> list[tuple[Rung, tuple[str, ...]]]:
    """What to try, best first: rungs, and which of their layers to leave out."""
    if settings.sandbox == "auto":
        rungs = [rung for rung in RUNGS if rung != "root" or os.geteuid() == 0]
    else:
        rungs = [rung for rung in RUNGS if rung == settings.sandbox]
    tries: list[tuple[Rung, tuple[str, ...]]] = []
    for rung in rungs:
        if rung != "none" or settings.insecure:
            tries.append((rung, ()))
        if rung in _LAYERS:
            tries.append((rung, _LAYERS[rung]))
    return tries


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
