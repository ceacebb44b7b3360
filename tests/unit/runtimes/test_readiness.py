"""One wait for many descriptors."""

from __future__ import annotations

import socket

import trio
import trio.testing

from minwebhook.runtimes.readiness import Readiness


async def test_each_is_called_back_once_for_each_wait(nursery: trio.Nursery) -> None:
    readiness = Readiness()
    nursery.start_soon(readiness.run)
    pairs = [socket.socketpair() for _ in range(5)]
    called: list[int] = []
    for number, (ours, _) in enumerate(pairs):
        readiness.wait(ours.fileno(), lambda number=number: called.append(number))  # type: ignore[misc]
    for number in (3, 1):
        pairs[number][1].send(b"x")
    with trio.fail_after(5):
        while sorted(called) != [1, 3]:
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert sorted(called) == [1, 3]  # what is not read is not told again
    readiness.wait(pairs[3][0].fileno(), lambda: called.append(33))
    pairs[0][1].close()  # the end of a stream is readable, too
    with trio.fail_after(5):
        while len(called) < 4:
            await trio.lowlevel.checkpoint()
    assert sorted(called) == [0, 1, 3, 33]
    for pair in pairs:
        for end in pair:
            end.close()


async def test_a_number_that_is_used_again_is_another_descriptor(nursery: trio.Nursery) -> None:
    readiness = Readiness()
    nursery.start_soon(readiness.run)
    called: list[str] = []
    for name in ("first", "second"):
        ours, theirs = socket.socketpair()
        readiness.wait(ours.fileno(), lambda name=name: called.append(name))  # type: ignore[misc]
        theirs.send(b"x")
        with trio.fail_after(5):
            while name not in called:
                await trio.lowlevel.checkpoint()
        ours.close()
        theirs.close()


async def test_one_that_is_forgotten_is_not_told(nursery: trio.Nursery) -> None:
    readiness = Readiness()
    ours, theirs = socket.socketpair()
    other, its_peer = socket.socketpair()
    called: list[str] = []
    readiness.wait(ours.fileno(), lambda: called.append("forgotten"))
    readiness.wait(other.fileno(), lambda: called.append("other"))
    readiness.forget(ours.fileno())
    theirs.send(b"x")
    its_peer.send(b"x")
    nursery.start_soon(readiness.run)
    with trio.fail_after(5):
        while not called:
            await trio.lowlevel.checkpoint()
    assert called == ["other"]
    for each in (ours, theirs, other, its_peer):
        each.close()
