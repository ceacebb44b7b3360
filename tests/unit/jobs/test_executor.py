"""The executor at the moments that real processes cannot be stopped at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from minwebhook.auth.job_tokens import JobTokens
from minwebhook.child import wire
from minwebhook.db.database import Database
from minwebhook.errors import SandboxError
from minwebhook.jobs.built import BuiltPrograms
from minwebhook.jobs.cache import ResultCache
from minwebhook.jobs.executor import Executor, version_key
from minwebhook.jobs.imported import ImportedScripts
from minwebhook.jobs.large_values import LargeValues
from minwebhook.jobs.limits import LimitRules
from minwebhook.jobs.model import Cancellation, Job, JobSpec, JobState, Outcome
from minwebhook.jobs.packages import JobPackages
from minwebhook.jobs.pressure import QueueLimits
from minwebhook.jobs.references import ArgumentReferences
from minwebhook.jobs.shared import SharedDirectories
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.runtimes.child import Child, Served
from minwebhook.runtimes.engines import Engines
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.reports import Report
from minwebhook.runtimes.reuse import ReusePool
from minwebhook.sandbox.plan import Surroundings
from minwebhook.scripts.store import ScriptStore
from minwebhook.settings import JobSettings, SandboxSettings
from tests.jobs import job_spec

SPEC = job_spec(timeout_s=600)
WHY = Cancellation("me", "why")


class NoScripts:
    """A store of scripts in which none is."""

    def find_by_hash(self, workspace: str, hash: int) -> None:
        """Not there."""


class EmptyPool:
    """Never has a process; says so, or lets the caller wait."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.child: Child | None = None
        self.given = trio.Event()

    def take_ready(self) -> Child | None:
        return None

    async def take(self) -> Child:
        if self.reason is not None:
            raise SandboxError(self.reason)
        await self.given.wait()
        assert self.child is not None
        return self.child

    def refill(self) -> None:
        pass

    def close(self) -> None:
        pass


class OneFamily:
    """A fleet whose only pool is this one."""

    python_version = "3.11.0"

    def __init__(self, pool: EmptyPool) -> None:
        self.pools = {"bash": pool, "python3": pool}
        self.zygote = SimpleNamespace(api_url="")
        self.jobs = 0

    def require(self, language: str) -> None:
        """It is there."""

    def family(self, surroundings: Surroundings | None) -> OneFamily:
        return self

    def refill(self) -> None:
        pass


class NoStore:
    """For sync jobs, which are stored when they have ended."""

    def exists(self, job_id: object) -> bool:
        return False


@pytest.fixture
def pool() -> EmptyPool:
    return EmptyPool()


@pytest.fixture
def table() -> JobTable:
    return JobTable(cast(JobStore, NoStore()), limits=QueueLimits(10), slots=1)


@pytest.fixture
def reuse() -> ReusePool:
    return ReusePool(1)


@pytest.fixture
async def executor(
    table: JobTable, pool: EmptyPool, reuse: ReusePool, nursery: trio.Nursery
) -> AsyncIterator[Executor]:
    made = make_executor(table, pool, reuse, JobSettings())
    nursery.start_soon(made.run, 1)
    yield made


def make_executor(table: JobTable, pool: EmptyPool, reuse: ReusePool, settings: JobSettings) -> Executor:
    return Executor(
        table,
        cast(Fleet, OneFamily(pool)),
        reuse,
        settings,
        LimitRules(JobSettings(), SandboxSettings(), "root", has_own_uids=True),
        base_url="http://x",
        tokens=JobTokens(),
        cache=ResultCache(cast(Database, None)),  # no job here has a cache_ttl
        packages=cast(JobPackages, None),  # nor needs any
        engines=Engines(),
        imported=ImportedScripts(cast(ScriptStore, NoScripts())),
        built=cast(BuiltPrograms, None),  # nor builds any
        references=cast(ArgumentReferences, None),  # nor names anything
        shared=SharedDirectories(Path("/nowhere"), 0),  # nor shares anything
        large=LargeValues(insecure=True),
    )


async def started(
    executor: Executor, nursery: trio.Nursery, ended: dict[int, Outcome], number: int, spec: JobSpec = SPEC
) -> Job:
    """A sync run in a task of its own, up to where it waits."""
    jobs: list[Job] = []

    async def run() -> None:
        ended[number] = await executor.run_sync(spec, job_id=None, on_start=jobs.append)

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    return jobs[0]


async def test_a_job_cancelled_while_it_waits_for_a_process(
    executor: Executor, table: JobTable, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended: dict[int, Outcome] = {}
    job = await started(executor, nursery, ended, 1)
    assert job.state is JobState.RUNNING
    assert table.cancel(job, WHY)
    await trio.testing.wait_all_tasks_blocked()
    assert ended[1].state is JobState.CANCELED


async def test_a_job_cancelled_in_the_very_turn_in_which_it_starts(
    executor: Executor, table: JobTable, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended: dict[int, Outcome] = {}
    blocker = table.submit_sync(SPEC)
    job = await started(executor, nursery, ended, 1)
    assert (blocker.state, job.state) == (JobState.RUNNING, JobState.QUEUED)
    table.finish(blocker, Outcome(JobState.SUCCESS, b"1"), 0)
    assert job.state is JobState.RUNNING
    assert table.cancel(job, WHY)  # its task has not run yet
    await trio.testing.wait_all_tasks_blocked()
    assert ended[1].state is JobState.CANCELED


async def test_a_timeout_while_it_waits_for_a_process(
    executor: Executor, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended: dict[int, Outcome] = {}
    await started(executor, nursery, ended, 1)
    await trio.sleep(599)
    assert ended == {}
    await trio.sleep(2)
    assert ended[1].state is JobState.FAILURE
    assert b"timeout after exceeding job-specific duration limit" in ended[1].result


async def test_no_process_to_be_had(
    executor: Executor, pool: EmptyPool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool.reason = "cannot start a bash process: no memory"
    ended: dict[int, Outcome] = {}
    await started(executor, nursery, ended, 1)
    assert ended[1].state is JobState.FAILURE
    assert b"execution error:\\ncannot start a bash process: no memory" in ended[1].result


class ReadyChild:
    """A process that would run its job for ever; it is only ever asked to."""

    exit = None

    def __init__(self) -> None:
        self.was_asked = False

    def kill(self) -> None:
        """Nothing to end."""

    def end(self) -> None:
        """Nothing to close."""

    counts: frozenset[str] = frozenset()

    def used(self) -> None:
        """Nobody counts."""

    def limits_hit(self) -> set[str]:
        """None."""
        return set()

    def stay(self) -> None:
        """Nothing to count anew."""

    async def run(self, *_: object, spin_s: float = 0.0) -> object:
        self.was_asked = True
        await trio.sleep_forever()


async def test_a_stop_between_the_handing_over_of_a_process_and_its_use_is_not_lost(
    executor: Executor, pool: EmptyPool, table: JobTable, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended: dict[int, Outcome] = {}
    job = await started(executor, nursery, ended, 1)
    child = ReadyChild()
    pool.child = cast(Child, child)
    pool.given.set()  # its task has a process now, but has not run yet
    assert table.cancel(job, WHY)
    await trio.testing.wait_all_tasks_blocked()
    assert ended[1].state is JobState.CANCELED
    assert not child.was_asked


class ReportingChild(ReadyChild):
    """A process that reports when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = trio.Event()
        self.given: bytes | None = None
        self.served: Served | None = None
        #: How long its answer to the last job was looked for without waiting.
        self.spun_s = -1.0

    async def run(self, *_: object, spin_s: float = 0.0) -> object:
        self.spun_s = spin_s
        await self.reports.wait()
        return Report(wire.RESULT, b"1")


@pytest.mark.parametrize("stops", ["cancel", "timeout", "nobody"])
async def test_a_process_that_is_stopped_while_its_report_comes_is_not_used_again(
    stops: str,
    executor: Executor,
    pool: EmptyPool,
    reuse: ReusePool,
    table: JobTable,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    spec = replace(SPEC, kind="script", language="python3", script_hash=1, dedicated=True)
    child = ReportingChild()
    pool.child = cast(Child, child)
    pool.given.set()
    ended: dict[int, Outcome] = {}
    job = await started(executor, nursery, ended, 1, spec)
    child.reports.set()  # its task has the report now, but has not run yet
    if stops == "cancel":
        assert table.cancel(job, WHY)
    elif stops == "timeout":
        job.is_overdue = True
    await trio.testing.wait_all_tasks_blocked()
    assert ended[1].is_success == (stops == "nobody")
    assert (reuse.take(version_key(spec)) is pool.child) == (stops == "nobody")


@pytest.mark.parametrize(
    ("case", "spins"),
    [
        ("alone", True),
        ("a fresh process", False),
        ("another job runs", False),
        ("another job waits", False),
        ("one processor", False),
        ("switched off", False),
    ],
)
async def test_the_answer_is_looked_for_only_if_there_is_nothing_else_to_do(
    case: str,
    spins: bool,
    pool: EmptyPool,
    reuse: ReusePool,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processors = {0} if case == "one processor" else {0, 1}
    monkeypatch.setattr("os.sched_getaffinity", lambda _: processors)
    slots = 1 if case == "another job waits" else 2
    table = JobTable(cast(JobStore, NoStore()), limits=QueueLimits(10), slots=slots)
    settings = JobSettings(spin_s=0.0 if case == "switched off" else 0.0004)
    executor = make_executor(table, pool, reuse, settings)
    nursery.start_soon(executor.run, 1)
    spec = replace(SPEC, kind="script", language="python3", script_hash=1, dedicated=True)
    child = ReportingChild()
    pool.child = cast(Child, child)
    pool.given.set()
    ended: dict[int, Outcome] = {}
    if case != "a fresh process":
        child.reports.set()
        await started(executor, nursery, ended, 1, spec)
        assert (ended[1].is_success, child.spun_s) == (True, 0)  # it was a fresh one then
        child.reports, child.spun_s = trio.Event(), -1.0
    if case == "another job runs":
        assert table.submit_sync(SPEC).state is JobState.RUNNING

    async def run() -> None:
        def on_start(_: Job) -> None:
            if case == "another job waits":
                assert table.submit_sync(SPEC).state is JobState.QUEUED

        ended[2] = await executor.run_sync(spec, job_id=None, on_start=on_start)

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    assert child.spun_s == (0.0004 if spins else 0)
    child.reports.set()
    await trio.testing.wait_all_tasks_blocked()
    assert ended[2].is_success
