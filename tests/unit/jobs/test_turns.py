"""The turn of a sync job, and who may take it in the moment in which it comes."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing

from minwebhook.errors import Unavailable
from minwebhook.jobs.model import JobState, Outcome
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.jobs.turns import Turn
from tests.jobs import job_spec

SPEC = job_spec()
DONE = Outcome(JobState.SUCCESS, b"1")


class NoStore:
    def exists(self, job_id: object) -> bool:
        return False


def one_slot(max_sync_wait_s: float = 60) -> JobTable:
    return JobTable(cast(JobStore, NoStore()), limits=QueueLimits(10), slots=1, max_sync_wait_s=max_sync_wait_s)


@pytest.mark.parametrize("takes", [True, False])
async def test_whoever_takes_the_turn_says_when_the_wait_is_over(takes: bool, nursery: trio.Nursery) -> None:
    turn, over = Turn(), trio.Event()
    calls: list[str] = []

    def on_set() -> bool:
        calls.append("told")
        return takes

    async def wait() -> None:
        await turn.wait()
        over.set()

    turn.on_set = on_set
    nursery.start_soon(wait)
    turn.set()
    await trio.testing.wait_all_tasks_blocked()
    assert over.is_set() != takes
    turn.set() if not takes else turn.wake()
    await trio.testing.wait_all_tasks_blocked()
    assert over.is_set()
    assert calls == ["told"]  # once, whatever comes behind it


async def test_a_caller_who_leaves_ends_the_run_that_has_begun_without_it(nursery: trio.Nursery) -> None:
    table = one_slot()
    running, waiting = table.submit_sync(SPEC), table.submit_sync(SPEC)
    stopped: list[bool] = []
    scope = trio.CancelScope()

    def take() -> bool:
        assert waiting.state is JobState.RUNNING
        waiting.stop = lambda: stopped.append(True)
        return True

    async def call() -> None:
        with scope:
            await table.turn(waiting)

    assert waiting.turn is not None
    waiting.turn.on_set = take
    nursery.start_soon(call)
    await trio.testing.wait_all_tasks_blocked()
    table.finish(running, DONE, 0)
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert stopped == [True]
    assert waiting.state is JobState.RUNNING  # it ends when its process is gone
    assert waiting.cancellation is not None


async def test_a_turn_that_nobody_takes_is_its_callers(nursery: trio.Nursery) -> None:
    table = one_slot()
    running, waiting = table.submit_sync(SPEC), table.submit_sync(SPEC)
    assert waiting.turn is not None
    waiting.turn.on_set = lambda: False
    had: list[bool] = []

    async def call() -> None:
        had.append(await table.turn(waiting))

    nursery.start_soon(call)
    await trio.testing.wait_all_tasks_blocked()
    table.finish(running, DONE, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert had == [True]


async def test_a_turn_that_does_not_come_in_time(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    table = one_slot(max_sync_wait_s=5)
    nursery.start_soon(table.run_turns)
    table.submit_sync(SPEC)
    waiting = table.submit_sync(SPEC)
    assert waiting.turn is not None
    told: list[JobState] = []

    def on_set() -> bool:
        told.append(waiting.state)
        return False

    waiting.turn.on_set = on_set
    with pytest.raises(Unavailable, match="no worker was free within 5 s"):
        await table.turn(waiting)
    assert told == [JobState.QUEUED]
    assert waiting.state is JobState.CANCELED
    assert trio.current_time() == pytest.approx(5)
