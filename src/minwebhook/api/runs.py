"""``/api/w/{workspace}/jobs/run*``: starting jobs, with the id or the result as the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from minwebhook.api.context import Context, parse_uuid
from minwebhook.errors import BadRequest, NotFound, WaitTimeout
from minwebhook.http.messages import Response
from minwebhook.jobs.model import Cancellation, Job, JobSpec
from minwebhook.jobs.submission import preview_spec, script_spec
from minwebhook.jobs.table import JobTable
from minwebhook.scripts.model import Language, hash_from_hex, parse_language
from minwebhook.scripts.script import Script
from minwebhook.webhooks.arguments import get_arguments, post_arguments
from minwebhook.webhooks.responses import sync_response

#: Why a job was cancelled whose caller went away or waited too long (upstream's word).
_CONNECTION_BROKE = "http connection broke"


async def run_by_path(context: Context) -> Response:
    """Queues a run of the live version: 201 and the job's id, durable."""
    script = _deployed(context)
    return await _queue(context, await _script_run(context, script))


async def run_by_hash(context: Context) -> Response:
    """Queues a run of one version."""
    return await _queue(context, await _script_run(context, _version(context)))


async def run_wait_by_path(context: Context) -> Response:
    """Runs the live version and answers with its result."""
    return await _wait(context, await _script_run(context, _deployed(context)))


async def run_wait_by_hash(context: Context) -> Response:
    """Runs one version and answers with its result."""
    return await _wait(context, await _script_run(context, _version(context)))


async def run_preview(context: Context) -> Response:
    """Queues a run of code that comes with the request."""
    return await _queue(context, await _preview(context))


async def run_wait_preview(context: Context) -> Response:
    """Runs code that comes with the request and answers with its result."""
    return await _wait(context, await _preview(context))


async def head(context: Context) -> Response:
    """A liveness probe: runs nothing and looks nothing up."""
    return Response(200)


def _deployed(context: Context) -> Script:
    return context.services.scripts.deployed(context.workspace, context.params["path"])


def _version(context: Context) -> Script:
    script_hash = hash_from_hex(context.params["hash"])
    script = context.services.scripts.find_by_hash(context.workspace, script_hash)
    if script is None or script.deleted:
        raise NotFound(f"script not found at name {script_hash}")
    return script


async def _script_run(context: Context, script: Script) -> JobSpec:
    request = context.request
    if request.method == "GET":
        arguments = get_arguments(request.headers, context.query)
    else:
        arguments = post_arguments(request.headers, await context.body(), context.query)
    spec = script_spec(
        script,
        context.principal,
        arguments,
        parent_job=_id_parameter(context, "parent_job"),
        root_job=_id_parameter(context, "root_job"),
    )
    tag = context.query.get("tag")
    return replace(spec, tag=tag) if tag else spec


async def _preview(context: Context) -> JobSpec:
    body = await context.json()
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object with content, language and args")
    if context.principal.operator:
        raise BadRequest("operators run deployed scripts only")
    arguments = body.get("args")
    if arguments is not None and not isinstance(arguments, dict):
        raise BadRequest("args: send an object")
    if body.get("kind") not in (None, "code"):
        raise BadRequest("kind: only code is run here")
    return preview_spec(
        context.workspace,
        context.principal,
        language=_language(body),
        content=_text(body, "content", ""),
        path=_text(body, "path", ""),
        arguments=orjson.dumps(arguments or {}),
        tag=context.query.get("tag") or _text(body, "tag", "") or None,
        timeout_s=_timeout(context),
    )


def _language(body: dict[str, Any]) -> Language:
    if "language" not in body:
        raise BadRequest("language: say which, for example python3 or bash")
    return parse_language(body["language"])


def _text(body: dict[str, Any], name: str, default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or "\0" in value:
        raise BadRequest(f"{name}: send a text without NUL characters")
    return value


def _timeout(context: Context) -> float | None:
    text = context.query.get("timeout")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise BadRequest("timeout: send whole seconds, at least 1")
    return float(text)


def _id_parameter(context: Context, name: str) -> UUID | None:
    text = context.query.get(name)
    return parse_uuid(text, name) if text else None


async def _queue(context: Context, spec: JobSpec) -> Response:
    job = await context.services.jobs.submit(spec, job_id=_id_parameter(context, "job_id"))
    context.started_job = job.id
    return Response.text(str(job.id), 201)


async def _wait(context: Context, spec: JobSpec) -> Response:
    """The result. When the caller goes away or waits too long the job is cancelled."""
    services = context.services
    caller = _SyncCaller(services.jobs, Cancellation(context.principal.username, _CONNECTION_BROKE))
    forget = context.request.on_disconnect(caller.leave)
    services.sync_waits.add(caller)

    def on_start(job: Job) -> None:
        caller.job = job
        context.started_job = job.id

    try:
        outcome = await services.executor.run_sync(spec, job_id=_id_parameter(context, "job_id"), on_start=on_start)
    finally:
        services.sync_waits.discard(caller)
        forget()
        caller.leave()
    if caller.is_late:
        raise WaitTimeout(f"timeout after {services.settings.jobs.wait_result_timeout_s:g}s")
    return sync_response(
        outcome.result, is_success=outcome.is_success, failure_status=services.settings.jobs.sync_failure_status
    )


class _SyncCaller:
    """Someone who waits for a job, and without whom it has no purpose."""

    __slots__ = ("_cancellation", "_table", "is_late", "job")

    def __init__(self, table: JobTable, cancellation: Cancellation) -> None:
        self._table = table
        self._cancellation = cancellation
        self.job: Job | None = None
        self.is_late = False

    def leave(self) -> None:
        """Cancels the job, unless it has ended."""
        if self.job is not None:
            self._table.cancel(self.job, self._cancellation)

    def expire(self) -> None:
        """The wait has lasted too long."""
        self.is_late = True
        self.leave()
