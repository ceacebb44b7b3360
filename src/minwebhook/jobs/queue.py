"""The order in which jobs start: priority (higher first), then due time, then arrival. Pure.

Jobs that are not due yet wait in a second heap. A job that was cancelled while it waited is skipped when its turn comes.
"""

from __future__ import annotations

import heapq
import itertools

from minwebhook.jobs.model import Job, JobState


class JobQueue:
    """Queued jobs. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, int, Job]] = []
        self._later: list[tuple[int, int, Job]] = []
        self._arrival = itertools.count()

    def push(self, job: Job, now_ms: int) -> None:
        """Adds a queued job."""
        if job.scheduled_for_ms <= now_ms:
            self._push_due(job, next(self._arrival))
        else:
            heapq.heappush(self._later, (job.scheduled_for_ms, next(self._arrival), job))

    def pop(self, now_ms: int) -> Job | None:
        """Removes and gives the job to start next, or None if none is due."""
        self.ripen(now_ms)
        while self._due:
            job = heapq.heappop(self._due)[-1]
            if job.state is JobState.QUEUED:
                return job
        return None

    def ripen(self, now_ms: int) -> None:
        """Puts the jobs that have become due in line with the others."""
        while self._later and self._later[0][0] <= now_ms:
            _, arrival, job = heapq.heappop(self._later)
            self._push_due(job, arrival)

    def later_count(self, now_ms: int) -> int:
        """Queued jobs that are not due yet."""
        self.ripen(now_ms)
        return sum(job.state is JobState.QUEUED for *_, job in self._later)

    def next_due_ms(self) -> int | None:
        """When the next job that is not due yet becomes due."""
        while self._later and self._later[0][-1].state is not JobState.QUEUED:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def _push_due(self, job: Job, arrival: int) -> None:
        heapq.heappush(self._due, (-(job.spec.priority or 0), job.scheduled_for_ms, arrival, job))
