"""Transports over in-memory streams, and the deadline queue."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.http.transport import SEND_PIECE_BYTES, Disconnected, Interrupted, SocketTransport, StreamTransport


@dataclass(eq=False)
class Waiter:
    """Notes when it was late."""

    expired: list[float] = field(default_factory=list)
    on_expire: Callable[[], None] | None = None

    def expire(self) -> None:
        """Called by the queue."""
        self.expired.append(trio.current_time())
        if self.on_expire is not None:
            self.on_expire()


def socket_pair() -> tuple[SocketTransport, trio.socket.SocketType]:
    """A transport and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return SocketTransport(ours, write_timeout_s=30), trio.socket.from_stdlib_socket(theirs)


async def test_stream_slow_reader_meets_the_write_deadline(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    transport = StreamTransport(ours, write_timeout_s=30)
    before = trio.current_time()
    with pytest.raises(Disconnected):
        await transport.send(b"x")
    assert trio.current_time() - before == 30
    await transport.close()
    await theirs.aclose()


async def test_stream_deadline_counts_per_piece(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    transport = StreamTransport(ours, write_timeout_s=30)
    seen: list[bytes] = []

    async def read_slowly() -> None:
        while data := await theirs.receive_some(SEND_PIECE_BYTES):
            seen.append(bytes(data))
            await trio.sleep(20)

    nursery.start_soon(read_slowly)
    payload = bytes(range(256)) * 1024
    assert await transport.send(payload)
    await transport.half_close()
    await wait_all_tasks_blocked()
    assert b"".join(seen) == payload
    await transport.close()


async def test_interrupt_ends_the_receive_only(nursery: trio.Nursery) -> None:
    socket_transport, peer = socket_pair()
    ours, theirs = memory_stream_pair()
    for transport in (socket_transport, StreamTransport(ours, write_timeout_s=30)):
        transport.interrupt()  # nobody waits: nothing happens

        async def interrupt(transport: SocketTransport | StreamTransport = transport) -> None:
            await wait_all_tasks_blocked()
            transport.interrupt()

        nursery.start_soon(interrupt)
        with pytest.raises(Interrupted):
            await transport.receive()
    await peer.send(b"a")
    await theirs.send_all(b"b")
    assert await socket_transport.receive() == b"a"
    stream_transport = StreamTransport(ours, write_timeout_s=30)
    assert await stream_transport.receive() == b"b"
    await socket_transport.close()
    await socket_transport.close()
    await stream_transport.close()
    peer.close()
    await theirs.aclose()


async def test_data_that_came_before_the_interrupt_is_kept() -> None:
    transport, peer = socket_pair()
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await transport.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await peer.send(b"a")
        transport.interrupt()
        with trio.move_on_after(0):
            await trio.sleep_forever()
        if not received:  # the interrupt won: the bytes are still there
            assert await transport.receive() == b"a"
    await transport.close()
    peer.close()


async def test_a_broken_peer_is_disconnected() -> None:
    transport, peer = socket_pair()
    peer.close()
    assert await transport.receive() == b""
    with pytest.raises(Disconnected):
        await transport.send(b"x")
    await transport.close()
    ours, theirs = memory_stream_pair()
    stream_transport = StreamTransport(ours, write_timeout_s=30)
    await theirs.aclose()
    with pytest.raises(Disconnected):
        await stream_transport.send(b"x")
    await stream_transport.close()
    with pytest.raises(Disconnected):
        await stream_transport.receive()


async def test_deadlines_come_in_order_and_exactly(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    queue = DeadlineQueue(10)
    nursery.start_soon(queue.run)
    first, second, leaver = Waiter(), Waiter(), Waiter()
    start = trio.current_time()
    queue.add(first)
    await trio.sleep(4)
    queue.add(second)
    queue.add(leaver)
    queue.add(first)  # keeps its time
    assert len(queue) == 3
    await trio.sleep(5)
    queue.discard(leaver)
    queue.discard(leaver)
    await trio.sleep(50)
    assert [at - start for at in (*first.expired, *second.expired)] == [10, 14]
    assert leaver.expired == []
    queue.add(first)
    await trio.sleep(20)
    assert first.expired[1] - start == 69
    assert len(queue) == 0
    nursery.cancel_scope.cancel()


async def test_many_who_are_late_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """They expire in several turns of the loop: meanwhile some leave, some begin anew."""
    queue = DeadlineQueue(10)
    nursery.start_soon(queue.run)
    waiters = [Waiter() for _ in range(200)]
    leaver, renewed = waiters[-1], waiters[-2]
    waiters[0].on_expire = lambda: nursery.start_soon(leave)

    async def leave() -> None:
        queue.discard(leaver)
        queue.renew(renewed, trio.current_time() + 1)

    start = trio.current_time()
    for waiter in waiters:
        queue.add(waiter)
    await trio.sleep(30)
    assert [waiter.expired for waiter in waiters[:-2]] == [[start + 10]] * 198
    assert leaver.expired == []
    assert renewed.expired == [start + 21]
    nursery.cancel_scope.cancel()


async def test_what_is_sent_at_once_and_what_is_left_keep_their_order(nursery: trio.Nursery) -> None:
    transport, peer = socket_pair()
    stream_ours, stream_peer = memory_stream_pair()
    piece = bytes(range(256)) * 64
    sent = 0
    while transport.send_now(piece):
        sent += 1
    assert sent > 0
    assert not transport.send_now(b"behind")

    async def read(expected: int) -> bytes:
        seen = b""
        while len(seen) < expected:
            seen += await peer.recv(65536)
        return seen

    whole = piece * (sent + 1) + b"behind" + b"last"
    nursery.start_soon(transport.send, b"last")
    assert await read(len(whole)) == whole
    assert transport.send_now(b"again")
    assert await peer.recv(10) == b"again"
    peer.close()
    while transport.send_now(piece):
        pass
    with pytest.raises(Disconnected):
        await transport.send(b"")
    await transport.close()

    in_memory = StreamTransport(stream_ours, write_timeout_s=30)
    assert not in_memory.send_now(b"a")
    await in_memory.send(b"b")
    assert await stream_peer.receive_some() == b"ab"
    await in_memory.close()
