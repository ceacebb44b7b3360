"""Where a flow is: the ``flow_status`` that jobs show, which is also what is stored and gone on from. Pure.

The shape is upstream's, with more where it says more: ``timing_ms`` (where the time of each step went), ``stopped``.

Of a flow that has not ended, the jobs of iterations and branches are stored beside it, one row each (:data:`Iteration`): a loop
of thousands would write all of them with every step otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias, cast
from uuid import UUID

import orjson

from minwebhook.jobs.flow_step import Iteration
from minwebhook.jobs.model import RestartPoint

_NONE: Final[Mapping[UUID, int | None]] = {}
#: What most modules, and flows that wait, never have. Nothing can be added to it: whoever has something makes a list.
NO_LIST: Final = cast("list[Any]", ())
#: The iterations that are stored beside a status, by module.
Iterations: TypeAlias = Mapping[str, Iterable[Iteration]]
_NO_ITERATIONS: Final[Iterations] = {}
#: The job of a chosen branch that has no modules.
NO_JOB = UUID(int=0)


class State(enum.Enum):
    """Where a module is. The values are those of upstream's ``type``."""

    WAITING = "WaitingForPriorSteps"
    SUSPENDED = "WaitingForEvents"
    QUEUED = "WaitingForExecutor"
    RUNNING = "InProgress"
    SUCCESS = "Success"
    FAILURE = "Failure"

    __hash__ = object.__hash__

    @property
    def is_final(self) -> bool:
        """Whether the module has ended."""
        return self is State.SUCCESS or self is State.FAILURE


@dataclass(slots=True)
class ModuleStatus:
    """One module. Times are Unix milliseconds, durations milliseconds."""

    id: str
    state: State = State.WAITING
    #: Its job; of a parallel step the flow's own.
    job: UUID | None = None
    #: How many more approvals it waits for.
    count: int = 0
    #: The jobs of iterations or branches, in their order; None for other steps.
    flow_jobs: list[UUID] | None = None
    flow_jobs_success: list[bool | None] = NO_LIST
    started_at_ms: list[int | None] = NO_LIST
    durations_ms: list[int | None] = NO_LIST
    #: 0 for the default, else the index of the branch and one.
    branch_chosen: int | None = None
    #: How many branches or iterations there are; None if nobody knows.
    length: int | None = None
    is_iterator: bool = False
    is_branchall: bool = False
    parallel: bool = False
    while_loop: bool = False
    #: (resume id, name) of those who approved.
    approvers: list[tuple[int, str]] = NO_LIST
    failed_retries: list[UUID] = NO_LIST
    skipped: bool = False
    #: Of jobs beside each other: the error handler has run in one of them that failed.
    handled: bool = False
    #: Of several jobs: their results are larger together than one result may be.
    oversized: bool = False
    #: In milliseconds: waited for its turn, for a process, and ran.
    timing: tuple[float, float, float] | None = None
    #: Of the failure module: the step that failed.
    parent_module: str | None = None

    def iteration(self, place: int) -> Iteration:
        """One of its jobs."""
        jobs = self.flow_jobs or []
        return place, jobs[place], self.flow_jobs_success[place], self.started_at_ms[place], self.durations_ms[place]

    def to_json(self, *, is_running: bool = False, percent: int | None = None, beside: bool = False) -> dict[str, Any]:
        """The object in ``flow_status.modules``, with ids as they are, which orjson writes.

        ``is_running``: its job has been started; ``percent``: what that says of its progress; ``beside``: its iterations are
        stored beside it, and only counted here.
        """
        state = State.RUNNING if is_running and self.state is State.QUEUED else self.state
        shown: dict[str, Any] = {"type": state.value, "id": self.id}
        if state is State.WAITING:
            return shown
        shown["job"] = self.job
        if percent is not None and state is State.RUNNING:
            shown["progress"] = percent
        if state is State.SUSPENDED:
            shown["count"] = self.count
            return shown
        if state is State.RUNNING and self.is_iterator:
            shown["iterator"] = {"index": max(len(self.flow_jobs or ()) - 1, 0), "itered_len": self.length}
        if state is State.RUNNING and self.is_branchall:
            shown["branchall"] = {"branch": max(len(self.flow_jobs or ()) - 1, 0), "len": self.length}
        if self.parallel and not state.is_final:
            shown["parallel"] = True
        if self.while_loop and not state.is_final:
            shown["while_loop"] = True
        if self.flow_jobs is not None and beside:
            shown["flow_jobs_beside"] = len(self.flow_jobs)
        elif self.flow_jobs is not None:
            shown["flow_jobs"] = self.flow_jobs
            shown["flow_jobs_success"] = self.flow_jobs_success
            shown["flow_jobs_duration"] = {"started_at": self.started_at_ms, "duration_ms": self.durations_ms}
        if self.branch_chosen is not None:
            chosen = {"type": "branch", "branch": self.branch_chosen - 1} if self.branch_chosen else {"type": "default"}
            shown["branch_chosen"] = chosen
        if self.approvers:
            shown["approvers"] = [{"resume_id": number, "approver": name} for number, name in self.approvers]
        if self.failed_retries:
            shown["failed_retries"] = self.failed_retries
        if state is State.SUCCESS or self.skipped:  # until then, too: a restart must not forget it
            shown["skipped"] = self.skipped
        if self.handled:
            shown["handled"] = True
        if self.oversized:
            shown["oversized"] = True
        if self.timing is not None:
            shown["timing_ms"] = dict(zip(("queue", "start", "run"), self.timing, strict=True))
        if self.parent_module is not None:
            shown["parent_module"] = self.parent_module
        return shown

    @classmethod
    def parse(cls, stored: dict[str, Any], iterations: Iterations = _NO_ITERATIONS) -> Self:
        """What :meth:`to_json` made."""
        jobs = stored.get("flow_jobs")
        durations = stored.get("flow_jobs_duration") or {}
        chosen, timing = stored.get("branch_chosen"), stored.get("timing_ms")
        iterator, branchall = stored.get("iterator"), stored.get("branchall")
        found = cls(
            id=stored["id"],
            state=State(stored["type"]),
            job=UUID(stored["job"]) if stored.get("job") else None,
            count=stored.get("count", 0),
            flow_jobs=[UUID(job) for job in jobs] if jobs is not None else None,
            flow_jobs_success=stored.get("flow_jobs_success") or ([] if jobs is not None else NO_LIST),
            started_at_ms=durations.get("started_at") or ([] if jobs is not None else NO_LIST),
            durations_ms=durations.get("duration_ms") or ([] if jobs is not None else NO_LIST),
            branch_chosen=None if chosen is None else chosen.get("branch", -1) + 1,
            length=iterator["itered_len"] if iterator else branchall["len"] if branchall else None,
            is_iterator=iterator is not None,
            is_branchall=branchall is not None,
            parallel=stored.get("parallel", False),
            while_loop=stored.get("while_loop", False),
            approvers=[(each["resume_id"], each["approver"]) for each in stored.get("approvers", ())],
            failed_retries=[UUID(job) for job in stored.get("failed_retries", ())],
            skipped=stored.get("skipped", False),
            handled=stored.get("handled", False),
            oversized=stored.get("oversized", False),
            timing=(timing["queue"], timing["start"], timing["run"]) if timing else None,
            parent_module=stored.get("parent_module"),
        )
        if (count := stored.get("flow_jobs_beside")) is not None:
            # There may be more, of a run of the module that was repeated.
            rows = sorted(row for row in iterations.get(found.id, ()) if row[0] < count)
            found.flow_jobs = [row[1] for row in rows]
            found.flow_jobs_success = [row[2] for row in rows]
            found.started_at_ms = [row[3] for row in rows]
            found.durations_ms = [row[4] for row in rows]
        return found


def jobs_of(status: FlowStatus) -> list[UUID]:
    """The jobs of all modules, those that were repeated too, in their order."""
    modules = [*status.modules, status.failure_module]
    if status.preprocessor_module is not None:
        modules.insert(0, status.preprocessor_module)
    found = dict[UUID, None]()
    for module in modules:
        jobs = [*module.failed_retries, *(module.flow_jobs or ())]
        if module.job is not None and module.job != NO_JOB and module.flow_jobs is None:
            jobs.append(module.job)
        found |= dict.fromkeys(jobs)
    return list(found)


@dataclass(slots=True)
class FlowStatus:
    """One level."""

    #: Of the module that runs or comes next; -1 in the preprocessor, the number of modules after the end and in the handler.
    step: int
    modules: list[ModuleStatus]
    failure_module: ModuleStatus
    preprocessor_module: ModuleStatus | None = None
    #: Runs of the module that failed and were repeated.
    failed_jobs: list[UUID] = NO_LIST
    user_states: dict[str, Any] = field(default_factory=dict)
    #: ``{user_auth_required, user_groups_required, self_approval_disabled}`` while a step waits for approvals.
    approval_conditions: dict[str, Any] | None = None
    #: Where it goes on with the results of another job.
    restarted_from: RestartPoint | None = None
    #: A ``stop_after_if`` has ended it.
    stopped: bool = False
    #: And that counts as skipped.
    skipped: bool = False
    #: Its error handler has begun.
    handled: bool = False

    @property
    def stream_job(self) -> UUID | None:
        """See :class:`~minwebhook.jobs.model.Flow`."""
        modules = self.modules
        if len(modules) > 1 and modules[-1].id == f"{modules[-2].id}-v":  # made for a wait after the last step
            modules = modules[:-1]
        if not modules or modules[-1].flow_jobs is not None or modules[-1].state in (State.WAITING, State.SUSPENDED):
            return None
        return modules[-1].job if modules[-1].job != NO_JOB else None

    def to_json(self, running: Mapping[UUID, int | None] = _NONE, *, beside: bool = False) -> bytes:
        """JSON text of ``flow_status``. ``running``: which of its jobs have been started, and what they say of their own
        progress. ``beside``: iterations are stored beside it."""

        def module(status: ModuleStatus) -> dict[str, Any]:
            if status.job is None or status.job not in running:
                return status.to_json(beside=beside)
            return status.to_json(is_running=True, percent=running[status.job])

        shown: dict[str, Any] = {
            "step": self.step,
            "modules": [module(status) for status in self.modules],
            "failure_module": module(self.failure_module),
            "preprocessor_module": module(self.preprocessor_module) if self.preprocessor_module is not None else None,
            "cleanup_module": {},
        }
        if (stream_job := self.stream_job) is not None:
            shown["stream_job"] = str(stream_job)
        if self.failed_jobs:
            shown["retry"] = {
                "fail_count": len(self.failed_jobs),
                "failed_jobs": [str(job) for job in self.failed_jobs],
            }
        if self.user_states:
            shown["user_states"] = self.user_states
        if self.approval_conditions is not None:
            shown["approval_conditions"] = self.approval_conditions
        if self.restarted_from is not None:
            shown["restarted_from"] = self.restarted_from.to_json()
        for name in ("stopped", "skipped", "handled"):
            if getattr(self, name):
                shown[name] = True
        return orjson.dumps(shown)

    @classmethod
    def parse(cls, text: bytes, iterations: Iterations = _NO_ITERATIONS) -> Self:
        """What :meth:`to_json` made; ``iterations``: what is stored beside it."""
        stored = orjson.loads(text)
        preprocessor = stored.get("preprocessor_module")
        restarted = stored.get("restarted_from")
        return cls(
            step=stored["step"],
            modules=[ModuleStatus.parse(each, iterations) for each in stored["modules"]],
            failure_module=ModuleStatus.parse(stored["failure_module"], iterations),
            preprocessor_module=ModuleStatus.parse(preprocessor) if preprocessor else None,
            failed_jobs=[UUID(job) for job in stored.get("retry", {}).get("failed_jobs", ())],
            user_states=stored.get("user_states", {}),
            approval_conditions=stored.get("approval_conditions"),
            restarted_from=RestartPoint.parse(restarted) if restarted else None,
            stopped=stored.get("stopped", False),
            skipped=stored.get("skipped", False),
            handled=stored.get("handled", False),
        )
