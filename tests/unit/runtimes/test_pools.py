"""Pools of waiting processes, with a fork server that answers when the test says so."""

from __future__ import annotations

from collections import deque
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import SandboxError
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.demand import Demand, Room
from minwebhook.runtimes.language import RUNTIMES, runtime_of
from minwebhook.runtimes.pool import ChildPool
from minwebhook.runtimes.zygote import Deliver, Zygote
from minwebhook.scripts.model import Language


class FakeChild:
    """What pools use of a child."""

    def __init__(self) -> None:
        self.exit: object | None = None
        self.ended = False

    def end(self) -> None:
        self.ended = True


class FakeZygote:
    """Keeps what was asked for until the test answers."""

    def __init__(self) -> None:
        self.asked: list[Deliver] = []

    def spawn(self, language: str, deliver: Deliver) -> None:
        self.asked.append(deliver)

    def deliver(self) -> FakeChild:
        child = FakeChild()
        self.asked.pop(0)(cast(Child, child), "")
        return child

    def refuse(self, reason: str) -> None:
        self.asked.pop(0)(None, reason)


def make_pool(zygote: FakeZygote, *, idle: int = 1, target: int = 3) -> ChildPool:
    return ChildPool(cast(Zygote, zygote), "bash", idle_target=idle, target=target)


def test_one_waits_until_the_language_is_used_then_as_many_as_wanted() -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote)
    pool.refill()
    pool.refill()
    assert len(zygote.asked) == 1
    child = zygote.deliver()
    assert cast(FakeChild, pool.take_ready()) is child
    pool.tend()
    assert len(zygote.asked) == 3
    for _ in range(3):
        zygote.deliver()
    pool.refill()
    assert (zygote.asked, pool.ready_count) == ([], 3)


def test_behind_an_answer_only_what_was_taken_is_replaced() -> None:
    """The next call may come at once, and would share the processor with all that is being started."""
    zygote = FakeZygote()
    pool = make_pool(zygote, idle=2, target=4)
    pool.refill()
    for _ in range(2):
        zygote.deliver()
    assert pool.missing_count == 0
    assert pool.take_ready() is not None
    assert pool.missing_count == 1
    pool.refill()
    assert (len(zygote.asked), pool.missing_count) == (1, 0)
    assert pool.take_ready() is not None  # and the next call waits for nothing
    pool.refill()
    assert len(zygote.asked) == 2
    pool.tend()
    assert len(zygote.asked) == 4


async def test_each_job_that_waits_has_one_started(autojump_clock: trio.testing.MockClock) -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote, idle=0, target=1)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pool.take)
        await trio.testing.wait_all_tasks_blocked()
        assert len(zygote.asked) == 5
        for _ in range(5):
            zygote.deliver()
    assert (zygote.asked, pool.ready_count) == ([], 0)


async def test_those_who_wait_are_served_in_their_order(autojump_clock: trio.testing.MockClock) -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote)
    got: dict[int, FakeChild] = {}

    async def take(number: int) -> None:
        got[number] = cast(FakeChild, await pool.take())

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
        children = [zygote.deliver() for _ in range(3)]
    assert got == dict(enumerate(children))


async def test_one_that_died_while_it_waited_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote, idle=2)
    pool.refill()
    dead, living = zygote.deliver(), zygote.deliver()
    dead.exit = object()
    assert cast(FakeChild, await pool.take()) is living
    assert dead.ended


async def test_a_lone_failure_is_tried_again_and_many_are_an_error(autojump_clock: trio.testing.MockClock) -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote, target=1)
    async with trio.open_nursery() as nursery:
        got: list[FakeChild] = []

        async def take() -> None:
            got.append(cast(FakeChild, await pool.take()))

        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        zygote.refuse("no memory")
        await trio.testing.wait_all_tasks_blocked()
        assert zygote.asked
        child = zygote.deliver()
    assert got == [child]

    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            with pytest.raises(SandboxError, match="cannot start a bash process: no memory"):
                await pool.take()

        nursery.start_soon(fail)
        with trio.fail_after(5):
            while nursery.child_tasks:
                await trio.testing.wait_all_tasks_blocked()
                if zygote.asked:
                    zygote.refuse("no memory")
                await trio.lowlevel.checkpoint()


async def test_who_stops_waiting_leaves_the_process_to_others(autojump_clock: trio.testing.MockClock) -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote)
    with trio.move_on_after(1):
        await pool.take()
    child = zygote.deliver()
    assert pool.ready_count == 1
    assert cast(FakeChild, await pool.take()) is child
    pool.close()


class Clock:
    """Goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def under_load(pool: ChildPool, zygote: FakeZygote, clock: Clock, *, jobs: int, every_s: float, takes_s: float) -> None:
    """So many jobs come, each of which finds a child; its successor is there after ``takes_s``."""
    due: deque[float] = deque()

    def deliver_until(time: float) -> None:
        while due and due[0] <= time:
            clock.now = max(clock.now, due.popleft())
            zygote.deliver()
        clock.now = max(clock.now, time)

    for number in range(jobs):
        deliver_until(1000 + number * every_s)
        while pool.take_ready() is None:
            pool.tend()
            while len(due) < len(zygote.asked):
                due.append(clock.now + takes_s)
            deliver_until(due[0])
        pool.tend()
        while len(due) < len(zygote.asked):
            due.append(clock.now + takes_s)
    while due:
        deliver_until(due[0])


def test_more_wait_the_more_often_jobs_come_and_the_longer_a_successor_takes() -> None:
    sizes = []
    for every_s, takes_s in ((1.0, 0.02), (0.01, 0.02), (0.01, 0.2), (0.001, 0.2)):
        zygote, clock = FakeZygote(), Clock()
        pool = ChildPool(cast(Zygote, zygote), "bash", idle_target=1, target=2, room=Room(30), clock=clock)
        under_load(pool, zygote, clock, jobs=300, every_s=every_s, takes_s=takes_s)
        sizes.append(pool.ready_count)
    assert sizes[0] == 2  # the least
    assert sizes == sorted(sizes)
    assert 2 < sizes[1] < 12
    assert sizes[3] == 32  # the least, and all the room there is


def test_what_nobody_needs_any_more_is_ended() -> None:
    zygote, clock, room = FakeZygote(), Clock(), Room(10)
    pool = ChildPool(cast(Zygote, zygote), "bash", idle_target=1, target=2, room=room, clock=clock)
    other = ChildPool(cast(Zygote, FakeZygote()), "python3", idle_target=1, target=2, room=room, clock=clock)
    under_load(pool, zygote, clock, jobs=300, every_s=0.002, takes_s=0.1)
    assert pool.ready_count == 12
    assert pool.tend()  # to be looked at again
    assert room.share(other, 5) == 0
    clock.now += 300
    assert not pool.tend()
    assert pool.ready_count == 2
    assert room.share(other, 5) == 5


def test_a_pool_that_is_closed_leaves_its_room_to_others() -> None:
    zygote, clock, room = FakeZygote(), Clock(), Room(10)
    pool = ChildPool(cast(Zygote, zygote), "bash", idle_target=1, target=2, room=room, clock=clock)
    under_load(pool, zygote, clock, jobs=300, every_s=0.002, takes_s=0.1)
    pool.close()
    assert room.share("another", 20) == 10


def test_large_processes_fill_the_room_sooner() -> None:
    zygote, clock, room = FakeZygote(), Clock(), Room(64 << 20)
    engine = ChildPool(
        cast(Zygote, zygote), "deno", idle_target=0, target=1, room=room, clock=clock,
        each_bytes=RUNTIMES["deno"].waiting_bytes,
    )  # fmt: skip
    under_load(engine, zygote, clock, jobs=300, every_s=0.002, takes_s=0.5)
    assert engine.ready_count == 2  # one, and one more: two would be 68 MiB
    assert room.share("python3", 100, RUNTIMES["python3"].waiting_bytes) == 10
    assert max(RUNTIMES.values(), key=lambda runtime: runtime.waiting_bytes).name == "nodejs"


def test_a_fixed_number_stays() -> None:
    zygote, clock = FakeZygote(), Clock()
    pool = ChildPool(cast(Zygote, zygote), "bash", idle_target=1, target=3, clock=clock)
    under_load(pool, zygote, clock, jobs=300, every_s=0.001, takes_s=0.5)
    assert pool.ready_count == 3
    assert not pool.tend()


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=60))
def test_the_demand_is_never_negative_and_ends_with_the_jobs(events: list[tuple[float, float]]) -> None:
    demand, now = Demand(), 0.0
    for pause_s, took_s in events:
        now += pause_s
        demand.came(now)
        demand.replaced(took_s)
        assert demand.wanted(now) >= 1
    assert demand.wanted(now + 3600) <= 1


def test_closing_ends_all() -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote, idle=2)
    pool.refill()
    children = [zygote.deliver(), zygote.deliver()]
    pool.close()
    assert all(child.ended for child in children)
    assert pool.ready_count == 0


def test_of_a_heavy_runtime_none_waits_before_it_is_needed_and_none_for_long_after() -> None:
    zygote, clock = FakeZygote(), Clock()
    looked_at: list[bool] = []
    pool = ChildPool(
        cast(Zygote, zygote),
        "bun",
        idle_target=0,
        target=1,
        idle_s=10,
        on_taken=lambda: looked_at.append(True),
        clock=lambda: clock.now,
    )
    pool.refill()
    assert not pool.tend()
    assert not zygote.asked
    pool.expect()
    pool.expect()
    assert len(zygote.asked) == 1
    assert looked_at
    first = zygote.deliver()
    clock.now += 9
    assert pool.tend()  # it has to be looked at again
    assert not first.ended
    assert cast(FakeChild, pool.take_ready()) is first
    pool.refill()
    second = zygote.deliver()
    clock.now += 10
    assert pool.tend()
    assert not second.ended
    clock.now += 0.1
    assert not pool.tend()
    assert second.ended
    pool.refill()
    assert not zygote.asked


def test_every_language_of_scripts_has_a_runtime() -> None:
    for language in Language:
        assert runtime_of(language.value, b"", ()).name in RUNTIMES
    for name, runtime in RUNTIMES.items():
        assert runtime.name == name
        assert runtime.banner.endswith("CODE EXECUTION ---\n")


async def test_who_deploys_waits_for_the_process_that_is_started() -> None:
    zygote = FakeZygote()
    pool = make_pool(zygote, idle=0, target=1)
    await pool.settle()  # none is
    pool.expect()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.settle)
            await trio.testing.wait_all_tasks_blocked()
            zygote.refuse("no memory")  # and it is tried again
            await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            zygote.deliver()
        await pool.settle()
        assert pool.take_ready() is not None
        pool.expect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.settle)
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                zygote.refuse("no memory")
    assert not zygote.asked
