"""What goes out together, what waits for what, and a client that is gone."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing

from minwebhook.api.outbox import Outbox
from minwebhook.http.websocket import WebSocket, WebSocketClosed


class Socket:
    """Notes what is sent at once; takes it when it may."""

    def __init__(self) -> None:
        self.sent: list[tuple[str | bytes, ...]] = []
        self.takes = trio.Event()
        self.takes.set()
        self.is_gone = False

    async def send(self, *messages: str | bytes) -> None:
        """One write."""
        self.sent.append(messages)
        await self.takes.wait()
        if self.is_gone:
            raise WebSocketClosed


@pytest.fixture
def socket() -> Socket:
    return Socket()


@pytest.fixture
async def outbox(socket: Socket, nursery: trio.Nursery) -> Outbox:
    made = Outbox(cast(WebSocket, socket))
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def test_what_is_posted_goes_out_with_what_is_put_behind_it(
    outbox: Outbox, socket: Socket, autojump_clock: trio.testing.MockClock
) -> None:
    for number in range(3):
        outbox.post("started")
        outbox.post("started")
        await trio.testing.wait_all_tasks_blocked()
        assert len(socket.sent) == number
        await outbox.put("result")
        await trio.testing.wait_all_tasks_blocked()
        assert socket.sent[number:] == [("started", "started", "result")]


async def test_what_is_posted_goes_out_after_a_moment(
    outbox: Outbox, socket: Socket, autojump_clock: trio.testing.MockClock
) -> None:
    for number in range(3):
        outbox.post("started")
        await trio.sleep(0.0005)
        assert len(socket.sent) == number
        await trio.sleep(0.001)
        assert socket.sent[number:] == [("started",)]


async def test_what_is_posted_while_others_are_sent_is_not_forgotten(
    outbox: Outbox, socket: Socket, autojump_clock: trio.testing.MockClock
) -> None:
    socket.takes = trio.Event()
    await outbox.put("result")
    await trio.testing.wait_all_tasks_blocked()
    outbox.post("started")
    socket.takes.set()
    await trio.sleep(1)
    assert socket.sent == [("result",), ("started",)]


async def test_when_it_is_full_who_puts_waits(
    outbox: Outbox, socket: Socket, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    socket.takes = trio.Event()
    for letter in "abcdef":
        nursery.start_soon(outbox.put, letter * 100_000)
    await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 3
    socket.takes.set()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(message[0] for messages in socket.sent for message in messages) == list("abcdef")


async def test_nobody_waits_for_a_client_that_is_gone(
    outbox: Outbox, socket: Socket, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    socket.takes = trio.Event()
    for letter in "abcdef":
        nursery.start_soon(outbox.put, letter * 100_000)
    await trio.testing.wait_all_tasks_blocked()
    socket.is_gone = True
    socket.takes.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not nursery.child_tasks
    outbox.post("started")
    await outbox.put("x" * 1_000_000)
    await outbox.put("result")


async def test_what_waits_is_sent_before_it_ends(socket: Socket, autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox(cast(WebSocket, socket))
    outbox.post("started")
    outbox.close()
    await outbox.run()
    assert socket.sent == [("started",)]
