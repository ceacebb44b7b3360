"""One connection, owned by one task: read a head, call the handler, send its answer, again.

The loop spends no nursery and no cancel scope on a request that comes and goes without waiting. Deadlines while waiting
for a head are kept by :class:`~minwebhook.http.deadlines.DeadlineQueue`, all others are armed when a wait begins.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from minwebhook.errors import ApiError
from minwebhook.http.body import NO_BODY, RequestBody
from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.http.disconnects import DisconnectWatcher
from minwebhook.http.forwarded import TrustedProxies
from minwebhook.http.head import RequestHead
from minwebhook.http.messages import Body, Handler, Request, Response, Upgrade
from minwebhook.http.protocol import ServerProtocol
from minwebhook.http.strict import Refusal
from minwebhook.http.transport import Disconnected, Interrupted, Transport
from minwebhook.http.turnstile import Turnstile
from minwebhook.http.websocket import WebSocket
from minwebhook.settings import HttpSettings

#: An unread body is received to its end, to keep the connection, if no more than this is missing.
MAX_DISCARD_BYTES: Final = 64 * 1024
#: After the last answer the peer's bytes are thrown away for so long and so far, then the connection is cut. Without
#: this a peer that is still sending would get a reset, which can destroy the answer (RFC 9112 §9.6).
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
#: A stream that the socket takes as fast as it is made lets other tasks run after so many bytes, each piece counted as
#: some more. Not after each: most streams wait for their next piece anyway, and a turn of the loop costs half a send.
_UNPAUSED_BYTES: Final = 64 * 1024
_PIECE_COST_BYTES: Final = 4 * 1024

#: Told what a handler or stream raised, and the id of its request.
ReportError = Callable[[Exception, str], None]


@dataclass(frozen=True, slots=True)
class Service:
    """What all connections of a server share."""

    handler: Handler
    limits: HttpSettings
    report_error: ReportError
    date: Callable[[], bytes]
    idle: DeadlineQueue
    heads: DeadlineQueue
    disconnects: DisconnectWatcher
    proxies: TrustedProxies | None = None
    turnstile: Turnstile = field(default_factory=Turnstile)


class Connection:
    """A connection to ``peer``. ``connection_id`` begins the ids of its requests.

    What requests say of their client counts if the peer is a trusted proxy and not ``is_inner``: a script of ours.
    """

    def __init__(
        self,
        service: Service,
        transport: Transport,
        *,
        connection_id: str,
        peer: str,
        scheme: str,
        is_inner: bool = False,
    ) -> None:
        limits = service.limits
        self._service = service
        self._transport = transport
        self._protocol = ServerProtocol(
            max_head_bytes=limits.max_head_bytes,
            max_header_fields=limits.max_header_fields,
            date=service.date,
            use_recognizer=limits.http_parser == "auto",
        )
        self._id = connection_id
        self._peer = peer
        self._scheme = scheme
        proxies = service.proxies
        self._proxies = proxies if proxies is not None and not is_inner and proxies.trusts(peer) else None
        self._request_count = 0
        self._is_draining = False
        self._has_given_up = False
        self._is_idle = False
        self._is_watched = False
        self._websocket: WebSocket | None = None
        self._watch = self._watch_disconnect if transport.fileno() >= 0 else _never

    def drain(self) -> None:
        """Take no further request: leave now if idle, else after the answer under way.

        A request that has come already, and the first one of a connection that was just made, are still answered: its
        client could not know. :meth:`give_up` ends the wait for the latter.
        """
        self._is_draining = True
        if self._is_idle and self._request_count and not _has_come(self._transport.fileno()):
            self._transport.interrupt()
        if self._websocket is not None:
            self._websocket.drain()

    def give_up(self) -> None:
        """After :meth:`drain`: do not wait for a first request any longer."""
        self._has_given_up = True
        if self._is_idle:
            self._transport.interrupt()

    def expire(self) -> None:
        """The wait for a head has lasted too long. Called by the deadline queues."""
        self._transport.interrupt()

    async def serve(self) -> None:
        """Answer requests until either side has enough, then close. Raises nothing but cancellation."""
        try:
            if await self._serve_requests():
                await self._linger()
        except Disconnected:
            pass
        finally:
            service = self._service
            service.idle.discard(self)
            service.heads.discard(self)
            if self._is_watched:
                service.disconnects.forget(self._transport.fileno())
            await self._transport.close()  # noqa: ASYNC102 - it bounds itself

    async def _serve_requests(self) -> bool:
        """True if the peer may still be sending when this ends."""
        protocol = self._protocol
        while True:
            try:
                head = protocol.next_head() if protocol.has_bytes else None
                if head is None:
                    head = await self._receive_head()
            except Refusal as refusal:
                await self._refuse(refusal)
                return True
            if head is None:
                return False
            turnstile = self._service.turnstile
            await self._serve_request(head, 0.0 if turnstile.enter_now() else await turnstile.enter())
            if not protocol.start_next_cycle():
                return protocol.has_bytes or not protocol.is_body_complete
            if protocol.has_bytes:
                await trio.lowlevel.checkpoint()  # pipelined requests must not starve other connections

    async def _receive_head(self) -> RequestHead | None:
        """None if no further request will come. Raises :class:`Refusal`."""
        protocol, transport, service = self._protocol, self._transport, self._service
        while not protocol.is_closed:
            is_idle = not protocol.has_bytes
            if is_idle and self._is_draining and (self._request_count or self._has_given_up):
                return None
            # A head has its time from the first byte on: later bytes leave the entry where it is.
            queue = service.idle if is_idle else service.heads
            queue.add(self)
            self._is_idle = is_idle
            try:
                data = await transport.receive()
            except Interrupted:
                if is_idle:
                    return None
                raise Refusal(408, "The request head came too slowly") from None
            finally:
                self._is_idle = False
                if is_idle:
                    queue.discard(self)
            protocol.receive_data(data)
            if (head := protocol.next_head()) is not None:
                if not is_idle:
                    queue.discard(self)
                return head
        return None

    async def _serve_request(self, head: RequestHead, waited_s: float) -> None:
        service = self._service
        self._request_count += 1
        request_id = f"{self._id}-{self._request_count}"
        body: Body = NO_BODY
        if head.body_length:
            body = RequestBody(self._protocol, self._transport, service.limits)
        request = Request(
            head.method,
            head.path,
            head.query,
            head.headers,
            request_id,
            self._peer,
            self._scheme,
            body,
            self._watch,
            head.is_http_1_0,
            waited_s=waited_s,
        )
        if self._proxies is not None:
            client = self._proxies.client(self._peer, self._scheme, head.headers)
            request.client, request.scheme, request.forwarded_host = client.name, client.scheme, client.host
        try:
            response = await service.handler(request)
        except ApiError as error:
            response = Response.text(error.text, error.status, error.headers)
        except Disconnected:
            raise
        except Exception as error:
            service.report_error(error, request_id)
            response = _internal_error()
        if self._is_watched:
            service.disconnects.release(self._transport.fileno())
        self._settle_body()
        if response.stream is not None:
            await self._send_stream(response, request_id)
        elif response.upgrade is not None:
            await self._serve_websocket(response, response.upgrade, request_id)
        else:
            await self._transport.send(self._render(response, request_id))
        if not self._protocol.is_body_complete and isinstance(body, RequestBody) and not self._protocol.is_closing:
            await self._discard_body(body)

    def _settle_body(self) -> None:
        """Decide, before the answer goes out, whether the connection can outlive what is unread of the body."""
        protocol = self._protocol
        if self._is_draining:
            protocol.close_after_response()
        if protocol.is_body_complete:
            return
        try:
            missing = protocol.skip_body()
        except Refusal:
            return
        # A client that waits for 100 Continue may send the body or not: after another answer no one can tell.
        if missing is None or missing > MAX_DISCARD_BYTES or protocol.needs_continue:
            protocol.close_after_response()

    async def _discard_body(self, body: RequestBody) -> None:
        try:
            while await body.read_chunk():
                pass
        except Refusal:
            self._protocol.close_after_response()

    def _render(self, response: Response, request_id: str) -> bytes:
        try:
            return self._protocol.respond(response)
        except ValueError as error:
            self._service.report_error(error, request_id)
            return self._protocol.respond(_internal_error())

    async def _send_stream(self, response: Response, request_id: str) -> None:
        protocol, transport = self._protocol, self._transport
        try:
            start = protocol.start_stream(response)
        except ValueError as error:
            self._service.report_error(error, request_id)
            await transport.send(protocol.respond(_internal_error()))
            return
        await transport.send(start)
        if response.stream is None or protocol.is_stream_bodiless(response):
            return

        try:
            await response.stream(_StreamSender(protocol, transport))
            ending = protocol.end_stream()
        except Disconnected:
            raise
        except Exception as error:
            # Too late for another status. What is missing, bytes or the last chunk, tells the client that this is not all.
            self._service.report_error(error, request_id)
            raise Disconnected from error
        if ending:
            await transport.send(ending)

    async def _serve_websocket(self, response: Response, upgrade: Upgrade, request_id: str) -> None:
        protocol, transport, service = self._protocol, self._transport, self._service
        await transport.send(protocol.respond(response))
        websocket = WebSocket(transport, service.limits, upgrade=upgrade, trailing=protocol.trailing_data())
        self._websocket = websocket
        if self._is_draining:
            websocket.drain()
        if await websocket.run(lambda error: service.report_error(error, request_id)):
            await self._linger()

    async def _refuse(self, refusal: Refusal) -> None:
        self._service.heads.discard(self)
        self._protocol.close_after_response()
        await self._transport.send(self._protocol.respond(Response.text(refusal.text, refusal.status, refusal.headers)))

    async def _linger(self) -> None:
        transport = self._transport
        await transport.half_close()
        seen = 0
        with trio.move_on_after(LINGER_S):
            while seen < LINGER_BYTES and (data := await transport.receive()):
                seen += len(data)

    def _watch_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._is_watched = True
        return self._service.disconnects.watch(self._transport.fileno(), callback)


class _StreamSender:
    """Sends the pieces of one streamed body."""

    __slots__ = ("_protocol", "_transport", "_unpaused")

    def __init__(self, protocol: ServerProtocol, transport: Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self._unpaused = 0

    async def __call__(self, data: bytes) -> None:
        if await self._transport.send(self._protocol.stream_piece(data)):
            self._unpaused = 0
            return
        self._unpaused += len(data) + _PIECE_COST_BYTES
        if self._unpaused >= _UNPAUSED_BYTES:
            self._unpaused = 0
            await trio.lowlevel.checkpoint()

    def send_now(self, data: bytes) -> bool:
        return self._transport.send_now(self._protocol.stream_piece(data))


def _has_come(fd: int) -> bool:
    """Whether there is something to receive."""
    if fd < 0:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _internal_error() -> Response:
    return Response.text("Internal Server Error", 500)


def _never(callback: Callable[[], None]) -> Callable[[], None]:
    return lambda: None
