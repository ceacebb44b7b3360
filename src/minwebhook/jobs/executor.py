"""Runs jobs: gives each a child and judges what comes back.

The job table says when a job starts; one task owns each running job. A sync job is run by the task of its caller, which
waits anyway, any other by a worker. Whatever ends a run from outside (timeout, cancellation, a caller that leaves) calls
``job.stop``, which kills the child with everything it started; the run then sees the child vanish.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import orjson
import trio

from minwebhook.auth.job_tokens import JobIdentity, JobTokens
from minwebhook.child import wire
from minwebhook.entropy import Entropy
from minwebhook.errors import ApiError, PackageError, SandboxError, Unavailable
from minwebhook.jobs import outcomes
from minwebhook.jobs.built import BuiltPrograms
from minwebhook.jobs.cache import ResultCache, cache_key
from minwebhook.jobs.compiled import CompiledScripts
from minwebhook.jobs.cpu_watch import CpuWatch
from minwebhook.jobs.deadlines import RunDeadlines
from minwebhook.jobs.environment import JobHeaders, changing_variables
from minwebhook.jobs.imported import ImportedScripts
from minwebhook.jobs.large_values import LARGE_BYTES, LargeValues
from minwebhook.jobs.limits import JobLimits, LimitRules
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import DEPENDENCIES, Job, JobSpec, JobState, Outcome, Timing
from minwebhook.jobs.packages import JobPackages
from minwebhook.jobs.references import ArgumentReferences
from minwebhook.jobs.run import Run
from minwebhook.jobs.shared import SharedDirectories
from minwebhook.jobs.table import SERVER_STOPS, JobTable
from minwebhook.runtimes.child import Child, Exchange
from minwebhook.runtimes.engines import Engines
from minwebhook.runtimes.fleet import Fleet
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.pool import ChildPool
from minwebhook.runtimes.readiness import Readiness
from minwebhook.runtimes.reports import Broken, Report, Vanished
from minwebhook.runtimes.reuse import ReusePool
from minwebhook.settings import JobSettings
from minwebhook.times import now_ms
from minwebhook.variables.references import may_hold_references

logger = logging.getLogger(__name__)

#: So much the socket of a process that waits takes for certain.
_MAX_SENT_AT_ONCE_BYTES: Final = 32 * 1024
#: So long after a step of a flow its next one has a process, if there is one; and so many processes may be missing meanwhile.
_NEXT_STEP_S: Final = 0.003
_MAX_MISSING: Final = 3
#: For so long a deployment waits for the first process of its runtime.
_EXPECTED_WITHIN_S: Final = 3.0
#: Until a job is tried again whose beginning could not be written down.
_DISK_PAUSE_MS = 1000


def outcome_of(job: Job) -> Outcome:
    """How a completed sync job ended. Raises :class:`Unavailable` if that is because the server stops."""
    answer = job.answer
    assert answer is not None  # noqa: S101 - it was run, or it ended in the queue
    if answer.cancellation is SERVER_STOPS:
        raise Unavailable("the server stops; try again")
    return answer


class Executor:
    """The workers and what they share."""

    def __init__(
        self,
        table: JobTable,
        fleet: Fleet,
        reuse: ReusePool,
        settings: JobSettings,
        limits: LimitRules,
        *,
        base_url: str,
        tokens: JobTokens,
        cache: ResultCache,
        packages: JobPackages,
        engines: Engines,
        imported: ImportedScripts,
        built: BuiltPrograms,
        references: ArgumentReferences,
        shared: SharedDirectories,
        large: LargeValues,
        internal_url: str = "",
    ) -> None:
        """``base_url`` is the server's public address, ``internal_url`` the one where scripts reach it; "" for the same."""
        self._table = table
        self._fleet = fleet
        self._reuse = reuse
        self._settings = settings
        self._headers = JobHeaders(base_url=base_url, internal_url=internal_url or base_url)
        self._entropy = Entropy()
        self._packages = packages
        self._engines = engines
        self._imported = imported
        self._references = references
        self._shared = shared
        self._large = large
        self._tokens = tokens
        self._cache = cache
        self._banners = {
            name: runtime.banner.format(version=fleet.python_version.rpartition(".")[0])
            for name, runtime in RUNTIMES.items()
        }
        # With one processor, spinning would keep the job from running.
        self._spin_s = settings.spin_s if len(os.sched_getaffinity(0)) > 1 else 0
        self._limits = limits
        self._deadlines = RunDeadlines()
        self._cpu_watch = CpuWatch()
        self._compiled = CompiledScripts()
        self._built = built
        self._builder = trio.CapacityLimiter(1)
        #: Runs without a task, and whom to tell of their end.
        self._started: dict[Run, Callable[[], None]] = {}
        self._readiness = Readiness()
        self._ends: trio.Nursery | None = None  # while there are workers
        self._used: list[tuple[Child, ChildPool]] = []
        self._sweep = trio.Event()
        #: The last of them had a step of a flow, and the next step, if there is one, comes at once.
        self._more_follow = False

    @property
    def dedicated_count(self) -> int:
        """Processes that wait for the next job of their script."""
        return len(self._reuse)

    def expect(self, language: str, source: bytes) -> None:
        """This script is being deployed: has a process for it started, if none waits and starting one takes long."""
        self._fleet.expect(self._engines.runtime(language, source))

    async def settle(self, language: str, source: bytes) -> None:
        """Waits for the process that is expected, for a few seconds: so that the first run need not."""
        with trio.move_on_after(_EXPECTED_WITHIN_S):
            await self._fleet.settle(self._engines.runtime(language, source))

    async def run(self, workers: int) -> None:
        """Runs jobs until cancelled; the jobs that run then are put back into the queue."""
        self._fleet.refill()
        try:
            async with trio.open_nursery() as nursery:
                self._ends = nursery
                nursery.start_soon(self._readiness.run)
                nursery.start_soon(self._clean_up)
                nursery.start_soon(self._deadlines.run)
                nursery.start_soon(self._cpu_watch.run)
                for _ in range(workers):
                    nursery.start_soon(self._work, nursery)
        finally:
            self._interrupt_started()
            for child, _ in self._used:
                child.end()
            self._reuse.close()

    async def _clean_up(self) -> None:
        """Ends used children and orders new ones, behind the answers.

        A child's end and the next one's fork would compete with the answer for the processor, so it is left to go out
        first: whoever waits for the job sends it in the turn of the loop that also wakes this task. Behind the step of a flow
        the next one follows.
        """
        while True:
            await self._sweep.wait()
            self._sweep = trio.Event()
            await trio.lowlevel.checkpoint()
            while self._more_follow:
                self._more_follow = False
                with trio.move_on_after(_NEXT_STEP_S):
                    await self._sweep.wait()
                self._sweep = trio.Event()
            used, self._used = self._used, []
            for child, _ in used:
                child.end()
            for pool in {id(pool): pool for _, pool in used}.values():
                pool.refill()

    async def run_sync(self, spec: JobSpec, *, job_id: UUID | None, on_start: Callable[[Job], None]) -> Outcome:
        """Runs a job in the task of the caller who waits for it: saves two changes of task against a worker.

        ``on_start`` gets the job before the wait. A cancelled caller cancels the job.
        """
        job = self._table.submit_sync(spec, job_id=job_id)
        on_start(job)
        await self.complete(job)
        return outcome_of(job)

    async def complete(self, job: Job) -> None:
        """Runs a job of :meth:`JobTable.submit_sync` to its end. A cancelled caller cancels the job."""
        if job.spec.is_driven:
            if job.turn is not None:  # its flow may only run so often at a time
                await self._table.turn(job)
            try:
                await self._table.wait(job)
            except trio.Cancelled:
                self._table.cancel(job, SERVER_STOPS)
                raise
            return
        turn = job.turn
        if turn is not None and self._may_start(job.spec):
            # What it waits for is the process that another job has now: that goes on with it in the same moment.
            turn.on_set = lambda: self.start(job, turn.wake)
        while await self._table.turn(job):
            if self._is_ready(job.spec):
                await self._run(job)
            else:
                await self._run_prepared(job)

    async def _work(self, nursery: trio.Nursery) -> None:
        while True:
            job = await self._table.take()
            if self._is_ready(job.spec):
                await self._run(job)
            else:  # of its own, so that no worker waits for packages
                nursery.start_soon(self._run_prepared, job)

    async def _run_prepared(self, job: Job) -> None:
        await self._prepare(job)
        if job.state is JobState.RUNNING:
            await self._run(job)

    def _is_ready(self, spec: JobSpec) -> bool:
        """Whether all that the job needs is there, and it is code to be run."""
        if spec.lock == "":
            return True
        found = self._packages.find(spec)
        if found is None:
            return False
        spec.surroundings = found
        return True

    async def _prepare(self, job: Job) -> None:
        """Finds and installs what the job needs; ends the job if that fails, or if it was all it had to do."""
        spec = job.spec
        outcome: Outcome | None = None
        started = time.perf_counter()
        try:
            with self._table.aside(), trio.CancelScope() as scope:
                job.stop = scope.cancel
                if job.cancellation is None:
                    if spec.kind == DEPENDENCIES:
                        outcome = await self._packages.run_lock_job(job)
                        if outcome.state is JobState.SUCCESS and spec.script_hash is not None:
                            self._fleet.expect(self._engines.runtime(spec.language, spec.source), spec.surroundings)
                    else:
                        spec.surroundings = await self._packages.prepare(spec) or spec.surroundings
        except PackageError as error:
            outcome = outcomes.execution_error(f"packages: {error}")
        except trio.Cancelled:
            job.attempts += 1  # none was begun, which putting it back takes off again
            self._interrupted(job)
            raise
        except Exception:
            logger.exception("the packages of a job could not be prepared", extra={"job_id": str(job.id)})
            outcome = outcomes.execution_error("internal error; the server's log says more")
        finally:
            job.stop = None
        if job.cancellation is not None:
            outcome = outcomes.canceled(job.cancellation)
        if outcome is None:
            return
        if (pause_ms := _pause_ms(job, outcome)) is not None and not self._table.is_stopping:
            self._table.retry(job, pause_ms)
        else:
            self._table.finish(job, outcome, round((time.perf_counter() - started) * 1000))

    def _interrupted(self, job: Job) -> None:
        """The server stops: a job on disk runs again later, any other ends here."""
        if job.is_stored and not job.is_stopped:
            self._table.requeue(job)
        else:
            self._table.finish(job, outcomes.canceled(job.cancellation or SERVER_STOPS), 0)

    async def _run(self, job: Job) -> None:
        """From a running job to an ended one, or to a queued one again if its run failed and may be repeated.

        On cancellation the job is put back, or ends with its caller.
        """
        run = self._open(job)
        if run is None:
            return
        spec, runtime, limits, family = job.spec, run.runtime, run.limits, run.family
        try:
            self._fleet.require(runtime.name)
            await self._table.begin(job)
            arguments = spec.arguments
            if may_hold_references(arguments):
                arguments = await self._references.resolve(
                    job, lambda: self._contextual(job, run.token, family.zygote.api_url), run.log.hide
                )
            is_reused = False
            if spec.dedicated and spec.shared is None and runtime.reusable:
                run.child = self._reuse.take(version_key(spec))
                is_reused = run.child is not None
            child = run.child = run.child or run.pool.take_ready() or await self._wait_for_child(job, run.pool)
            if child is not None:
                job.stop = child.kill
                # Stopped between the pool's handing over and this turn of the loop: nobody will say so again.
                if not job.is_stopped:
                    own_limits = "" if runtime.limits_itself or is_reused else limits.header
                    if limits.tmp_bytes is not None or own_limits:
                        await family.zygote.adjust(child, tmp_bytes=limits.tmp_bytes, limits=own_limits)
                    if limits.group is not None:
                        child.limit(*limits.group)
                    if limits.cpu_s:
                        self._cpu_watch.add(job, child, limits.cpu_s)
                    if spec.shared is not None:
                        await self._shared.give(spec.shared, job, family.zygote, child)
                    run.given = time.perf_counter()
                    packed, exchange = self._conversation(run, child, arguments, is_reused=is_reused)
                    # A new process competes with the fork of its successor for the processor that spinning would hold.
                    spin_s = self._spin_s if is_reused and self._table.is_only_one_running else 0
                    end = await child.run(packed, exchange, spin_s=spin_s)
                    self._judge(run, end, await self._judge_large(run, end))
                    if spec.shared is not None and isinstance(run.end, Report) and not job.is_stopped:
                        await self._shared.keep(spec.shared, job, family.zygote, child)
        except SandboxError as error:
            run.outcome = outcomes.execution_error(str(error))
        except Unavailable as error:
            logger.warning("a job waits for the disk: %s", error.detail, extra={"job_id": str(job.id)})
            if job.cancellation is None:
                self._table.requeue(job, pause_ms=_DISK_PAUSE_MS)
                return
        except ApiError as error:  # of references in the arguments
            run.outcome = outcomes.execution_error(error.text)
        except trio.Cancelled:
            if run.child is not None:
                run.child.end()
            self._interrupted(job)
            raise
        except Exception:
            self._note_fault(run)
        finally:
            self._release(run)
        self._close(run)

    # --- runs without a task ------------------------------------------------------------------------------------------

    def start(self, job: Job, on_end: Callable[[], None]) -> bool:
        """Runs a job of :meth:`JobTable.submit_sync` in a process that waits for it, without a task of its own.

        ``on_end`` is called in a later turn of the loop, when the job has ended. False, and nothing has happened, if the
        job has to wait for something, or is no plain run of a dedicated worker: :meth:`complete` does it all.
        """
        spec = job.spec
        if job.state is not JobState.RUNNING or job.cancellation is not None or self._ends is None:
            return False
        if not (self._may_start(spec) and self._is_ready(spec)):
            return False
        child = self._reuse.take(version_key(spec))
        if child is None:
            return False
        run = self._open(job)
        assert run is not None  # noqa: S101 - it is neither cancelled nor cached
        self._started[run] = on_end
        run.child, job.stop = child, child.kill
        try:
            self._table.begin_unstored(job)
            if run.limits.group is not None:
                child.limit(*run.limits.group)
            run.given = time.perf_counter()
            packed, exchange = self._conversation(run, child, spec.arguments, is_reused=True)
            if not child.start(packed, exchange):
                child.kill()  # what it makes of half a job is not waited for
            self._wait_for_report(run, exchange)
        except Exception:  # whoever calls this may be in the middle of something else
            self._note_fault(run)
            child.kill()
            self._ends.start_soon(self._end_at_once, run)
        return True

    def _may_start(self, spec: JobSpec) -> bool:
        """Whether it is a plain run of a dedicated worker, for which :meth:`start` may do."""
        if not spec.dedicated or spec.cache_ttl_s or spec.retry is not None or spec.preprocess:
            return False
        if len(spec.arguments) + len(spec.mask) + len(spec.source) > _MAX_SENT_AT_ONCE_BYTES:
            return False
        limits = self._limits.of(spec.limits)
        return limits.tmp_bytes is None and not limits.cpu_s and not may_hold_references(spec.arguments)

    async def _end_at_once(self, run: Run) -> None:
        self._end_started(run)

    def _wait_for_report(self, run: Run, exchange: Exchange) -> None:
        assert run.child is not None  # noqa: S101 - it was started
        self._readiness.wait(run.child.socket_fd, lambda: self._hear(run, exchange))

    def _hear(self, run: Run, exchange: Exchange) -> None:
        """The process of a started run has something to say."""
        child = run.child
        assert child is not None  # noqa: S101 - it was started
        try:
            data = child.receive()
            if data == b"":  # how it ended is known a little later
                assert self._ends is not None  # noqa: S101 - it calls this
                self._ends.start_soon(self._await_end, run, exchange)
                return
            end = None if data is None else child.feed(exchange, data)
            if end is None:
                self._wait_for_report(run, exchange)
                return
            if _is_large(end):
                assert self._ends is not None  # noqa: S101 - it calls this
                self._ends.start_soon(self._end_large, run, end)
                return
            self._judge(run, end)
        except Exception:
            self._note_fault(run)
        self._end_started(run)

    async def _await_end(self, run: Run, exchange: Exchange) -> None:
        assert run.child is not None  # noqa: S101 - it was started
        self._judge(run, await run.child.finish(exchange))
        self._end_started(run)

    async def _end_large(self, run: Run, end: Report | Vanished | Broken) -> None:
        self._judge(run, end, await self._judge_large(run, end))
        self._end_started(run)

    def _end_started(self, run: Run) -> None:
        on_end = self._started.pop(run)
        self._release(run)
        self._close(run)
        _tell(on_end, run.job)

    def _interrupt_started(self) -> None:
        """The workers end, and with them what they have begun."""
        self._ends = None
        for run, on_end in self._started.items():
            if run.child is not None:
                self._readiness.forget(run.child.socket_fd)
                run.child.end()
            self._interrupted(run.job)
            self._release(run)
            _tell(on_end, run.job)
        self._started.clear()

    # --- the parts of a run -------------------------------------------------------------------------------------------

    def _open(self, job: Job) -> Run | None:
        """Begins the run of a job; None if the job has ended instead: cancelled, or its result was known."""
        if job.cancellation is not None:  # between its start and this turn of the loop
            self._table.finish(job, outcomes.canceled(job.cancellation), 0)
            return None
        spec = job.spec
        runtime = self._engines.runtime(spec.language, spec.source)
        limits = self._limits.of(spec.limits)
        log = job.log
        if log is None:
            log = job.log = JobLog(self._banners[runtime.name], limits.log_bytes)
        elif job.failures:
            log.reopen(f"--- ATTEMPT {job.attempts + 1} ---")
        key = cache_key(spec) if spec.cache_ttl_s else None
        if key is not None and (known := self._cache.find(key, now_ms())) is not None:
            self._table.finish(job, known, 0)
            return None
        limit_s, is_own = self._limit(spec)
        started = time.perf_counter()
        self._deadlines.add(job, trio.current_time() + limit_s)
        token = self._tokens.issue(JobIdentity(spec.email, spec.workspace, log.hide, spec.code_scopes))
        family = self._fleet.family(spec.surroundings)
        family.jobs += 1
        pool = family.pools[runtime.name]
        return Run(job, runtime, limits, log, key, limit_s, is_own, token, family, pool, started, started)

    async def _judge_large(self, run: Run, end: Report | Vanished | Broken) -> Outcome | None:
        """The outcome by a report that is too large to be read in the loop; None for all others."""
        if not (isinstance(end, Report) and _is_large(end)):
            return None
        self._deadlines.discard(run.job)  # it has run
        return await self._large.judge(end, run.log, run.runtime.program)

    def _judge(self, run: Run, end: Report | Vanished | Broken, known: Outcome | None = None) -> None:
        """What the process said is the outcome, unless somebody or a limit has ended it from outside."""
        assert run.child is not None  # noqa: S101 - it has said something
        run.end, child = end, run.child
        log_limit = self._name_of_log_limit(run.job.spec)
        outcome = known or outcomes.judge(end, run.log, run.runtime.program, log_limit=log_limit)
        if isinstance(end, Report) and end.kind == wire.ERROR:
            outcome.result = run.log.hidden_in(outcome.result)
        if (used := child.used()) is not None:
            run.job.usage = used
        elif not isinstance(end, Broken):
            run.job.usage = end.usage
        if outcome.state is JobState.FAILURE:
            outcome = outcomes.with_limit(outcome, child.limits_hit(), child.counts)
        run.outcome = outcome

    @staticmethod
    def _note_fault(run: Run) -> None:
        logger.exception("a job could not be run", extra={"job_id": str(run.job.id)})
        run.outcome = outcomes.execution_error("internal error; the server's log says more")

    def _release(self, run: Run) -> None:
        """What a run holds while it lasts."""
        job = run.job
        run.family.jobs -= 1
        job.stop = None
        self._deadlines.discard(job)
        self._cpu_watch.discard(job)
        self._tokens.revoke(run.token)

    def _close(self, run: Run) -> None:
        """The run is over: the job has ended, or will run again."""
        job, limits, child, outcome = run.job, run.limits, run.child, run.outcome
        if job.cancellation is not None:
            outcome = outcomes.canceled(job.cancellation)
        elif job.is_overdue:
            outcome = outcomes.timed_out(run.limit_s, is_own_limit=run.is_own_limit)
        elif job.is_over_cpu or self._is_killed_for_cpu(run.end, limits):
            outcome = outcomes.out_of_cpu(limits.cpu_s)
        elif outcome is None:
            outcome = outcomes.judge(Vanished(), run.log, run.runtime.program)
        ended = time.perf_counter()
        job.timing = Timing(max(run.started - job.submitted_s, 0.0), run.given - run.started, ended - run.given)
        try:
            if child is not None:  # first: the next job in line may want this process, and is told of its turn below
                self._let_go(run, child)
        finally:
            self._end_job(run, outcome, round((ended - run.started) * 1000))

    def _end_job(self, run: Run, outcome: Outcome, took_ms: int) -> None:
        job, spec = run.job, run.job.spec
        if (pause_ms := _pause_ms(job, outcome)) is not None and not self._table.is_stopping:
            self._table.retry(job, pause_ms)
            return
        job.is_dead = outcome.state is JobState.FAILURE and spec.retry is not None and job.is_stored
        self._table.finish(job, outcome, took_ms)
        if run.cache_key is not None and spec.cache_ttl_s and job.delete_after_s is None:
            self._cache.keep(run.cache_key, outcome, spec.cache_ttl_s, now_ms())

    def _limit(self, spec: JobSpec) -> tuple[float, bool]:
        own, instance = spec.timeout_s, self._settings.job_timeout_s
        if own is not None and 0 < own < instance:
            return own, True
        return instance, False

    def _name_of_log_limit(self, spec: JobSpec) -> str:
        is_own = spec.limits is not None and spec.limits.log_bytes is not None
        return "limits.log_bytes of the script" if is_own else "max_log_bytes"

    @staticmethod
    def _is_killed_for_cpu(end: Report | Vanished | Broken | None, limits: JobLimits) -> bool:
        """Whether the kernel was faster than the look at the job's time."""
        if not (limits.cpu_s and isinstance(end, Vanished) and end.signal in (signal.SIGKILL, signal.SIGXCPU)):
            return False
        return end.usage is not None and end.usage.cpu_ms >= 1000 * limits.cpu_s

    async def _wait_for_child(self, job: Job, pool: ChildPool) -> Child | None:
        """None if the job was stopped meanwhile."""
        with trio.CancelScope() as scope:
            job.stop = scope.cancel
            return await pool.take()
        return None

    def _conversation(self, run: Run, child: Child, arguments: bytes, *, is_reused: bool) -> tuple[bytes, Exchange]:
        """The JOB frame that gives the job, with these arguments, to the child, and what takes the answers."""
        job, runtime, limits = run.job, run.runtime, run.limits
        spec = job.spec
        stays = spec.dedicated and spec.shared is None and runtime.reusable
        lasting = self._headers.lasting(spec, stays=stays, limits=limits.header, api_url=run.family.zygote.api_url)
        key = version_key(spec)
        if child.given == lasting:
            header, source, compiled, imported = self._headers.changing(spec, stays=stays), b"", b"", b""
        else:
            header, source, compiled = lasting, spec.source, self._find_compiled(run, key)
            imported = self._imported.bundle(spec) if runtime.imports_scripts else b""
        header = wire.add_variables(header, changing_variables(job, token=run.token))
        number = self._entropy.take(8)
        exchange = Exchange(
            number,
            max_payload=limits.result_bytes,
            on_log=lambda data: self._take_output(job, data),
            on_code=self._on_code(run, key, source, compiled, is_reused=is_reused),
            on_arguments=(lambda text, mask: _replace_arguments(job, text, mask)) if spec.preprocess else None,
        )
        child.given = lasting if stays else None
        packed = wire.pack_job(header, source, compiled, arguments, number, mask=spec.mask, imported=imported)
        return packed, exchange

    def _on_code(
        self, run: Run, key: str, source: bytes, compiled: bytes, *, is_reused: bool
    ) -> Callable[[bytes], None] | None:
        """What becomes of the compiled script that a process sends; None if it has nothing to compile."""
        if compiled or not source:
            return None
        # A process that has had a job before may compile again what it could not load then, but it ran code of the job:
        # what it sends is not for others.
        return (lambda code: None) if is_reused else lambda code: self._keep_compiled(run, key, code)

    def _contextual(self, job: Job, token: str, api_url: str) -> Mapping[str, str]:
        return self._headers.contextual(job, token=token, api_url=api_url)

    def _take_output(self, job: Job, data: bytes) -> bool:
        """A piece of what the job writes. False if it may not write so much."""
        assert job.log is not None  # noqa: S101 - made by _run
        fits = job.log.write(data)
        self._table.watchers.tell(job.id)
        return fits

    def _let_go(self, run: Run, child: Child) -> None:
        """After the job: a healthy child of a dedicated script waits for its next job, for its time; any other is ended."""
        job, end = run.job, run.end
        is_healthy = isinstance(end, Report) and end.kind in (wire.RESULT, wire.ERROR)
        # Stopped in the turn of the loop in which its report came: the process was killed all the same.
        # After an error it may not even have loaded its script.
        if not (isinstance(end, Report) and end.kind == wire.RESULT):
            child.given = None
        stays = job.spec.dedicated and job.spec.shared is None and run.runtime.reusable
        if is_healthy and not job.is_stopped and stays:
            child.stay()
            if self._reuse.give_back(version_key(job.spec), child):
                return
        self._used.append((child, run.pool))
        # As long as nothing else goes on, few are missing, and the next step finds a process.
        self._more_follow = (
            bool(job.spec.step_id)
            and self._table.is_only_one_running
            and run.pool.ready_count > 0
            and run.pool.missing_count <= _MAX_MISSING
        )
        self._sweep.set()

    def _find_compiled(self, run: Run, key: str) -> bytes:
        """What is known of a compiled script; b"" for nothing."""
        spec = run.job.spec
        code = self._compiled.find(key)
        if not code and run.runtime.builds and spec.script_hash is not None:
            code = self._built.find(spec)
            if code:
                self._compiled.keep(key, code)
        return code

    def _keep_compiled(self, run: Run, key: str, code: bytes) -> None:
        spec = run.job.spec
        if spec.script_hash is None or not self._compiled.keep(key, code) or not run.runtime.builds:
            return
        if self._ends is not None:
            self._ends.start_soon(self._keep_built, spec, code)

    async def _keep_built(self, spec: JobSpec, code: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._built.keep, spec, code, limiter=self._builder)
        except RuntimeError as error:  # the machine has no room for another thread
            logger.warning("a built program is not kept: %s", error)


def _is_large(end: Report | Vanished | Broken) -> bool:
    return isinstance(end, Report) and len(end.payload) > LARGE_BYTES


def _tell(on_end: Callable[[], None], job: Job) -> None:
    """Whatever becomes of one who waited, the others wait on."""
    try:
        on_end()
    except Exception:
        logger.exception("the end of a job could not be told", extra={"job_id": str(job.id)})


def _pause_ms(job: Job, outcome: Outcome) -> int | None:
    """How long to wait before the job runs again, by its policy; None if it has ended.

    A run that has streamed a part of its result is not repeated: whoever follows it would see that part twice.
    """
    retry = job.spec.retry
    if retry is None or outcome.state is not JobState.FAILURE or (job.log is not None and job.log.chunks.ends):
        return None
    return retry.pause_ms(job.failures, outcomes.error_name(outcome), random.random)


def _replace_arguments(job: Job, text: bytes, mask: bytes) -> None:
    """The preprocessor has made the arguments of ``main``. A process may send anything: what is no object is not kept."""
    try:
        if not isinstance(orjson.loads(text), dict):
            return
        orjson.loads(mask or b"null")
    except orjson.JSONDecodeError:
        return
    job.spec.arguments, job.spec.mask, job.is_preprocessed = text, mask, True


def version_key(spec: JobSpec) -> str:
    """Identifies the code of a job: its workspace and script version. Previews have none that is kept."""
    return f"{spec.workspace}/{spec.script_hash}"
