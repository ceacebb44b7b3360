"""Tells handlers that their client went away, at two system calls per watched request.

One epoll object of our own holds the sockets of watched requests, one task waits for it to become readable. It asks for
hang-ups only, so request bytes that arrive meanwhile stay with the connection. A peer that closes just its sending side
counts as gone: it cannot be told apart from one that left (man 7 tcp, EPOLLRDHUP in man 2 epoll_ctl).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import Final

import trio

_HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

Callback = Callable[[], None]


class DisconnectWatcher:
    """Watches sockets by descriptor. ``on_error`` gets what a callback raised; the watcher goes on."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._epoll = select.epoll()
        self._on_error = on_error
        #: Sockets in the epoll. One stays until it is forgotten: the next request on it costs no system call.
        self._registered: set[int] = set()
        # Keyed by a token per wish: the same callback may be given twice.
        self._callbacks: dict[int, dict[object, Callback]] = {}

    def __len__(self) -> int:
        """Sockets that someone wants to know of."""
        return len(self._callbacks)

    def watch(self, fileno: int, callback: Callback) -> Callback:
        """Call ``callback`` once when the peer of the open socket ``fileno`` is gone, even if it is gone already.

        Gives a function that takes the wish back; it may be called at any time, any number of times. The owner of the
        socket calls :meth:`forget` before closing it.
        """
        callbacks = self._callbacks.get(fileno)
        if callbacks is None:
            if fileno not in self._registered:
                self._epoll.register(fileno, _HANGUP)
                self._registered.add(fileno)
            callbacks = self._callbacks[fileno] = {}
        token = object()
        callbacks[token] = callback

        def undo() -> None:
            # The descriptor may belong to another socket by now; the dict of callbacks cannot.
            if callbacks.pop(token, None) is not None and not callbacks:
                self.release(fileno)

        return undo

    def release(self, fileno: int) -> None:
        """Drop all wishes about this socket; nothing happens if there are none."""
        callbacks = self._callbacks.pop(fileno, None)
        if callbacks:
            callbacks.clear()

    def forget(self, fileno: int) -> None:
        """The socket is about to be closed: drop all wishes, and its place in the epoll."""
        self.release(fileno)
        if fileno in self._registered:
            self._registered.discard(fileno)
            # Closed by someone else, or the watcher has ended: then there is nothing to take out.
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fileno)

    async def run(self) -> None:
        """Call back until cancelled; then let go of all wishes."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fileno, _ in self._epoll.poll(0):
                    self._report(fileno)
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    def _report(self, fileno: int) -> None:
        # An earlier callback of this round may have forgotten this descriptor: then there are no wishes left.
        callbacks = list(self._callbacks.get(fileno, {}).values())
        self.forget(fileno)
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                self._on_error(error)
