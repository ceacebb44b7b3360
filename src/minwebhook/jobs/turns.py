"""The turn of a sync job, which its caller waits for."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Turn:
    """It is the job's turn, or it will never be: what has become of it, the job says.

    :attr:`on_set` is told first, in the very moment, and may make it its own (True); then whoever waits goes on waiting,
    until :meth:`wake`. So a process that has just ended a job has its next one at once, and not in a later turn of the loop.
    """

    __slots__ = ("_event", "has_expired", "on_set")

    def __init__(self) -> None:
        self._event = trio.Event()
        self.on_set: Callable[[], bool] | None = None
        #: Whether it took too long.
        self.has_expired = False

    def set(self) -> None:
        """It happens."""
        taken, self.on_set = self.on_set, None
        if taken is None or not taken():
            self._event.set()

    def wake(self) -> None:
        """Whoever waits need not wait any more."""
        self._event.set()

    async def wait(self) -> None:
        """Until it has happened."""
        await self._event.wait()

    def expire(self) -> None:
        """It was too long: the caller looks what has become of its job. (For a deadline queue.)"""
        self.has_expired = True
        self.set()
