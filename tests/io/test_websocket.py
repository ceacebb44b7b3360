"""A WebSocket on streams under the autojump clock: who waits for whom, and for how long."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from minwebhook.http.messages import Upgrade
from minwebhook.http.transport import Disconnected, SocketTransport, StreamTransport, Transport
from minwebhook.http.websocket import WebSocket, WebSocketClosed
from minwebhook.http.websocket_protocol import ABNORMAL, FRAGMENT_LENGTH, NO_CODE
from minwebhook.settings import HttpSettings
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, closing, frame, parse, text

Serve = Callable[[WebSocket], Awaitable[None]]
BIG = "x" * (4 * 1024 * 1024)


@dataclass
class Talk:
    """A WebSocket that runs, seen from the client's end of the stream."""

    client: trio.abc.HalfCloseableStream
    websocket: WebSocket
    transport: Transport
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    ended_at: float = math.nan
    errors: list[Exception] = field(default_factory=list)
    #: What ``run`` gave.
    may_be_sending: bool | None = None
    _received: bytes = b""

    async def run(self) -> None:
        """What the connection does."""
        try:
            with self.scope:
                self.may_be_sending = await self.websocket.run(self.errors.append)
        finally:
            await self.transport.close()
        self.ended_at = trio.current_time()
        self.done.set()

    async def send(self, *frames: bytes) -> None:
        """All in one piece."""
        await self.client.send_all(b"".join(frames))

    async def receive(self) -> Frame:
        """The next frame."""
        while True:
            try:
                found = next(parse(self._received))
                break
            except (StopIteration, IndexError, AssertionError):
                data = await self.client.receive_some(65536)
                assert data, "the server closed the connection"
                self._received += data
        size = len(found.payload)
        self._received = self._received[(2 if size < 126 else 4 if size < 65536 else 10) + size :]
        return found

    async def receive_all(self) -> list[Frame]:
        """Every frame to the end of the connection."""
        while data := await self.client.receive_some(65536):
            self._received += data
        return list(parse(self._received))


class StartTalk(Protocol):
    """Starts one; ``limits`` are fields of :class:`HttpSettings`.

    On a pair of in-memory streams whose buffers are endless (``memory``) or not there at all (``lockstep``), or of
    sockets (``socket``), whose buffers are small compared with :data:`BIG`.
    """

    def __call__(self, serve: Serve, pair: str = "memory", *, trailing: bytes = b"", **limits: Any) -> Talk: ...


@pytest.fixture
async def talk(nursery: trio.Nursery) -> AsyncIterator[StartTalk]:
    talks: list[Talk] = []

    def start(serve: Serve, pair: str = "memory", *, trailing: bytes = b"", **limits: Any) -> Talk:
        settings = HttpSettings(**limits)
        client, transport = _connected(pair, settings.write_timeout_s)
        websocket = WebSocket(transport, settings, upgrade=Upgrade(serve, None), trailing=trailing)
        talks.append(Talk(client, websocket, transport))
        nursery.start_soon(talks[-1].run)
        return talks[-1]

    yield start
    for each in talks:
        each.scope.cancel()
        await trio.aclose_forcefully(each.client)
        await each.done.wait()


def _connected(pair: str, write_timeout_s: float) -> tuple[trio.abc.HalfCloseableStream, Transport]:
    if pair == "socket":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        client = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        return client, SocketTransport(ours, write_timeout_s=write_timeout_s)
    stream, client_stream = lockstep_stream_pair() if pair == "lockstep" else memory_stream_pair()
    return client_stream, StreamTransport(stream, write_timeout_s=write_timeout_s)


async def echo(websocket: WebSocket) -> None:
    """Gives every message back."""
    while (message := await websocket.receive()) is not None:
        await websocket.send(message)


async def ignore(websocket: WebSocket) -> None:
    """Is busy for good."""
    await trio.sleep_forever()


@contextmanager
def takes(seconds: float) -> Iterator[None]:
    """The block takes exactly so long."""
    before = trio.current_time()
    yield
    assert trio.current_time() - before == pytest.approx(seconds, abs=1e-9)


def end_of(frames: list[Frame]) -> tuple[int | None, str]:
    """Code and reason of the close frame that must be the last one."""
    assert [each.opcode for each in frames].count(CLOSE) == 1
    last = frames[-1]
    return closing(bytes([0x88, len(last.payload)]) + last.payload)


# Messages


async def test_messages_come_whole_and_in_order(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(echo, trailing=text("one")[:4])  # the rest follows the handshake
    await ws.send(text("one")[4:], frame(BINARY, b"tw", fin=False))
    await ws.send(frame(PING, b"p"), frame(CONTINUATION, b"o"), text(""))
    frames = [await ws.receive() for _ in range(4)]
    frames.remove(Frame(PONG, b"p"))  # it may overtake messages
    assert frames == [Frame(TEXT, b"one"), Frame(BINARY, b"two"), Frame(TEXT, b"")]
    await ws.send(close(1000, "bye"))
    assert end_of(await ws.receive_all()) == (1000, "bye")
    await ws.done.wait()
    assert (ws.may_be_sending, ws.errors, ws.websocket.close_code) == (False, [], 1000)


async def test_long_messages_of_many_senders_are_not_mixed(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        async with trio.open_nursery() as senders:
            for letter in "abcdefgh":
                senders.start_soon(websocket.send, letter * 3 * FRAGMENT_LENGTH)

    ws = talk(serve, "socket")
    opened = 0
    messages: list[bytes] = []
    while (each := await ws.receive()).opcode != CLOSE:
        assert (each.opcode == TEXT) == (opened == 0)
        messages[opened and -1 :] = (
            [messages[-1] + each.payload] if opened else [*messages[opened and -1 :], each.payload]
        )
        opened = 0 if each.fin else opened + 1
    assert sorted(messages) == [letter.encode() * 3 * FRAGMENT_LENGTH for letter in "abcdefgh"]


async def test_two_tasks_may_receive(talk: StartTalk, autojump_clock: MockClock) -> None:
    seen: list[str | bytes | None] = []

    async def take(websocket: WebSocket) -> None:
        seen.append(await websocket.receive())

    async def serve(websocket: WebSocket) -> None:
        async with trio.open_nursery() as takers:
            takers.start_soon(take, websocket)
            takers.start_soon(take, websocket)
            takers.start_soon(take, websocket)

    ws = talk(serve)
    await wait_all_tasks_blocked()
    await ws.send(text("a"), text("b"), close())
    await ws.done.wait()
    assert sorted(seen, key=str) == [None, "a", "b"]


async def test_a_sender_lets_other_tasks_run(talk: StartTalk, autojump_clock: MockClock) -> None:
    sent = 0

    async def serve(websocket: WebSocket) -> None:
        nonlocal sent
        while sent < 100:
            await websocket.send("x")
            sent += 1

    ws = talk(serve, "socket")
    await ws.receive()
    assert sent < 100


async def test_a_flood_of_tiny_frames_lets_other_tasks_run(
    talk: StartTalk, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    ws = talk(echo)
    flood = [frame(PING), frame(PONG, b"p")] * 2500 + [frame(TEXT, fin=False), *[frame(CONTINUATION, fin=False)] * 3000]
    nursery.start_soon(count)
    await ws.send(*flood, frame(CONTINUATION), close())
    await ws.done.wait()
    assert turns > len(flood) / 100
    assert end_of(await ws.receive_all()) == (1000, "")


# Pings of the client


async def test_a_ping_is_answered_while_the_endpoint_is_busy(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(ignore)
    await ws.send(text("work"), frame(PING, b"1"))
    with takes(0):
        assert await ws.receive() == Frame(PONG, b"1")
    ws.scope.cancel()


async def test_a_ping_is_answered_within_a_long_message(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(lambda websocket: websocket.send(BIG), "socket")
    await wait_all_tasks_blocked()  # the buffers are full
    await ws.send(frame(PING, b"1"))
    await wait_all_tasks_blocked()
    await ws.send(frame(PING, b"2"), frame(PING, b"3"))
    await wait_all_tasks_blocked()
    seen = [await ws.receive()]
    while not seen[-1].fin or seen[-1].opcode == PONG:
        seen.append(await ws.receive())
    assert b"".join(each.payload for each in seen if each.opcode != PONG) == BIG.encode()
    # Of those that piled up the last one, before the message was out.
    assert [each.payload for each in seen if each.opcode == PONG] == [b"3"]
    assert seen[-1].opcode == CONTINUATION
    await ws.send(close())


async def test_a_pong_on_its_way_does_not_cost_the_close_frame(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.close(4000)

    ws = talk(serve, "lockstep")
    await ws.send(frame(PING, b"1"))
    await wait_all_tasks_blocked()  # the pong waits for its reader
    await ws.send(text("close it"), frame(PING, b"2"))
    await wait_all_tasks_blocked()
    assert await ws.receive() == Frame(PONG, b"1")
    assert (await ws.receive()).payload == b"\x0f\xa0"
    await ws.send(close(4000))
    await ws.done.wait()
    assert ws.websocket.close_code == 4000


# Our pings


async def test_a_client_that_answers_pings_stays(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(echo, websocket_ping_s=20, websocket_pong_timeout_s=15)
    for _ in range(500):
        with takes(20):
            assert await ws.receive() == Frame(PING, b"")
        await ws.send(frame(PONG))
    await ws.send(close())
    await ws.done.wait()


@pytest.mark.parametrize("timeout_s", [5, 20, 50])
async def test_a_silent_client_is_gone(timeout_s: float, talk: StartTalk, autojump_clock: MockClock) -> None:
    noticed: list[float] = []

    async def serve(websocket: WebSocket) -> None:
        assert await websocket.receive() is None
        noticed.append(trio.current_time())
        assert websocket.close_code == ABNORMAL
        with pytest.raises(WebSocketClosed):
            await websocket.send("anyone?")

    before = trio.current_time()
    ws = talk(serve, websocket_ping_s=20, websocket_pong_timeout_s=timeout_s)
    frames = await ws.receive_all()
    assert end_of(frames) == (1011, "no answer to a ping")
    assert [each.opcode for each in frames[:-1]] == [PING] * math.ceil(timeout_s / 20)
    await ws.done.wait()
    assert noticed == [ws.ended_at] == [before + 20 + timeout_s]


async def test_every_byte_is_a_sign_of_life(talk: StartTalk, autojump_clock: MockClock) -> None:
    """A pong may have to wait behind a long message."""
    ws = talk(echo, websocket_ping_s=20, websocket_pong_timeout_s=10)
    message = text("x" * 100)
    for byte in message:
        await ws.send(bytes([byte]))
        await trio.sleep(9)
    await ws.send(close())
    frames = await ws.receive_all()
    assert Frame(TEXT, b"x" * 100) in frames
    assert end_of(frames) == (1000, "")


async def test_silence_means_nothing_while_nobody_listens(talk: StartTalk, autojump_clock: MockClock) -> None:
    seen: list[str | bytes] = []

    async def slow(websocket: WebSocket) -> None:
        while (message := await websocket.receive()) is not None:
            seen.append(message)
            await trio.sleep(1000)

    ws = talk(slow, max_websocket_waiting_messages=1, websocket_close_timeout_s=10_000)
    with takes(6000):
        await ws.send(*(text(str(number)) for number in range(6)), close())
        await ws.done.wait()
    assert seen == list("012345")
    assert ws.websocket.close_code == 1000


# A busy endpoint, a slow client


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_websocket_waiting_messages": 3}, "x"),
        ({"max_websocket_message_bytes": 3000}, "x" * 1000),
    ],
)
async def test_reading_pauses_while_messages_wait(
    limits: dict[str, Any], message: str, talk: StartTalk, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    take, taken = trio.Event(), 0

    async def late(websocket: WebSocket) -> None:
        nonlocal taken
        await take.wait()
        while await websocket.receive() is not None:
            taken += 1

    ws = talk(late, "lockstep", **limits)
    accepted = 0

    async def send() -> None:
        nonlocal accepted
        for _ in range(10):
            await ws.send(text(message))
            accepted += 1
        await ws.send(close())

    nursery.start_soon(send)
    await trio.sleep(10)
    assert accepted == 3
    take.set()
    assert end_of(await ws.receive_all()) == (1000, "")
    assert accepted == taken == 10


async def test_a_client_that_stops_reading_is_cut(talk: StartTalk, autojump_clock: MockClock) -> None:
    outcome: list[str | bytes | None] = []

    async def serve(websocket: WebSocket) -> None:
        with pytest.raises(WebSocketClosed):
            await websocket.send(BIG)
        outcome.append(await websocket.receive())

    with takes(30):
        ws = talk(serve, "socket", write_timeout_s=30)
        await ws.done.wait()
    assert outcome == [None]
    assert ws.websocket.close_code == ABNORMAL
    assert ws.errors == []


async def test_a_client_that_reads_slowly_is_served(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(lambda websocket: websocket.send(BIG), "socket", write_timeout_s=30, websocket_close_timeout_s=1000)
    received = b""
    while b"\x88\x02\x03\xe8" not in received[-100:]:
        received += bytes(await ws.client.receive_some(256 * 1024))
        await trio.sleep(15)
        await ws.send(frame(PONG))
    assert b"".join(each.payload for each in parse(received) if each.opcode in (TEXT, CONTINUATION)) == BIG.encode()
    await ws.send(close())
    await ws.done.wait()
    assert ws.websocket.close_code == 1000


async def test_the_client_may_close_while_a_message_is_sent(talk: StartTalk, autojump_clock: MockClock) -> None:
    refused = 0

    async def serve(websocket: WebSocket) -> None:
        async with trio.open_nursery() as senders:

            async def send() -> None:
                nonlocal refused
                with pytest.raises(WebSocketClosed):
                    await websocket.send(BIG)
                refused += 1

            senders.start_soon(send)
            senders.start_soon(send)  # waits for its turn

    ws = talk(serve, "socket")
    await wait_all_tasks_blocked()
    await ws.send(close(1001))
    await wait_all_tasks_blocked()
    frames = await ws.receive_all()
    assert end_of(frames) == (1001, "")
    assert not frames[-2].fin  # the message was given up
    await ws.done.wait()
    assert refused == 2


# Cancellation of a send


async def test_a_cancelled_send_that_has_begun_ends_it(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        with trio.move_on_after(3):
            await websocket.send(BIG)
        assert await websocket.receive() is None
        with pytest.raises(WebSocketClosed):
            await websocket.send("more")

    with takes(3):
        ws = talk(serve, "socket")
        await ws.done.wait()
    assert ws.websocket.close_code == ABNORMAL


async def test_a_send_that_is_cancelled_between_its_fragments_ends_it(
    talk: StartTalk, autojump_clock: MockClock
) -> None:
    async def serve(websocket: WebSocket) -> None:
        with trio.move_on_after(3):
            await websocket.send(BIG)
        with pytest.raises(WebSocketClosed):
            await websocket.send("this would be a part of it")

    ws = talk(serve, "lockstep")
    await ws.send(frame(PING, b"p"))
    assert not (await ws.receive()).fin  # now it is the pong's turn, and nobody reads it
    with takes(3):
        await ws.done.wait()
    assert ws.websocket.close_code == ABNORMAL


async def test_a_cancelled_send_that_waits_for_its_turn_harms_nothing(
    talk: StartTalk, autojump_clock: MockClock
) -> None:
    async def serve(websocket: WebSocket) -> None:
        async with trio.open_nursery() as senders:
            senders.start_soon(websocket.send, BIG)
            await wait_all_tasks_blocked()
            with trio.move_on_after(3):
                await websocket.send("never sent")
        await websocket.send("after")

    ws = talk(serve, "socket")
    await trio.sleep(4)
    messages = b""
    while (each := await ws.receive()).opcode != CLOSE:
        messages += each.payload
    assert messages == BIG.encode() + b"after"


# The end


async def test_close_waits_for_the_clients_answer(talk: StartTalk, autojump_clock: MockClock) -> None:
    steps: list[str] = []

    async def serve(websocket: WebSocket) -> None:
        with takes(2):
            await websocket.close(4000, "enough")
        steps.append("closed")
        assert await websocket.receive() is None
        with pytest.raises(WebSocketClosed):
            await websocket.send("late")
        await websocket.close(4001)  # does nothing

    ws = talk(serve, websocket_close_timeout_s=5)
    await ws.send(text("not taken"))
    assert closing(bytes([0x88, 8]) + (await ws.receive()).payload) == (4000, "enough")
    await trio.sleep(1)
    await ws.send(text("dropped"), frame(PING))
    await trio.sleep(1)
    await ws.send(close(4000))
    assert await ws.receive_all() == []  # no pong, no second close frame
    await ws.done.wait()
    assert steps == ["closed"]
    assert ws.websocket.close_code == 4000


async def test_a_client_that_does_not_answer_a_close_frame_is_cut(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        await websocket.close()
        assert websocket.close_code == ABNORMAL
        await trio.sleep_forever()  # and this endpoint gets as much time again

    with takes(10):
        ws = talk(serve, websocket_close_timeout_s=5, websocket_ping_s=1, websocket_pong_timeout_s=2)
        await ws.done.wait()
    assert ws.errors == []


async def test_nothing_can_be_closed_in_time_with_a_client_that_does_not_read(
    talk: StartTalk, autojump_clock: MockClock
) -> None:
    async def serve(websocket: WebSocket) -> None:
        async with trio.open_nursery() as senders:
            senders.start_soon(websocket.send, BIG)
            await wait_all_tasks_blocked()
            await websocket.close(1013)

    with takes(5):
        ws = talk(serve, "socket", websocket_close_timeout_s=5, write_timeout_s=5)
        await ws.done.wait()


async def test_what_came_before_the_end_is_given_first(talk: StartTalk, autojump_clock: MockClock) -> None:
    seen: list[str | bytes] = []

    async def serve(websocket: WebSocket) -> None:
        await trio.sleep(3)
        while (message := await websocket.receive()) is not None:
            seen.append(message)

    for end, code in ((close(None), NO_CODE), (frame(3), 1002), (b"", ABNORMAL)):
        ws = talk(serve)
        await ws.send(text("a"), text("b"), end)
        if not end:
            await ws.client.send_eof()
        with takes(3):
            await ws.done.wait()
        assert seen == ["a", "b"]
        assert ws.websocket.close_code == code
        assert ws.may_be_sending == (code == 1002)
        seen.clear()


async def test_the_client_does_not_wait_for_a_busy_endpoint(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(ignore, websocket_close_timeout_s=5)
    await ws.send(close(1000))
    with takes(0):
        assert end_of(await ws.receive_all()) == (1000, "")
    with takes(5):  # then the endpoint is cancelled
        await ws.done.wait()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (bytes(1), 1002),
        (frame(TEXT, b"a", mask=None), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x" * 1025), 1009),
        (frame(CLOSE, b"\x03\xed"), 1002),
    ],
)
async def test_faults_are_answered_and_nothing_more_is_heard(
    fault: bytes, code: int, talk: StartTalk, autojump_clock: MockClock
) -> None:
    ws = talk(echo, max_websocket_message_bytes=1024)
    await ws.send(text("a"), fault if len(fault) > 1 else frame(0, b"x"), text("b"))
    frames = await ws.receive_all()
    assert frames[0] == Frame(TEXT, b"a") or len(frames) == 1  # the endpoint may be too late for its answer
    assert end_of(frames)[0] == code
    await ws.done.wait()
    assert (ws.may_be_sending, ws.websocket.close_code, ws.errors) == (True, code, [])


async def test_an_endpoint_that_fails(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        await websocket.send("a")
        raise KeyError("secret")

    ws = talk(serve)
    assert await ws.receive() == Frame(TEXT, b"a")
    await ws.send(close(1011))
    assert end_of(await ws.receive_all()) == (1011, "internal error")
    assert [type(error) for error in ws.errors] == [KeyError]


async def test_of_a_group_only_faults_are_reported(talk: StartTalk, autojump_clock: MockClock) -> None:
    raised: Sequence[Exception]

    async def serve(websocket: WebSocket) -> None:
        raise ExceptionGroup("", raised)

    for raised, reported in (  # noqa: B007 - serve raises it
        ([WebSocketClosed()], 0),
        ([Disconnected(), ExceptionGroup("", [WebSocketClosed()])], 0),
        ([WebSocketClosed(), ValueError("ours")], 1),
    ):
        ws = talk(serve)
        await ws.send(close())
        await ws.done.wait()
        assert len(ws.errors) == reported
        for error in ws.errors:
            assert isinstance(error, ExceptionGroup)
            assert [str(each) for each in error.exceptions] == ["ours"]


async def test_a_connection_that_breaks(talk: StartTalk, autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def serve(websocket: WebSocket) -> None:
        try:
            while True:
                await websocket.send("x" * 1000)
        finally:
            ended.set()

    ws = talk(serve, "socket")
    await wait_all_tasks_blocked()
    await ws.client.aclose()
    with takes(0):
        await ended.wait()
        await ws.done.wait()
    assert ws.errors == []


# Shutdown


async def test_drain_lets_the_endpoint_finish(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        assert await websocket.receive() == "a"
        assert not websocket.is_draining
        assert await websocket.receive() is None
        assert websocket.is_draining
        await trio.sleep(3)
        await websocket.send("done")

    ws = talk(serve)
    await ws.send(text("a"))
    await wait_all_tasks_blocked()
    ws.websocket.drain()
    with takes(3):
        assert await ws.receive() == Frame(TEXT, b"done")
        assert (await ws.receive()).payload == b"\x03\xe9the server is shutting down"
    await ws.send(close(1001))
    with takes(0):
        await ws.done.wait()


async def test_drain_gives_out_no_message(talk: StartTalk, autojump_clock: MockClock) -> None:
    async def serve(websocket: WebSocket) -> None:
        await trio.sleep(1)
        assert await websocket.receive() is None

    ws = talk(serve)
    await ws.send(text("a"))
    await wait_all_tasks_blocked()
    ws.websocket.drain()
    assert (await ws.receive()).payload.startswith(b"\x03\xe9")


async def test_a_drained_client_that_does_not_answer_is_cut(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(echo, websocket_close_timeout_s=5)
    await wait_all_tasks_blocked()
    with takes(5):
        ws.websocket.drain()
        await ws.done.wait()


async def test_a_cancelled_one_says_goodbye_if_it_can(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(ignore, "socket")
    await wait_all_tasks_blocked()
    with takes(0):
        ws.scope.cancel()
        assert end_of(await ws.receive_all()) == (1001, "the server is shutting down")


async def test_a_cancelled_one_says_nothing_within_a_frame(talk: StartTalk, autojump_clock: MockClock) -> None:
    ws = talk(lambda websocket: websocket.send(BIG), "socket")
    await wait_all_tasks_blocked()
    with takes(0):
        ws.scope.cancel()
        await ws.done.wait()
    received = b""
    while data := await ws.client.receive_some(65536):
        received += data
    assert b"shutting down" not in received
