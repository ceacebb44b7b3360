"""A WebSocket on a connection: what an endpoint talks to, and the two tasks that keep it alive.

The connection's own task runs the endpoint. One task reads: it queues messages, up to a bound, then stops reading until
the endpoint takes some. One task sends what nobody else sends: pongs, pings, the close frame. It waits for its turn
between two frames only, so that neither a busy endpoint nor a client that reads slowly keeps a ping unanswered. All
three end before the connection closes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from minwebhook.http.messages import Upgrade
from minwebhook.http.transport import Disconnected, Transport
from minwebhook.http.websocket_protocol import (
    ABNORMAL,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL,
    Ended,
    Ping,
    WebSocketProtocol,
    packed,
)
from minwebhook.settings import HttpSettings

#: After so many events without a pause (tiny frames, 64 KiB at a time) the reader lets other tasks run.
EVENTS_PER_TURN: Final = 64

#: Told what an endpoint raised.
Report = Callable[[Exception], None]


class WebSocketClosed(Disconnected):
    """Nothing can be sent any more: a close frame was sent or received, or the client is gone.

    An endpoint may let it pass: the connection ends as usual.
    """


class WebSocket:
    """One WebSocket, from the 101 to the end of the connection.

    Any number of tasks may send; their messages go out whole, in the order of the calls. A message of the client that
    breaks a rule of RFC 6455 or a limit ends it with the fitting code, without the endpoint's help.
    """

    def __init__(self, transport: Transport, limits: HttpSettings, *, upgrade: Upgrade, trailing: bytes = b"") -> None:
        self._transport = transport
        self._limits = limits
        self._serve = upgrade.serve
        #: What client and server agreed to speak; None if the endpoint has no subprotocols.
        self.subprotocol = upgrade.subprotocol
        self._trailing = trailing
        self._protocol = WebSocketProtocol(
            max_message_bytes=limits.max_websocket_message_bytes, use_recognizer=limits.http_parser == "auto"
        )
        self._is_draining = False
        # Received, and not taken by the endpoint yet.
        self._waiting: deque[str | bytes] = deque()
        self._waiting_length = 0
        self._arrived = trio.Event()
        self._room: trio.Event | None = None  # while reading is paused
        # One message at a time, and within it one frame at a time.
        self._message_turn = trio.Lock()
        self._frame_turn = trio.Lock()
        # What the keeper is to send.
        self._due = trio.Event()
        self._pong: bytes | None = None
        self._close_frame = b""
        self._was_heard = False  # since the last ping
        # The end.
        self._ended: Ended | None = None
        self._close_by = math.inf  # from the first call of close on
        self._over = trio.Event()  # nothing is left to be sent or received
        self._serving = trio.CancelScope()

    # --- for endpoints ------------------------------------------------------------------------------------------------

    @property
    def is_draining(self) -> bool:
        """Whether the server is shutting down. :meth:`receive` gives None then, while sending still works."""
        return self._is_draining

    @property
    def has_more(self) -> bool:
        """Whether another message has arrived already."""
        return bool(self._waiting)

    @property
    def close_code(self) -> int | None:
        """How the client ended it: the code of its close frame, 1005 for a frame without one, 1006 if it just went.

        The code it was answered with, if it broke a rule. None as long as none of this has happened.
        """
        return None if self._ended is None else self._ended.code

    async def receive(self) -> str | bytes | None:
        """The next message, whole. A message that has arrived already is given without a checkpoint.

        None at the end: the client closed it, is gone or broke a rule; :meth:`close` was called; the server is draining.
        What :attr:`is_draining` tells apart: only then something may still be sent. After None the endpoint should
        finish; once the client is gone it is cancelled after ``websocket_close_timeout_s``.
        """
        while not self._is_draining and self._close_by == math.inf:
            if self._waiting:
                message = self._waiting.popleft()
                self._waiting_length -= len(message)
                self._wake_reader()
                return message
            if self._ended is not None:
                break
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        return None

    async def send(self, *messages: str | bytes) -> None:
        """Send text or binary messages; returns when the socket took them. Always a checkpoint.

        Several short ones go out together, which costs little more than one. Raises :class:`WebSocketClosed`, also when
        ``write_timeout_s`` passed without 64 KiB of progress. Cancelled while it waits for the client, part of a message
        may be out: that ends the connection.
        """
        self._check_open()
        parcels = packed(messages)
        has_begun = has_waited = False
        await _take(self._message_turn)
        try:
            for parcel in parcels:
                await _take(self._frame_turn)
                try:
                    self._check_open()
                    has_begun = True
                    frames = [self._protocol.frame(piece, is_last=is_last) for piece, is_last in parcel]
                    has_waited |= await self._transmit(b"".join(frames))
                finally:
                    self._frame_turn.release()
        except trio.Cancelled:
            if has_begun:
                self._lose()  # what follows would be taken for the rest of a message
            raise
        finally:
            self._message_turn.release()
        if not has_waited:
            await trio.lowlevel.checkpoint()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close it; returns when the client has answered, or after ``websocket_close_timeout_s``. Not needed at the end.

        Messages not received yet are dropped, sends under way raise :class:`WebSocketClosed`. ``reason`` is cut off
        after 123 bytes. Raises ValueError for a code that no server sends; later calls only wait.
        """
        if self._close_by == math.inf:
            if not self._protocol.is_closing and self._ended is None:
                self._close_frame = self._protocol.close(code, reason)
            self._close_by = trio.current_time() + self._limits.websocket_close_timeout_s
            self._wake_everyone()
        with trio.CancelScope(deadline=self._close_by):
            await self._over.wait()
        if not self._over.is_set():
            self._lose()

    # --- for the connection -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is shutting down: no further message is given to the endpoint, and its end is answered with 1001."""
        self._is_draining = True
        self._arrived.set()

    async def run(self, report: Report) -> bool:
        """Call the endpoint and close; everything that was started has ended then. The transport stays open.

        True if the client may still be sending. What the endpoint raises goes to ``report``, and the client gets 1011.
        """
        try:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._read)
                tasks.start_soon(self._keep)
                fault = await self._call_endpoint()
                if fault is not None:
                    report(fault)
                    await self.close(INTERNAL_ERROR, "internal error")
                elif self._is_draining:
                    await self.close(GOING_AWAY, "the server is shutting down")
                else:
                    await self.close()
                tasks.cancel_scope.cancel(reason="the WebSocket has ended")
        except BaseException:
            await self._say_goodbye()  # noqa: ASYNC102 - it does not wait
            raise
        return self._ended is not None and self._ended.is_violation

    async def _call_endpoint(self) -> Exception | None:
        """What it raised, other than :class:`Disconnected`."""
        try:
            with self._serving:
                await self._serve(self)
        except Disconnected:
            return None
        except ExceptionGroup as group:
            return group.split(Disconnected)[1]
        except Exception as error:
            return error
        return None

    async def _say_goodbye(self) -> None:
        """When the connection was cancelled: a close frame, if the socket has room for it right now."""
        is_cancelled = trio.current_effective_deadline() == -math.inf
        if is_cancelled and not self._protocol.is_closing and self._ended is None:
            with suppress(Disconnected):
                await self._transport.send(self._protocol.close(GOING_AWAY, "the server is shutting down"))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        steps = 0
        data = self._trailing
        try:
            while self._ended is None:
                data = data or await self._transport.receive()
                self._was_heard = True
                for event in self._protocol.events(data):
                    steps += 1
                    if steps % EVENTS_PER_TURN == 0:
                        await trio.lowlevel.checkpoint()
                    if self._ended is not None:
                        return
                    if isinstance(event, str | bytes):
                        await self._queue(event)
                    elif isinstance(event, Ping):
                        # Only the last of several is answered, as RFC 6455 §5.5.3 allows.
                        self._pong = event.payload
                        self._due.set()
                    elif event is not None:
                        self._close_frame += event.answer
                        self._end(event)
                data = b""
        except Disconnected:
            self._lose()

    async def _queue(self, message: str | bytes) -> None:
        self._waiting.append(message)
        self._waiting_length += len(message)
        self._arrived.set()
        while self._is_full():
            self._room = trio.Event()
            await self._room.wait()

    def _is_full(self) -> bool:
        limits = self._limits
        return self._close_by == math.inf and (
            len(self._waiting) >= limits.max_websocket_waiting_messages
            or self._waiting_length >= limits.max_websocket_message_bytes
        )

    def _wake_reader(self) -> None:
        if self._room is not None and not self._is_full():
            self._room.set()
            self._room = None
            self._was_heard = True  # silence meant nothing while nobody listened

    # --- the keeper ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Pongs, pings and the close frame; notices a client that is gone without a word."""
        limits = self._limits
        ping_at = trio.current_time() + limits.websocket_ping_s
        silent_at = math.inf
        try:
            while not self._over.is_set():
                with trio.CancelScope(deadline=min(ping_at, silent_at)):
                    await self._due.wait()
                self._due = trio.Event()
                now = trio.current_time()
                if self._was_heard or self._room is not None:
                    silent_at = math.inf
                if now >= silent_at:
                    silent_at = math.inf
                    self._give_up()
                is_ping_due = now >= ping_at
                await self._send_due(with_ping=is_ping_due)
                if is_ping_due:
                    ping_at = trio.current_time() + limits.websocket_ping_s
                    silent_at = min(silent_at, trio.current_time() + limits.websocket_pong_timeout_s)
            # The closing handshake is over: the server ends the connection (RFC 6455 §7.1.1), even if its endpoint does
            # not yet know.
            await self._transport.half_close()
        except Disconnected:
            pass

    async def _send_due(self, *, with_ping: bool) -> None:
        await _take(self._frame_turn)
        try:
            frames = b""
            if not self._protocol.is_closing:
                if self._pong is not None:
                    frames += self._protocol.pong(self._pong)
                if with_ping:
                    frames += self._protocol.ping()
                    self._was_heard = False
            frames += self._close_frame
            # Others may fall due while these wait for the client.
            self._pong, self._close_frame = None, b""
            if frames:
                await self._transmit(frames)
        finally:
            self._frame_turn.release()
        if self._ended is not None and not self._close_frame:
            self._over.set()

    async def _transmit(self, frames: bytes) -> bool:
        """The holder of the frame turn sends. True if it had to wait."""
        try:
            return await self._transport.send(frames)
        except Disconnected as error:
            self._lose()
            raise WebSocketClosed from error

    def _check_open(self) -> None:
        if self._protocol.is_closing or self._ended is not None:
            raise WebSocketClosed

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self, ended: Ended) -> None:
        """Nothing more is received. The endpoint has a while to notice; the keeper sends what is still to be said."""
        if self._ended is None:
            self._ended = ended
            self._serving.deadline = trio.current_time() + self._limits.websocket_close_timeout_s
        self._wake_everyone()

    def _give_up(self) -> None:
        """The client is silent. If just its answers are missing, it will read why."""
        if self._ended is None and not self._protocol.is_closing:
            self._close_frame = self._protocol.close(INTERNAL_ERROR, "no answer to a ping")
            self._end(Ended(ABNORMAL, ""))

    def _lose(self) -> None:
        """Nothing can be sent or received any more."""
        self._close_frame = b""
        self._over.set()
        self._end(Ended(ABNORMAL, ""))

    def _wake_everyone(self) -> None:
        self._arrived.set()
        self._due.set()
        self._wake_reader()


async def _take(lock: trio.Lock) -> None:
    """Without a checkpoint, if it is free."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()
