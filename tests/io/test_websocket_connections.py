"""From HTTP to WebSocket and to the end of the connection, on a server under the autojump clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from minwebhook.errors import ApiError
from minwebhook.http.handshake import accept_websocket
from minwebhook.http.messages import Request, Response
from minwebhook.http.websocket import WebSocket
from tests.frames import ACCEPT, CLOSE, HANDSHAKE, TEXT, Frame, close, frame, parse, text
from tests.in_process import Client, StartServer

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
GOODBYE = Frame(CLOSE, b"\x03\xe9the server is shutting down")


async def echo(websocket: WebSocket) -> None:
    """Gives every message back."""
    while (message := await websocket.receive()) is not None:
        await websocket.send(message)


async def ignore(websocket: WebSocket) -> None:
    """Is busy for good."""
    await trio.sleep_forever()


async def handle(request: Request) -> Response:
    """A page and some WebSockets."""
    if request.path == "/hello":
        return Response.text("hello\n")
    if request.path == "/slow":
        await trio.sleep(10)
    try:
        return accept_websocket(request, ignore if request.path == "/ignore" else echo)
    except ApiError as error:  # as the API does
        return Response.text(error.text, error.status, error.headers)


def handshake(path: str, *fields: bytes) -> bytes:
    """For another path, with more fields."""
    start, rest = HANDSHAKE.split(b"\r\n", 1)
    return b"\r\n".join([start.replace(b"/", path.encode(), 1), *fields, rest])


async def opened(client: Client) -> None:
    """The 101 has come, and not a byte behind it was taken."""
    head = await client.receive(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: %b\r\n" % ACCEPT.encode() in head


async def answer(client: Client) -> bytes:
    """One HTTP answer."""
    head = await client.receive(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += await client.stream.receive_some(length - len(body))
    return head + body


async def test_no_byte_behind_the_head_is_lost(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle)
    wire = HANDSHAKE + frame(TEXT, b"one", fin=False) + frame(0, b"two")
    for at in range(len(HANDSHAKE) - 2, len(wire) + 1):
        client = await server.connect()
        await client.send(wire[:at])
        await wait_all_tasks_blocked()
        await client.send(wire[at:])
        await opened(client)
        assert await client.receive(b"onetwo") == b"\x81\x06onetwo"
        await client.send(close())
        assert await client.receive_all() == b"\x88\x02\x03\xe8"
    assert server.errors == []


async def test_a_websocket_may_follow_requests(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle)
    client = await server.connect()
    no_handshake = handshake("/", b"Sec-WebSocket-Version: 8")
    await client.send(GET + no_handshake + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + HANDSHAKE + text("a"))
    assert (await answer(client)).startswith(b"HTTP/1.1 200 OK\r\n")
    for says in (b"send Sec-WebSocket-Version: 13, once", b"send Upgrade: websocket and Connection: Upgrade"):
        refused = await answer(client)
        assert refused.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert refused.endswith(says)
    await opened(client)
    assert await client.receive(b"a") == b"\x81\x01a"
    await client.send(close() + GET)  # nothing may follow
    assert await client.receive_all() == b"\x88\x02\x03\xe8"


async def test_http_1_0_is_no_handshake(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle)
    client = await server.connect()
    await client.send(HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")


async def test_the_idle_deadline_of_http_does_not_count(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, idle_timeout_s=75, head_timeout_s=10)
    client = await server.connect()
    await client.send(HANDSHAKE)
    await opened(client)
    for _ in range(100):
        assert await client.receive(b"\x89\x00") == b"\x89\x00"
        await client.send(frame(10))
    await client.send(text("a"))
    assert await client.receive(b"a") == b"\x81\x01a"


async def test_a_client_that_sends_far_too_much_reads_why(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, max_websocket_message_bytes=1024)
    client = await server.connect()
    await client.send(HANDSHAKE)
    await opened(client)
    await client.send(frame(TEXT, b"x" * 500_000))
    (found,) = parse(await client.receive_all())
    assert found == Frame(CLOSE, b"\x03\xf1a message may have at most 1024 bytes")
    assert server.errors == []


async def test_lingering_after_a_fault_ends(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, max_connections=1)
    stuck = await server.connect()
    await stuck.send(HANDSHAKE + b"nonsense")  # and never closes
    other = await server.connect()
    before = trio.current_time()
    await other.send(GET)
    await other.receive(b"hello\n")
    assert trio.current_time() - before == 2


async def test_shutdown_says_going_away(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, grace_s=60)
    client = await server.connect()
    await client.send(HANDSHAKE)
    await opened(client)
    before = trio.current_time()
    server.shutdown.set()
    assert list(parse(await client.receive(b"down"))) == [GOODBYE]
    await client.send(close(1001))
    assert await client.receive_all() == b""
    await server.done.wait()
    assert trio.current_time() == before


async def test_shutdown_does_not_wait_longer_than_the_grace(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, grace_s=7, websocket_close_timeout_s=100)
    busy, deaf = await server.connect(), await server.connect()
    await busy.send(handshake("/ignore"))
    await deaf.send(HANDSHAKE)  # will not answer the close frame
    await opened(busy)
    await opened(deaf)
    before = trio.current_time()
    server.shutdown.set()
    assert list(parse(await busy.receive_all())) == [GOODBYE]
    await server.done.wait()
    assert trio.current_time() - before == 7
    assert list(parse(await deaf.receive_all())) == [GOODBYE]
    assert server.errors == []


async def test_a_handshake_that_meets_the_shutdown(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(handle, grace_s=60)
    client = await server.connect()
    await client.send(handshake("/slow") + text("a"))
    await trio.sleep(5)
    server.shutdown.set()
    await opened(client)
    assert list(parse(await client.receive(b"down"))) == [GOODBYE]
    await client.send(close(1001))
    await server.done.wait()


async def test_an_endpoint_that_fails_is_reported(start: StartServer, autojump_clock: MockClock) -> None:
    async def fail(websocket: WebSocket) -> None:
        raise LookupError("secret")

    async def failing(request: Request) -> Response:
        return accept_websocket(request, fail)

    server = await start(failing)
    client = await server.connect()
    await client.send(HANDSHAKE)
    await opened(client)
    await client.send(close(1011))
    (found,) = parse(await client.receive_all())
    assert found == Frame(CLOSE, b"\x03\xf3internal error")
    assert [type(error) for error in server.errors] == [LookupError]


async def test_an_endpoint_may_have_watched_its_client_before(start: StartServer, autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def watching(request: Request) -> Response:
        request.on_disconnect(lambda: calls.append(request.path))
        return accept_websocket(request, echo)

    server = await start(watching)
    for _ in range(3):  # the same descriptor each time
        client = await server.connect()
        await client.send(HANDSHAKE + close())
        await opened(client)
        assert await client.receive_all() == b"\x88\x02\x03\xe8"
        await client.stream.aclose()
    assert calls == []
