"""Telling those who follow jobs that there is something new. The job never waits for any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

import trio

#: Followers that are told in one turn of the loop: a matter of milliseconds.
_TOLD_AT_ONCE: Final = 256


class _Follower:
    """One who follows a job, and asks to be woken only if ``on_news`` says False."""

    __slots__ = ("is_over", "on_news", "woken")

    def __init__(self, on_news: Callable[[], bool]) -> None:
        self.on_news = on_news
        self.is_over = False
        self.woken = trio.Event()


class Watchers:
    """Wakes those who follow a job. A job that nobody follows costs one look into a dictionary.

    Followers that deal with news in a callback (:meth:`follow`) are told by one task, :meth:`run`, one behind the other:
    to a thousand of them, that is a matter of their sends alone.
    """

    def __init__(self) -> None:
        self._changed: dict[UUID, trio.Event] = {}
        #: Jobs that are followed for the sake of others.
        self._followed_for: dict[UUID, set[UUID]] = {}
        self._followers: dict[UUID, dict[_Follower, None]] = {}
        #: Jobs of which their followers are to be told, in this order.
        self._due: dict[UUID, None] = {}
        self._is_due = trio.Event()

    def tell(self, job_id: UUID) -> None:
        """There is something new of this job."""
        if self._changed and (changed := self._changed.pop(job_id, None)) is not None:
            changed.set()
        if self._followed_for and (others := self._followed_for.pop(job_id, None)) is not None:
            for other in others:
                self.tell(other)
        if self._followers and job_id in self._followers:
            self._due[job_id] = None
            self._is_due.set()

    def tell_all(self) -> None:
        """There is something new for everyone."""
        for job_id in [*self._changed, *self._followers]:
            self.tell(job_id)

    async def wait(self, job_id: UUID, parts: Iterable[UUID] = ()) -> None:
        """Until there is something new of this job, or of live jobs that are parts of it, seen from now."""
        for part in parts:
            self._followed_for.setdefault(part, set()).add(job_id)
        changed = self._changed.get(job_id)
        if changed is None:
            changed = self._changed[job_id] = trio.Event()
        await changed.wait()

    async def follow(self, job_id: UUID, on_news: Callable[[], bool]) -> None:
        """Calls ``on_news`` whenever there is something new of this job, seen from now, until it says False.

        It must not raise, and is not called any more once this has been cancelled. While :meth:`run` does not run, nobody is
        told.
        """
        follower = _Follower(on_news)
        self._followers.setdefault(job_id, {})[follower] = None
        try:
            await follower.woken.wait()
        finally:
            self._forget(job_id, follower)

    async def run(self) -> None:
        """Tells followers until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due = trio.Event()
            due, self._due = self._due, {}
            told = 0
            for job_id in due:
                for follower in list(self._followers.get(job_id, ())):
                    if follower.is_over:
                        continue  # it has left in a pause
                    if not follower.on_news():
                        self._forget(job_id, follower)
                        follower.woken.set()
                    told += 1
                    if told % _TOLD_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()

    def _forget(self, job_id: UUID, follower: _Follower) -> None:
        follower.is_over = True
        followers = self._followers.get(job_id)
        if followers is not None and followers.pop(follower, follower) is None and not followers:
            del self._followers[job_id]
