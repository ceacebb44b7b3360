"""What a job is: its states and transitions as one table, what was asked for, and how it ended. Pure.

::

    QUEUED --start--> RUNNING --succeed--> SUCCESS
       |                 |------fail-----> FAILURE
       |---cancel--------|-----cancel----> CANCELED
       ^                 |
       +----requeue------+   (the server stops; the job did not run to its end and is not counted)
       +-----retry-------+   (the run failed, and its policy allows another one)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from minwebhook.auth.scopes import Scopes
from minwebhook.child.wire import Usage
from minwebhook.errors import MinwebhookError
from minwebhook.jobs.log import JobLog
from minwebhook.sandbox.plan import Surroundings
from minwebhook.scripts.limits import Limits
from minwebhook.scripts.retry import RetryPolicy

#: What is left of the arguments and the result of a job that was wiped, and of its log.
WIPED_DATA: Final = b"{}"
WIPED_LOG: Final = "##DELETED##"


#: The kind of jobs that find the lock of a script (upstream's ``job_kind``).
DEPENDENCIES: Final = "dependencies"
#: Of runs of deployed flows, and of flows that came with a request or are a part of another one.
FLOW: Final = "flow"
FLOW_PREVIEW: Final = "flowpreview"
#: Of steps that run nothing: their source is ``1`` or ``0`` (success or failure) and the result.
IDENTITY: Final = "identity"
#: Kinds of jobs that need no worker: whoever drives flows (flows/runner.py) runs them.
DRIVEN_KINDS: Final = frozenset({FLOW, FLOW_PREVIEW, IDENTITY})
#: Kinds of jobs whose code was deployed.
DEPLOYED_KINDS: Final = frozenset({"script", FLOW})


class JobState(enum.Enum):
    """Where a job is. The values of final states are the ``status`` of the database."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"

    __hash__ = object.__hash__  # a state is a key on the way of every job; the hash of Enum's name is slower

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self is not JobState.QUEUED and self is not JobState.RUNNING


class JobEvent(enum.Enum):
    """What happens to a job."""

    __hash__ = object.__hash__

    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    RETRY = "retry"


#: Every legal change. What is not here does not happen: :func:`next_state` raises.
TRANSITIONS: Final[dict[tuple[JobState, JobEvent], JobState]] = {
    (JobState.QUEUED, JobEvent.START): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.CANCEL): JobState.CANCELED,
    (JobState.RUNNING, JobEvent.SUCCEED): JobState.SUCCESS,
    (JobState.RUNNING, JobEvent.FAIL): JobState.FAILURE,
    (JobState.RUNNING, JobEvent.CANCEL): JobState.CANCELED,
    (JobState.RUNNING, JobEvent.REQUEUE): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.RETRY): JobState.QUEUED,
}

#: The event that leads to each way of ending.
ENDING_EVENT: Final = {
    JobState.SUCCESS: JobEvent.SUCCEED,
    JobState.FAILURE: JobEvent.FAIL,
    JobState.CANCELED: JobEvent.CANCEL,
}


class IllegalTransition(MinwebhookError):
    """An event that is not possible in the job's state: a bug of the caller."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """The state after ``event``. Raises :class:`IllegalTransition`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} is not possible in state {state.value}") from None


class RestartPoint(NamedTuple):
    """Where a flow goes on with the results of another job."""

    flow_job: UUID
    #: The step that it begins at; of a loop or of branches, how many iterations or branches are kept.
    step_id: str
    kept: int = 0
    #: The version of the definition that was asked for.
    flow_version: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As upstream shows it."""
        shown: dict[str, Any] = {"flow_job_id": str(self.flow_job), "step_id": self.step_id}
        if self.kept:
            shown["branch_or_iteration_n"] = self.kept
        if self.flow_version is not None:
            shown["flow_version"] = self.flow_version
        return shown

    @classmethod
    def parse(cls, stored: Any) -> RestartPoint:
        """What :meth:`to_json` made; of an earlier server, an array of job and step."""
        if isinstance(stored, list):
            return cls(UUID(stored[0]), stored[1])
        count, version = stored.get("branch_or_iteration_n"), stored.get("flow_version")
        return cls(UUID(stored["flow_job_id"]), stored["step_id"], count or 0, version)


class Concurrency(NamedTuple):
    """At most ``limit`` runs with the same key at a time; those that ended within the last ``window_ms`` count, too."""

    key: str
    limit: int
    window_ms: int = 0


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class JobSpec:
    """What was asked for: the code, its arguments, on whose behalf. Only a preprocessor changes it."""

    workspace: str
    #: ``script``, ``preview`` or ``dependencies`` (upstream's ``job_kind``).
    kind: str
    language: str
    source: bytes
    #: The arguments as the text of a JSON object; those of the request until a preprocessor has replaced them.
    arguments: bytes
    #: What jobs show as their creator: a username, or a token's label.
    created_by: str
    username: str
    email: str
    permissioned_as: str
    path: str = ""
    script_hash: int | None = None
    tag: str = ""
    priority: int | None = None
    #: The script's own limit in seconds; the instance's applies as well.
    timeout_s: float | None = None
    parent_job: UUID | None = None
    root_job: UUID | None = None
    visible_to_owner: bool = True
    #: Whether processes stay for further jobs of this script version.
    dedicated: bool = False
    #: Environment variables of the script's own, ``NAME=value``.
    environment: tuple[str, ...] = ()
    #: Where the arguments hold byte strings (child/values.py), as JSON text; b"" for nowhere.
    mask: bytes = b""
    #: Whether the script's preprocessor makes the arguments of ``main`` out of these.
    preprocess: bool = False
    #: Seconds for which the result may answer further calls with equal arguments.
    cache_ttl_s: int | None = None
    #: What its script says of limits.
    limits: Limits | None = None
    #: The packages it needs; "" for none, None if that has to be found out from its source (jobs/packages.py).
    lock: str | None = ""
    #: The modules it imports from packages.
    modules: tuple[str, ...] = ()
    #: The scripts that code which came with the request imports: path and hash. Deployed versions know theirs.
    imports: tuple[tuple[str, str], ...] = ()
    #: Of a flow: what the scripts within it import, path to hash, by module.
    step_imports: Mapping[str, Mapping[str, str]] | None = None
    #: The fork server it needs; None for the usual one.
    surroundings: Surroundings | None = None
    concurrency: Concurrency | None = None
    #: When failed runs are tried again.
    retry: RetryPolicy | None = None
    #: How often a run is begun that ended with the server; None for the instance's number.
    crash_attempts: int | None = None
    #: Whose turn it takes when jobs wait: whoever's token started it.
    owner: str = ""
    #: The step of the flow that it is a job of, and the path of that flow; "" for none.
    step_id: str = ""
    flow_path: str = ""
    #: Whether its preprocessor is called instead of ``main``, and gives the result.
    is_preprocessor: bool = False
    #: The flow whose steps share a directory with it (jobs/shared.py).
    shared: UUID | None = None
    #: Of a job that is a part of a flow's step: the module, which list of modules in it, and the number of the iteration or
    #: branch.
    part: tuple[str, int, int | None] | None = None
    #: Of a flow that runs, and its steps: whether it came with the request. Whoever drives flows says so (flows/runner.py).
    is_sent: bool = False
    #: Of a flow job that goes on with the results of another one.
    restarted_from: RestartPoint | None = None
    #: What the token is restricted to that the code, or the arguments, came with; None if it is not.
    scopes: Scopes | None = None
    #: Of a job of a deployed flow: the arguments that the flow's author wrote, all others are of whoever started it. None if
    #: the code came with the request, or is a script of its own.
    authored: tuple[str, ...] | None = None
    #: Whether all others have come through a preprocessor: what looks like a reference there is a text.
    verbatim: bool = False
    #: Where the request came from that made it, as JSON text of what the audit log says of it; "" for no request.
    origin: str = ""

    #: What it has in common with others, if it differs from that in its arguments only (jobs/folding.py).
    template: JobSpec | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def is_driven(self) -> bool:
        """Whether it needs no worker."""
        return self.kind in DRIVEN_KINDS

    @property
    def code_scopes(self) -> Scopes | None:
        """What its code is restricted to: what was deployed acts for its user, what was sent for the sender's token."""
        return None if self.kind in DEPLOYED_KINDS or self.authored is not None else self.scopes


_VALUES: Final = attrgetter(*(each.name for each in fields(JobSpec) if each.init))


def copied(spec: JobSpec) -> JobSpec:
    """Another one with the same values; ``dataclasses.replace`` takes ten times as long, and each step of a flow has one."""
    return JobSpec(*_VALUES(spec))


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Who cancelled a job and why."""

    by: str
    reason: str


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class Outcome:
    """How a job ended; never changed once made. ``result`` is JSON text; for failures ``{"error": {...}}``."""

    state: JobState
    result: bytes
    labels: tuple[str, ...] = ()
    #: Set for cancelled jobs, and for timeouts (by ``timeout``).
    cancellation: Cancellation | None = None
    #: Where the result holds byte strings (child/values.py), as JSON text; b"" for nowhere.
    mask: bytes = b""
    #: What ended it, if it was a limit or a signal: ``timeout``, ``cpu``, ``oom``, ``pids``, ``log``, ``result``, ``signal 9``.
    ended_by: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the job succeeded."""
        return self.state is JobState.SUCCESS


class Flow(Protocol):
    """What a flow job shows of its steps."""

    def status_text(self) -> bytes:
        """``flow_status`` as JSON text, as it is to be stored."""

    @property
    def leaves_rows(self) -> bool:
        """Whether more than the row of the job is stored of it until it ends: items of loops, iterations."""

    def shown_status(self) -> bytes:
        """The same, with which of its jobs run in this moment."""

    @property
    def stream_job(self) -> UUID | None:
        """Its last step, once that has begun, if it is a single job: whose chunks are the flow's."""


class Signal(Protocol):
    """Something that happens once and can be waited for (jobs/turns.py)."""

    #: Told first; if it says True, whoever waits goes on waiting.
    on_set: Callable[[], bool] | None
    #: Whether it took too long.
    has_expired: bool

    def set(self) -> None:
        """It happens."""

    def wake(self) -> None:
        """Whoever waits need not wait any more."""

    def expire(self) -> None:
        """It took too long."""

    async def wait(self) -> None:
        """Until it has happened."""


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class Timing:
    """Where the time of a job went, in seconds."""

    #: From its submission until it was its turn.
    queue_s: float
    #: Until a process had it.
    start_s: float
    #: Until its end was known.
    run_s: float


@dataclass(slots=True, eq=False)
class Job:
    """One job that lives in the table. Times are Unix milliseconds. Only ``jobs/table.py`` changes ``state``."""

    id: UUID
    spec: JobSpec
    created_at_ms: int
    scheduled_for_ms: int
    #: Whether a row of it is on disk already, so that it runs again after a crash.
    is_stored: bool = False
    state: JobState = JobState.QUEUED
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    duration_ms: int | None = None
    outcome: Outcome | None = None
    #: Runs that were begun, and how many of them failed and are tried again.
    attempts: int = 0
    failures: int = 0
    #: It failed for good although it was to be tried again: somebody should look.
    is_dead: bool = False
    #: Asked for while it runs; the executor ends it.
    cancellation: Cancellation | None = None
    #: Of a job without a worker: somebody waits for its result.
    is_awaited: bool = False
    #: For sync jobs that had to wait: set when the job starts, or ends while it is queued. Their callers run them.
    turn: Signal | None = None
    #: Ran longer than it may; the executor ends it.
    is_overdue: bool = False
    #: Used more processor time than it may; the executor ends it.
    is_over_cpu: bool = False
    #: What its processes used, once it has ended in one.
    usage: Usage | None = None
    #: Set by the executor while the job runs: ends the run.
    stop: Callable[[], None] | None = None
    log: JobLog | None = None
    #: Whether a preprocessor has made the arguments.
    is_preprocessed: bool = False
    #: Seconds on a clock that only goes forward: when it was submitted.
    submitted_s: float = 0.0
    timing: Timing | None = None
    #: Seconds from its end until it is wiped; 0 = nothing of its data is ever stored, None = it stays.
    delete_after_s: int | None = None
    #: Deleted by an admin, after its end.
    deleted: bool = False
    #: Of a flow job: where it is.
    flow: Flow | None = None
    #: Of a flow job: until when it waits for approvals.
    suspend_until_ms: int | None = None
    #: Of a flow job: the result of the step that answers early, once there is one.
    early: Outcome | None = None
    #: Ended early by a condition of its own, which counts as skipped.
    is_skipped: bool = False
    #: What it says of its own progress, from 0 to 99.
    percent: int | None = None
    #: What readers at the same place have read of it (jobs/subscription.py).
    readings: dict[Any, Any] | None = None
    last_reading: Any = None
    _id_text: str = field(default="", init=False, repr=False)

    @property
    def id_text(self) -> str:
        """Its id as text: each run has several uses for it."""
        if not self._id_text:
            self._id_text = str(self.id)
        return self._id_text

    @property
    def answer(self) -> Outcome | None:
        """What whoever waits for it gets, once it is known."""
        return self.early or self.outcome

    @property
    def is_stopped(self) -> bool:
        """Whether somebody or a limit has ended its run from outside."""
        return self.cancellation is not None or self.is_overdue or self.is_over_cpu

    @property
    def is_wiped(self) -> bool:
        """Whether nobody may see its arguments, result and log any more. Its outcome is for the one who waited for it."""
        return self.deleted or (self.delete_after_s == 0 and self.state.is_final)

    def kept_arguments(self) -> bytes:
        """The arguments, for everyone who looks and for the disk."""
        return WIPED_DATA if self.is_wiped else self.spec.arguments

    def kept_result(self) -> bytes | None:
        """The result, for everyone who looks and for the disk; None before the end."""
        if self.outcome is None:
            return None
        return WIPED_DATA if self.is_wiped else self.outcome.result

    @property
    def output(self) -> JobLog | None:
        """What it wrote so far, for everyone who looks and for the disk."""
        return None if self.is_wiped else self.log

    def log_piece(self, start: int, size: int) -> bytes:
        """Bytes of :meth:`log_text`, from ``start`` on, at most ``size``."""
        if self.is_wiped:
            return WIPED_LOG.encode()[start : start + size]
        return self.log.log_piece(start, size) if self.log is not None else b""

    def log_text(self) -> str:
        """The log so far, for everyone who looks and for the disk."""
        if self.is_wiped:
            return WIPED_LOG
        return self.log.text() if self.log is not None else ""
