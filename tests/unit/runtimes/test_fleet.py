"""Families of children, with fork servers that start when the test says so."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing

from minwebhook.errors import SandboxError
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.zygote import Deliver, Zygote
from minwebhook.sandbox.plan import Surroundings

USUAL = Surroundings("host")
NETLESS = Surroundings("none")


class FakeZygote:
    """Runs until it is stopped or must fail."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.version = "3.11.0"
        self.asked: list[Deliver] = []
        self.ended = trio.Event()
        self.is_stopped = False
        self.failure = ""
        self.is_running = False

    def spawn(self, language: str, deliver: Deliver) -> None:
        self.asked.append(deliver)

    async def run(self) -> None:
        self.is_running = True
        await self.ended.wait()
        if self.failure:
            raise SandboxError(self.failure)

    def stop(self) -> None:
        self.is_stopped = True
        self.ended.set()


class Workshop:
    """Keeps what it made."""

    def __init__(self) -> None:
        self.made: dict[Surroundings, FakeZygote] = {}

    def make(self, surroundings: Surroundings, number: int) -> Zygote:
        self.made[surroundings] = FakeZygote(number)
        return cast(Zygote, self.made[surroundings])


def make_fleet(workshop: Workshop, *, most: int = 3) -> Fleet:
    return Fleet((USUAL, cast(Zygote, FakeZygote())), workshop.make, target=2, max_families=most)


def test_scripts_without_wishes_share_the_usual_family() -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    assert fleet.family(None) is fleet.family(USUAL)
    assert workshop.made == {}


async def test_other_surroundings_get_a_family_once(nursery: trio.Nursery) -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    nursery.start_soon(fleet.run)
    family = fleet.family(NETLESS)
    assert fleet.family(NETLESS) is family
    await trio.testing.wait_all_tasks_blocked()
    assert workshop.made[NETLESS].is_running
    assert [each.number for each in fleet.families] == [0, 1]


def test_a_script_with_packages_is_expected_where_they_are() -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    packages = Surroundings("host", "/packages")
    fleet.expect(RUNTIMES["python3"], packages)
    assert workshop.made == {}, "a process of Python starts fast enough"
    fleet.expect(RUNTIMES["bun"], packages)
    assert len(workshop.made[packages].asked) == 1


async def test_who_waits_for_a_family_that_cannot_start_is_told_and_the_next_one_tries_again(
    nursery: trio.Nursery,
) -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    nursery.start_soon(fleet.run)
    family = fleet.family(NETLESS)
    zygote = workshop.made[NETLESS]
    zygote.failure = "no room"

    async def take() -> None:
        with pytest.raises(SandboxError, match="no room"):
            await family.pools["python3"].take()
        told.set()

    told = trio.Event()
    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    zygote.ended.set()
    with trio.fail_after(5):
        await told.wait()
    assert fleet.family(NETLESS) is not family


def test_the_family_unused_for_longest_makes_room_but_none_with_jobs() -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    first, second, third, fourth = (Surroundings("host", f"/{name}") for name in "abcd")
    fleet.family(first).jobs += 1
    fleet.family(second)
    fleet.family(first)  # used last
    fleet.family(third)
    assert [workshop.made[each].is_stopped for each in (first, second, third)] == [False, True, False]
    fleet.family(third).jobs += 1
    fleet.family(fourth)  # all others are busy: more than the limit for now
    assert [workshop.made[each].is_stopped for each in (first, third, fourth)] == [False, False, False]
    assert len({each.number for each in fleet.families}) == len(fleet.families)


async def test_stop_ends_all(nursery: trio.Nursery) -> None:
    workshop = Workshop()
    fleet = make_fleet(workshop)
    nursery.start_soon(fleet.run)
    fleet.family(NETLESS)
    fleet.stop()
    assert workshop.made[NETLESS].is_stopped
