"""Messages of many tasks on their way to one WebSocket client.

To send wakes the client, which costs more than most short jobs take. So what waits goes out in one write, and what is not
urgent, that a job is there, waits a moment for what is, how it ended.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from minwebhook.http.transport import Disconnected
from minwebhook.http.websocket import WebSocket

#: Characters and bytes that wait to be sent; at that many, who has more to say waits.
_MAX_WAITING: Final = 256 * 1024
_MOMENT_S: Final = 0.001


class Outbox:
    """Sends in the order of the calls. No task waits for the client while there is room.

    Once the client is gone nothing is sent and nobody waits; who receives is told that.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._waiting: list[str | bytes] = []
        #: Of those that wait and those that are being sent.
        self._length = 0
        self._due = trio.Event()
        #: Its deadline is when messages go out that are not due yet.
        self._pause = trio.CancelScope()
        self._room = trio.Event()
        self._is_closed = False
        self._is_lost = False

    def post(self, message: str | bytes) -> None:
        """A short message that can wait a moment; whether there is room or not. Whoever calls it bounds how often."""
        self._add(message)
        if self._pause.deadline == math.inf:
            self._pause.deadline = trio.current_time() + _MOMENT_S

    async def put(self, message: str | bytes) -> None:
        """A message that goes out at once, with all that wait; returns as soon as there is room for it."""
        while not self.put_nowait(message):
            await self._room.wait()

    def put_nowait(self, message: str | bytes) -> bool:
        """The same without waiting; False if there is no room for it."""
        if self._length >= _MAX_WAITING and not self._is_lost:
            return False
        self._add(message)
        self._due.set()
        return True

    def _add(self, message: str | bytes) -> None:
        if not self._is_lost:
            self._waiting.append(message)
            self._length += len(message)

    def close(self) -> None:
        """Nothing more will come."""
        self._is_closed = True
        self._due.set()

    async def run(self) -> None:
        """Sends until closed and empty, or until the client is gone."""
        try:
            while self._waiting or not self._is_closed:
                deadline = trio.current_time() + _MOMENT_S if self._waiting else math.inf
                with trio.CancelScope(deadline=deadline) as self._pause:
                    await self._due.wait()
                self._due = trio.Event()
                messages, self._waiting = self._waiting, []
                if messages:
                    await self._socket.send(*messages)
                    self._length -= sum(map(len, messages))
                    self._wake()
        except Disconnected:
            self._is_lost = True
            self._waiting = []
            self._wake()

    def _wake(self) -> None:
        self._room.set()
        self._room = trio.Event()
