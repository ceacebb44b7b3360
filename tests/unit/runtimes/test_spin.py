"""Looking for the answer of a process without waiting: the server's end, with a process whose socket the test has."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from minwebhook.child import wire
from minwebhook.runtimes.child import Child, Exchange
from minwebhook.runtimes.reports import Report

NUMBER = b"12345678"
ANSWER = wire.frame(wire.RESULT, b"1", NUMBER)


class Looks:
    """Counts how often it is looked whether there is an answer; it comes before one of the looks."""

    def __init__(self, fd: int, other_end: socket.socket, answered_before: int) -> None:
        self.count = 0
        self._other_end = other_end
        self._answered_before = answered_before
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def poll(self, timeout: int) -> list[tuple[int, int]]:
        self.count += 1
        if self.count == self._answered_before:
            self._other_end.send(ANSWER)
        return self._poll.poll(timeout)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Child, socket.socket]]:
    """A process that does nothing, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    with subprocess.Popen(["sleep", "600"]) as process:  # noqa: ASYNC220 - a millisecond
        fds = [ours.detach(), log_read, os.pidfd_open(process.pid)]
        child = Child(1, "python3", process.pid, fds, has_group=False)
        yield child, theirs
        child.end()
    theirs.close()
    os.close(log_write)


def exchange() -> Exchange:
    return Exchange(NUMBER, max_payload=100, on_log=lambda _: True, on_code=None)


async def test_an_answer_that_comes_while_it_is_looked_for_is_not_waited_for(
    ends: tuple[Child, socket.socket], autojump_clock: trio.testing.MockClock
) -> None:
    child, other_end = ends
    looks = Looks(child.socket_fd, other_end, answered_before=3)
    child._answers = looks  # type: ignore[assignment]
    with trio.testing.assert_no_checkpoints():
        assert await child.run(b"job", exchange(), spin_s=60) == Report(wire.RESULT, b"1")
    assert looks.count == 3
    assert other_end.recv(10) == b"job"


async def test_after_its_time_the_answer_is_waited_for(
    ends: tuple[Child, socket.socket], nursery: trio.Nursery
) -> None:
    child, other_end = ends
    looks = Looks(child.socket_fd, other_end, answered_before=-1)
    child._answers = looks  # type: ignore[assignment]

    async def answer() -> None:
        await trio.testing.wait_all_tasks_blocked()
        other_end.send(ANSWER)

    nursery.start_soon(answer)
    assert await child.run(b"job", exchange(), spin_s=1e-9) == Report(wire.RESULT, b"1")
    assert looks.count <= 1


async def test_without_time_it_is_not_looked_for(ends: tuple[Child, socket.socket]) -> None:
    child, other_end = ends
    looks = Looks(child.socket_fd, other_end, answered_before=-1)
    child._answers = looks  # type: ignore[assignment]
    other_end.send(ANSWER)
    with trio.testing.assert_checkpoints():
        assert await child.run(b"job", exchange()) == Report(wire.RESULT, b"1")
    assert looks.count == 0


async def test_a_process_that_goes_while_it_is_looked_for(
    ends: tuple[Child, socket.socket], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    child, other_end = ends
    other_end.shutdown(socket.SHUT_WR)
    ended: list[object] = []

    async def run() -> None:
        ended.append(await child.run(b"job", exchange(), spin_s=60))

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    assert not ended  # how it ended is known a little later
    await trio.sleep(11)
    assert len(ended) == 1
    assert not isinstance(ended[0], Report)
