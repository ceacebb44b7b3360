"""WebSockets over TCP and TLS with a client that is not ours, and with clients that are broken on purpose."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import pytest
import trio
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.trio.client import connect
from websockets.typing import Subprotocol

from minwebhook.errors import ApiError
from minwebhook.http.handshake import accept_websocket
from minwebhook.http.listeners import open_listeners
from minwebhook.http.messages import Request, Response
from minwebhook.http.server import serve
from minwebhook.http.tls import ServerTls
from minwebhook.http.websocket import WebSocket
from minwebhook.settings import HttpSettings
from tests.frames import HANDSHAKE, PONG, TEXT, close, closing, frame, parse, text


@dataclass
class Site:
    """A server with some WebSockets by path."""

    shutdown: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    errors: list[Exception] = field(default_factory=list)
    address: str = ""
    open: int = 0
    #: How those ended that did.
    codes: list[int | None] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)

    async def handle(self, request: Request) -> Response:
        """``/echo``, ``/close``, ``/fail``, ``/flood``, ``/upper`` (a subprotocol)."""
        subprotocols = ("upper.v2", "upper.v1") if request.path == "/upper" else ()
        try:
            return accept_websocket(request, getattr(self, "_" + request.path[1:]), subprotocols=subprotocols)
        except ApiError as error:
            return Response.text(error.text, error.status, error.headers)

    def _enter(self) -> None:
        self.open += 1
        if self.ended.is_set():
            self.ended = trio.Event()

    def _leave(self, websocket: WebSocket) -> None:
        self.open -= 1
        self.codes.append(websocket.close_code)
        self.ended.set()

    async def _echo(self, websocket: WebSocket) -> None:
        self._enter()
        try:
            while (message := await websocket.receive()) is not None:
                await websocket.send(message)
        finally:
            self._leave(websocket)

    async def _upper(self, websocket: WebSocket) -> None:
        while isinstance(message := await websocket.receive(), str):
            await websocket.send(f"{websocket.subprotocol} {message.upper()}")

    async def _close(self, websocket: WebSocket) -> None:
        code, _, reason = str(await websocket.receive()).partition(" ")
        await websocket.close(int(code), reason)

    async def _fail(self, websocket: WebSocket) -> None:
        raise LookupError(await websocket.receive())

    async def _flood(self, websocket: WebSocket) -> None:
        self._enter()
        try:
            for number in count():
                await websocket.send(b"%d" % number * 10_000)
        finally:
            self._leave(websocket)

    async def all_ended(self) -> None:
        """No endpoint is running."""
        while self.open:
            await self.ended.wait()

    def url(self, path: str) -> str:
        """For a client."""
        return self.address.replace("http", "ws", 1) + path

    async def raw(self, path: str = "/echo") -> trio.SocketStream:
        """A connection on which the handshake is done."""
        host, _, port = self.address.partition("://")[2].rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(HANDSHAKE.replace(b" / ", b" %b " % path.encode(), 1))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += bytes(await stream.receive_some(1))
        assert head.startswith(b"HTTP/1.1 101 ")
        return stream


class StartSite(Protocol):
    """Starts a server; ``limits`` are fields of :class:`HttpSettings`."""

    def __call__(self, tls: ssl.SSLContext | None = ..., **limits: Any) -> Awaitable[Site]: ...


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    sites: list[Site] = []

    async def start_site(tls: ssl.SSLContext | None = None, **limits: Any) -> Site:
        site = Site()
        sites.append(site)

        async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
            await serve(
                open_listeners(["127.0.0.1:0"], ServerTls(tls) if tls is not None else None),
                site.handle,
                HttpSettings(**limits),
                shutdown=site.shutdown,
                grace_s=lambda: 5,
                report_error=lambda error, request_id: site.errors.append(error),
                task_status=task_status,
            )
            site.done.set()

        (site.address,) = await nursery.start(run)
        return site

    yield start_site
    for site in sites:
        site.shutdown.set()
        await site.done.wait()


def client(site: Site, path: str = "/echo", **more: Any) -> connect:
    """A connection by the ``websockets`` package, whose limits are out of the way."""
    return connect(site.url(path), proxy=None, max_size=None, **more)


async def receive_all(stream: trio.SocketStream) -> bytes:
    """Everything to the end of the connection."""
    seen = b""
    while data := await stream.receive_some(65536):
        seen += data
    return seen


def reset(stream: trio.SocketStream) -> None:
    """End the connection without a proper end, as a killed machine's router may."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


# An everyday client


@pytest.mark.parametrize("http_parser", ["auto", "h11"])
async def test_a_thousand_messages(http_parser: str, start: StartSite) -> None:
    site = await start(http_parser=http_parser)
    async with client(site) as ws:
        assert ws.response is not None
        assert "Sec-WebSocket-Extensions" not in ws.response.headers  # though it has offered compression
        for number in range(1000):
            message = str(number) if number % 2 else b"%d" % number
            await ws.send(message)
            assert await ws.recv() == message
    await site.all_ended()
    assert site.codes == [1000]
    assert site.errors == []


async def test_many_in_flight_keep_their_order(start: StartSite) -> None:
    site = await start()
    async with client(site) as ws, trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(1000):
                await ws.send(f"message {number}")

        nursery.start_soon(send)
        assert [await ws.recv() for _ in range(1000)] == [f"message {number}" for number in range(1000)]


async def test_many_clients(start: StartSite) -> None:
    site = await start()

    async def talk(name: str) -> None:
        async with client(site) as ws:
            for number in range(20):
                await ws.send(f"{name} {number}")
                assert await ws.recv() == f"{name} {number}"

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(talk, str(number))
    await site.all_ended()
    assert site.codes == [1000] * 30
    assert site.open == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000, 5_000_000])
async def test_sizes(size: int, start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        for message in ("x" * size, bytes(size), "€" * (size // 3)):
            await ws.send(message)
            assert await ws.recv() == message


async def test_fragments(start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        await ws.send(["one ", "", "two ", "three"])
        assert await ws.recv() == "one two three"
        await ws.send([b"\xff", b"\xfe"])
        assert await ws.recv() == b"\xff\xfe"


async def test_pings_of_the_client(start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        for _ in range(10):
            await (await ws.ping(b"data")).wait()


async def test_our_pings(start: StartSite) -> None:
    site = await start(websocket_ping_s=0.02, websocket_pong_timeout_s=20)
    stream = await site.raw()
    async with client(site) as ws:
        pings = 0
        while pings < 3:
            (each,) = parse(await stream.receive_some(2))
            await stream.send_all(frame(PONG, each.payload))
            pings += 1
        await ws.send("still here")  # this client has been answering by itself
        assert await ws.recv() == "still here"
    await stream.aclose()


async def test_subprotocols(start: StartSite) -> None:
    site = await start()
    for offered, agreed in ((["x", "upper.v1", "upper.v2"], "upper.v1"), (["upper.v2"], "upper.v2")):
        async with client(site, "/upper", subprotocols=[Subprotocol(name) for name in offered]) as ws:
            assert ws.subprotocol == agreed
            await ws.send("a")
            assert await ws.recv() == f"{agreed} A"
    for wrong in (["x"], None):
        with pytest.raises(InvalidStatus) as refused:
            await client(site, "/upper", subprotocols=wrong).__aenter__()
        assert refused.value.response.status_code == 400
        assert b"upper.v2, upper.v1" in (refused.value.response.body or b"")


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1013, "too many runs"), (4999, "€" * 41)])
async def test_the_server_closes(code: int, reason: str, start: StartSite) -> None:
    site = await start()
    async with client(site, "/close") as ws:
        await ws.send(f"{code} {reason}")
        with pytest.raises(ConnectionClosedOK if code == 1000 else ConnectionClosedError):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (code, reason)


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_the_client_closes(code: int, start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        await ws.aclose(code, "bye")
        assert (ws.close_code, ws.close_reason) == (code, "bye")  # echoed
    await site.all_ended()
    assert site.codes == [code]


async def test_an_endpoint_that_fails(start: StartSite) -> None:
    site = await start()
    async with client(site, "/fail") as ws:
        await ws.send("a")
        with pytest.raises(ConnectionClosedError):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1011, "internal error")
    assert [type(error) for error in site.errors] == [LookupError]


async def test_shutdown(start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        await ws.send("a")
        assert await ws.recv() == "a"
        site.shutdown.set()
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1001
        await site.done.wait()


@pytest.mark.parametrize("size", [10, 100_000])
async def test_tls(size: int, start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    site = await start(server_tls)
    async with client(site, ssl=client_tls) as ws:
        for number in range(100):
            await ws.send(str(number) * size)
            assert await ws.recv() == str(number) * size
        await (await ws.ping()).wait()
    await site.all_ended()
    assert site.codes == [1000]
    async with client(site, "/close", ssl=client_tls) as ws:
        await ws.send("4000 enough")
        with pytest.raises(ConnectionClosedError):
            await ws.recv()
        assert ws.close_code == 4000


# Faults


async def test_a_client_that_is_too_strict_for_us_gets_its_way(start: StartSite) -> None:
    """It closes because of our message; the endpoint is not held up."""
    site = await start()
    async with connect(site.url("/flood"), proxy=None, max_size=1000) as ws:
        with pytest.raises(ConnectionClosedError):
            await ws.recv()
        assert ws.protocol.close_sent is not None
        assert ws.protocol.close_sent.code == 1009
    await site.ended.wait()
    assert site.errors == []


async def test_text_that_is_none(start: StartSite) -> None:
    site = await start()
    async with client(site) as ws:
        await ws.send(b"\xff", text=True)
        with pytest.raises(ConnectionClosedError):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1007, "text must be UTF-8")


async def test_a_message_that_is_too_big_while_it_is_sent(start: StartSite) -> None:
    site = await start(max_websocket_message_bytes=10_000)
    async with client(site) as ws:
        with pytest.raises(ConnectionClosedError):
            await ws.send(bytes(2_000_000))
            await ws.recv()
        assert ws.close_code == 1009
    await site.all_ended()
    assert site.codes == [1009]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1002),
        (b"\x16\x03\x01\x02\x00" * 100, 1002),
        (b"\xff" * 70_000, 1002),
        (frame(TEXT, b"a", mask=None), 1002),
        (frame(TEXT, b"a", rsv=4), 1002),  # compressed, though nobody agreed to that
        (frame(TEXT, b"\xc0\x80"), 1007),
    ],
)
async def test_garbage(wire: bytes, code: int, start: StartSite) -> None:
    site = await start()
    stream = await site.raw()
    await stream.send_all(wire)
    assert closing(await receive_all(stream))[0] == code
    await stream.aclose()
    await site.ended.wait()
    assert site.errors == []


async def test_a_client_that_stops_reading(start: StartSite) -> None:
    site = await start(write_timeout_s=0.05)
    stream = await site.raw("/flood")
    await site.ended.wait()
    assert site.codes == [1006]
    assert site.errors == []
    await stream.aclose()


async def test_a_client_that_is_silent(start: StartSite) -> None:
    site = await start(websocket_ping_s=0.03, websocket_pong_timeout_s=0.03)
    stream = await site.raw()
    received = await receive_all(stream)
    assert received[:2] == b"\x89\x00"
    assert received.endswith(b"\x03\xf3no answer to a ping")
    await site.all_ended()
    assert site.codes == [1006]
    await stream.aclose()


@pytest.mark.parametrize("path", ["/echo", "/flood"])
@pytest.mark.parametrize("half_a_frame", [b"", text("abc")[:-1]])
async def test_a_client_that_is_gone(path: str, half_a_frame: bytes, start: StartSite) -> None:
    site = await start()
    for end in ("close", "reset", "eof"):
        stream = await site.raw(path)
        await stream.send_all(half_a_frame)
        if end == "reset":
            reset(stream)
        elif end == "close":
            await stream.aclose()
        else:
            await stream.send_eof()
        await site.ended.wait()
        await stream.aclose()
    await site.all_ended()
    assert site.codes == [1006] * 3
    assert site.open == 0
    assert site.errors == []


async def test_clients_that_are_killed_while_they_close(start: StartSite) -> None:
    site = await start()
    for path, wire in (("/echo", close()), ("/echo", close()[:3]), ("/flood", close()), ("/close", text("4000"))):
        for receives in (False, True):
            stream = await site.raw(path)
            await stream.send_all(wire)
            if receives and wire != close()[:3]:
                await stream.receive_some(4)
            reset(stream)
    async with client(site) as ws:
        await ws.send("alive")
        assert await ws.recv() == "alive"
    site.shutdown.set()
    await site.done.wait()
    assert site.open == 0
    assert site.errors == []
