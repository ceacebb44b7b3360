"""Deadlines and the date for many connections at the price of a dict entry.

A cancel scope per request costs as much as a tenth of a request. Connections that wait for the peer's next bytes
therefore only note down since when; one task per kind of wait interrupts those that are late.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import trio

from minwebhook.times import http_date

#: Waiters that expire in one turn of the loop: a matter of milliseconds.
_EXPIRED_AT_ONCE: Final = 64


class Expirable(Protocol):
    """Something that can be late."""

    def expire(self) -> None:
        """Called once, from the loop, when the wait has lasted too long."""


class DeadlineQueue:
    """Waits of one length, ``timeout_s``. All have the same length, so the oldest always ends first."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: dict[Expirable, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, waiter: Expirable) -> None:
        """``waiter`` waits from now on. A waiter that is already in keeps its time."""
        if waiter not in self._since:
            self._since[waiter] = trio.current_time()

    def renew(self, waiter: Expirable, now_s: float) -> None:
        """``waiter``, which is in, waits from now on; ``now_s`` is trio's time of this turn of the loop."""
        del self._since[waiter]
        self._since[waiter] = now_s

    def discard(self, waiter: Expirable) -> None:
        """``waiter`` waits no longer; nothing happens if it is not in."""
        self._since.pop(waiter, None)

    async def run(self) -> None:
        """Expire late waiters until cancelled."""
        while True:
            oldest = next(iter(self._since.values()), None)
            # Whoever comes while this sleeps cannot be late before a whole timeout has passed.
            await trio.sleep_until((trio.current_time() if oldest is None else oldest) + self._timeout_s)
            now = trio.current_time()
            for number, (waiter, since) in enumerate(list(self._since.items()), 1):
                if since + self._timeout_s > now:
                    break
                if self._since.get(waiter) == since:  # it has not left in a pause
                    del self._since[waiter]
                    waiter.expire()
                if number % _EXPIRED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()


class HttpDate:
    """The value of the Date field, rendered once a second (RFC 9110 §5.6.7)."""

    def __init__(self) -> None:
        self._second = 0
        self._value = b""

    def __call__(self) -> bytes:
        """The current date, like ``b"Sun, 06 Nov 1994 08:49:37 GMT"``."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._value = http_date(second).encode()
        return self._value
