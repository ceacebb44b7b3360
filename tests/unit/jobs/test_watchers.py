"""Followers of jobs: who is told, in whose task, and who is not any more."""

from __future__ import annotations

from uuid import UUID

import trio
import trio.testing

from minwebhook.jobs.watch import Watchers

ONE, OTHER = UUID(int=1), UUID(int=2)


async def test_followers_are_told_until_they_say_no() -> None:
    watchers = Watchers()
    told: list[str] = []
    ended: list[str] = []

    async def follow(name: str, job_id: UUID, times: int) -> None:
        def on_news() -> bool:
            told.append(name)
            return told.count(name) < times

        await watchers.follow(job_id, on_news)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.run)
        nursery.start_soon(follow, "a", ONE, 2)
        nursery.start_soon(follow, "b", ONE, 1)
        nursery.start_soon(follow, "c", OTHER, 1)
        await trio.testing.wait_all_tasks_blocked()
        watchers.tell(ONE)
        watchers.tell(ONE)  # in the same turn: that is one piece of news
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(told) == ["a", "b"]
        assert ended == ["b"]
        watchers.tell_all()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(told) == ["a", "a", "b", "c"]
        assert sorted(ended) == ["a", "b", "c"]
        watchers.tell_all()
        await trio.testing.wait_all_tasks_blocked()
        assert len(told) == 4
        nursery.cancel_scope.cancel()


async def test_one_who_leaves_while_others_are_told() -> None:
    watchers = Watchers()
    told: set[int] = set()
    scopes = [trio.CancelScope() for _ in range(600)]

    async def follow(number: int) -> None:
        def on_news() -> bool:
            told.add(number)
            scopes[599].cancel()
            return True

        with scopes[number]:
            await watchers.follow(ONE, on_news)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.run)
        for number in range(600):
            nursery.start_soon(follow, number)
            await trio.testing.wait_all_tasks_blocked()
        watchers.tell(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert told == set(range(599))
        nursery.cancel_scope.cancel()
