"""A level of a flow that runs: its job, its engine, and what is to be written and done next; and how ends of jobs are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from minwebhook.flows.engine import Engine
from minwebhook.flows.events import Canceled, ChildEnded, Event, Timing
from minwebhook.flows.status import NO_LIST, FlowStatus
from minwebhook.jobs import outcomes
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.table import JobTable

#: Levels inside each other, over all flows that run each other: one that runs itself comes to an end.
MAX_LEVELS: Final = 100


class LiveFlow:
    """A level that runs."""

    __slots__ = (
        "_table",
        "_tell",
        "cache_key",
        "effects",
        "ended",
        "engine",
        "events",
        "is_ready",
        "is_restored",
        "items",
        "job",
        "leaves_rows",
        "new",
        "parent",
        "wiped_steps",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        engine: Engine,
        parent: LiveFlow | None,
        table: JobTable,
        tell: Callable[[LiveFlow, Event], None],
    ) -> None:
        """``tell`` has an event told to its engine."""
        self.job = job
        self.engine = engine
        self.parent = parent
        self._table = table
        self._tell = tell
        #: What its engine has not been told yet.
        self.events: list[Event] = []
        self.is_ready = False
        #: For the next write: jobs that start, jobs that have ended.
        self.new: list[Job] = NO_LIST
        self.ended: list[Job] = NO_LIST
        #: What is done after it.
        self.effects: list[Callable[[], None]] = NO_LIST
        #: Its steps of which nothing is to be left.
        self.wiped_steps: frozenset[str] = frozenset()
        #: What equal runs are found by; b"" if its result is not kept.
        self.cache_key = b""
        #: The items of its loop, as they are on disk.
        self.items: list[bytes] = engine.items
        #: See :class:`~minwebhook.jobs.model.Flow`.
        self.leaves_rows = False
        #: Its arguments are not those on disk.
        self.is_restored = False

    def add_new(self, job: Job) -> None:
        """A job of it starts after the next write."""
        self.new = self.new or []
        self.new.append(job)

    def add_ended(self, job: Job) -> None:
        """A job of it has ended, which the next write tells."""
        self.ended = self.ended or []
        self.ended.append(job)

    def stop(self) -> None:
        """See :class:`~minwebhook.jobs.model.Job`."""
        if self.job.cancellation is not None:
            self._tell(self, Canceled(outcomes.canceled(self.job.cancellation).result))

    @property
    def outer(self) -> LiveFlow | None:
        """The level around it."""
        return self.parent

    @property
    def is_deepest(self) -> bool:
        """Whether as many levels as may be are around it, so that no flow must run in it."""
        level, count = self.parent, 1
        while level is not None:
            level, count = level.parent, count + 1
        return count >= MAX_LEVELS

    @property
    def shared(self) -> UUID | None:
        """The flow whose steps share a directory, if it is this one or has this level."""
        if not self.engine.level.same_worker:
            return None
        return self.job.id if self.job.spec.part is None or self.parent is None else self.parent.shared

    def take_ended(self) -> list[Job]:
        """What has ended, for a write."""
        ended, self.ended = self.ended, NO_LIST
        return ended

    def take_what_follows(self) -> tuple[list[Job], list[Callable[[], None]]]:
        """Jobs that start after a write that has this flow in it, and what is done then."""
        new, effects = self.new, self.effects
        self.new, self.effects = NO_LIST, NO_LIST
        return new, effects

    @property
    def started_at_ms(self) -> int:
        """When it began."""
        return self.job.started_at_ms or self.job.created_at_ms

    @property
    def scheduled_for_ms(self) -> int:
        """When it was due."""
        return self.job.scheduled_for_ms

    @property
    def flow_id(self) -> UUID:
        """The id of its job."""
        return self.job.id

    def status_text(self) -> bytes:
        """See :class:`~minwebhook.jobs.model.Flow`."""
        return self.engine.status.to_json(beside=not self.job.state.is_final)

    @property
    def stream_job(self) -> UUID | None:
        """See :class:`~minwebhook.jobs.model.Flow`."""
        return self.engine.status.stream_job

    def shown_status(self) -> bytes:
        """See :class:`~minwebhook.jobs.model.Flow`."""
        running: dict[UUID, int | None] = {}
        for job_id in self.engine.open_jobs():
            job = self._table.get(job_id)
            if job is not None and job.state is not JobState.QUEUED:
                running[job_id] = job.percent
        return self.engine.status.to_json(running)


def ended_now(job: Job, own: LiveFlow | None) -> ChildEnded:
    """What an engine is told of a job that has just ended; ``own`` is its level, if it is one."""
    outcome, timing = job.outcome, job.timing
    assert outcome is not None  # noqa: S101 - it has ended
    if timing is not None:
        times = Timing(
            job.started_at_ms or 0, round(1000 * timing.queue_s, 3), round(1000 * timing.start_s, 3),
            round(1000 * timing.run_s, 3),
        )  # fmt: skip
    else:
        times = Timing(job.started_at_ms or job.created_at_ms, run_ms=job.duration_ms or 0)
    status = own.engine.status if own is not None else None
    return ChildEnded(
        job.id,
        outcome.is_success,
        outcome.result,
        times,
        stopped=status is not None and status.stopped,
        skipped=status is not None and status.skipped,
        handled=status is not None and status.handled,
    )


def ended_before(record: JobRecord) -> ChildEnded:
    """The same of one that ended before the server started."""
    status = FlowStatus.parse(record.flow_status) if record.flow_status is not None else None
    return ChildEnded(
        record.id,
        record.is_success,
        record.result or b"null",
        Timing(record.started_at_ms or record.created_at_ms, run_ms=record.duration_ms or 0),
        stopped=status is not None and status.stopped,
        skipped=status is not None and status.skipped,
        handled=status is not None and status.handled,
    )


def last_words(flow: LiveFlow, outcome: Outcome) -> str:
    """The log of a flow."""
    status, job_id = flow.engine.status, flow.job.id
    if status.stopped:
        return f"job {job_id}: flow stopped early, because a predicate says so\n"
    if status.handled:
        return (
            f"job {job_id}: flow failed, its error handler was triggered (recover: {str(outcome.is_success).lower()})\n"
        )
    return f"job {job_id}: flow completed with {'success' if outcome.is_success else 'error'}\n"
