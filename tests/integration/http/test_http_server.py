"""The whole server on real sockets: TCP, TLS, unix; clients that behave, and clients that do not."""

from __future__ import annotations

import errno
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import h11
import httpx
import pytest
import trio
import trio.testing

from minwebhook.http.listeners import open_listeners
from minwebhook.http.messages import Request, Response, SendChunk
from minwebhook.http.server import serve
from minwebhook.http.tls import ServerTls
from minwebhook.settings import HttpSettings

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Site:
    """What the handler of these tests keeps: events that tests wait for."""

    shutdown: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    running: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    errors: list[Exception] = field(default_factory=list)
    addresses: tuple[str, ...] = ()

    async def handle(self, request: Request) -> Response:
        """One small endpoint per path."""
        match request.path:
            case "/echo":
                return Response(200, await request.body.read(50_000_000), "application/octet-stream")
            case "/stream":
                return Response(200, content_type="text/plain", stream=self._stream)
            case "/who":
                return Response.text(f"{request.scheme} {request.client} {request.request_id}")
            case "/wait":
                request.on_disconnect(self.gone.set)
                self.running.set()
                await self.release.wait()
        return Response.text("hello")

    async def _stream(self, send: SendChunk) -> None:
        for number in range(1000):
            await send(b"%d\n" % number)

    def tcp(self) -> tuple[str, int]:
        """Host and port of the first address."""
        host, _, port = self.addresses[0].partition("://")[2].rpartition(":")
        return host, int(port)


class StartSite(Protocol):
    """Starts a server on ``address``; ``limits`` are fields of :class:`HttpSettings`."""

    def __call__(
        self, address: str = ..., tls: ssl.SSLContext | None = ..., *, grace_s: float = ..., **limits: Any
    ) -> Awaitable[Site]: ...


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    sites: list[Site] = []

    async def start_site(
        address: str = "127.0.0.1:0", tls: ssl.SSLContext | None = None, *, grace_s: float = 5, **limits: Any
    ) -> Site:
        site = Site()
        sites.append(site)

        async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
            await serve(
                open_listeners([address], ServerTls(tls) if tls is not None else None),
                site.handle,
                HttpSettings(**limits),
                shutdown=site.shutdown,
                grace_s=lambda: grace_s,
                report_error=lambda error, request_id: site.errors.append(error),
                task_status=task_status,
            )
            site.done.set()

        site.addresses = await nursery.start(run)
        return site

    yield start_site
    for site in sites:
        site.release.set()
        site.shutdown.set()
        await site.done.wait()


async def receive_all(stream: trio.abc.Stream) -> bytes:
    """Everything to the end of the connection."""
    seen = b""
    while data := await stream.receive_some(65536):
        seen += data
    return seen


async def responses(stream: trio.abc.Stream, number: int) -> list[tuple[int, bytes]]:
    """Status and body of so many answers to pipelined GET requests, as h11 reads them."""
    found = []
    client = h11.Connection(h11.CLIENT)
    for _ in range(number):
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        while type(event := client.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                client.receive_data(bytes(await stream.receive_some(65536)))
            elif type(event) is h11.Response:
                status = event.status_code
            elif type(event) is h11.Data:
                body += event.data
        found.append((status, body))
        client.start_next_cycle()
    return found


async def test_an_everyday_client(start: StartSite) -> None:
    site = await start()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 7_000

    async with httpx.AsyncClient(base_url=site.addresses[0], trust_env=False) as client:
        assert (await client.get("/hello")).text == "hello"
        big = b"0123456789" * 300_000
        assert (await client.post("/echo", content=big)).content == big
        assert (await client.post("/echo", content=pieces())).content == b"x" * 700_000
        streamed = await client.get("/stream")
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert streamed.text.splitlines() == [str(number) for number in range(1000)]
        head = await client.head("/hello")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")
        first, second = [(await client.get("/who")).text.split() for _ in range(2)]
        assert first[:2] == second[:2]  # the same connection
        assert first[2] != second[2]
    assert site.errors == []


async def test_pipelined_requests_are_answered_in_order(start: StartSite) -> None:
    site = await start()
    stream = await trio.open_tcp_stream(*site.tcp())
    bodies = [b"%d" % number for number in range(50)]
    raw = b"".join(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, raw)
        assert await responses(stream, 50) == [(200, body) for body in bodies]
    await stream.aclose()


async def test_http_1_0_stream_ends_with_the_connection(start: StartSite) -> None:
    site = await start()
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
    answer = await receive_all(stream)
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"\n998\n999\n")
    await stream.aclose()


async def test_413_while_the_client_still_sends(start: StartSite) -> None:
    site = await start()
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n" + b"x" * 500_000)
    assert (await receive_all(stream)).startswith(b"HTTP/1.1 413 ")
    await stream.aclose()


async def test_garbage_then_life(start: StartSite) -> None:
    site = await start()
    for garbage in (b"\x16\x03\x01\x02", b"\xff" * 100_000, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"):
        stream = await trio.open_tcp_stream(*site.tcp())
        await stream.send_all(garbage)
        with trio.move_on_after(0):
            await stream.receive_some(1)
        sock = stream.socket
        # A reset instead of a proper end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(site.addresses[0])).text == "hello"
    assert site.errors == []


async def test_slowloris_does_not_hold_others(start: StartSite) -> None:
    site = await start(head_timeout_s=0.05)
    slow = [await trio.open_tcp_stream(*site.tcp()) for _ in range(20)]
    for stream in slow:
        await stream.send_all(GET[:10])
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(site.addresses[0])).text == "hello"
    for stream in slow:
        assert (await receive_all(stream)).startswith(b"HTTP/1.1 408 ")
        await stream.aclose()


async def test_slow_reader_is_dropped(start: StartSite) -> None:
    site = await start(write_timeout_s=0.05)
    stream = await trio.open_tcp_stream(*site.tcp())
    size = 30_000_000
    await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    # Nothing is read until the server has given up, which it shows by closing.
    site.shutdown.set()
    await site.done.wait()
    with pytest.raises((trio.BrokenResourceError, AssertionError)):
        assert len(await receive_all(stream)) >= size
    await stream.aclose()


async def test_unix_socket(start: StartSite, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    site = await start(f"unix:{path}")
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://local", trust_env=False) as client:
        assert (await client.get("/who")).text.startswith("http unix ")
    site.shutdown.set()
    await site.done.wait()
    assert not path.exists()


async def test_drain_finishes_what_runs(start: StartSite) -> None:
    site = await start(grace_s=60)
    busy, idle = [await trio.open_tcp_stream(*site.tcp()) for _ in range(2)]
    await busy.send_all(GET.replace(b"hello", b"wait"))
    await site.running.wait()
    site.shutdown.set()
    assert await receive_all(idle) == b""
    with pytest.raises(OSError):
        await trio.open_tcp_stream(*site.tcp())
    site.release.set()
    assert b"\r\nConnection: close\r\n" in await receive_all(busy)
    await site.done.wait()
    await busy.aclose()
    await idle.aclose()


async def test_a_request_that_has_come_is_answered_by_a_server_that_drains(start: StartSite) -> None:
    site = await start(grace_s=60)
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(GET)
    await stream.receive_some(65536)
    await trio.testing.wait_all_tasks_blocked()
    # In one turn of the loop: the server has not looked at the socket when it is told to drain.
    os.write(stream.socket.fileno(), GET)
    site.shutdown.set()
    assert (await receive_all(stream)).startswith(b"HTTP/1.1 200 ")
    await site.done.wait()
    await stream.aclose()


async def test_the_grace_ends(start: StartSite) -> None:
    site = await start(grace_s=0.05)
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(GET.replace(b"hello", b"wait"))
    await site.running.wait()
    site.shutdown.set()
    await site.done.wait()
    await stream.aclose()


async def test_a_lost_client_is_noticed(start: StartSite) -> None:
    site = await start()
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(GET.replace(b"hello", b"wait"))
    await site.running.wait()
    await stream.aclose()
    await site.gone.wait()


async def test_running_out_of_descriptors_is_survived(start: StartSite) -> None:
    site = await start()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    stream = await trio.open_tcp_stream(*site.tcp())
    await stream.send_all(GET)
    await responses(stream, 1)
    waiting = trio.socket.socket()
    lowest_free = waiting.fileno() + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        await waiting.connect(site.tcp())
        while not site.errors:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(GET)
        assert (await responses(stream, 1))[0][0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await waiting.send(GET)
    assert (await responses(trio.SocketStream(waiting), 1))[0][0] == 200
    assert {getattr(error, "errno", None) for error in site.errors} == {errno.EMFILE}
    waiting.close()
    await stream.aclose()


# TLS


async def test_tls(start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    site = await start(tls=server_tls)
    assert site.addresses[0].startswith("https://127.0.0.1:")
    async with httpx.AsyncClient(base_url=site.addresses[0], verify=client_tls, trust_env=False) as client:
        assert (await client.get("/who")).text.startswith("https 127.0.0.1:")
        body = b"x" * 1_000_000
        assert (await client.post("/echo", content=body)).content == body
        assert (await client.get("/stream")).text.endswith("999\n")
    assert site.errors == []


async def tls_stream(site: Site, context: ssl.SSLContext) -> trio.SSLStream[trio.SocketStream]:
    """A TLS connection after its handshake."""
    stream = trio.SSLStream(
        await trio.open_tcp_stream(*site.tcp()), context, server_hostname="127.0.0.1", https_compatible=True
    )
    await stream.do_handshake()
    return stream


async def test_tls_refusal_is_readable(
    start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    site = await start(tls=server_tls)
    stream = await tls_stream(site, client_tls)
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 400 ")
    await stream.aclose()


async def test_tls_idle_connection_drains(
    start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    site = await start(tls=server_tls, grace_s=60)
    stream = await tls_stream(site, client_tls)
    await stream.send_all(GET)
    await stream.receive_some(65536)
    site.shutdown.set()
    assert await receive_all(stream) == b""
    await site.done.wait()
    await stream.aclose()


async def test_tls_lost_client_is_noticed(
    start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    site = await start(tls=server_tls)
    stream = await tls_stream(site, client_tls)
    await stream.send_all(GET.replace(b"hello", b"wait"))
    await site.running.wait()
    await trio.aclose_forcefully(stream)
    await site.gone.wait()


async def test_tls_handshakes_that_fail_or_never_come(
    start: StartSite, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    site = await start(tls=server_tls, tls_handshake_timeout_s=0.05)
    silent, wrong = [await trio.open_tcp_stream(*site.tcp()) for _ in range(2)]
    await wrong.send_all(GET)
    await receive_all(wrong)
    assert await receive_all(silent) == b""
    async with httpx.AsyncClient(base_url=site.addresses[0], verify=client_tls, trust_env=False) as client:
        assert (await client.get("/hello")).text == "hello"
    assert site.errors == []
    await silent.aclose()
    await wrong.aclose()
