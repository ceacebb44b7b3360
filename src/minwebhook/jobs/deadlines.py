"""When running jobs must end. They are few, so the next deadline is found by looking at all of them."""

from __future__ import annotations

import math

import trio

from minwebhook.jobs.model import Job


class RunDeadlines:
    """Stops jobs that run too long. Cheaper than a cancel scope for each: most jobs end long before."""

    def __init__(self) -> None:
        self._ends: dict[Job, float] = {}
        self._next = math.inf
        self._pause = trio.CancelScope()

    def add(self, job: Job, end: float) -> None:
        """``job`` must end at the trio time ``end``."""
        self._ends[job] = end
        if end < self._next:
            self._next = self._pause.deadline = end

    def discard(self, job: Job) -> None:
        """``job`` has ended."""
        self._ends.pop(job, None)

    async def run(self) -> None:
        """Marks jobs that are late as overdue and stops them, until cancelled."""
        while True:
            self._next = min(self._ends.values(), default=math.inf)
            with trio.CancelScope(deadline=self._next) as self._pause:
                await trio.sleep_forever()
            now = trio.current_time()
            for job in [job for job, end in self._ends.items() if end <= now]:
                del self._ends[job]
                job.is_overdue = True
                if job.stop is not None:
                    job.stop()
