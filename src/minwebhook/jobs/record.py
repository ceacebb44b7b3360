"""A job as the API shows it, whether it lives in the table or lies in the database. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.auth.scopes import Scopes
from minwebhook.jobs.model import DRIVEN_KINDS, FLOW, FLOW_PREVIEW, Job, JobState, RestartPoint
from minwebhook.scripts.model import hash_to_hex
from minwebhook.scripts.retry import RetryPolicy
from minwebhook.times import rfc3339

#: Arguments and results above this are not shown inside a job object; they have endpoints of their own.
MAX_SHOWN_BYTES: Final = 90_000
MAX_SHOWN_LOG_CHARACTERS: Final = 20_000
#: What is shown instead.
TOO_BIG_ARGUMENTS: Final = '{"reason":"WINDMILL_TOO_BIG"}'
_TOO_BIG_RESULT: Final = '"WINDMILL_TOO_BIG"'


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What few jobs have. Stored as one JSON text, or not at all."""

    #: Where arguments and result hold byte strings (child/values.py), as JSON text.
    mask: bytes = b""
    result_mask: bytes = b""
    preprocess: bool = False
    is_preprocessed: bool = False
    cache_ttl_s: int | None = None
    retry: RetryPolicy | None = None
    #: See :class:`~minwebhook.jobs.model.JobSpec`.
    part: tuple[str, int, int | None] | None = None
    is_skipped: bool = False
    scopes: Scopes | None = None
    restarted_from: RestartPoint | None = None
    authored: tuple[str, ...] | None = None
    verbatim: bool = False
    #: What the job said of its own progress, from 0 to 99.
    percent: int | None = None
    #: The scripts that code which came with the request imports: path and hash.
    imports: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, job: Job) -> JobOptions:
        """The options of a live job."""
        if job.is_wiped:
            return _NO_OPTIONS
        spec, outcome = job.spec, job.outcome
        result_mask = outcome.mask if outcome is not None else b""
        is_usual = not (spec.mask or result_mask or spec.preprocess or spec.cache_ttl_s or spec.retry)
        is_usual = is_usual and spec.part is None and spec.scopes is None and spec.restarted_from is None
        is_usual = is_usual and spec.authored is None and not spec.verbatim and not spec.imports
        if is_usual and not job.is_skipped and job.percent is None:
            return _NO_OPTIONS
        return cls(
            spec.mask,
            result_mask,
            spec.preprocess,
            job.is_preprocessed,
            spec.cache_ttl_s,
            spec.retry,
            spec.part,
            job.is_skipped,
            spec.scopes,
            spec.restarted_from,
            spec.authored,
            spec.verbatim,
            job.percent,
            spec.imports,
        )

    @classmethod
    def parse(cls, text: str | None) -> JobOptions:
        """From the database."""
        if text is None:
            return _NO_OPTIONS
        stored = orjson.loads(text)
        return cls(
            stored.get("mask", "").encode(),
            stored.get("result_mask", "").encode(),
            stored.get("preprocess", False),
            stored.get("is_preprocessed", False),
            stored.get("cache_ttl_s"),
            RetryPolicy.parse("retry", stored["retry"]) if "retry" in stored else None,
            tuple(stored["part"]) if "part" in stored else None,
            stored.get("is_skipped", False),
            Scopes.of(stored["scopes"]) if "scopes" in stored else None,
            RestartPoint.parse(stored["restarted_from"]) if "restarted_from" in stored else None,
            tuple(stored["authored"]) if "authored" in stored else None,
            stored.get("verbatim", False),
            stored.get("percent"),
            tuple(stored["imports"].items()) if "imports" in stored else (),
        )

    @property
    def is_usual(self) -> bool:
        """Whether the job has none of them."""
        return self is _NO_OPTIONS

    def to_text(self) -> str | None:
        """For the database."""
        if self is _NO_OPTIONS:
            return None
        stored = {
            "mask": self.mask.decode(),
            "result_mask": self.result_mask.decode(),
            "preprocess": self.preprocess,
            "is_preprocessed": self.is_preprocessed,
            "cache_ttl_s": self.cache_ttl_s,
            "retry": self.retry.to_json() if self.retry is not None else None,
            "part": self.part,
            "is_skipped": self.is_skipped,
            "scopes": self.scopes.texts if self.scopes is not None else None,
            "restarted_from": self.restarted_from and self.restarted_from.to_json(),
            "verbatim": self.verbatim,
            "imports": dict(self.imports),
        }
        kept = {name: value for name, value in stored.items() if value}
        if self.authored is not None:  # none is not the same as nothing
            kept["authored"] = self.authored
        if self.percent is not None:  # 0 is one
            kept["percent"] = self.percent
        return orjson.dumps(kept).decode()


_NO_OPTIONS: Final = JobOptions()


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job of a list
class JobRecord:
    """Everything known of a job; never changed once made. Times are Unix milliseconds, ``arguments`` and ``result`` JSON
    text."""

    id: UUID
    workspace: str
    kind: str
    state: JobState
    path: str | None
    script_hash: int | None
    language: str
    raw_code: str | None
    created_by: str
    email: str
    permissioned_as: str
    created_at_ms: int
    scheduled_for_ms: int
    started_at_ms: int | None
    completed_at_ms: int | None
    duration_ms: int | None
    arguments: bytes | None
    result: bytes | None
    canceled_by: str | None
    canceled_reason: str | None
    tag: str
    priority: int | None
    timeout_s: float | None
    parent_job: UUID | None
    root_job: UUID | None
    labels: tuple[str, ...]
    visible_to_owner: bool
    options: JobOptions
    deleted: bool = False
    #: See :class:`~minwebhook.jobs.model.Outcome`.
    ended_by: str = ""
    cpu_ms: int | None = None
    peak_kib: int | None = None
    attempts: int = 0
    failures: int = 0
    is_dead: bool = False
    #: The step of the flow that it is a job of; "" for none.
    step_id: str = ""
    #: Of a flow: where it is, as JSON text; of lists None.
    flow_status: bytes | None = None
    #: Until when it waits for approvals.
    suspend_until_ms: int | None = None
    #: See :class:`~minwebhook.jobs.model.JobSpec`; "" of jobs that an older program has stored.
    owner: str = ""
    #: See :class:`~minwebhook.jobs.model.JobSpec`.
    origin: str = ""

    @classmethod
    def of(cls, job: Job) -> JobRecord:
        """The record of a live job."""
        spec, outcome = job.spec, job.outcome
        cancellation = outcome.cancellation if outcome else job.cancellation
        return cls(
            id=job.id,
            workspace=spec.workspace,
            kind=spec.kind,
            state=job.state,
            path=spec.path or None,
            script_hash=spec.script_hash,
            language=spec.language,
            raw_code=spec.source.decode("utf-8", "replace") if spec.script_hash is None else None,
            created_by=spec.created_by,
            email=spec.email,
            permissioned_as=spec.permissioned_as,
            created_at_ms=job.created_at_ms,
            scheduled_for_ms=job.scheduled_for_ms,
            started_at_ms=job.started_at_ms,
            completed_at_ms=job.completed_at_ms,
            duration_ms=job.duration_ms,
            arguments=job.kept_arguments(),
            result=job.kept_result(),
            canceled_by=cancellation.by if cancellation else None,
            canceled_reason=cancellation.reason if cancellation else None,
            tag=spec.tag,
            priority=spec.priority,
            timeout_s=spec.timeout_s,
            parent_job=spec.parent_job,
            root_job=spec.root_job,
            labels=outcome.labels if outcome else (),
            visible_to_owner=spec.visible_to_owner,
            options=JobOptions.of(job),
            deleted=job.deleted,
            ended_by=outcome.ended_by if outcome else "",
            cpu_ms=job.usage.cpu_ms if job.usage else None,
            peak_kib=job.usage.peak_kib if job.usage else None,
            attempts=job.attempts,
            failures=job.failures,
            is_dead=job.is_dead,
            step_id=spec.step_id,
            flow_status=job.flow.shown_status() if job.flow is not None else None,
            suspend_until_ms=job.suspend_until_ms,
            owner=spec.owner,
            origin=spec.origin,
        )

    @property
    def is_success(self) -> bool:
        """Whether the job ended well."""
        return self.state is JobState.SUCCESS

    @property
    def wait_ms(self) -> int | None:
        """How long it was due before it started; None if it did not start."""
        return None if self.started_at_ms is None else max(self.started_at_ms - self.scheduled_for_ms, 0)

    @property
    def trigger_kind(self) -> str | None:
        """What started it: runs of deployed scripts come by webhook, previews from nothing of the kind."""
        return "webhook" if self.kind in ("script", FLOW) and not self.step_id else None

    @property
    def is_flow(self) -> bool:
        """Whether it runs the steps of a flow, or a part of them."""
        return self.kind in (FLOW, FLOW_PREVIEW)

    @property
    def stream_job(self) -> UUID | None:
        """See :class:`~minwebhook.jobs.model.Flow`."""
        found = orjson.loads(self.flow_status).get("stream_job") if self.flow_status is not None else None
        return UUID(found) if found is not None else None

    @property
    def root_id(self) -> UUID:
        """The job that began it all."""
        return self.root_job or self.parent_job or self.id

    def to_json(self, *, log: str | None = None, with_code: bool = True, with_data: bool = True) -> dict[str, Any]:
        """The object of ``jobs_u/get``. ``log`` is shown when given; lists leave arguments and result out."""
        shown: dict[str, Any] = {
            "workspace_id": self.workspace,
            "id": str(self.id),
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at_ms),
            "canceled": self.canceled_by is not None,
            "job_kind": self.kind,
            "permissioned_as": self.permissioned_as,
            "is_flow_step": bool(self.step_id),
            "email": self.email,
            "visible_to_owner": self.visible_to_owner,
            "tag": self.tag,
        }
        if self.language:
            shown["language"] = self.language
        # What a job does not have is left out. Not by way of a second dictionary: lists make thousands of these.
        if self.parent_job is not None:
            shown["parent_job"] = str(self.parent_job)
        if self.script_hash is not None:
            shown["script_hash"] = hash_to_hex(self.script_hash)
        if self.path is not None:
            shown["script_path"] = self.path
        if log is not None:
            shown["logs"] = log[-MAX_SHOWN_LOG_CHARACTERS:]
        if self.canceled_by is not None:
            shown["canceled_by"] = self.canceled_by
        if self.canceled_reason is not None:
            shown["canceled_reason"] = self.canceled_reason
        if self.priority is not None:
            shown["priority"] = self.priority
        if (wait_ms := self.wait_ms) is not None:
            shown["self_wait_time_ms"] = wait_ms
        if self.labels:
            shown["labels"] = list(self.labels)
        if with_code and self.raw_code is not None:
            if self.kind not in DRIVEN_KINDS:
                shown["raw_code"] = self.raw_code
            elif self.kind == FLOW_PREVIEW and self.raw_code:
                shown["raw_flow"] = orjson.Fragment(self.raw_code)
        if self.peak_kib is not None:
            shown["mem_peak"] = self.peak_kib
        if self.cpu_ms is not None:
            shown["cpu_s"] = self.cpu_ms / 1000
        if self.ended_by:
            shown["ended_by"] = self.ended_by
        if self.options.is_preprocessed:
            shown["preprocessed"] = True
        if self.attempts > 1:
            shown["attempts"] = self.attempts
        if self.is_dead:
            shown["dead"] = True
        if self.step_id:
            shown["flow_step_id"] = self.step_id
        if self.flow_status is not None:
            shown["flow_status"] = orjson.Fragment(self.flow_status)
        if with_data:
            shown["args"] = _data(self.arguments, TOO_BIG_ARGUMENTS)
        if self.state.is_final:
            shown["type"] = "CompletedJob"
            shown["started_at"] = rfc3339(self.started_at_ms)
            shown["completed_at"] = rfc3339(self.completed_at_ms)
            shown["duration_ms"] = self.duration_ms or 0
            shown["success"] = self.state is JobState.SUCCESS
            shown["result_columns"] = None
            shown["deleted"] = self.deleted
            shown["is_skipped"] = self.options.is_skipped
            if with_data:
                shown["result"] = _data(self.result, _TOO_BIG_RESULT)
        else:
            shown["type"] = "QueuedJob"
            shown["scheduled_for"] = rfc3339(self.scheduled_for_ms)
            shown["running"] = self.state is JobState.RUNNING
            shown["same_worker"] = False
            shown["script_entrypoint_override"] = None
            if self.started_at_ms is not None:
                shown["started_at"] = rfc3339(self.started_at_ms)
            if self.suspend_until_ms is not None:
                shown["suspend_until"] = rfc3339(self.suspend_until_ms)
            if self.root_job is not None:
                shown["root_job"] = str(self.root_job)
            if self.timeout_s is not None:
                shown["timeout"] = round(self.timeout_s)
            if self.options.cache_ttl_s is not None:
                shown["cache_ttl"] = self.options.cache_ttl_s
        return shown

    def to_list_item(self, *, with_arguments: bool = False) -> dict[str, Any]:
        """The item of ``jobs/list`` and ``jobs/completed/list``: the object without what may be large."""
        shown = self.to_json(with_code=False, with_data=False)
        if with_arguments:
            shown["args"] = _data(self.arguments, TOO_BIG_ARGUMENTS)
        return shown

    def to_queue_row(self, *, with_arguments: bool = False) -> dict[str, Any]:
        """The item of ``jobs/queue/list``: always the same members."""
        return {
            "id": str(self.id),
            "running": self.state is JobState.RUNNING,
            "created_by": self.created_by,
            "created_at": rfc3339(self.created_at_ms),
            "started_at": rfc3339(self.started_at_ms),
            "scheduled_for": rfc3339(self.scheduled_for_ms),
            "script_hash": hash_to_hex(self.script_hash) if self.script_hash is not None else None,
            "script_path": self.path,
            "args": _data(self.arguments, TOO_BIG_ARGUMENTS) if with_arguments else None,
            "job_kind": self.kind,
            "schedule_path": None,
            "is_flow_step": bool(self.step_id),
            "language": self.language or None,
            "email": self.email,
            "suspend": 0 if self.suspend_until_ms is None else 1,
            "tag": self.tag,
            "priority": self.priority,
            "workspace_id": self.workspace,
        }


def _data(text: bytes | None, too_big: str) -> Any:
    """JSON text as it is inside a larger object: not parsed again, keys keep their order."""
    if text is None:
        return None
    return orjson.Fragment(too_big if len(text) > MAX_SHOWN_BYTES else text)
