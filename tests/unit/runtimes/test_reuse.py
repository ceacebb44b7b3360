"""Processes that stay with one script."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.runtimes.child import Child, Served
from minwebhook.runtimes.reuse import Lifetime, ReusePool

MIB = 1024 * 1024


class FakeChild:
    """What the pool uses of a child."""

    def __init__(self) -> None:
        self.exit: object | None = None
        self.ended = False
        self.served: Served | None = None
        self.memory = 10 * MIB
        self.looks = 0

    def end(self) -> None:
        self.ended = True

    def memory_bytes(self) -> int:
        self.looks += 1
        return self.memory


class Clock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def give(pool: ReusePool, key: str) -> FakeChild:
    child = FakeChild()
    pool.give_back(key, cast(Child, child))
    return child


def take(pool: ReusePool, key: str) -> FakeChild | None:
    return cast(FakeChild | None, pool.take(key))


def test_a_process_is_for_its_version_only_and_the_last_used_comes_first() -> None:
    pool = ReusePool(10)
    first, second = give(pool, "a"), give(pool, "a")
    assert take(pool, "b") is None
    assert take(pool, "a") is second
    assert take(pool, "a") is first
    assert take(pool, "a") is None


def test_the_one_unused_for_longest_goes_when_there_are_too_many() -> None:
    pool = ReusePool(2)
    oldest, middle, newest = give(pool, "a"), give(pool, "b"), give(pool, "a")
    assert (oldest.ended, middle.ended, newest.ended) == (True, False, False)
    assert take(pool, "a") is newest
    assert take(pool, "a") is None
    assert take(pool, "b") is middle


def test_the_dead_get_no_other_job() -> None:
    pool = ReusePool(10)
    healthy, dead = give(pool, "a"), give(pool, "a")
    dead.exit = object()
    assert take(pool, "a") is healthy
    assert dead.ended
    assert take(pool, "a") is None


def test_closing_ends_all_that_wait() -> None:
    pool = ReusePool(10)
    children = [give(pool, "a"), give(pool, "b")]
    pool.close()
    assert all(child.ended for child in children)
    assert take(pool, "a") is None


def jobs_of(child: FakeChild, pool: ReusePool, clock: Clock, *, every_s: float, at_most: int = 1000) -> int:
    """Runs jobs in the child until the pool does not want it any more; how many it ran."""
    for number in range(1, at_most + 1):
        clock.now += every_s
        if not pool.give_back("a", cast(Child, child)):
            return number
        assert take(pool, "a") is child
    return at_most


def test_a_process_has_its_number_of_jobs() -> None:
    clock = Clock()
    pool = ReusePool(10, Lifetime(max_jobs=7), clock=clock)
    child = FakeChild()
    assert jobs_of(child, pool, clock, every_s=1000) == 7
    assert not child.ended, "it is the caller's to end"
    assert len(pool) == 0
    assert jobs_of(FakeChild(), pool, clock, every_s=0) == 7


def test_a_process_has_its_time() -> None:
    clock = Clock()
    pool = ReusePool(10, Lifetime(max_s=60), clock=clock)
    assert jobs_of(FakeChild(), pool, clock, every_s=7) == 10  # the first one begins it, the tenth comes after 63 s


def test_memory_is_looked_at_once_a_second() -> None:
    clock = Clock()
    pool = ReusePool(10, Lifetime(max_memory_bytes=20 * MIB), clock=clock)
    child = FakeChild()
    assert jobs_of(child, pool, clock, every_s=0.25, at_most=41) == 41
    assert child.looks == 11
    child.memory = 21 * MIB
    assert jobs_of(child, pool, clock, every_s=0.25) <= 4


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.integers(0, 2**40))
def test_without_limits_a_process_stays(pauses: list[float], memory: int) -> None:
    clock = Clock()
    pool = ReusePool(10, clock=clock)
    child = FakeChild()
    child.memory = memory
    for pause in pauses:
        assert jobs_of(child, pool, clock, every_s=pause, at_most=1) == 1
        assert child.looks == 0
