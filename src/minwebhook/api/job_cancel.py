"""``/api/w/{workspace}/jobs*/queue/cancel*``: ending jobs that wait or run."""

from __future__ import annotations

from typing import Final

import orjson
import trio

from minwebhook.api.context import Context
from minwebhook.api.job_access import find_cancellable, may_end, parse_ids, searched_workspace
from minwebhook.auth.principal import ANONYMOUS
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs.model import Cancellation, Job

_NO_REASON: Final = "unexplicited reasons"
#: A killed job has ended within milliseconds; a machine that needs longer than this is not waited for.
_END_S: Final = 5.0


async def cancel(context: Context) -> Response:
    """Ends a job: a queued one at once, a running one by killing its processes. Answers with the id."""
    return await _cancel(context, waits=False)


async def force_cancel(context: Context) -> Response:
    """The same; the answer comes when the job has ended."""
    return await _cancel(context, waits=True)


async def cancel_persistent(context: Context) -> Response:
    """Ends every run of a deployed script that waits or runs. An empty answer."""
    cancellation = await _cancellation(context)
    if context.caller is None:
        raise BadRequest("log in to cancel the runs of a script")
    jobs = context.services.jobs
    for job in list(jobs.live(context.workspace)):
        if job.spec.kind == "script" and job.spec.path == context.params["path"] and may_end(context, job):
            jobs.cancel(job, cancellation)
    return Response(200)


async def cancel_selection(context: Context) -> Response:
    """Ends the jobs whose ids are sent; the ids of those that had not ended before."""
    ids = parse_ids(await context.json())
    workspace = searched_workspace(context)
    cancellation = Cancellation(context.principal.username, "cancel all")
    cancelled: list[Job] = []
    for job_id in dict.fromkeys(ids):
        job = context.services.jobs.get(job_id)
        if (
            job is not None
            and workspace in (None, job.spec.workspace)
            and not job.state.is_final
            and may_end(context, job)
        ):
            cancelled.append(job)
    for job in cancelled:
        context.services.jobs.cancel(job, cancellation)
    if context.query.flag("force_cancel"):
        await _wait_for_end(context, *cancelled)
    return Response.json(orjson.dumps([str(job.id) for job in cancelled]))


async def _cancel(context: Context, *, waits: bool) -> Response:
    cancellation = await _cancellation(context)
    job_id = context.job_id()
    services = context.services
    if find_cancellable(context, job_id) is None:
        if services.jobs.get(job_id) is not None or services.job_store.exists(job_id):
            raise BadRequest(f"job {job_id} is not of the workspace {context.workspace}")
        raise NotFound(f"queued job id {job_id} does not exist")
    job = services.jobs.get(job_id)
    if job is None or not services.jobs.cancel(job, cancellation):
        return Response.text(f"queued job id {job_id} is already completed")
    if waits:
        await _wait_for_end(context, job)
    return Response.text(str(job_id))


async def _cancellation(context: Context) -> Cancellation:
    body = await context.json()
    reason = body.get("reason") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(reason, str | None):
        raise BadRequest('send {"reason": "..."} or {}')
    return make_cancellation(context, reason)


def make_cancellation(context: Context, reason: str | None) -> Cancellation:
    """In the caller's name."""
    return Cancellation(context.caller.username if context.caller else ANONYMOUS, reason or _NO_REASON)


async def _wait_for_end(context: Context, *jobs: Job) -> None:
    with trio.move_on_after(_END_S):
        for job in jobs:
            await context.services.jobs.wait(job)
