"""``/api/w/{workspace}/jobs*``: looking at jobs and cancelling them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from minwebhook.api.context import Context
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs import listing
from minwebhook.jobs.filters import JobFilter
from minwebhook.jobs.model import Cancellation, JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.times import now_ms

_ANSI_HINT = "to remove ansi colors, use: | sed 's/\\x1B\\[[0-9;]\\{1,\\}[A-Za-z]//g'\n"
_NO_REASON = "unexplicited reasons"


async def get(context: Context) -> Response:
    """The job, queued, running or ended."""
    job_id = context.job_id()
    record = _find(context, job_id)
    if record is None:
        raise NotFound(f"Job not found at name {job_id}")
    log = None if context.query.flag("no_logs") else _log(context, job_id)
    return Response.json(orjson.dumps(record.to_json(log=log or None, with_code=not context.query.flag("no_code"))))


async def get_completed(context: Context) -> Response:
    """The job once it has ended; 404 before, which clients read as "not yet"."""
    record = _ended(context)
    log = None if context.query.flag("no_logs") else _log(context, record.id)
    shown = record.to_json(log=log or None, with_code=not context.query.flag("no_code"))
    del shown["type"]
    return Response.json(orjson.dumps(shown))


async def get_result(context: Context) -> Response:
    """The bare result, of failed jobs too; 404 before the end."""
    record = _ended(context)
    path = context.query.get("json_path")
    if not path:
        return Response.json(record.result or b"null")
    value: Any = orjson.loads(record.result or b"null")
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = None
    return Response.json(orjson.dumps(value))


async def get_result_maybe(context: Context) -> Response:
    """Whether it has ended, and then the result. Always 200, with all four members, for unknown ids too."""
    record = _find(context, context.job_id())
    if record is not None and record.state.is_final:
        shown: dict[str, Any] = {
            "started": True,
            "success": record.is_success,
            "completed": True,
            "result": orjson.Fragment(record.result or b"null"),
        }
    else:
        started = None
        if context.query.flag("get_started"):
            started = record is not None and record.state is JobState.RUNNING
        shown = {"started": started, "success": None, "completed": False, "result": None}
    return Response.json(orjson.dumps(shown))


async def get_logs(context: Context) -> Response:
    """The log so far, as text."""
    job_id = context.job_id()
    if _find(context, job_id) is None:
        raise NotFound(f"Job not found at name {job_id}")
    hint = "" if context.query.flag("remove_ansi_warnings") else _ANSI_HINT
    return Response.text(hint + _log(context, job_id))


async def list_jobs(context: Context) -> Response:
    """Live jobs, then ended ones, newest first."""
    services = context.services
    wanted = JobFilter.parse(context.query.last_values(), now_ms())
    records = await listing.list_all(services.jobs, services.job_store, context.workspace, wanted)
    items = [record.to_list_item(with_arguments=wanted.with_arguments) for record in records]
    return Response.json(orjson.dumps(items))


async def queue_count(context: Context) -> Response:
    """Jobs that wait, of this workspace."""
    waiting = sum(job.state is JobState.QUEUED for job in context.services.jobs.live(context.workspace))
    return Response.json(orjson.dumps({"database_length": waiting, "suspended": 0}))


async def cancel(context: Context) -> Response:
    """Ends a job: a queued one at once, a running one by killing its processes. Answers with the id."""
    body = await context.json()
    reason = body.get("reason") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(reason, str | None):
        raise BadRequest('send {"reason": "..."} or {}')
    job_id = context.job_id()
    job = context.services.jobs.get(job_id)
    if job is not None and job.spec.workspace == context.workspace:
        if context.services.jobs.cancel(job, Cancellation(context.principal.username, reason or _NO_REASON)):
            return Response.text(str(job_id))
    elif context.services.job_store.get(context.workspace, job_id) is None:
        raise NotFound(f"queued job id {job_id} does not exist")
    return Response.text(f"queued job id {job_id} is already completed")


def _find(context: Context, job_id: UUID) -> JobRecord | None:
    job = context.services.jobs.get(job_id)
    if job is not None:
        return JobRecord.of(job) if job.spec.workspace == context.workspace else None
    return context.services.job_store.get(context.workspace, job_id)


def _ended(context: Context) -> JobRecord:
    job_id = context.job_id()
    record = _find(context, job_id)
    if record is None or not record.state.is_final:
        raise NotFound(f"Completed Job not found at name {job_id}")
    return record


def _log(context: Context, job_id: UUID) -> str:
    job = context.services.jobs.get(job_id)
    return job.log_text() if job is not None else context.services.job_store.log(job_id)
