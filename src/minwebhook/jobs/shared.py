"""The directory ``./shared`` of the steps of one flow run (``same_worker``): kept as archives between the steps, one for each.

::

    DATA/shared/FLOW JOB/00000007-STEP JOB

Each step begins with what the one before it left, and what it leaves is on disk before its end is told. So a step that is begun
again after a crash begins with what it was given the first time, as if it had never run. Steps of one run follow each other, by
their concurrency key, so that none writes over what another one keeps. What is in an archive is looked at by jobs alone.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final
from uuid import UUID

import trio

from minwebhook.child.sharing import DONE, TOO_LARGE
from minwebhook.errors import SandboxError
from minwebhook.jobs.model import Concurrency, Job
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.zygote import Zygote

logger = logging.getLogger(__name__)

#: For handing over the files of one job; more than the largest directory takes.
_TIMEOUT_S: Final = 60.0
#: The archive is larger than what it holds: names, and 512 bytes for each.
_OVERHEAD_BYTES: Final = 16 * 1024 * 1024


class SharedTooLarge(SandboxError):
    """The directory holds more than may be kept."""


def turn_of(flow_id: UUID) -> Concurrency:
    """What lets the steps of one run follow each other."""
    return Concurrency(f"same_worker/{flow_id}", 1)


class SharedDirectories:
    """Those of all flows that run."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """``max_bytes``: what a directory may hold."""
        self._directory = directory
        self._max_bytes = max_bytes

    async def give(self, flow_id: UUID, job: Job, zygote: Zygote, child: Child) -> None:
        """Puts what the step before left into the place where a job begins. Raises :class:`SandboxError`."""
        # What this very job has kept was before a crash, and it is begun again.
        kept = [path for path in self._archives(flow_id) if not path.name.endswith(str(job.id))]
        with open(kept[-1] if kept else os.devnull, "rb") as file:  # noqa: ASYNC230, PTH123 - opened, and not read here
            code = None
            with trio.move_on_after(_TIMEOUT_S):
                code = await zygote.share(child, file.fileno())
        if code != DONE:
            raise SandboxError("the files in ./shared could not be given to the step")

    async def keep(self, flow_id: UUID, job: Job, zygote: Zygote, child: Child) -> None:
        """Keeps what a job has left; on disk when this returns. Raises :class:`SandboxError`, and then keeps nothing."""
        directory = self._directory / str(flow_id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._archives(flow_id)
        number = int(known[-1].name.partition("-")[0]) + 1 if known else 0
        new = directory / f"{number:08}-{job.id}"
        temporary = directory / f".{job.id}"
        try:
            with temporary.open("wb") as file:
                code = None
                with trio.move_on_after(_TIMEOUT_S):
                    code = await zygote.share(child, file.fileno(), most_bytes=self._max_bytes + _OVERHEAD_BYTES)
                if code == TOO_LARGE:
                    raise SharedTooLarge(f"./shared holds more than {self._max_bytes} bytes, or the disk is full")
                if code != DONE:
                    raise SandboxError("the files in ./shared could not be kept")
                await trio.to_thread.run_sync(_settle, file.fileno(), temporary, new)
        finally:
            temporary.unlink(missing_ok=True)
        for old in known[:-1]:  # the last one is what this job would begin with again
            old.unlink(missing_ok=True)

    async def forget(self, flow_id: UUID) -> None:
        """The flow has ended."""
        try:
            await trio.to_thread.run_sync(shutil.rmtree, self._directory / str(flow_id), True)
        except RuntimeError as error:  # the machine has no room for another thread
            logger.warning("the shared files of a flow stay until the next start: %s", error)

    def sweep(self, flows: Collection[UUID]) -> None:
        """At a start: only flows that go on have files."""
        if not self._directory.is_dir():
            return
        known = {str(flow_id) for flow_id in flows}
        for path in self._directory.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def _archives(self, flow_id: UUID) -> list[Path]:
        """Oldest first."""
        directory = self._directory / str(flow_id)
        return sorted(directory.glob("[0-9]*-*")) if directory.is_dir() else []


def _settle(fd: int, temporary: Path, path: Path) -> None:
    os.fsync(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
