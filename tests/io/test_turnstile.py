"""How many requests begin in a turn of the loop, and in which order those go that wait."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from minwebhook.http.turnstile import AT_ONCE, CALLED_AT_ONCE, LATE_CALLED_AT_ONCE, LATE_OLDEST, LATE_S, Turnstile


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1


@pytest.fixture
def turns() -> Turns:
    return Turns()


class Crowd:
    """Requests that come, and the order and the turns in which they begin."""

    def __init__(self, turnstile: Turnstile, turns: Turns) -> None:
        self.turnstile = turnstile
        self.turns = turns
        self.begun: list[int] = []
        self.begun_in: Counter[int] = Counter()
        self.waited: dict[int, float] = {}

    async def come(self, number: int) -> None:
        self.waited[number] = 0.0 if self.turnstile.enter_now() else await self.turnstile.enter()
        self.begun.append(number)
        self.begun_in[self.turns.number] += 1


async def test_a_crowd_begins_a_few_at_a_time_and_all_of_it(nursery: trio.Nursery, turns: Turns) -> None:
    trio.lowlevel.add_instrument(turns)
    turnstile = Turnstile()
    nursery.start_soon(turnstile.run)
    await trio.testing.wait_all_tasks_blocked()
    crowd = Crowd(turnstile, turns)
    async with trio.open_nursery() as coming:
        for number in range(500):
            coming.start_soon(crowd.come, number)
    assert sorted(crowd.begun) == list(range(500))
    assert max(crowd.begun_in.values()) <= AT_ONCE
    later = Crowd(turnstile, turns)  # and it is as it was
    async with trio.open_nursery() as coming:
        for number in range(AT_ONCE):
            coming.start_soon(later.come, number)
    assert set(later.waited.values()) == {0.0}
    trio.lowlevel.remove_instrument(turns)


@pytest.mark.parametrize("is_late", [False, True])
async def test_the_newest_go_first_once_the_oldest_has_waited_too_long(
    nursery: trio.Nursery, turns: Turns, is_late: bool
) -> None:
    now = 0.0
    turnstile = Turnstile(lambda: now)
    nursery.start_soon(turnstile.run)
    await trio.testing.wait_all_tasks_blocked()
    crowd = Crowd(turnstile, turns)
    came: list[int] = []

    async def come(number: int) -> None:
        nonlocal now
        came.append(number)  # all in one turn of the loop, in no certain order
        if len(came) == 100 and is_late:
            now = 2 * LATE_S
        await crowd.come(number)

    async with trio.open_nursery() as coming:
        for number in range(100):
            coming.start_soon(come, number)
    waiting = came[AT_ONCE:]
    first = crowd.begun[AT_ONCE:][: LATE_CALLED_AT_ONCE if is_late else CALLED_AT_ONCE]
    if is_late:
        assert set(first) == {*waiting[:LATE_OLDEST], *waiting[LATE_OLDEST - LATE_CALLED_AT_ONCE :]}
    else:
        assert set(first) == set(waiting[:CALLED_AT_ONCE])
    assert sorted(crowd.begun) == list(range(100))


async def test_one_that_leaves_is_not_called(nursery: trio.Nursery, turns: Turns) -> None:
    turnstile = Turnstile()
    nursery.start_soon(turnstile.run)
    await trio.testing.wait_all_tasks_blocked()
    while turnstile.enter_now():
        pass
    crowd = Crowd(turnstile, turns)
    async with trio.open_nursery() as coming:
        with trio.CancelScope() as scope:
            scope.cancel()
            await crowd.come(1)
        coming.start_soon(crowd.come, 2)
    assert scope.cancelled_caught
    assert crowd.begun == [2]


async def test_without_anybody_who_calls_nobody_waits(turns: Turns) -> None:
    turnstile = Turnstile()
    crowd = Crowd(turnstile, turns)
    for number in range(3 * AT_ONCE):
        await crowd.come(number)
    assert len(crowd.begun) == 3 * AT_ONCE
    async with trio.open_nursery() as coming, trio.open_nursery() as ending:
        ending.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        while turnstile.enter_now():
            pass
        for number in range(50):
            coming.start_soon(crowd.come, number)
        await trio.lowlevel.checkpoint()
        ending.cancel_scope.cancel()  # whoever waits then begins at once
    assert len(crowd.begun) == 3 * AT_ONCE + 50
