"""``run_and_stream``, ``getupdate_sse`` and ``getupdate``: following a job as it runs.

A stream is a reader: it never cancels or restarts its job. A client that comes back with the id of its last event, in
``Last-Event-ID``, goes on behind that event, and never starts a second job.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import orjson
import trio

from minwebhook.api import flow_runs
from minwebhook.api.context import Context, parse_number
from minwebhook.api.job_access import find_readable
from minwebhook.api.runs import submit_by_hash, submit_by_path
from minwebhook.errors import ApiError, BadRequest, NotFound, Unavailable
from minwebhook.http.messages import Response
from minwebhook.http.sse import EventWriter, encode_event, encode_retry, event_stream
from minwebhook.http.transport import Disconnected
from minwebhook.jobs.model import FLOW
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.subscription import Position, Progress, Subscription, Wants
from minwebhook.scripts.model import hash_from_hex
from minwebhook.settings import StreamSettings
from minwebhook.webhooks.updates import EventId, Members, UpdateOptions, update_text

_ONLY_RESULT: Final = UpdateOptions(only_result=True)
_UPDATE: Final[Members] = {"type": "update"}


async def run_and_stream_by_path(context: Context) -> Response:
    """Runs the live version and streams its result."""
    path = context.params["path"]
    return await _run_and_stream(context, submit_by_path, lambda record: record.path == path)


async def run_and_stream_by_hash(context: Context) -> Response:
    """Runs one version and streams its result."""
    script_hash = hash_from_hex(context.params["hash"])
    return await _run_and_stream(context, submit_by_hash, lambda record: record.script_hash == script_hash)


async def run_and_stream_flow_by_path(context: Context) -> Response:
    """Runs the newest version of a flow and streams its result."""
    path = context.params["path"]
    return await _run_and_stream(context, flow_runs.submit, lambda record: (record.kind, record.path) == (FLOW, path))


async def run_and_stream_flow_by_version(context: Context) -> Response:
    """Runs one version of a flow and streams its result."""
    version = parse_number(context.params["version"], "version")
    return await _run_and_stream(
        context, flow_runs.submit, lambda record: (record.kind, record.script_hash) == (FLOW, version)
    )


async def _run_and_stream(
    context: Context, submit: Callable[[Context], Awaitable[UUID]], is_run: Callable[[JobRecord], bool]
) -> Response:
    last = _last_event(context)
    if last is None:
        return _stream(context, EventId(await submit(context)), _ONLY_RESULT)
    if not is_run(_job(context, last.job_id)):
        raise BadRequest("Last-Event-ID: it is of a job of another script; leave it out to start a job of this one")
    return _stream(context, last, _ONLY_RESULT, is_continued=True)


async def getupdate_sse(context: Context) -> Response:
    """What is new of the job, as events, until its end."""
    options = UpdateOptions.parse(context.query)
    job = _job(context, context.job_id())
    last = _last_event(context)
    if last is None:
        return _stream(context, EventId(job.id, options.log, options.stream), options)
    if last.job_id != job.id:
        raise BadRequest("Last-Event-ID: it is of another job")
    return _stream(context, last, options, is_continued=True)


async def getupdate(context: Context) -> Response:
    """All that is new of the job since the offsets, as one update."""
    options = UpdateOptions.parse(context.query)
    job = _job(context, context.job_id())
    subscription = _subscribe(context, job.id, Position(options.log, options.stream), options)
    logs: list[str] = []
    chunks: list[str] = []
    progress = last = subscription.read()
    while progress is not None and progress.ended is None:
        logs.append(progress.log)
        chunks.append(progress.stream or "")
        last = progress
        progress = subscription.read()
    last = progress or last
    assert last is not None  # noqa: S101 - the first read gives something
    percent = last.ended.options.percent if last.ended is not None else job.options.percent
    flow_status = last.ended.flow_status if last.ended is not None else job.flow_status
    has_ended = last.ended is not None
    members: Members = {
        "running": options.running_member(is_running=last.is_running, has_ended=has_ended),
        "completed": has_ended if not options.only_result else has_ended or None,
        "new_logs": "".join(logs) or None,
        "new_result_stream": "".join(chunks) or None,
        "log_offset": last.position.log + 1 if options.wants_log else None,
        "stream_offset": last.position.stream,
        "progress": percent if options.get_progress else None,
        "flow_status": orjson.Fragment(flow_status) if flow_status is not None and not options.only_result else None,
        "flow_stream_job_id": str(last.stream_job) if last.stream_job is not None else None,
    }
    shown = {name: value for name, value in members.items() if value is not None}
    if last.ended is not None and options.only_result:
        shown["only_result"] = orjson.Fragment(last.ended.result or b"null")
    return Response.json(update_text(shown))


def _last_event(context: Context) -> EventId | None:
    text = context.request.headers.get("last-event-id")
    return EventId.parse(text) if text else None


def _job(context: Context, job_id: UUID) -> JobRecord:
    """A job that the caller may follow. Raises :class:`NotFound`, and what :func:`find_readable` raises."""
    record = find_readable(context, job_id)
    if record is None:
        raise NotFound(f"Job {job_id} not found")
    return record


def _subscribe(
    context: Context, job_id: UUID, position: Position, options: UpdateOptions, *, is_caller: bool = False
) -> Subscription:
    services = context.services
    wants = Wants(options.wants_log, options.get_progress, status=not options.only_result, is_caller=is_caller)
    return Subscription(services.jobs, services.job_store, context.workspace, job_id, position, wants)


def _stream(context: Context, start: EventId, options: UpdateOptions, *, is_continued: bool = False) -> Response:
    """The events behind ``start``. 204 if that was the last one: it tells an ``EventSource`` to stay away."""
    if start.is_end:
        return Response(204)
    settings = context.services.settings.streams
    subscription = _subscribe(
        context, start.job_id, Position(start.log, start.stream), options, is_caller=options is _ONLY_RESULT
    )
    follower = _Follower(subscription, start, options, settings)
    on_disconnect = context.request.on_disconnect

    async def write(events: EventWriter) -> None:
        traffic = context.services.traffic
        with trio.CancelScope() as connected:
            forget = on_disconnect(connected.cancel)
            traffic.streams += 1
            try:
                await follower.write(events, is_continued=is_continued)
            finally:
                traffic.streams -= 1
                forget()
        if connected.cancelled_caught:
            raise Disconnected

    return event_stream(write, heartbeats=context.services.heartbeats, retry_s=settings.stream_retry_s)


class _Follower:
    """Turns what is new of a job into the events of one stream."""

    def __init__(
        self, subscription: Subscription, start: EventId, options: UpdateOptions, settings: StreamSettings
    ) -> None:
        self._subscription = subscription
        self._last = start
        self._options = options
        self._settings = settings
        self.has_ended = False
        self.has_more = True
        #: What its events depend on, of what it wants.
        self._kind = (options.only_result, options.running)
        #: What the member ``running`` said last.
        self._running = True if start.is_running_told else None
        self._stream_job: UUID | None = None

    async def write(self, events: EventWriter, *, is_continued: bool) -> None:
        """Writes until the job has ended, or the stream has lasted too long, or the server stops."""
        until = trio.current_time() + (self._settings.stream_timeout_s or math.inf)
        if not is_continued:  # so that the client knows the job, and can come back
            await events.send(encode_event(update_text(_UPDATE), event_id=str(self._last)))
        try:
            if not await events.send_all(self, until=until):
                await events.send(encode_event(update_text({"type": "timeout"})))
        except Unavailable:
            # It stops, or the disk is in trouble: the client comes back, and goes on behind its last event.
            await events.send(encode_retry(self._settings.stream_retry_s))
        except ApiError as error:
            gone: Members = {"type": "notfound"}
            what = gone if isinstance(error, NotFound) else {"type": "error", "error": error.text}
            await events.send(encode_event(update_text(what)))

    def take(self) -> bytes | None:
        """The next event; None if nothing is new. Followers who know and want the same get the same bytes."""
        while (progress := self._subscription.read()) is not None:
            key = (self._kind, self._running, self._stream_job)
            found = progress.rendered.get(key)
            if found is None:
                found = progress.rendered[key] = self._render(progress)
            event, self._running, self._last = found
            self._stream_job = progress.stream_job
            self.has_more = progress.has_more
            self.has_ended = progress.ended is not None
            if event is not None:
                return event
        return None

    async def wait(self, on_news: Callable[[], bool]) -> None:
        """Until there may be something new, and ``on_news`` says False to it."""
        await self._subscription.wait(on_news)

    def _render(self, progress: Progress) -> tuple[bytes | None, bool | None, EventId]:
        """The event that says it, if there is something to say; what ``running`` has said then, and the event's id."""
        options, ended, position = self._options, progress.ended, progress.position
        members = dict(_UPDATE)
        told = self._running
        running = options.running_member(is_running=progress.is_running, has_ended=ended is not None)
        if running is not None and running != told:
            members["running"] = told = running
        if ended is not None:
            members["completed"] = True
        if progress.log:
            members["new_logs"] = progress.log
        if progress.stream is not None:
            members["new_result_stream"] = progress.stream
        if progress.log:
            members["log_offset"] = position.log + 1
        if progress.stream is not None:
            members["stream_offset"] = position.stream
        if progress.percent is not None:
            members["progress"] = progress.percent
        if progress.status is not None:
            members["flow_status"] = orjson.Fragment(progress.status)
        if progress.stream_job is not None and progress.stream_job != self._stream_job:
            members["flow_stream_job_id"] = str(progress.stream_job)
        if ended is not None and options.only_result:
            members["only_result"] = orjson.Fragment(ended.result or b"null")
        elif ended is not None:
            members["job"] = ended.to_json(with_code=False)
        last = EventId(self._last.job_id, position.log, position.stream, told is True, is_end=ended is not None)
        event = encode_event(update_text(members), event_id=str(last)) if len(members) > 1 else None
        return event, told, last
