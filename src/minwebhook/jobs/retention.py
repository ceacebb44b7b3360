"""Wipes the data of jobs whose time is over: arguments, result and log go, the rest of the record stays.

One task sleeps until the next one is due. What is due while the server is down goes at the next start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from minwebhook.jobs.store import JobStore
from minwebhook.repeating import repeat
from minwebhook.times import now_ms

#: Jobs of one transaction: some milliseconds.
WIPE_AT_ONCE: Final = 100
#: Pause after the disk was full or the database locked.
_RETRY_S: Final = 1.0


class Retention:
    """Wipes what the store plans to wipe."""

    def __init__(self, store: JobStore, *, clock: Callable[[], int] = now_ms) -> None:
        self._store = store
        self._clock = clock
        self._next_ms = math.inf
        self._pause = trio.CancelScope()
        store.on_wipe_planned = self._plan

    def _plan(self, wipe_at_ms: int) -> None:
        """A job was stored that is to be wiped then."""
        if wipe_at_ms < self._next_ms:
            self._pause.cancel()

    async def run(self) -> None:
        """Wipes jobs when they are due, until cancelled."""
        await repeat(self._wipe_due, "jobs could not be wiped", pause_s=0, after_error_s=_RETRY_S)

    async def _wipe_due(self) -> None:
        """Sleeps until a job is due, or one was planned that is due earlier; wipes some."""
        due_ms = self._store.next_wipe_ms()
        self._next_ms = math.inf if due_ms is None else due_ms
        with trio.CancelScope(relative_deadline=max(self._next_ms - self._clock(), 0) / 1000) as self._pause:
            await trio.sleep_forever()
        if self._next_ms <= self._clock():
            await self._store.wipe_due(self._clock(), WIPE_AT_ONCE)
