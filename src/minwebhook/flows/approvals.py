"""Messages that resume waiting flows, or end them: on disk before they are answered, told to the flow then.

A message is for one job of a flow, the step after which it waits, and may come before that step has ended; or for the flow
itself, and then it counts for the first of its steps that waits. Messages have numbers: the same job gets none twice with the
same number. They go when their flow has ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from minwebhook.auth.principal import Principal
from minwebhook.child import values
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotAuthorized, PermissionDenied
from minwebhook.flows.events import Disapproved, Resumed
from minwebhook.flows.live import LiveFlow
from minwebhook.flows.model import FlowModule
from minwebhook.flows.runner import FlowRunner
from minwebhook.flows.status import ModuleStatus, State
from minwebhook.jobs.model import Job
from minwebhook.repeating import repeat
from minwebhook.times import now_ms

_SWEEP_EVERY_S: Final = 60.0
_INSERT: Final = (
    "INSERT INTO approval (workspace_id, flow_id, job_id, resume_id, approved, payload, approver, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
#: Of a job, and those for the whole flow that no other job has used.
_FOR_JOB: Final = (
    "SELECT * FROM approval WHERE flow_id = ?1 AND (job_id = ?2 OR (job_id = ?1 AND (used_by IS NULL OR used_by = ?2)))"
    " ORDER BY id"
)
#: Rows of jobs that have not ended are ``queued``. A flow whose caller waits has a row once it has come to its first wait.
_SWEEP: Final = (
    "DELETE FROM approval WHERE EXISTS (SELECT 1 FROM job WHERE job.id = flow_id AND job.status != 'queued')"
    " OR (approval.created_at < ? AND NOT EXISTS (SELECT 1 FROM job WHERE job.id = flow_id))"
)
_LOST_AFTER_MS: Final = 24 * 3600 * 1000
_USE: Final = "UPDATE approval SET used_by = ?2 WHERE job_id = ?1 AND used_by IS NULL"


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody says to a flow. ``payload`` is JSON text."""

    workspace: str
    flow_id: UUID
    #: The step, or the flow itself.
    job_id: UUID
    resume_id: int
    is_approved: bool
    payload: bytes = b"null"
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a flow a message belongs."""

    flow: LiveFlow
    #: The step after which it waits; None for a message to the flow that does not wait now.
    module: FlowModule | None
    #: Whether the flow waits for it now.
    is_waiting: bool

    @property
    def conditions(self) -> Mapping[str, Any] | None:
        """Who may speak, while it waits (``approval_conditions``); None for whoever has a signature."""
        return self.flow.engine.status.approval_conditions if self.is_waiting else None


class Approvals:
    """The messages of all workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def send(self, message: Message, runner: FlowRunner) -> None:
        """On disk when this returns, and told if the flow waits for it. Raises :class:`BadRequest` for a repeated one."""
        row = (
            message.workspace, message.flow_id.bytes, message.job_id.bytes, message.resume_id,
            message.is_approved, message.payload, message.approver, now_ms(),
        )  # fmt: skip
        try:
            await self._db.write(_INSERT, row)
        except sqlite3.IntegrityError:
            raise BadRequest("resume request already sent: each counts once") from None
        flow = runner.find(message.flow_id)
        waiting = flow.engine.suspended if flow is not None else None
        # Else it is found when the flow begins to wait (:meth:`messages`).
        if waiting is not None and message.job_id in (waiting.job, message.flow_id):
            self._note_use(message.flow_id, waiting)
            runner.tell(
                message.flow_id,
                _event(message.is_approved, message.resume_id, message.payload, message.approver),
            )

    def messages(self, flow: Job, job_id: UUID, *, is_over: bool = False) -> list[Resumed | Disapproved]:
        """What has come for a job after which its flow begins to wait, as it came; what came, if that ``is_over``."""
        rows = self._db.read(_FOR_JOB, (flow.id.bytes, job_id.bytes))
        if is_over:  # what has come for the flow since then is for a later step
            rows = [row for row in rows if row["job_id"] == job_id.bytes or row["used_by"] is not None]
        elif any(row["job_id"] == flow.id.bytes for row in rows):
            self._db.post(_USE, (flow.id.bytes, job_id.bytes))
        return [_event(row["approved"], row["resume_id"], row["payload"], row["approver"]) for row in rows]

    def approvers(self, flow_id: UUID, job_id: UUID) -> list[dict[str, Any]]:
        """Who has approved: ``[{"resume_id": N, "approver": NAME}]``, as they came."""
        rows = self._db.read(_FOR_JOB, (flow_id.bytes, job_id.bytes))
        return [
            {"resume_id": row["resume_id"], "approver": row["approver"] or "anonymous"}
            for row in rows
            if row["approved"]
        ]

    def _note_use(self, flow_id: UUID, waiting: ModuleStatus) -> None:
        if waiting.job is not None:
            self._db.post(_USE, (flow_id.bytes, waiting.job.bytes))

    async def run(self) -> None:
        """Removes messages whose flow has ended, from time to time, until cancelled."""
        await repeat(self.sweep, "messages of ended flows stay for now", pause_s=_SWEEP_EVERY_S)

    async def sweep(self) -> None:
        """Removes messages whose flow has ended, or is gone."""
        await self._db.write(_SWEEP, (now_ms() - _LOST_AFTER_MS,))


def find_waiting(flow: LiveFlow, runner: FlowRunner) -> LiveFlow:
    """The part of a flow that waits: itself, or an iteration, a branch or a flow inside; itself if none does."""
    levels = [flow]
    for level in levels:  # grows while it is gone through
        if level.engine.suspended is not None:
            return level
        levels += [inner for job_id in level.engine.open_jobs() if (inner := runner.find(job_id)) is not None]
    return flow


def find_place(flow: LiveFlow, job_id: UUID) -> Place:
    """Where a message for a job of the flow, or for the flow itself, belongs.

    Raises :class:`BadRequest` if that is behind it, or no step that it will wait after.
    """
    status, modules = flow.engine.status, flow.engine.level.modules
    waiting = flow.engine.suspended
    if waiting is not None and job_id in (waiting.job, flow.job.id):
        return Place(flow, modules[status.step - 1], is_waiting=True)
    if job_id == flow.job.id:
        return Place(flow, None, is_waiting=False)
    for number, (module, here) in enumerate(zip(modules, status.modules, strict=True)):
        is_ahead = status.step <= number + 1 < len(modules) and status.modules[number + 1].state is State.WAITING
        if here.job == job_id and is_ahead:
            return Place(flow, module, is_waiting=False)
    raise BadRequest("the flow does not wait for this any more")


def check_approver(place: Place, caller: Principal | None, groups: frozenset[str]) -> None:
    """Whether the caller may speak, who has what it takes without a login. ``groups`` are the caller's.

    Raises :class:`NotAuthorized` for who has to log in, :class:`PermissionDenied` for the one who started the flow and for
    members of other groups, and :class:`BadRequest` before it is known who may.
    """
    conditions = place.conditions
    if conditions is None:
        modules = place.flow.engine.level.modules if place.module is None else (place.module,)
        if any(each.suspend and each.suspend.user_auth_required for each in modules):
            raise BadRequest("who may approve is known when the flow waits, and it does not yet; try again then")
        return
    if caller is None:
        raise NotAuthorized("log in: this step is approved by users only")
    if caller.is_admin:
        return
    if conditions["self_approval_disabled"] and caller.email == place.flow.job.spec.email:
        raise PermissionDenied("self-approval is disabled: somebody else than who started the flow must approve")
    needed = frozenset(map(str, conditions["user_groups_required"]))
    if needed and needed.isdisjoint(groups):
        raise PermissionDenied(f"only members of these groups may approve: {', '.join(sorted(needed))}")


def _event(is_approved: bool, resume_id: int, payload: bytes, approver: str | None) -> Resumed | Disapproved:
    kind = Resumed if is_approved else Disapproved
    return kind(resume_id, values.loads(payload), approver)
