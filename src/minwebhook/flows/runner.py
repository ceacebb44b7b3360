"""Drives flows: gives their engines what happens, does what they want, and has it on disk before it is done.

::

    a job of a flow ends ──► its flow is ready ──► its engine says what is next ──► one write: the ends, the new status,
                                                                                     the new jobs ──► the new jobs start

All flows that are ready share a write, which the database puts into one transaction with whatever else waits. No flow has
a task: one that waits for an approval is its status and nothing more. Whatever moment the server dies in, the status on disk
says which jobs are waited for; those that have ended meanwhile are found by their rows (:meth:`FlowRunner.remember`).
"""

from __future__ import annotations

import heapq
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
import trio

from minwebhook.errors import ApiError, BadRequest, NotFound
from minwebhook.flows.context import context_of
from minwebhook.flows.engine import Engine
from minwebhook.flows.events import (
    Canceled,
    Command,
    Disapproved,
    Evaluate,
    Evaluated,
    EvaluationFailed,
    Event,
    Finish,
    ReplaceArguments,
    Resumed,
    ReturnEarly,
    Run,
    Started,
    StartJob,
    TimedOut,
    WaitForEvents,
)
from minwebhook.flows.expressions import NOT_PLAIN, ExpressionError, is_truthy, resolve
from minwebhook.flows.javascript import Evaluator, LookUp
from minwebhook.flows.level import Level, restarted
from minwebhook.flows.live import MAX_LEVELS, LiveFlow, ended_before, ended_now, last_words
from minwebhook.flows.model import FlowValue
from minwebhook.flows.parsed import Parsed
from minwebhook.flows.reading import read_value
from minwebhook.flows.specs import STEP_IMPORTS, StepSpecs, flow_limit, sent_flow_limit
from minwebhook.flows.status import FlowStatus
from minwebhook.flows.store import FlowStore
from minwebhook.flows.writing import DISK_PAUSE_S, Part, write
from minwebhook.jobs import outcomes
from minwebhook.jobs.cache import ResultCache, cache_key
from minwebhook.jobs.flow_step import FlowStep
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import (
    FLOW,
    FLOW_PREVIEW,
    IDENTITY,
    Cancellation,
    Concurrency,
    Job,
    JobSpec,
    JobState,
    Outcome,
)
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.restoring import MAX_ENDED
from minwebhook.jobs.shared import SharedDirectories
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: Flows that share a write: the loop is not held for longer than some ten milliseconds.
_MAX_TOGETHER: Final = 64
#: Events of one flow that are dealt with before what it came to is written.
_MAX_EVENTS: Final = 64
#: How long flows hold the loop before others get their turn.
_TURN_S: Final = 0.01
_LOG_BYTES: Final = 64 * 1024

#: What is left of the request that a preprocessor was given.
_DISCARDED: Final = b'{"reason":"PREPROCESSOR_ARGS_ARE_DISCARDED"}'

_FLOW_FAILED: Final = Cancellation("minwebhook", "its flow has failed")


class Messages(Protocol):
    """The messages for a job of a flow, as they came."""

    def __call__(self, flow: Job, job_id: UUID, *, is_over: bool = False) -> Sequence[Resumed | Disapproved]:
        """Those that came before it waits; ``is_over``: those that came until it did not wait any more."""


def _no_messages(flow: Job, job_id: UUID, *, is_over: bool = False) -> Sequence[Resumed | Disapproved]:
    return ()


class FlowRunner:
    """All flows that run."""

    def __init__(
        self,
        table: JobTable,
        store: JobStore,
        flows: FlowStore,
        specs: StepSpecs,
        evaluator: Evaluator,
        cache: ResultCache,
        *,
        look_up: Callable[[Job], LookUp],
        messages: Messages = _no_messages,
        shared: SharedDirectories,
        max_result_bytes: int,
    ) -> None:
        """``look_up`` gives what ``variable`` and the like find for the expressions of a flow."""
        self._table = table
        self._store = store
        self._flows = flows
        self._specs = specs
        self._evaluator = evaluator
        self._cache = cache
        self._look_up = look_up
        self._messages = messages
        self._shared = shared
        self._max_result_bytes = max_result_bytes
        self._parsed = Parsed()
        self._live: dict[UUID, LiveFlow] = {}
        self._stored: dict[UUID, JobRecord] = {}
        #: Flows that have ended, and whose steps have shared a directory, until that is on disk.
        self._sharing: set[UUID] = set()
        self._ready: deque[LiveFlow] = deque()
        #: Outermost flows that have ended, for the next write.
        self._ended: list[Job] = []
        #: Flows that have ended and whose steps are wiped then, and which.
        self._wiped: list[tuple[UUID, frozenset[str]]] = []
        self._wake = trio.Event()
        #: (time, a number, flow job, whether it is the timeout of the flow and not of a wait for approvals).
        self._timers: list[tuple[int, int, UUID, bool]] = []
        self._timer_count = 0
        self._alarm = trio.Event()
        self._nursery: trio.Nursery | None = None

    # --- for the job table ----------------------------------------------------------------------------------------------

    def start(self, job: Job) -> None:
        """A flow job, or one that runs nothing, is running now."""
        if job.spec.kind == IDENTITY:
            state = JobState.SUCCESS if job.spec.source[:1] == b"1" else JobState.FAILURE
            self._table.finish(job, Outcome(state, job.spec.source[1:]), 0)
            return
        known = self._cache.find(cache_key(job.spec), now_ms()) if job.spec.cache_ttl_s else None
        if known is not None:
            self._table.finish(job, known, 0)
            return
        try:
            self._open(job)
        except ApiError as error:  # its definition is gone
            self._table.finish(job, outcomes.execution_error(error.text), 0)
        except Exception:
            logger.exception("a flow could not begin", extra={"job_id": str(job.id)})
            self._table.finish(job, outcomes.execution_error("internal error; the server's log says more"), 0)

    def ended(self, job: Job) -> bool:
        """A job has ended: if it is of a flow, that goes on, and stores it."""
        spec = job.spec
        own = self._live.pop(job.id, None) if spec.is_driven else None
        if own is not None and own.shared == job.id:
            self._sharing.add(job.id)
        parent = self._live.get(spec.parent_job) if spec.step_id and spec.parent_job is not None else None
        if parent is not None:
            if parent.engine.status.step < 0:
                spec.arguments, spec.mask = _DISCARDED, b""
            parent.add_ended(job)
            self._tell(parent, ended_now(job, own))
        elif own is not None or spec.is_driven:
            self._ended.append(job)
            self._wake.set()
        else:
            return False
        return True

    def sweep(self) -> None:
        """All of an earlier run of the server are remembered: what it left of others goes."""
        self._shared.sweep(self._stored.keys())

    def remember(self, record: JobRecord, spec: JobSpec) -> bool:
        """A flow of an earlier run of the server, before its job starts; whether it had begun."""
        if spec.kind == IDENTITY:
            return False
        self._stored[record.id] = record
        if spec.part is None:
            spec.concurrency = self._limit(spec)
        return record.flow_status is not None

    def _limit(self, spec: JobSpec) -> Concurrency | None:
        if spec.kind == FLOW:
            version = self._flows.version(spec.workspace, spec.script_hash or 0)
            return None if version is None else flow_limit(version.flow, spec.workspace, spec.path, spec.arguments)
        try:
            value = read_value(orjson.loads(spec.source))
        except ApiError:  # it fails when it begins
            return None
        return sent_flow_limit(value, spec.workspace, spec.permissioned_as, spec.path, spec.arguments)

    def ended_runs(self, now_ms: int) -> list[tuple[int, Concurrency]]:
        """When runs ended that still count within the window of their concurrency key."""
        ended = list[tuple[int, Concurrency]]()
        for version in self._flows.windows():
            limit = version.flow.concurrency
            since_ms = now_ms - (0 if limit is None else limit.window_ms)
            for _, arguments, at_ms in self._store.ended_runs(
                FLOW, version.workspace_id, [version.id], since_ms, MAX_ENDED
            ):
                found = flow_limit(version.flow, version.workspace_id, version.path, arguments)
                if found is not None:
                    ended.append((at_ms, found))
        return ended

    # --- for approvals --------------------------------------------------------------------------------------------------

    def tell(self, flow_id: UUID, message: Resumed | Disapproved) -> bool:
        """A message for what a flow waits for, which is on disk already. False if no such flow runs."""
        flow = self._live.get(flow_id)
        if flow is not None:
            self._tell(flow, message)
        return flow is not None

    def find(self, flow_id: UUID) -> LiveFlow | None:
        """A level that runs."""
        return self._live.get(flow_id)

    # --- the loop -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. What is on disk then goes on with the next start."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._run_timers)
                await self._run()
        finally:
            # The ends of jobs that no flow has made anything of: the next start does.
            ended = [job for flow in self._live.values() for job in flow.ended]
            with trio.move_on_after(5, shield=True):
                await write(self._store, [Part(FlowStep(ended=ended + self._ended))], on_broken=self._fail)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            touched: dict[UUID, LiveFlow] = {}
            deadline = time.perf_counter() + _TURN_S
            for _ in range(min(len(self._ready), _MAX_TOGETHER)):  # not those that come back meanwhile
                if touched and time.perf_counter() > deadline:
                    break
                flow = self._ready.popleft()
                flow.is_ready = False
                touched[flow.job.id] = flow
                self._advance(flow)
            if any(flow.job.is_awaited and flow.job.state.is_final for flow in touched.values()):
                await trio.lowlevel.checkpoint()  # its answer is sent before the loop waits for the disk
            if not self._ready:
                self._wake = trio.Event()
            await self._write(touched.values())
            if self._ended:
                self._wake.set()

    def _tell(self, flow: LiveFlow, event: Event) -> None:
        flow.events.append(event)
        if not flow.is_ready:
            flow.is_ready = True
            self._ready.append(flow)
            self._wake.set()

    def _advance(self, flow: LiveFlow) -> None:
        if flow.job.state.is_final:  # it failed, whatever it waited for
            flow.events.clear()
            return
        done = 0
        deadline = time.perf_counter() + _TURN_S
        for told in flow.events:  # there may come more meanwhile
            if done and (done >= _MAX_EVENTS or time.perf_counter() > deadline):
                break  # a loop whose iterations end in the moment in which they begin: others get their turn
            done += 1
            event = told
            if isinstance(told, Started) and flow.job.cancellation is not None:
                # What it would start would have to be cancelled again, and would have started more by then.
                event = Canceled(outcomes.canceled(flow.job.cancellation).result)
            try:
                commands = flow.engine.advance(event)
                for command in commands:
                    self._do(flow, command)
            except Exception:
                logger.exception("a flow could not go on", extra={"job_id": str(flow.job.id)})
                self._fail(flow)
        del flow.events[:done]
        if flow.events and not flow.is_ready:
            flow.is_ready = True
            self._ready.append(flow)
        if flow.engine.suspended is None:
            flow.job.suspend_until_ms = None
        self._table.watchers.tell(flow.job.id)

    def _do(self, flow: LiveFlow, command: Command) -> None:
        match command:
            case Evaluate():
                self._evaluate(flow, command)
            case StartJob():
                self._make_job(flow, command)
            case Finish():
                self._finish(flow, command)
            case WaitForEvents():
                self._suspend(flow, command)
            case ReplaceArguments():
                flow.job.spec.arguments, flow.job.is_preprocessed, flow.is_restored = command.arguments, True, True
            case ReturnEarly():
                state = JobState.SUCCESS if command.is_success else JobState.FAILURE
                self._table.answer_early(flow.job, Outcome(state, command.result))

    def _make_job(self, flow: LiveFlow, command: StartJob) -> None:
        delay_ms = round(1000 * min(command.delay_s, 10**10))
        try:
            if command.run is Run.FLOW and flow.is_deepest:
                raise BadRequest(
                    f"flows run each other more than {MAX_LEVELS} levels deep: does one of them run itself?"
                )
            spec = self._specs.make(flow.job.spec, flow.job.id, command, shared=flow.shared)
        except ApiError as error:
            failed = outcomes.execution_error(error.text)
            command = StartJob(
                command.job, Run.NOTHING, command.module, command.arguments, path=command.path, delay_s=command.delay_s,
                result=failed.result, is_success=False, loop=command.loop,
            )  # fmt: skip
            spec = self._specs.make(flow.job.spec, flow.job.id, command, shared=flow.shared)
        if command.run is Run.NOTHING and not delay_ms:
            state = JobState.SUCCESS if command.is_success else JobState.FAILURE
            job = self._table.ended_step(spec, command.job, Outcome(state, command.result))
            flow.add_ended(job)
            flow.events.append(ended_now(job, None))
            return
        flow.add_new(self._table.new_step(spec, command.job, delay_ms))

    def _finish(self, flow: LiveFlow, command: Finish) -> None:
        job, status = flow.job, flow.engine.status
        job.is_skipped = status.skipped
        if command.is_canceled and job.is_overdue:
            outcome = outcomes.timed_out(job.spec.timeout_s or 0, is_own_limit=True)
        elif command.is_canceled and job.cancellation is not None:
            outcome = outcomes.canceled(job.cancellation)
        else:
            labels = outcomes.labels_of(command.result) if command.is_success else ()
            state = JobState.SUCCESS if command.is_success else JobState.FAILURE
            outcome = Outcome(state, command.result, labels)
        self._parsed.forget(flow.engine.arguments)
        job.log = JobLog("", _LOG_BYTES)
        job.log.write(last_words(flow, outcome).encode())
        job.stop = None
        if flow.wiped_steps:
            self._wiped.append((job.id, flow.wiped_steps))
        if job.spec.cache_ttl_s and flow.cache_key:
            self._cache.keep(flow.cache_key, outcome, job.spec.cache_ttl_s, now_ms())
        self._table.finish(job, outcome, now_ms() - flow.started_at_ms)

    # --- writing --------------------------------------------------------------------------------------------------------

    async def _write(self, flows: Iterable[LiveFlow]) -> None:
        """What the flows have come to, and then what follows from it."""
        parts = [Part(FlowStep(ended=self._ended, wiped=self._wiped))]
        self._ended, self._wiped = [], []
        for flow in flows:
            if flow.engine.is_evaluating and not flow.job.state.is_final:
                continue  # what is on disk is a state in which something is waited for
            part = Part(FlowStep(ended=flow.take_ended()))
            parts.append(part)
            if not flow.job.state.is_final:
                self._put(flow, part.step)
                part.flow, (part.new, part.effects) = flow, flow.take_what_follows()
        await write(self._store, parts, on_broken=self._fail)
        for part in parts:
            self._table.let_go(part.step.ended)
            for job in part.step.ended:
                if job.id in self._sharing and self._nursery is not None:
                    self._sharing.discard(job.id)
                    self._nursery.start_soon(self._shared.forget, job.id)
        for part in parts:
            if part.flow is not None:
                self._follow(part.flow, part.new, part.effects)

    def _follow(self, flow: LiveFlow, new: Sequence[Job], effects: Iterable[Callable[[], None]]) -> None:
        """What the flow wants is on disk: it happens."""
        self._table.adopt(new)
        if flow.job.cancellation is not None:
            for job in new:
                self._table.cancel(job, flow.job.cancellation)
        for effect in effects:
            try:
                effect()
            except Exception as error:  # the database cannot be read now
                logger.warning("a flow waits for the disk: %s", error, extra={"job_id": str(flow.job.id)})
                assert self._nursery is not None  # noqa: S101 - this is called by run
                self._nursery.start_soon(self._repeat, flow, effect)

    async def _repeat(self, flow: LiveFlow, effect: Callable[[], None]) -> None:
        """Until it succeeds, or there is no need for it any more."""
        while not flow.job.state.is_final:
            await trio.sleep(DISK_PAUSE_S)
            try:
                effect()
                return
            except Exception as error:
                logger.warning("a flow still waits for the disk: %s", error, extra={"job_id": str(flow.job.id)})

    def _put(self, flow: LiveFlow, step: FlowStep) -> None:
        if not flow.job.is_stored:
            step.new.append(flow.job)
        elif flow.is_restored:
            step.changed.append(flow.job)
            flow.is_restored = False
        else:
            step.moved.append(flow.job)
        step.new += flow.new
        if flow.engine.items is not flow.items:
            flow.items = flow.engine.items
            flow.leaves_rows = True
            step.items.append((flow.job, b"[" + b",".join(flow.items) + b"]"))
        if changed := flow.engine.take_changed():
            flow.leaves_rows = True
            step.iterations.append((flow.job, changed))

    def _fail(self, flow: LiveFlow) -> None:
        """A fault of the server ends the flow, and what it has started."""
        if flow.job.state.is_final:
            return
        started = flow.engine.open_jobs()
        text = "internal error; the server's log says more"
        self._finish(flow, Finish(False, outcomes.execution_error(text).result))
        for job_id in started:
            job = self._table.get(job_id)
            if job is not None:
                self._table.cancel(job, _FLOW_FAILED)

    # --- expressions ----------------------------------------------------------------------------------------------------

    def _evaluate(self, flow: LiveFlow, command: Evaluate) -> None:
        """Plain expressions at once, others in a task of their own."""
        context = context_of(flow, command, self._parsed)
        values: dict[str, Any] = {}
        for key, expression in command.expressions.items():
            value = resolve(expression, context)
            if value is NOT_PLAIN:
                assert self._nursery is not None  # noqa: S101 - this is called by run
                self._nursery.start_soon(self._evaluate_slowly, flow, command, context)
                return
            values[key] = is_truthy(value) if command.is_predicate else value
        flow.events.append(Evaluated(values))

    async def _evaluate_slowly(self, flow: LiveFlow, command: Evaluate, context: dict[str, Any]) -> None:
        look_up = self._look_up(flow.job)
        values: dict[str, Any] = {}
        event: Event = Evaluated(values)
        try:
            for key, expression in command.expressions.items():
                values[key] = await self._evaluator.evaluate(
                    expression, context, is_predicate=command.is_predicate, look_up=look_up
                )
        except ExpressionError as error:
            text = f"Error during isolated evaluation of expression `{expression}`: {error.message}"
            event = EvaluationFailed(error.name, text)
        except ApiError as error:
            event = EvaluationFailed("Error", error.text)
        except RecursionError:
            event = EvaluationFailed("RangeError", "a value that the expression mentions is nested too deeply")
        except Exception:
            logger.exception("an expression could not be evaluated", extra={"job_id": str(flow.job.id)})
            event = EvaluationFailed("InternalError", "internal error; the server's log says more")
        if flow.engine.awaits(command):
            self._tell(flow, event)

    # --- time -----------------------------------------------------------------------------------------------------------

    def _suspend(self, flow: LiveFlow, command: WaitForEvents) -> None:
        if flow.job.suspend_until_ms is None:  # else it goes on being suspended after a restart
            flow.job.suspend_until_ms = now_ms() + round(1000 * command.timeout_s)
        until_ms = flow.job.suspend_until_ms

        def wait() -> None:
            waiting = flow.engine.suspended
            if waiting is None or waiting.job != command.job:
                return  # this was tried again, and has come too late
            messages = self._messages(flow.job, command.job)
            self._set_timer(until_ms, flow.job.id, is_flow=False)
            for message in messages:
                self._tell(flow, message)

        flow.effects = [*flow.effects, wait]

    def _set_timer(self, at_ms: int, flow_id: UUID, *, is_flow: bool) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (at_ms, self._timer_count, flow_id, is_flow))
        self._alarm.set()

    async def _run_timers(self) -> None:
        while True:
            self._alarm = trio.Event()
            next_ms = self._timers[0][0] if self._timers else math.inf
            with trio.move_on_after(min(max(next_ms - now_ms(), 0) / 1000, 30)):
                await self._alarm.wait()
            while self._timers and self._timers[0][0] <= now_ms():
                at_ms, _, flow_id, is_flow = heapq.heappop(self._timers)
                flow = self._live.get(flow_id)
                if flow is None:
                    continue
                if not is_flow:
                    if flow.job.suspend_until_ms == at_ms:
                        self._tell(flow, TimedOut())
                elif flow.job.cancellation is None:
                    flow.job.is_overdue = True
                    self._table.cancel(
                        flow.job, Cancellation("timeout", f"duration > {flow.job.spec.timeout_s or 0:g}")
                    )

    # --- beginning ------------------------------------------------------------------------------------------------------

    def _open(self, job: Job) -> LiveFlow:
        """The level of a flow job. Raises :class:`ApiError` if what it runs is gone."""
        known = self._live.get(job.id)
        if known is not None:
            return known
        parent, level, value = self._level(job)
        record = self._stored.pop(job.id, None)
        is_new = record is None or record.flow_status is None
        iterations = {} if is_new else self._store.iterations(job.id)
        if is_new or record is None:
            status = self._new_status(job, level)
        else:
            status = FlowStatus.parse(record.flow_status or b"", iterations)
        engine = Engine(
            job.id, level, status, job.spec.arguments,
            new_id=self._table.new_id, random=random.random, max_result_bytes=self._max_result_bytes,
        )  # fmt: skip
        engine.keep(iterations)
        flow = LiveFlow(job, engine, parent, self._table, self._tell)
        if value is not None:
            flow.wiped_steps = value.wiped_steps
        if job.spec.cache_ttl_s and (record is None or not record.options.is_preprocessed):
            flow.cache_key = cache_key(job.spec)
        self._live[job.id] = flow
        job.flow = flow
        job.stop = flow.stop
        if job.spec.timeout_s:
            started_ms = record.started_at_ms if record is not None else None
            at_ms = (started_ms or now_ms()) + round(1000 * job.spec.timeout_s)
            self._set_timer(at_ms, job.id, is_flow=True)
        if is_new or record is None:
            if status.restarted_from is not None:
                engine.restore(self._store.results(engine.ended_jobs()), [], None)
            self._tell(flow, Started())
        else:
            self._go_on(flow, record)
        return flow

    def _new_status(self, job: Job, level: Level) -> FlowStatus:
        if job.spec.restarted_from is None:
            return level.new_status()
        point = job.spec.restarted_from
        record = self._store.get(job.spec.workspace, point.flow_job)
        if record is None or record.flow_status is None or record.deleted:
            raise NotFound(f"job {point.flow_job}, whose results this one goes on with, is gone")
        return restarted(level, FlowStatus.parse(record.flow_status), point)

    def _level(self, job: Job) -> tuple[LiveFlow | None, Level, FlowValue | None]:
        """The level around it, its own, and the definition if it is a whole flow."""
        spec = job.spec
        parent: LiveFlow | None = None
        if spec.step_id and spec.parent_job is not None:
            outer = self._table.get(spec.parent_job)
            if outer is not None and not outer.state.is_final:
                parent = self._open(outer)  # after a restart it may come later
        if spec.part is not None:
            if parent is None:
                raise NotFound("the flow around this step is gone")
            name, inner, index = spec.part
            level = parent.engine.level
            modules = [*level.modules, *([level.failure_module] if level.failure_module is not None else [])]
            module = next(each for each in modules if each.id == name)
            spec.step_imports, spec.is_sent = parent.job.spec.step_imports, parent.job.spec.is_sent
            return parent, level.inner(module, inner, index), None
        if spec.kind == FLOW:
            version = self._flows.version(spec.workspace, spec.script_hash or 0)
            if version is None:
                raise NotFound("the definition of the flow is gone")
            spec.step_imports, spec.is_sent = version.step_imports, False
            return parent, version.prepared_level if spec.preprocess else version.level, version.flow
        assert spec.kind == FLOW_PREVIEW  # noqa: S101 - there are no other kinds
        source = orjson.loads(spec.source)
        value = read_value(source)
        spec.step_imports, spec.is_sent = source.get(STEP_IMPORTS), True
        return parent, Level.of(value), value

    def _go_on(self, flow: LiveFlow, record: JobRecord) -> None:
        """After a restart: jobs that have ended meanwhile are told, the others will be."""
        engine = flow.engine
        open_jobs = engine.open_jobs()
        ended = {job_id: row for job_id in open_jobs if (row := self._row_if_ended(flow.job, job_id)) is not None}
        items = [orjson.dumps(item) for item in orjson.loads(self._store.flow_items(flow.job.id))]
        first = self._table.get(open_jobs[0]) if len(open_jobs) == 1 else None
        arguments = first.spec.arguments if first is not None else None
        if arguments is None and len(ended) == 1:
            arguments = next(iter(ended.values())).arguments
        engine.restore(self._store.results(engine.ended_jobs()), items, arguments)
        flow.items = engine.items
        flow.leaves_rows = True  # there may be some
        flow.job.suspend_until_ms = record.suspend_until_ms
        flow.job.is_preprocessed = record.options.is_preprocessed
        flow.job.started_at_ms = record.started_at_ms or flow.job.started_at_ms
        if (waited_for := engine.waited_for) is not None:
            engine.hear_again(self._messages(flow.job, waited_for, is_over=True))
        self._complete(flow, open_jobs)
        for command in engine.resume():
            self._do(flow, command)
        for row in ended.values():
            flow.events.append(ended_before(row))
        flow.is_ready = True
        self._ready.append(flow)
        self._wake.set()

    def _complete(self, flow: LiveFlow, open_jobs: Sequence[UUID]) -> None:
        """Jobs that go on know again what their rows do not tell."""
        current = flow.engine.current
        for job_id in open_jobs:
            job = self._table.get(job_id)
            if job is not None and current is not None:
                is_preprocessor = current is flow.engine.level.preprocessor_module
                module = current if job.spec.is_driven else flow.engine.level.only_script(current) or current
                self._specs.restore(
                    flow.job.spec, job.spec, module, is_preprocessor=is_preprocessor, shared=flow.shared
                )

    def _row_if_ended(self, flow: Job, job_id: UUID) -> JobRecord | None:
        if self._table.get(job_id) is not None:
            return None
        record = self._store.get(flow.spec.workspace, job_id)
        return record if record is not None and record.state.is_final else None
