"""The request body as handlers see it: pulled from the connection on demand, under limits and deadlines."""

from __future__ import annotations

import trio

from minwebhook.errors import PayloadTooLarge
from minwebhook.http.messages import Body
from minwebhook.http.protocol import CONTINUE, ServerProtocol
from minwebhook.http.strict import Refusal
from minwebhook.http.transport import Transport
from minwebhook.settings import HttpSettings

#: The body of requests without one.
NO_BODY = Body()


class RequestBody(Body):
    """The body of the current request of ``protocol``.

    Reading raises :class:`Refusal` (400 broken framing or an early end, 408 a late client) and
    :class:`~minwebhook.http.transport.Disconnected`; after either, the connection closes behind the answer. Only time
    spent waiting for the client counts against it. What has arrived already is given without a checkpoint.
    """

    __slots__ = ("_limits", "_protocol", "_received_bytes", "_transport", "_waited_s")

    def __init__(self, protocol: ServerProtocol, transport: Transport, limits: HttpSettings) -> None:
        self._protocol = protocol
        self._transport = transport
        self._limits = limits
        self._received_bytes = 0
        self._waited_s = 0.0

    async def read(self, max_bytes: int) -> bytes:
        """See :meth:`Body.read`. A body announced as too large is refused before the client is asked to send it."""
        protocol = self._protocol
        first = b""
        # A list of the pieces would leave their memory scattered, and so held, behind the copy that joins them.
        whole: bytearray | None = None
        while True:
            # Before and after each wait: a chunk is refused by its announced size, before its data.
            if protocol.announced_bytes > max_bytes:
                raise _too_large(max_bytes)
            piece = protocol.next_data()
            if piece is None:
                if protocol.announced_bytes > max_bytes:
                    raise _too_large(max_bytes)
                await self._receive()
            elif not piece:
                return first if whole is None else bytes(whole)
            elif whole is not None:
                whole += piece
            elif first:
                whole = bytearray(first)
                whole += piece
            else:
                first = piece

    async def read_chunk(self) -> bytes:
        """See :meth:`Body.read_chunk`."""
        while (piece := self._protocol.next_data()) is None:
            await self._receive()
        return piece

    async def _receive(self) -> None:
        if self._protocol.needs_continue:
            self._protocol.needs_continue = False
            await self._transport.send(CONTINUE)
        started = trio.current_time()
        with trio.move_on_after(self._limits.body_idle_timeout_s) as deadline:
            data = await self._transport.receive()
        if deadline.cancelled_caught:
            raise self._late()
        self._waited_s += trio.current_time() - started
        self._received_bytes += len(data)
        self._protocol.receive_data(data)
        self._check_rate()

    def _check_rate(self) -> None:
        limits = self._limits
        slowest = self._waited_s * limits.min_body_bytes_per_s
        if self._waited_s > limits.body_idle_timeout_s and self._received_bytes < slowest:
            raise self._late()

    def _late(self) -> Refusal:
        self._protocol.close_after_response()
        return Refusal(408, "The request body came too slowly")


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {max_bytes} bytes")
