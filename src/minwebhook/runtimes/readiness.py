"""Which of many processes have something to say: one wait for all of them, and a callback for each.

A task for each would be woken by the loop one by one; here a turn of the loop serves all that are ready.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio


class Readiness:
    """Descriptors that are waited for, each until it is readable once."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, Callable[[], None]] = {}

    def wait(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Calls ``on_ready`` in a later turn of the loop, once ``fd`` is readable or at its end.

        It may be called for nothing; then there is nothing to read, and whoever wants to waits again.
        """
        self._waiting[fd] = on_ready
        try:
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
        except FileNotFoundError:  # one that is waited for the first time; closing it takes it out
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def forget(self, fd: int) -> None:
        """Nobody waits for ``fd`` any more."""
        self._waiting.pop(fd, None)

    async def run(self) -> None:
        """Calls back until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _ in self._epoll.poll(0):
                    on_ready = self._waiting.pop(fd, None)
                    if on_ready is not None:
                        on_ready()
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
