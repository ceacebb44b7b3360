"""``/api/w/{workspace}/jobs/ws``: running, following and cancelling many jobs on one WebSocket.

Each message is authorized like the HTTP route that does the same, so a token that ends takes the conversation with it. What
a client runs here it waits for: when it goes, its jobs go, as those of ``run_wait_result`` do. Jobs that it only follows
stay as they are.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import trio

from minwebhook.api.auditing import event_of
from minwebhook.api.context import Context, authorize, is_by_cookie
from minwebhook.api.endpoint import Endpoint, Resource
from minwebhook.api.job_access import find_cancellable, find_readable
from minwebhook.api.job_cancel import cancel, make_cancellation
from minwebhook.api.outbox import Outbox
from minwebhook.api.permissions import check_run, check_tag
from minwebhook.api.receiving import MAX_SLOW_IN_LOOP, check_arguments
from minwebhook.api.runs import check_queue, find_deployed, find_version, run_wait_by_path
from minwebhook.api.streams import getupdate_sse
from minwebhook.api.waiting import CONNECTION_BROKE
from minwebhook.audit.record import DELETED
from minwebhook.errors import ApiError, BadRequest, NotAuthorized, NotFound, PermissionDenied, Unavailable, WaitTimeout
from minwebhook.http.handshake import accept_websocket
from minwebhook.http.messages import Response
from minwebhook.http.origin import may_use_cookie
from minwebhook.http.websocket import WebSocket
from minwebhook.http.websocket_protocol import POLICY_VIOLATION, TRY_AGAIN_LATER
from minwebhook.jobs.executor import outcome_of
from minwebhook.jobs.large_values import LARGE_BYTES
from minwebhook.jobs.model import Cancellation, Job, JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.submission import script_spec
from minwebhook.jobs.subscription import Position, Subscription, Wants
from minwebhook.scripts.script import Script
from minwebhook.webhooks import messages
from minwebhook.webhooks.messages import NO_ID, BadMessage, Cancel, Id, Run, Subscribe
from minwebhook.webhooks.query import NO_RUN_OPTIONS
from minwebhook.webhooks.responses import Result

#: Which route a message stands for.
_ROUTES: Final[dict[type[Run | Subscribe | Cancel], Endpoint]] = {
    Run: Endpoint(run_wait_by_path, "jobs", "run", resource=Resource.FOUND, kind="scripts"),
    Subscribe: Endpoint(getupdate_sse, "jobs", "read", resource=Resource.FOUND, follows_run=True),
    Cancel: Endpoint(cancel, "jobs", "cancel", resource=Resource.FOUND),
}
#: What the audit log says of a job that was cancelled here, as of one by the route.
_CANCEL: Final = ("jobs.cancel", DELETED)


async def connect(context: Context) -> Response:
    """Opens the conversation. A page of another origin may not use the cookie for it."""
    if is_by_cookie(context.request) and not may_use_cookie(context.request, context.services.settings.server.base_url):
        raise PermissionDenied("a page of another origin cannot use the cookie; send a token of its own")

    async def talk(socket: WebSocket) -> None:
        traffic = context.services.traffic
        traffic.websockets += 1
        try:
            await _Conversation(context, socket).hold()
        finally:
            traffic.websockets -= 1

    return accept_websocket(context.request, talk, subprotocols=messages.SUBPROTOCOLS)


class _Waiting:
    """A run whose end is waited for here, for at most ``wait_result_timeout_s``."""

    __slots__ = ("_conversation", "is_late", "job", "refusal")

    def __init__(self, conversation: _Conversation, job: Job) -> None:
        self._conversation = conversation
        self.job = job
        self.is_late = False
        #: Why it was not run at all.
        self.refusal: Unavailable | None = None

    def expire(self) -> None:
        """The wait has lasted too long."""
        self.is_late = True
        self._conversation.drop(self.job)


class _Conversation:
    """One WebSocket.

    The task that holds it takes the messages, in their order, and starts the jobs; each request has a task of its own from
    then on, which ends with one ``result`` or ``error``. Runs that only have to wait for a process that is there already,
    which dedicated workers have, do without.
    """

    def __init__(self, context: Context, socket: WebSocket) -> None:
        self._context = context
        self._services = context.services
        self._socket = socket
        self._outbox = Outbox(socket)
        self._runs: set[_Waiting] = set()
        #: What is under way: how many requests, and their ids as JSON text, of those that have one.
        self._count = 0
        self._ids: set[str] = set()
        #: Runs without a task, and who waits for their end.
        self._started: set[_Waiting] = set()
        self._is_quiet = trio.Event()
        self._is_over = False

    async def hold(self) -> None:
        """Until the client goes, or the server stops: then runs may end, and their ends are told."""
        async with trio.open_nursery() as sender:
            sender.start_soon(self._outbox.run)
            try:
                async with trio.open_nursery() as runs, trio.open_nursery() as followers:
                    try:
                        while (message := await self._socket.receive()) is not None:
                            await self._take(message, runs, followers)
                    finally:
                        followers.cancel_scope.cancel()
                        if not self._socket.is_draining:
                            for waiting in list(self._runs):
                                self.drop(waiting.job)
                    runs.start_soon(self._await_started)
            finally:
                self._is_over = True
            self._outbox.close()

    async def _await_started(self) -> None:
        """Until no run without a task is under way."""
        while self._started:
            self._is_quiet = trio.Event()
            await self._is_quiet.wait()

    def drop(self, job: Job) -> None:
        """The job has no purpose any more."""
        self._services.jobs.cancel(job, Cancellation(self._context.principal.username, CONNECTION_BROKE))

    async def _take(self, message: str | bytes, runs: trio.Nursery, followers: trio.Nursery) -> None:
        try:
            asked = await self._parse(message)
        except BadMessage as error:
            await self._refuse(error.id, None, error)
            return
        limit = self._services.settings.jobs.max_websocket_jobs
        if self._count >= limit:
            await self._socket.close(TRY_AGAIN_LATER, f"more than {limit} jobs at once (max_websocket_jobs)")
            return
        context = self._context
        try:
            context.endpoint = _ROUTES[type(asked)]
            try:
                context.caller = authorize(context.endpoint, context.request, context.params, self._services)
            except NotAuthorized as error:  # the token has ended since the last message
                await self._socket.close(POLICY_VIOLATION, error.text)
                return
            if asked.id is not NO_ID and asked.id.text in self._ids:
                raise BadRequest("id: it is in use; send another one for each request under way")
            match asked:
                case Run():
                    is_busy = self._count > 0 or self._socket.has_more
                    script = self._find(asked)
                    await check_arguments(context, script, asked.arguments.text)
                    waiting = self._submit(asked, script)
                    # Nothing may come between a job and the executor: its turn may be now.
                    if not (is_busy and self._start(asked, waiting, runs)):
                        runs.start_soon(self._complete, asked, waiting)
                    # Messages go out in the order of the calls, so this is the first one of the job.
                    self._outbox.post(self._event("started", asked.id, waiting.job.id_text))
                case Subscribe(job_id=job_id):
                    if find_readable(context, job_id) is None:
                        raise NotFound(f"Job {job_id} not found")
                    self._enter(asked.id)
                    followers.start_soon(self._follow, asked.id, job_id, True)
                case Cancel(job_id=job_id):
                    self._cancel(asked)
                    self._enter(asked.id)
                    followers.start_soon(self._follow, asked.id, job_id, False)
        except ApiError as error:
            await self._refuse(asked.id, None, error)

    async def _parse(self, message: str | bytes) -> Run | Subscribe | Cancel:
        """Large messages are read beside the loop, as bodies are; CBOR, whose values are looked at one by one, in a thread."""
        if len(message) > LARGE_BYTES:
            return await self._services.large.message(message, self._socket.subprotocol)
        if isinstance(message, bytes) and len(message) > MAX_SLOW_IN_LOOP:
            return await trio.to_thread.run_sync(messages.parse, message, self._socket.subprotocol)
        return messages.parse(message, self._socket.subprotocol)

    # --- what is asked for --------------------------------------------------------------------------------------------

    def _find(self, asked: Run) -> Script:
        context = self._context
        if asked.path is not None:
            check_run(context.principal, asked.path)
            script = find_deployed(context, asked.path)
        else:
            script = find_version(context, asked.hash or "")
        if script.signature is not None:  # of a request, which this is not
            raise PermissionDenied("this script takes signed requests only; send one by HTTP")
        return script

    def _submit(self, asked: Run, script: Script) -> _Waiting:
        context, services = self._context, self._services
        limit = services.settings.jobs.queue_limit_wait_result
        check_queue(context, None if limit < 0 else limit)
        spec = script_spec(script, context.principal, asked.arguments, NO_RUN_OPTIONS, preprocess=False)
        check_tag(context.principal, spec.tag)
        job = services.jobs.submit_sync(context.stamped(spec))
        job.delete_after_s = script.delete_after_s
        waiting = _Waiting(self, job)
        self._runs.add(waiting)
        self._enter(asked.id)
        return waiting

    def _start(self, asked: Run, waiting: _Waiting, runs: trio.Nursery) -> bool:
        """Runs the job without a task, if that is possible. (One that is alone is better looked after by its own task.)"""
        if asked.logs or asked.stream:
            return False
        job, executor = waiting.job, self._services.executor

        def start() -> bool:
            return executor.start(job, lambda: self._end_started(asked, waiting, runs))

        def on_turn() -> bool:
            if not start():  # cancelled, too late, or it needs more
                if not self._is_over:
                    runs.start_soon(self._complete, asked, waiting)
                self._forget_started(waiting)
            return True

        if job.state is JobState.QUEUED and job.turn is not None:
            job.turn.on_set = on_turn
        elif not start():
            return False
        self._services.sync_waits.add(waiting)
        self._started.add(waiting)
        return True

    def _end_started(self, asked: Run, waiting: _Waiting, runs: trio.Nursery) -> None:
        self._discard(waiting)
        self._forget_started(waiting)
        if self._is_over:
            return
        if self._outbox.put_nowait(self._end_of(asked, waiting)):
            self._leave(asked.id)
        else:
            runs.start_soon(self._tell_end, asked, waiting)

    def _forget_started(self, waiting: _Waiting) -> None:
        self._started.discard(waiting)
        if not self._started:
            self._is_quiet.set()

    async def _complete(self, asked: Run, waiting: _Waiting) -> None:
        """Runs the job and tells its end."""
        self._services.sync_waits.add(waiting)
        try:
            if asked.logs or asked.stream:
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._tell_run, asked, waiting.job)
                    await self._run(waiting)
            else:
                await self._run(waiting)
        finally:
            self._discard(waiting)
        await self._tell_end(asked, waiting)

    async def _run(self, waiting: _Waiting) -> None:
        try:
            await self._services.executor.complete(waiting.job)
        except Unavailable as error:  # its turn has not come in time
            waiting.refusal = error

    def _discard(self, waiting: _Waiting) -> None:
        self._services.sync_waits.discard(waiting)
        self._runs.discard(waiting)

    def _end_of(self, asked: Run, waiting: _Waiting) -> str | bytes:
        """The message that tells how a run has ended."""
        job = waiting.job
        try:
            if waiting.refusal is not None:
                raise waiting.refusal
            outcome = outcome_of(job)
            if waiting.is_late:
                raise WaitTimeout(f"timeout after {self._services.settings.wait_result_s:g}s")
        except ApiError as error:
            return self._event("error", asked.id, job.id_text, message=error.text)
        result = Result(outcome.result, outcome.is_success, outcome.mask)
        return messages.result(self._socket.subprotocol, asked.id, job.id_text, result)

    async def _tell_end(self, asked: Run, waiting: _Waiting) -> None:
        try:
            await self._outbox.put(self._end_of(asked, waiting))
        finally:  # what a slow client has not taken counts as under way
            self._leave(asked.id)

    async def _tell_run(self, asked: Run, job: Job) -> None:
        with suppress(ApiError):  # it has not run to its end, which is told as such
            await self._tell_output(asked.id, job.id, wants_log=asked.logs, wants_stream=asked.stream)

    def _cancel(self, asked: Cancel) -> None:
        context, job_id = self._context, asked.job_id
        if find_cancellable(context, job_id) is None:
            raise NotFound(f"queued job id {job_id} does not exist")
        job = self._services.jobs.get(job_id)
        if job is None or not self._services.jobs.cancel(job, make_cancellation(context, asked.reason)):
            raise BadRequest(f"queued job id {job_id} is already completed")
        self._services.audit.post(event_of(context, _CANCEL, str(job_id)))

    async def _follow(self, message_id: Id, job_id: UUID, with_output: bool) -> None:
        """Tells the job's end, and before what it writes."""
        try:
            record = await self._tell_output(message_id, job_id, wants_log=with_output, wants_stream=with_output)
        except ApiError as error:
            await self._refuse(message_id, str(job_id), error)
        else:
            result = Result(record.result or b"null", record.state is JobState.SUCCESS, record.options.result_mask)
            await self._outbox.put(messages.result(self._socket.subprotocol, message_id, str(job_id), result))
        finally:
            self._leave(message_id)

    async def _tell_output(self, message_id: Id, job_id: UUID, *, wants_log: bool, wants_stream: bool) -> JobRecord:
        """What the job writes, until it has ended. Raises what :meth:`Subscription.next` raises."""
        services = self._services
        workspace = self._context.workspace
        subscription = Subscription(
            services.jobs, services.job_store, workspace, job_id, Position(), Wants(log=wants_log)
        )
        while True:
            await trio.lowlevel.checkpoint()
            progress = await subscription.next()
            if progress.ended is not None:
                return progress.ended
            if progress.log:
                await self._tell("log", message_id, str(job_id), text=progress.log)
            if wants_stream and progress.stream:
                await self._tell("stream", message_id, str(job_id), text=progress.stream)

    # --- what is told -------------------------------------------------------------------------------------------------

    async def _tell(self, kind: str, message_id: Id, job_id: str | None, **members: Any) -> None:
        await self._outbox.put(self._event(kind, message_id, job_id, **members))

    async def _refuse(self, message_id: Id, job_id: str | None, error: ApiError) -> None:
        await self._tell("error", message_id, job_id, message=error.text)

    def _event(self, kind: str, message_id: Id, job_id: str | None, **members: Any) -> str | bytes:
        return messages.event(self._socket.subprotocol, kind, message_id, job_id, **members)

    # --- what is under way --------------------------------------------------------------------------------------------

    def _enter(self, message_id: Id) -> None:
        self._count += 1
        if message_id is not NO_ID:
            self._ids.add(message_id.text)

    def _leave(self, message_id: Id) -> None:
        self._count -= 1
        if message_id is not NO_ID:
            self._ids.discard(message_id.text)
