"""The job table: every job that has not ended, and ended ones until their rows are on disk. The only place that changes
the state of a job.

Sync jobs live here alone until they end; async jobs have a row before their id is answered (:meth:`JobTable.submit`).
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

import trio

from minwebhook.errors import BadRequest, Unavailable
from minwebhook.http.deadlines import DeadlineQueue
from minwebhook.jobs import folding, outcomes
from minwebhook.jobs.idempotency import IdempotencyKey
from minwebhook.jobs.ids import IdMaker
from minwebhook.jobs.model import (
    ENDING_EVENT,
    Cancellation,
    Concurrency,
    Job,
    JobEvent,
    JobSpec,
    JobState,
    Outcome,
    next_state,
)
from minwebhook.jobs.pressure import Pressure, QueueLimits
from minwebhook.jobs.queue import JobQueue
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.turns import Turn
from minwebhook.jobs.watch import Watchers
from minwebhook.observability.figures import JobFigures
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: Results of sync jobs are nobody's promise: their rows are written together, at most this late.
_SAVE_DELAY_S = 0.05
_SAVE_RETRY_S = 1.0
#: Rows written in one turn of the loop: less than a millisecond, which whoever calls then has to wait.
_SAVE_AT_ONCE = 32
_MAX_CLOCK_SLEEP_S = 30.0

#: Jobs that do not count as running while they wait.
_MAX_ASIDE = 16

#: Why jobs end whose callers are cut off by the end of the server.
SERVER_STOPS = Cancellation("minwebhook", "the server stops")
#: Why jobs end whose callers did not want to wait any longer for their turn.
QUEUE_TOO_LONG = Cancellation("minwebhook", "no worker was free in time")


class Driver(Protocol):
    """Whoever runs the jobs that need no worker."""

    def start(self, job: Job) -> None:
        """The job is running."""

    def ended(self, job: Job) -> bool:
        """A job has ended. True if the driver stores it, and then calls :meth:`JobTable.let_go`."""


class JobTable:
    """Live jobs by id, their queue, and who waits for them."""

    def __init__(
        self,
        store: JobStore,
        *,
        limits: QueueLimits,
        slots: int = sys.maxsize,
        max_sync_wait_s: float = math.inf,
        crash_attempts: int = 3,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """At most ``slots`` jobs run at the same time, and as many as ``limits`` say wait; sync ones for a limited time.

        ``crash_attempts``: how often a run is begun that ended with the server, unless its script says.
        """
        self._store = store
        self._pressure = Pressure(limits)
        self._max_sync_wait_s = max_sync_wait_s
        self._turns = DeadlineQueue(max_sync_wait_s)
        self._crash_attempts = crash_attempts
        self._free_slots = slots
        self._aside = 0
        self._clock = clock
        self._ids = IdMaker()
        self._jobs: dict[UUID, Job] = {}
        #: Those with a parent, by its id.
        self._children: dict[UUID, dict[UUID, Job]] = {}
        #: Flows of an earlier server until they are started, and whether it had begun them.
        self._flows: list[tuple[Job, bool]] = []
        self._queue = JobQueue()
        self._ended: list[Job] = []
        self._done: dict[UUID, trio.Event] = {}
        self._idle_workers = trio.lowlevel.ParkingLot()
        self._for_workers: deque[Job] = deque()
        self._alarm = trio.Event()
        self._alarm_ms = math.inf
        self._saver = trio.Event()
        self._are_enough = trio.Event()
        self._unsynced = trio.Event()
        self._is_stopping = False
        self._nothing_runs = trio.Event()
        self._being_stored: set[UUID] = set()
        #: Runs the jobs that need no worker, and learns of the ends of their steps.
        self.driver: Driver | None = None
        self.watchers = Watchers()
        self.figures = JobFigures()
        self.queued_count = 0
        self.running_count = 0

    # --- submitting -------------------------------------------------------------------------------------------------

    def submit_sync(self, spec: JobSpec, *, job_id: UUID | None = None) -> Job:
        """A job that someone waits for, and runs in the own task when :meth:`turn` says so; on disk when it has ended."""
        if job_id is not None and self._store.exists(job_id):
            raise BadRequest(f"a job with id {job_id} exists already; leave job_id out or send a new one")
        now = self._clock()
        job = self._make(spec, job_id, now, None)
        self._pressure.check(spec, now)
        self._add(job)
        if spec.is_driven:
            job.is_awaited = True
            if spec.concurrency is None:
                self._start_driven(job, now)
            else:
                self._pressure.enter_anyway(spec)
                job.turn = self._new_turn()
                self._enqueue(job, now)
            return job
        if self._free_slots > 0 and self._queue.is_next(job, now):  # nearly always: it need not be put in line first
            self._start(job, now)
            return job
        self._pressure.enter_anyway(spec)
        job.turn = self._new_turn()
        self._enqueue(job, now)
        return job

    def check_room(self, workspace: str, path: str, owner: str, *, waited_s: float = 0.0) -> None:
        """Whether a job of a script may come, asked before its request is read; an empty ``path`` if it is not known yet.

        Raises :class:`Unavailable` and :class:`TooManyRequests`.
        """
        self._pressure.check_share(workspace, path, owner, self._clock(), waited_s=waited_s)

    async def submit(
        self,
        spec: JobSpec,
        *,
        job_id: UUID | None = None,
        scheduled_for_ms: int | None = None,
        key: IdempotencyKey | None = None,
        revives: UUID | None = None,
    ) -> Job:
        """A job whose id may be acknowledged: its row is on disk when this returns.

        So is that of its ``key``, and the dead letter that it ``revives`` is none any more.
        """
        now = self._clock()
        job = self._make(spec, job_id, now, scheduled_for_ms)
        self._pressure.enter(spec, now)
        # Its id is taken from now on; nobody can see, start or cancel it before it is stored.
        self._being_stored.add(job.id)
        try:
            # The row will be written whatever becomes of the caller, so its job must be known here, too.
            await self._store.insert(job, key, revives)
        except BaseException:
            self._pressure.leave(spec)
            raise
        finally:
            self._being_stored.discard(job.id)
        self._add(job)
        self._enqueue(job, self._clock())
        return job

    def restore(
        self,
        job_id: UUID,
        spec: JobSpec,
        created_at_ms: int,
        scheduled_for_ms: int,
        *,
        attempts: int = 0,
        failures: int = 0,
        has_begun: bool = False,
    ) -> Job | None:
        """A job that an earlier run of the server acknowledged and did not end; :meth:`start_restored` follows.

        None if it was begun as often as it may be, and the server died each time. ``has_begun``: a flow that goes on.
        """
        allowed = spec.crash_attempts or self._crash_attempts
        if spec.step_id and not spec.is_driven and not attempts and allowed > 1:
            attempts = 1  # the first run of a step is not noted
        if attempts - failures >= allowed:
            return None
        job = Job(job_id, spec, created_at_ms, scheduled_for_ms, is_stored=True, attempts=attempts, failures=failures)
        self._pressure.enter_anyway(spec)
        self._add(job)
        self.queued_count += 1
        if spec.is_driven:
            self._flows.append((job, has_begun))
        else:
            self._queue.push(job, self._clock())
        return job

    def restore_ended(self, limit: Concurrency, ended_at_ms: int) -> None:
        """A run of an earlier server, whose end still counts for its concurrency key; to be told oldest first."""
        self._queue.count_ended(limit, ended_at_ms, self._clock())

    def new_step(self, spec: JobSpec, job_id: UUID, delay_ms: int) -> Job:
        """A job of a flow, which its driver stores and then has started by :meth:`adopt`."""
        now = self._clock()
        return Job(job_id, spec, now, now + delay_ms, submitted_s=time.perf_counter())

    def ended_step(self, spec: JobSpec, job_id: UUID, outcome: Outcome) -> Job:
        """A job of a flow that has nothing to run; its driver stores it."""
        job = self.new_step(spec, job_id, 0)
        job.state = JobState.RUNNING
        job.state = next_state(job.state, ENDING_EVENT[outcome.state])
        job.outcome, job.duration_ms = outcome, 0
        job.started_at_ms = job.completed_at_ms = job.created_at_ms
        self._jobs[job.id] = job
        self.figures.ended(job.state.value)
        return job

    def adopt(self, jobs: Sequence[Job]) -> None:
        """Jobs of flows that are on disk now: their turn comes."""
        now = self._clock()
        for job in jobs:
            self._pressure.enter_anyway(job.spec)
            self._add(job)
            self._enqueue(job, now)

    def let_go(self, jobs: Sequence[Job]) -> None:
        """Ended jobs that their driver has stored."""
        for job in jobs:
            self._remove(job)
            folding.let_go(job.spec)

    def start_restored(self) -> None:
        """All are restored: the first of them start, flows before their jobs."""
        self._alarm.set()
        now = self._clock()
        flows, self._flows = self._flows, []
        for job, has_begun in flows:
            if has_begun and job.state is JobState.QUEUED:
                self.queued_count -= 1
                self._pressure.leave(job.spec)
                self._queue.begin(job, now)
                self._start_driven(job, now)
        for job, _ in flows:
            if job.state is JobState.QUEUED:
                self.queued_count -= 1
                self._enqueue(job, now)
        self._dispatch(now)

    def new_id(self) -> UUID:
        """An id for a job that is submitted later."""
        return self._ids.make(self._clock())

    def _make(self, spec: JobSpec, job_id: UUID | None, now: int, scheduled_for_ms: int | None) -> Job:
        if self._is_stopping:
            raise Unavailable("the server stops; try again")
        if job_id is None:
            job_id = self._ids.make(now)
        elif job_id in self._jobs or job_id in self._being_stored:
            raise BadRequest(f"a job with id {job_id} exists already; leave job_id out or send a new one")
        scheduled_ms = now if scheduled_for_ms is None else scheduled_for_ms
        return Job(job_id, spec, now, scheduled_ms, submitted_s=time.perf_counter())

    def _add(self, job: Job) -> None:
        self._jobs[job.id] = job
        if job.spec.parent_job is not None:
            self._children.setdefault(job.spec.parent_job, {})[job.id] = job

    def _remove(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        parent = job.spec.parent_job
        if parent is not None and (siblings := self._children.get(parent)) is not None:
            siblings.pop(job.id, None)
            if not siblings:
                del self._children[parent]

    def _enqueue(self, job: Job, now: int) -> None:
        spec = job.spec
        if spec.is_driven and spec.concurrency is None and job.scheduled_for_ms <= now and not self._is_stopping:
            self._pressure.leave(spec)
            self._start_driven(job, now)
            return
        self.queued_count += 1
        self._queue.push(job, now)
        if now < job.scheduled_for_ms < self._alarm_ms:
            self._alarm.set()
        self._dispatch(now)
        if job.is_stored and job.state is JobState.QUEUED:
            job.spec = folding.fold(spec)  # there may be thousands

    def _dispatch(self, now: int) -> None:
        """Starts the jobs whose turn it is: a sync job in the task that waits for it, others in a worker."""
        if self._is_stopping:
            return
        while self._free_slots > 0 and (job := self._queue.pop(now)) is not None:
            self.queued_count -= 1
            self._pressure.leave(job.spec)
            if job.spec.is_driven:
                if job.turn is not None:
                    self._turns.discard(job.turn)
                    job.turn.set()
                self._start_driven(job, now)
                continue
            self._start(job, now)
            if job.turn is not None:
                self._turns.discard(job.turn)
                job.turn.set()
            else:
                self._for_workers.append(job)
                self._idle_workers.unpark()
        if self._queue.release_ms < self._alarm_ms:
            self._alarm.set()

    def _new_turn(self) -> Turn:
        turn = Turn()
        if self._max_sync_wait_s < math.inf:
            self._turns.add(turn)
        return turn

    def _start(self, job: Job, now: int) -> None:
        if job.is_stored:
            job.spec = folding.unfold(job.spec)
        job.state = next_state(job.state, JobEvent.START)
        job.started_at_ms = now
        self.running_count += 1
        self._free_slots -= 1
        self.watchers.tell(job.id)

    def _start_driven(self, job: Job, now: int) -> None:
        """A job that takes no slot: it waits for others most of its time."""
        assert self.driver is not None  # noqa: S101 - whoever submits such jobs has one
        job.state = next_state(job.state, JobEvent.START)
        job.started_at_ms = now
        self.watchers.tell(job.id)
        self.driver.start(job)

    # --- running: for the executor ------------------------------------------------------------------------------------

    async def take(self) -> Job:
        """The next job for a worker, now running. Waits until there is one."""
        while not self._for_workers:
            await self._idle_workers.park()
        return self._for_workers.popleft()

    async def turn(self, job: Job) -> bool:
        """Until it is the turn of a sync job. False if it ended before, cancelled.

        When the caller is cancelled while it waits, the job is cancelled, too. Raises :class:`Unavailable` if it waits for
        too long.
        """
        if job.state is JobState.QUEUED and job.turn is not None:
            try:
                if not job.turn.has_expired:
                    await job.turn.wait()
            except trio.Cancelled:
                if job.stop is not None:  # it was taken in the moment in which it came
                    self.cancel(job, SERVER_STOPS)
                elif not job.state.is_final:
                    self.finish(job, outcomes.canceled(SERVER_STOPS), 0)
                raise
            if job.state is JobState.QUEUED:
                self.cancel(job, QUEUE_TOO_LONG)
                raise Unavailable(
                    f"no worker was free within {self._max_sync_wait_s:g} s (max_sync_wait_s)",
                    retry_after_s=self._pressure.retry_after_s(self._clock()),
                )
        return job.state is JobState.RUNNING

    async def begin(self, job: Job) -> None:
        """A running job is about to be given to a process. If it may not be begun again after a crash, that is on disk now.

        Raises :class:`Unavailable` if it cannot be written.
        """
        self.begin_unstored(job)
        if not job.is_stored:
            return
        if job.attempts - job.failures >= (job.spec.crash_attempts or self._crash_attempts):
            await self._store.note_last_attempt(job)
        elif not (job.spec.step_id and job.attempts == 1):  # a step is stored when it starts: see restore
            self._store.note_attempt(job)

    def begin_unstored(self, job: Job) -> None:
        """The same for a job that is not on disk, of which nothing is written."""
        job.attempts += 1

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a running job waits for something that needs no processor of ours, another one runs in its place.

        Only so many at a time: what they wait for must not draw the whole queue into memory.
        """
        if self._aside >= _MAX_ASIDE:
            yield
            return
        self._aside += 1
        self._free_slots += 1
        self._dispatch(self._clock())
        try:
            yield
        finally:
            self._aside -= 1
            self._free_slots -= 1

    def _free_slot(self, job: Job, now: int) -> None:
        """A job does not run any more; a dispatch follows."""
        self.running_count -= 1
        self._free_slots += 1
        self._queue.end(job, now)
        self._pressure.ended(now)

    def finish(self, job: Job, outcome: Outcome, duration_ms: int) -> None:
        """The job has ended; everyone who waits is told. Closes its log."""
        was_running = job.state is JobState.RUNNING
        job.state = next_state(job.state, ENDING_EVENT[outcome.state])
        if was_running and job.spec.is_driven:  # it had no slot
            if job.spec.concurrency is not None:
                now = self._clock()
                self._queue.end(job, now)
                self._dispatch(now)
        elif was_running:
            now = self._clock()
            self._free_slot(job, now)
            if self.queued_count:
                self._dispatch(now)
        else:
            self.queued_count -= 1
            self._pressure.leave(job.spec)
            if job.turn is not None:
                self._turns.discard(job.turn)
                job.turn.set()
        if job.log is not None:
            job.log.close()
        job.outcome = outcome
        job.completed_at_ms = self._clock()
        job.duration_ms = duration_ms
        self._count(job)
        if (done := self._done.pop(job.id, None)) is not None:
            done.set()
        self.watchers.tell(job.id)
        if self.driver is None or not self.driver.ended(job):
            self._ended.append(job)
            self._saver.set()
            if len(self._ended) >= _SAVE_AT_ONCE:
                self._are_enough.set()
        self._tell_if_nothing_runs()

    def _count(self, job: Job) -> None:
        figures, timing = self.figures, job.timing
        figures.ended(job.state.value)
        if timing is not None:
            if (
                job.submitted_s and not job.failures
            ):  # not of jobs that an earlier run of the server took, or of retries
                figures.queue_s.add(timing.queue_s)
            figures.start_s.add(timing.start_s)
            figures.run_s.add(timing.run_s)

    def requeue(self, job: Job, *, pause_ms: int = 0) -> None:
        """A run that was interrupted by the end of the server, or could not begin, does not count; there will be another."""
        job.attempts = max(job.attempts - 1, 0)
        if pause_ms:
            job.scheduled_for_ms = self._clock() + pause_ms
        self._queue_again(job, JobEvent.REQUEUE)

    def retry(self, job: Job, pause_ms: int) -> None:
        """A run of the job failed, and another one is due after a pause."""
        job.failures += 1
        job.scheduled_for_ms = self._clock() + pause_ms
        job.is_overdue = job.is_over_cpu = False
        self._queue_again(job, JobEvent.RETRY)

    def _queue_again(self, job: Job, event: JobEvent) -> None:
        job.state = next_state(job.state, event)
        job.started_at_ms = None
        if job.is_stored:
            self._store.note_attempt(job)
        else:
            job.turn = Turn()  # one that is to run again has had its turn, and pauses by its policy
        now = self._clock()
        self._free_slot(job, now)
        self._pressure.enter_anyway(job.spec)
        self._enqueue(job, now)  # before the others start: it may go first
        self.watchers.tell(job.id)
        self._tell_if_nothing_runs()

    def stop_starting(self) -> None:
        """Queued jobs stay queued from now on: those on disk run after the next start, sync ones end at once."""
        self._is_stopping = True
        for job in [job for job in self._jobs.values() if job.state is JobState.QUEUED]:
            if job.turn is not None:
                self.finish(job, outcomes.canceled(SERVER_STOPS), 0)
            elif (done := self._done.pop(job.id, None)) is not None:
                done.set()
        for job in [job for job in self._jobs.values() if job.is_awaited and not job.state.is_final]:
            self.cancel(job, SERVER_STOPS)  # flows that somebody waits for: their next steps will not start
        self.watchers.tell_all()
        self._tell_if_nothing_runs()

    async def wait_until_nothing_runs(self) -> None:
        """After :meth:`stop_starting`: until the last running job has ended."""
        await self._nothing_runs.wait()

    def _tell_if_nothing_runs(self) -> None:
        if self._is_stopping and self.running_count == 0:
            self._nothing_runs.set()

    async def run_turns(self) -> None:
        """Ends the waits for a turn that last too long, until cancelled."""
        if self._max_sync_wait_s < math.inf:
            await self._turns.run()

    async def run_clock(self) -> None:
        """Starts jobs that were scheduled for later when they become due."""
        while True:
            self._alarm = trio.Event()
            self._alarm_ms = self._queue.next_due_ms()
            # The clock may be set while this sleeps.
            pause_s = min(max(self._alarm_ms - self._clock(), 0) / 1000, _MAX_CLOCK_SLEEP_S)
            with trio.move_on_after(pause_s):
                await self._alarm.wait()
            now = self._clock()
            self._queue.ripen(now)  # even if none can start: a due job is not what this task waits for
            self._dispatch(now)

    async def run_saver(self) -> None:
        """Writes ended jobs to disk and lets them go. On cancellation it writes what is left."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sync_saved)
                while True:
                    await self._saver.wait()
                    if len(self._ended) < _SAVE_AT_ONCE and not any(job.is_stored for job in self._ended):
                        with trio.move_on_after(_SAVE_DELAY_S):
                            await self._are_enough.wait()
                    await self._save_ended(is_durable=False)
                    self._unsynced.set()
        finally:
            with trio.move_on_after(5, shield=True):
                while self._ended:
                    await self._save_ended()

    async def _sync_saved(self) -> None:
        """Has the disk take what was saved, many at a time, and not in the loop: nobody waits for it."""
        while True:
            await self._unsynced.wait()
            await trio.sleep(_SAVE_DELAY_S)
            self._unsynced = trio.Event()
            try:
                await self._store.sync()
            except Unavailable as error:
                logger.warning("ended jobs wait for the disk: %s", error.detail)
                self._unsynced.set()
                await trio.sleep(_SAVE_RETRY_S)

    async def _save_ended(self, *, is_durable: bool = True) -> None:
        """Writes those that have waited for longest."""
        jobs = self._ended[:_SAVE_AT_ONCE]
        saved = len(jobs)
        try:
            await self._store.save(jobs, is_durable=is_durable)
        except Unavailable:
            saved = 0
        except Exception:  # whatever it is, the others are written, and the server goes on
            saved = await self._save_one_by_one(jobs)
        del self._ended[:saved]
        for job in jobs[:saved]:
            self._remove(job)
            # The queue may hold a cancelled job until its turn would have come; not what it was called with.
            folding.let_go(job.spec)
        if not self._ended:
            self._saver = trio.Event()
        if len(self._ended) < _SAVE_AT_ONCE:
            self._are_enough = trio.Event()
        if saved < len(jobs):
            # The disk is full or the database locked: the results stay in memory and are tried again.
            await trio.sleep(_SAVE_RETRY_S)

    async def _save_one_by_one(self, jobs: list[Job]) -> int:
        """One of them cannot be written: it must not take the others along. How many are dealt with."""
        for number, job in enumerate(jobs):
            try:
                await self._store.save_alone(job)
            except Unavailable:
                return number
        return len(jobs)

    # --- cancelling and looking ---------------------------------------------------------------------------------------

    def cancel(self, job: Job, cancellation: Cancellation) -> bool:
        """Ends a queued job at once, and tells the executor to end a running one. False if it has ended already.

        Live jobs that name it as their parent go with it, and theirs. (By a list and not by recursion: callers choose ids,
        so chains may be long, or rings.)
        """
        if job.state.is_final:
            return False
        waiting = [job]
        while waiting:
            job = waiting.pop()
            if job.state.is_final or job.cancellation is not None:
                continue
            children = self._children.get(job.id, {}).values()
            waiting += [child for child in children if child.spec.workspace == job.spec.workspace]
            job.cancellation = cancellation
            if job.state is JobState.RUNNING:
                if job.stop is not None:
                    job.stop()
            else:
                self.finish(job, outcomes.canceled(cancellation), 0)
        return True

    async def wait(self, job: Job) -> None:
        """Until the job has an answer, or will not start any more because the server stops."""
        if job.answer is None and not (self._is_stopping and job.state is JobState.QUEUED):
            done = self._done.get(job.id)
            if done is None:
                done = self._done[job.id] = trio.Event()
            await done.wait()

    def answer_early(self, job: Job, outcome: Outcome) -> None:
        """Whoever waits for the job gets this; it goes on."""
        if job.early is None and not job.state.is_final:
            job.early = outcome
            self.watchers.tell(job.id)
            if (done := self._done.pop(job.id, None)) is not None:
                done.set()

    def get(self, job_id: UUID) -> Job | None:
        """The live job, or one that has just ended."""
        return self._jobs.get(job_id)

    def due_count(self) -> int:
        """Jobs of all workspaces that run or could: not those that are scheduled for later."""
        return self.running_count + self.queued_count - self._queue.later_count(self._clock())

    @property
    def unsaved_count(self) -> int:
        """Ended jobs whose rows are not on disk yet."""
        return len(self._ended)

    def oldest_due_ms(self) -> int | None:
        """Since when the job waits that is due for longest; None if none is. Looks at the jobs in front of it."""
        now = self._clock()
        for job in self._jobs.values():  # about in the order in which they were made
            if job.state is JobState.QUEUED and job.scheduled_for_ms <= now:
                return max(job.created_at_ms, job.scheduled_for_ms)
        return None

    @property
    def is_stopping(self) -> bool:
        """Whether jobs that are queued stay queued, because the server stops."""
        return self._is_stopping

    @property
    def is_only_one_running(self) -> bool:
        """Whether one job runs and none waits: the loop has nothing better to do than to look for its answer."""
        return self.running_count == 1 and not self.queued_count

    def live(self, workspace: str | None) -> Iterator[Job]:
        """Jobs of a workspace (None: of all) that are in the table, about in the order in which they were made."""
        return (job for job in self._jobs.values() if workspace is None or job.spec.workspace == workspace)
