"""Ends jobs that use more processor time than they may. Jobs without such a limit cost nothing here."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import trio

from minwebhook.jobs.model import Job
from minwebhook.runtimes.child import Child

#: Between two looks at a job, in seconds: its time can pass no faster than on all processors at once.
_SHORTEST_S: Final = 0.02
_LONGEST_S: Final = 0.5


class _Watched(NamedTuple):
    child: Child
    #: Processor time of the process at which the job has used up its own.
    end_s: float


class CpuWatch:
    """Looks at the processes of running jobs with a limit, the more often the nearer they are to it."""

    def __init__(self) -> None:
        self._watched: dict[Job, _Watched] = {}
        self._begun = trio.Event()
        self._processors = len(os.sched_getaffinity(0))

    def add(self, job: Job, child: Child, limit_s: float) -> None:
        """``job`` is about to run in ``child``, and may use so much from now on; 0 = no limit."""
        if limit_s:
            self._watched[job] = _Watched(child, child.cpu_s() + limit_s)
            self._begun.set()

    def discard(self, job: Job) -> None:
        """``job`` has ended."""
        self._watched.pop(job, None)

    async def run(self) -> None:
        """Marks jobs that used too much, and stops them, until cancelled."""
        while True:
            if self._watched:
                await trio.sleep(self._look())
            else:
                self._begun = trio.Event()
                await self._begun.wait()

    def _look(self) -> float:
        """Stops whoever is over its limit; how long to wait until the next look."""
        rest = _LONGEST_S * self._processors
        for job, (child, end_s) in list(self._watched.items()):
            left = end_s - child.cpu_s()
            if left > 0:
                rest = min(rest, left)
                continue
            del self._watched[job]
            job.is_over_cpu = True
            if job.stop is not None:
                job.stop()
        return max(rest / self._processors, _SHORTEST_S)
