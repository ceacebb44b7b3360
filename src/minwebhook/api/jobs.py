"""``/api/w/{workspace}/jobs*``: looking at one job, sharing it, deleting it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from minwebhook.api.context import Context
from minwebhook.api.flow_views import add_flow
from minwebhook.api.job_access import find_readable, parse_ids, readable, readable_ended
from minwebhook.auth.view_tokens import view_token
from minwebhook.errors import BadRequest, NotFound, PermissionDenied
from minwebhook.http.messages import TEXT, Response, SendChunk
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import MAX_SHOWN_LOG_CHARACTERS, JobRecord
from minwebhook.jobs.subscription import PIECE_BYTES
from minwebhook.times import now_ms, rfc3339

_ANSI_HINT = "to remove ansi colors, use: | sed 's/\\x1B\\[[0-9;]\\{1,\\}[A-Za-z]//g'\n"
#: Ids that ``get_started_at_by_ids`` looks up; more are not answered.
_MAX_STARTED_IDS = 100


async def get(context: Context) -> Response:
    """The job, queued, running or ended."""
    return Response.json(orjson.dumps(_shown(context, readable(context))))


async def get_completed(context: Context) -> Response:
    """The job once it has ended; 404 before, which clients read as "not yet"."""
    return _completed(context, readable_ended(context))


async def get_result(context: Context) -> Response:
    """The bare result, of failed jobs too, as JSON or CBOR; 404 before the end. ``json_path`` names a part of it."""
    record = readable_ended(context)
    text = record.result or b"null"
    path = context.query.get("json_path")
    if not path and not context.wants_cbor:
        return Response.json(text)
    return await context.services.large.part(text, record.options.result_mask, path, as_cbor=context.wants_cbor)


async def get_result_maybe(context: Context) -> Response:
    """Whether it has ended, and then the result. Always 200, with all four members, for unknown ids too."""
    with_started = context.query.flag("get_started")  # checked whatever the state of the job is
    record = find_readable(context, context.job_id())
    if record is not None and record.state.is_final:
        shown: dict[str, Any] = {
            "started": True,
            "success": record.is_success,
            "completed": True,
            "result": orjson.Fragment(record.result or b"null"),
        }
    else:
        started = None
        if with_started:
            started = record is not None and record.state is JobState.RUNNING
        shown = {"started": started, "success": None, "completed": False, "result": None}
    return Response.json(orjson.dumps(shown))


async def get_timing(context: Context) -> Response:
    """When it was made and started, and how long it ran; 404 before the end."""
    record = readable_ended(context)
    shown = {
        "created_at": rfc3339(record.created_at_ms),
        "started_at": rfc3339(record.started_at_ms),
        "duration_ms": record.duration_ms or 0,
    }
    return Response.json(orjson.dumps(shown))


async def get_args(context: Context) -> Response:
    """The arguments, however large."""
    return Response.json(readable(context).arguments or b"null")


async def get_logs(context: Context) -> Response:
    """The log so far, as text; a large one in pieces."""
    job_id = readable(context).id
    start = b"" if context.query.flag("remove_ansi_warnings") else _ANSI_HINT.encode()
    piece = _log_piece(context, job_id, 0)
    if len(piece) < PIECE_BYTES:
        return Response(200, start + piece, TEXT)

    async def stream(send: SendChunk) -> None:
        nonlocal piece
        await send(start + piece)
        at = len(piece)
        while piece := _log_piece(context, job_id, at):
            await send(piece)
            at += len(piece)

    return Response(200, content_type=TEXT, stream=stream)


async def get_completed_logs_tail(context: Context) -> Response:
    """The end of the log as a JSON string; 404 before the end."""
    record = readable_ended(context)
    return Response.json(orjson.dumps(_log(context, record.id)[-MAX_SHOWN_LOG_CHARACTERS:]))


async def get_root_job_id(context: Context) -> Response:
    """The id of the job that began it all, itself if none, as a JSON string."""
    return Response.json(orjson.dumps(str(readable(context).root_id)))


async def get_started_at_by_ids(context: Context) -> Response:
    """When jobs started, in the order of the ids; null for those that did not, or that the caller may not see."""
    ids = parse_ids(await context.json())[:_MAX_STARTED_IDS]
    return Response.json(orjson.dumps([_started_at(context, job_id) for job_id in ids]))


async def job_view_token(context: Context) -> Response:
    """A token that lets anyone look at this job, as text."""
    record = readable(context)
    key = context.services.workspace_keys.find(context.workspace)
    if key is None:
        raise NotFound(f"workspace {context.workspace} has no key to sign with")
    return Response.text(view_token(key, record.id))


async def delete_completed(context: Context) -> Response:
    """Wipes what an ended job was given, answered and logged, and marks it as deleted; the job as it is then."""
    job_id = readable_ended(context).id
    job = context.services.jobs.get(job_id)
    if job is not None:  # its row is not written yet, or being written: see that it is written without the data
        job.deleted = True
    await context.services.job_store.wipe([job_id], deleted=True)
    return _completed(context, readable_ended(context))


async def db_clock(context: Context) -> Response:
    """The time of the server in milliseconds since 1970."""
    return Response.json(str(now_ms()).encode())


def _shown(context: Context, record: JobRecord) -> dict[str, Any]:
    log = None if context.query.flag("no_logs") else _log(context, record.id)
    with_code = not context.query.flag("no_code")
    shown = record.to_json(log=log or None, with_code=with_code)
    add_flow(context, record, shown, with_code=with_code)
    return shown


def _completed(context: Context, record: JobRecord) -> Response:
    shown = _shown(context, record)
    del shown["type"]
    return Response.json(orjson.dumps(shown))


def _started_at(context: Context, job_id: UUID) -> str | None:
    try:
        record = find_readable(context, job_id)
    except (BadRequest, NotFound, PermissionDenied):  # one job that is nobody else's business does not hide the others
        return None
    return rfc3339(record.started_at_ms) if record is not None else None


def _log_piece(context: Context, job_id: UUID, at: int) -> bytes:
    """A piece of the log as it is stored or, while the job is live, in memory."""
    job = context.services.jobs.get(job_id)
    if job is None:
        return context.services.job_store.output(job_id).log_piece(at, PIECE_BYTES)
    return job.log_piece(at, PIECE_BYTES)


def _log(context: Context, job_id: UUID) -> str:
    job = context.services.jobs.get(job_id)
    return job.log_text() if job is not None else context.services.job_store.log(job_id)
