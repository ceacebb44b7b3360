"""The connection loop under the autojump clock: deadlines, drain, limits, bodies.

The servers listen on unix sockets; hours of waiting pass at once.
"""

from __future__ import annotations

import trio
import trio.testing
from trio.testing import MockClock

from minwebhook.http.connection import MAX_DISCARD_BYTES
from minwebhook.http.messages import Request, Response, SendChunk
from minwebhook.http.server import FIRST_REQUEST_S
from tests.in_process import StartServer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = b"x" * (8 * 1024 * 1024)


def post(length: int, *lines: bytes) -> bytes:
    """The head of a POST whose body has ``length`` bytes."""
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % length, *lines, b"", b""])


async def hello(request: Request) -> Response:
    """Says where it was asked."""
    return Response.text(f"hello {request.path}\n")


async def echo(request: Request) -> Response:
    """Gives the body back."""
    return Response(200, await request.body.read(100_000) + b"\n", "text/plain")


# The nine of the house style


async def test_idle_connection_leaves_at_once(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(GET)
    await client.receive(b"hello /\n")
    before = trio.current_time()
    server.shutdown.set()
    assert await client.receive_all() == b""
    assert trio.current_time() == before


async def test_a_new_connection_has_a_moment_for_its_first_request(
    start: StartServer, autojump_clock: MockClock
) -> None:
    server = await start(hello)
    silent, late = await server.connect(), await server.connect()
    await trio.sleep(1)
    before = trio.current_time()
    server.shutdown.set()
    await trio.sleep(FIRST_REQUEST_S / 2)
    await late.send(GET)
    answer = await late.receive_all()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert await silent.receive_all() == b""
    assert trio.current_time() - before == FIRST_REQUEST_S


async def test_running_request_finishes(start: StartServer, autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Response:
        await trio.sleep(3)
        return Response.text("done")

    server = await start(slow, grace_s=5)
    client = await server.connect()
    await client.send(GET + GET)
    await trio.sleep(1)
    server.shutdown.set()
    answer = await client.receive_all()
    assert answer.endswith(b"done")
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_slow_reader_cannot_outlive_the_grace(start: StartServer, autojump_clock: MockClock) -> None:
    async def endless(send: SendChunk) -> None:
        while True:
            await send(BIG)

    async def stream(request: Request) -> Response:
        return Response(stream=endless)

    server = await start(stream, grace_s=5, write_timeout_s=1000)
    client = await server.connect()
    await client.send(GET)
    await trio.sleep(1)
    before = trio.current_time()
    server.shutdown.set()
    await server.done.wait()
    assert trio.current_time() - before == 5
    assert server.errors == []


async def test_slow_reader_meets_the_write_deadline(start: StartServer, autojump_clock: MockClock) -> None:
    async def big(request: Request) -> Response:
        return Response(200, BIG)

    server = await start(big, write_timeout_s=30)
    client = await server.connect()
    before = trio.current_time()
    await client.send(GET)
    await trio.sleep(31)
    assert len(await client.receive_all()) < len(BIG)
    assert trio.current_time() - before == 31


async def test_steady_slow_reader_is_served(start: StartServer, autojump_clock: MockClock) -> None:
    async def big(request: Request) -> Response:
        return Response(200, BIG)

    server = await start(big, write_timeout_s=30)
    client = await server.connect()
    await client.send(post(0, b"Connection: close"))
    seen = 0
    while data := await client.stream.receive_some(256 * 1024):
        seen += len(data)
        await trio.sleep(5)  # over 100 seconds in all
    assert seen > len(BIG)


async def test_half_a_head_meets_the_head_deadline(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello, head_timeout_s=10, idle_timeout_s=75)
    client = await server.connect()
    before = trio.current_time()
    for byte in b"GET / HTTP":
        await client.send(bytes([byte]))
        await trio.sleep(0.9)  # progress does not buy time
    answer = await client.receive_all()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert trio.current_time() - before == 10


async def test_connection_limit_holds_the_next_accept(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello, max_connections=2)
    first, second, third = [await server.connect() for _ in range(3)]
    for client in (first, second, third):
        await client.send(GET)
    await first.receive(b"hello /\n")
    await second.receive(b"hello /\n")
    with trio.move_on_after(5) as waited:
        await third.stream.receive_some(1)
    assert waited.cancelled_caught
    await first.stream.aclose()
    assert (await third.receive(b"hello /\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_garbage_gets_400_and_the_server_lives(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\n", b"\0" * 70_000, b"GET / HTTP/1.1\r\n\r\n"):
        client = await server.connect()
        await client.send(garbage)
        assert (await client.receive_all()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    client = await server.connect()
    await client.send(GET)
    assert await client.receive(b"hello /\n")
    assert server.errors == []


async def test_keep_alive_serves_two(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    for _ in range(2):
        await client.send(GET)
        assert b"Connection" not in await client.receive(b"hello /\n")
        await trio.sleep(60)


async def test_an_error_out_of_a_nursery_is_500(start: StartServer, autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise OSError("secret")

    async def broken(request: Request) -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
        return Response()

    server = await start(broken)
    client = await server.connect()
    for _ in range(2):
        await client.send(GET)
        answer = await client.receive(b"Internal Server Error")
        answer += await client.receive(b"Internal Server Error")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
    assert [type(error) for error in server.errors] == [ExceptionGroup] * 2


# Waiting for heads


async def test_idle_deadline_closes_without_a_word(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello, idle_timeout_s=75)
    client = await server.connect()
    before = trio.current_time()
    await trio.sleep(50)
    await client.send(GET)
    await client.receive(b"hello /\n")
    assert await client.receive_all() == b""
    assert trio.current_time() - before == 125


async def test_a_forgiven_empty_line_is_still_idle(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello, idle_timeout_s=75, head_timeout_s=10)
    client = await server.connect()
    await client.send(b"\r\n")
    assert await client.receive_all() == b""


async def test_half_a_head_and_gone(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(b"GET / HT")
    await client.stream.send_eof()
    assert (await client.receive_all()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_half_closes_gets_its_answers(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(GET + GET)
    await client.stream.send_eof()
    assert (await client.receive_all()).count(b"HTTP/1.1 200 OK") == 2


async def test_drain_lets_a_head_under_way_come_in(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(GET[:-4])
    await trio.sleep(1)
    server.shutdown.set()
    await trio.sleep(1)
    await client.send(GET[-4:])
    assert b"\r\nConnection: close\r\n" in await client.receive_all()


# Bodies


async def test_late_body_is_408(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo, body_idle_timeout_s=10)
    client = await server.connect()
    before = trio.current_time()
    await client.send(post(5) + b"hell")
    answer = await client.receive_all()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert trio.current_time() - before == 10


async def test_dripping_body_is_408(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo, body_idle_timeout_s=10, min_body_bytes_per_s=100)
    client = await server.connect()
    await client.send(post(1000))
    for _ in range(11):
        await client.send(b"x")
        await trio.sleep(1)
    assert (await client.receive_all()).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_handler_is_not_the_clients_fault(start: StartServer, autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Response:
        size = 0
        while chunk := await request.body.read_chunk():
            size += len(chunk)
            await trio.sleep(60)
        return Response.text(f"{size}\n")

    server = await start(slow, body_idle_timeout_s=10, min_body_bytes_per_s=1000)
    client = await server.connect()
    await client.send(post(10) + b"hello")
    await trio.sleep(61)
    await client.send(b"world")
    assert b"\r\n\r\n10\n" in await client.receive(b"10\n")


async def test_continue_comes_when_the_handler_reads(start: StartServer, autojump_clock: MockClock) -> None:
    async def late(request: Request) -> Response:
        await trio.sleep(5)
        return await echo(request)

    server = await start(late)
    client = await server.connect()
    await client.send(post(5, b"Expect: 100-continue"))
    with trio.move_on_after(4) as waited:
        await client.stream.receive_some(1)
    assert waited.cancelled_caught
    assert await client.receive(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"hello")
    assert (await client.receive(b"hello\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_no_continue_when_the_handler_does_not_read(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(post(5, b"Expect: 100-continue"))
    answer = await client.receive_all()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in answer


async def test_no_continue_for_a_body_that_is_too_large(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo)
    client = await server.connect()
    await client.send(post(100_001, b"Expect: 100-continue"))
    assert (await client.receive_all()).startswith(b"HTTP/1.1 413 ")


async def test_413_by_announcement_of_a_chunk(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo)
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nffffffffffff\r\n")
    answer = await client.receive_all()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer


async def test_a_body_of_exactly_the_limit_is_read(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo)
    client = await server.connect()
    await client.send(post(100_000) + b"x" * 100_000)
    assert (await client.receive(b"x\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_small_unread_body_is_thrown_away(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(post(MAX_DISCARD_BYTES) + b"abc")
    assert b"Connection" not in await client.receive(b"hello /\n")
    await client.send(b"x" * (MAX_DISCARD_BYTES - 3) + GET)
    assert (await client.receive(b"hello /\n")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_large_unread_body_closes_the_connection(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(post(MAX_DISCARD_BYTES + 1))
    assert b"\r\nConnection: close\r\n" in await client.receive(b"hello /\n")


async def test_a_chunked_unread_body_that_is_there_keeps_the_connection(
    start: StartServer, autojump_clock: MockClock
) -> None:
    server = await start(hello)
    client = await server.connect()
    start_of_body = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    await client.send(start_of_body + b"0\r\n\r\n" + start_of_body)
    assert b"Connection" not in await client.receive(b"hello /\n")
    assert b"\r\nConnection: close\r\n" in await client.receive(b"hello /\n")


async def test_a_broken_unread_body_does_not_cost_the_answer(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello)
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n" + GET)
    answer = await client.receive_all()
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert b"\r\nConnection: close\r\n" in answer


async def test_refused_clients_can_finish_sending(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(echo)
    client = await server.connect()
    await client.send(post(500_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 500_000)
        assert (await client.receive_all()).startswith(b"HTTP/1.1 413 ")


async def test_lingering_ends(start: StartServer, autojump_clock: MockClock) -> None:
    server = await start(hello, max_connections=1)
    stuck = await server.connect()
    await stuck.send(b"garbage\r\n\r\n")  # and never closes
    client = await server.connect()
    before = trio.current_time()
    await client.send(GET)
    await client.receive(b"hello /\n")
    assert trio.current_time() - before == 2


# Answers


async def test_a_response_that_cannot_be_sent_is_500(start: StartServer, autojump_clock: MockClock) -> None:
    async def split(request: Request) -> Response:
        if request.path == "/stream":
            return Response(9, stream=never)
        return Response(headers=(("X", "a\r\nY: b"),))

    async def never(send: SendChunk) -> None:
        raise AssertionError

    server = await start(split)
    client = await server.connect()
    for path in (b"/", b"/stream"):
        await client.send(GET.replace(b"/", path, 1))
        assert b"HTTP/1.1 500 " in await client.receive(b"\r\nInternal Server Error")
    assert [type(error) for error in server.errors] == [ValueError, ValueError]


async def test_a_stream_that_fails_is_cut_off(start: StartServer, autojump_clock: MockClock) -> None:
    async def failing(send: SendChunk) -> None:
        await send(b"some")
        raise KeyError

    async def stream(request: Request) -> Response:
        return Response(stream=failing)

    server = await start(stream)
    client = await server.connect()
    await client.send(GET + GET)
    assert (await client.receive_all()).endswith(b"\r\n\r\n4\r\nsome\r\n")
    assert [type(error) for error in server.errors] == [KeyError]


async def test_a_client_that_leaves_is_no_error(start: StartServer, autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def endless(send: SendChunk) -> None:
        try:
            while True:
                await send(b"x" * 1000)
        finally:
            ended.set()

    async def stream(request: Request) -> Response:
        return Response(stream=endless)

    server = await start(stream)
    client = await server.connect()
    await client.send(GET)
    await client.receive(b"x")
    await client.stream.aclose()
    await ended.wait()
    assert server.errors == []


async def test_pieces_let_other_tasks_run(start: StartServer, autojump_clock: MockClock) -> None:
    """A stream whose client takes everything at once must not keep the loop to itself."""
    steps = 0

    async def pieces(send: SendChunk) -> None:
        nonlocal steps
        while steps < 1000:
            await send(b"x")
            steps += 1

    async def stream(request: Request) -> Response:
        return Response(stream=pieces)

    server = await start(stream)
    client = await server.connect()
    await client.send(GET)
    await client.receive(b"\r\n\r\n")
    assert steps < 1000


# Disconnects


async def test_disconnect_is_reported_once_and_can_be_taken_back(start: StartServer, autojump_clock: MockClock) -> None:
    calls: list[str] = []
    finished = trio.Event()

    async def watching(request: Request) -> Response:
        undo = request.on_disconnect(lambda: calls.append("undone"))
        undo()
        undo()
        gone = trio.Event()
        request.on_disconnect(gone.set)
        undo_late = request.on_disconnect(lambda: calls.append("called"))
        await gone.wait()
        undo_late()
        finished.set()
        return Response()

    server = await start(watching)
    client = await server.connect()
    await client.send(GET)
    await trio.testing.wait_all_tasks_blocked()
    assert calls == []
    await client.stream.aclose()
    await finished.wait()
    assert calls == ["called"]


async def test_no_disconnect_is_reported_after_the_answer(start: StartServer, autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def watching(request: Request) -> Response:
        request.on_disconnect(lambda: calls.append(request.path))
        return await hello(request)

    server = await start(watching)
    client = await server.connect()
    await client.send(GET)
    await client.receive(b"hello /\n")
    await client.stream.aclose()
    other = await server.connect()  # may well get the same descriptor
    await other.send(GET)
    await other.receive(b"hello /\n")
    await trio.testing.wait_all_tasks_blocked()
    assert calls == []


async def test_pipelined_bytes_are_no_disconnect(start: StartServer, autojump_clock: MockClock) -> None:
    calls: list[str] = []

    async def watching(request: Request) -> Response:
        request.on_disconnect(lambda: calls.append(request.path))
        await trio.sleep(5)
        return await hello(request)

    server = await start(watching)
    client = await server.connect()
    await client.send(GET)
    await trio.sleep(1)
    await client.send(GET)
    await client.receive(b"hello /\n")
    await client.receive(b"hello /\n")
    assert calls == []


async def test_a_callback_that_fails_is_reported_and_the_others_are_called(
    start: StartServer, autojump_clock: MockClock
) -> None:
    gone = trio.Event()

    def fail() -> None:
        raise KeyError

    async def watching(request: Request) -> Response:
        request.on_disconnect(fail)
        request.on_disconnect(gone.set)
        await gone.wait()
        return Response()

    server = await start(watching)
    for _ in range(2):
        client = await server.connect()
        await client.send(GET)
        await client.stream.aclose()
        await gone.wait()
        gone = trio.Event()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in server.errors] == [KeyError, KeyError]
