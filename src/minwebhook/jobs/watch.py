"""Telling those who follow jobs that there is something new. The job never waits for any of them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import trio


class Watchers:
    """Wakes those who follow a job. A job that nobody follows costs one look into a dictionary."""

    def __init__(self) -> None:
        self._changed: dict[UUID, trio.Event] = {}
        #: Jobs that are followed for the sake of others.
        self._followed_for: dict[UUID, set[UUID]] = {}

    def tell(self, job_id: UUID) -> None:
        """There is something new of this job."""
        if (changed := self._changed.pop(job_id, None)) is not None:
            changed.set()
        if self._followed_for and (others := self._followed_for.pop(job_id, None)) is not None:
            for other in others:
                self.tell(other)

    def tell_all(self) -> None:
        """There is something new for everyone."""
        for job_id in list(self._changed):
            self.tell(job_id)

    async def wait(self, job_id: UUID, parts: Iterable[UUID] = ()) -> None:
        """Until there is something new of this job, or of live jobs that are parts of it, seen from now."""
        for part in parts:
            self._followed_for.setdefault(part, set()).add(job_id)
        changed = self._changed.get(job_id)
        if changed is None:
            changed = self._changed[job_id] = trio.Event()
        await changed.wait()
