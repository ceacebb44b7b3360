"""``/api/w/{workspace}/jobs*``: lists of jobs, counts, and the place in the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import trio

from minwebhook.api.context import Context, parse_number
from minwebhook.api.job_access import find_readable, searched_workspace
from minwebhook.api.permissions import job_conditions
from minwebhook.errors import NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs import listing
from minwebhook.jobs.filters import DEFAULT_PER_PAGE, MAX_PER_PAGE, JobFilter
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.times import now_ms

#: What ``count_by_tag`` looks back on, in seconds.
_HORIZON_S = 3600


async def list_jobs(context: Context) -> Response:
    """Live jobs, then ended ones, newest first."""
    services = context.services
    workspace, wanted = searched_workspace(context), _filter(context)
    records = await listing.list_all(services.jobs, services.job_store, workspace, wanted)
    return await _rows(records, JobRecord.to_list_item, wanted)


async def list_queue(context: Context) -> Response:
    """Jobs that wait or run, newest first."""
    wanted = _filter(context)
    records = await listing.list_live(context.services.jobs, searched_workspace(context), wanted)
    return await _rows(records, JobRecord.to_queue_row, wanted)


async def list_completed(context: Context) -> Response:
    """Jobs that have ended, newest first."""
    services = context.services
    workspace, wanted = searched_workspace(context), _filter(context)
    records = await listing.list_ended(services.jobs, services.job_store, workspace, wanted)
    return await _rows(records, JobRecord.to_list_item, wanted)


async def list_ids(context: Context) -> Response:
    """The ids of the jobs that ``jobs/list`` would show; for admins."""
    services = context.services
    workspace, wanted = searched_workspace(context), _filter(context, MAX_PER_PAGE)
    return _ids(await listing.list_all(services.jobs, services.job_store, workspace, wanted))


async def list_queue_ids(context: Context) -> Response:
    """The ids of the jobs that ``jobs/queue/list`` would show; for admins."""
    wanted = _filter(context, MAX_PER_PAGE)
    return _ids(await listing.list_live(context.services.jobs, searched_workspace(context), wanted))


async def queue_count(context: Context) -> Response:
    """Jobs that are due and wait, of those that the caller may see. None is ever suspended here."""
    waiting = await listing.count_due(
        context.services.jobs,
        searched_workspace(context),
        now_ms(),
        tags=context.query.names("tags"),
        visible=job_conditions(context.principal, context.endpoint),
    )
    return Response.json(orjson.dumps({"database_length": waiting, "suspended": 0}))


async def completed_count(context: Context) -> Response:
    """Jobs that have ended, of those that the caller may see."""
    number = await _count(context, JobFilter())
    return Response.json(orjson.dumps({"database_length": number, "suspended": None}))


async def count_jobs(context: Context) -> Response:
    """Jobs that have ended: since some seconds ago, successful or not, with certain tags."""
    names = {"success": "success", "tags": "tag"}
    query = {own: value for name, own in names.items() if (value := context.query.get(name)) is not None}
    now = now_ms()
    wanted = JobFilter.parse(query, now)
    since_s = context.query.get("completed_after_s_ago")
    if since_s is not None:
        wanted = wanted.ended_since(now - 1000 * parse_number(since_s, "completed_after_s_ago"))
    return Response.json(str(await _count(context, wanted)).encode())


async def count_by_tag(context: Context) -> Response:
    """How many jobs of the instance ended in the last ``horizon_secs``, by tag; for super admins."""
    since_ms = now_ms() - 1000 * context.number("horizon_secs", _HORIZON_S)
    counts = await context.services.job_store.count_by_tag(context.query.get("workspace_id"), since_ms)
    return Response.json(orjson.dumps([{"tag": tag, "count": count} for tag, count in counts]))


async def queue_position(context: Context) -> Response:
    """Which place a job has that is scheduled for then: 1 and those that wait and are scheduled before, of all workspaces."""
    before_ms = parse_number(context.params["epoch_ms"], "epoch_ms")
    ahead = sum(
        job.state is JobState.QUEUED and job.scheduled_for_ms < before_ms for job in context.services.jobs.live(None)
    )
    return Response.json(orjson.dumps({"position": 1 + ahead}))


async def scheduled_for(context: Context) -> Response:
    """The time for which a job that has not ended is scheduled, in milliseconds since 1970."""
    job_id = context.job_id()
    record = find_readable(context, job_id)
    if record is None or record.state.is_final:
        raise NotFound(f"queued job id {job_id} does not exist")
    return Response.json(str(record.scheduled_for_ms).encode())


def _filter(context: Context, per_page: int = DEFAULT_PER_PAGE) -> JobFilter:
    """What the query asks for, of the jobs that the caller may see."""
    wanted = JobFilter.parse(context.query.last_values(), now_ms(), per_page=per_page)
    return wanted.limited_to(job_conditions(context.principal, context.endpoint))


async def _count(context: Context, wanted: JobFilter) -> int:
    services = context.services
    wanted = wanted.limited_to(job_conditions(context.principal, context.endpoint))
    return await listing.count_ended(services.jobs, services.job_store, searched_workspace(context), wanted)


async def _rows(records: list[JobRecord], show: Callable[..., dict[str, Any]], wanted: JobFilter) -> Response:
    """An array of objects. Made in a thread: a page of 10 000 would hold up the loop for a tenth of a second."""
    rows = (show(record, with_arguments=wanted.with_arguments) for record in records)
    return Response.json(await trio.to_thread.run_sync(lambda: orjson.dumps(list(rows))))


def _ids(records: list[JobRecord]) -> Response:
    return Response.json(orjson.dumps([str(record.id) for record in records]))
