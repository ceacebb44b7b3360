"""Callers that wait for the result of a job: until its end, until they leave, or for as long as they prefer to.

A caller who leaves, or waits too long, takes its job along. One who prefers to wait for N seconds only gets the job's
address after that, and the job runs on; such a job is on disk from its start, because its address is a promise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self
from uuid import UUID

import trio

from minwebhook.api.context import Context
from minwebhook.api.keys import submit_once
from minwebhook.errors import ApiError, Gone, Unavailable, WaitTimeout
from minwebhook.http.messages import Response
from minwebhook.jobs.idempotency import IdempotencyKey
from minwebhook.jobs.model import Cancellation, Job, JobSpec, Outcome
from minwebhook.jobs.record import JobRecord
from minwebhook.times import now_ms
from minwebhook.webhooks.preferences import Preference
from minwebhook.webhooks.responses import Result

#: Why a job was cancelled whose caller went away or waited too long (upstream's word).
CONNECTION_BROKE = "http connection broke"


async def answer_with_result(
    context: Context,
    spec: JobSpec,
    job_id: UUID | None,
    *,
    delete_after_s: int | None = None,
    key: IdempotencyKey | None = None,
) -> Response:
    """Runs the job and answers with its result.

    ``delete_after_s``: arguments, result and log are blanked so many seconds after the job's end. With a ``key`` there is
    one job for all requests that have it, and it does not end with one of its callers.
    """
    preference = Preference.parse(context.request.headers)
    if key is not None:
        return await _answer_keyed(context, spec, job_id, key, preference, delete_after_s)
    spec = context.stamped(spec)
    if preference is not None:
        return await _answer_within(context, spec, job_id, preference, delete_after_s)
    services = context.services
    with _Caller(context) as caller:

        def on_start(job: Job) -> None:
            job.delete_after_s = delete_after_s
            caller.wait_for(job)
            context.started_job = job.id
            if context.uploads is not None:
                with context.uploads.handing_over():
                    pass  # it has begun: the files are in its hands

        outcome = await services.executor.run_sync(spec, job_id=job_id, on_start=on_start)
    return await _answer(context, caller, outcome)


async def _answer_within(
    context: Context, spec: JobSpec, job_id: UUID | None, preference: Preference, delete_after_s: int | None
) -> Response:
    """The result if the job ends in time, else 202 and where it will be: for that it must stay.

    When the server stops before the job's turn, that is said at once.
    """
    jobs = context.services.jobs
    with _Caller(context) as caller:
        with context.handing_over_uploads():
            job = await jobs.submit(spec, job_id=job_id)
        job.delete_after_s = delete_after_s
        caller.wait_for(job)
        context.started_job = job.id
        with trio.move_on_after(preference.wait_s):
            await jobs.wait(job)
        if job.answer is None:
            caller.job = job.delete_after_s = None  # it goes on without its caller
    if job.answer is None:
        return _later(context, job.id, preference, _server_timing(job))
    response = await _answer(context, caller, job.answer)
    response.headers += (("Preference-Applied", preference.applied),)
    return response


async def _answer_keyed(
    context: Context,
    spec: JobSpec,
    job_id: UUID | None,
    key: IdempotencyKey,
    preference: Preference | None,
    delete_after_s: int | None,
) -> Response:
    """The result of the job that the key has, made if there is none: for every request the same bytes."""
    services = context.services
    the_id = await submit_once(context, spec, job_id, key=key)
    job = services.jobs.get(the_id)
    if job is not None:
        if not job.state.is_final:
            job.delete_after_s = delete_after_s
        wait_s = services.settings.wait_result_s if preference is None else preference.wait_s
        with trio.CancelScope(relative_deadline=wait_s) as scope:
            forget = context.request.on_disconnect(scope.cancel)
            try:
                await services.jobs.wait(job)
            finally:
                forget()
        if (answer := job.answer) is not None:
            return await _rendered(context, Result(answer.result, answer.is_success, answer.mask))
        if preference is not None:
            return _later(context, the_id, preference, ())
        if not scope.cancelled_caught:
            raise Unavailable("the server stops; send the request again with its key")
        raise WaitTimeout(f"timeout after {wait_s:g}s; send the request again with its key to go on waiting")
    record = services.job_store.get(context.workspace, the_id)
    if record is None or record.deleted or is_wiped(record, delete_after_s, now_ms()):
        raise Gone(f"the job {the_id} of this idempotency key has ended, and its result was deleted")
    if not record.state.is_final:
        raise Unavailable("the server stops; send the request again with its key")
    return await _rendered(context, Result(record.result or b"null", record.is_success, record.options.result_mask))


def is_wiped(record: JobRecord, delete_after_s: int | None, at_ms: int) -> bool:
    """Whether nothing of an ended job is left, by what its script says of it."""
    return delete_after_s is not None and (record.completed_at_ms or 0) + 1000 * delete_after_s <= at_ms


def _later(context: Context, job_id: UUID, preference: Preference, timing: tuple[tuple[str, str], ...]) -> Response:
    """202, and where the result will be."""
    location = f"/api/w/{context.workspace}/jobs_u/completed/get_result/{job_id}"
    applied = ("Preference-Applied", preference.applied)
    return Response.text(str(job_id), 202, (("Location", location), applied, *timing))


async def _answer(context: Context, caller: _Caller, outcome: Outcome) -> Response:
    job = caller.job
    assert job is not None  # noqa: S101 - it has run
    timing = _server_timing(job)
    if caller.is_late:
        seconds = context.services.settings.wait_result_s
        raise WaitTimeout(f"timeout after {seconds:g}s", headers=timing)
    try:
        response = await _rendered(context, Result(outcome.result, outcome.is_success, outcome.mask))
    except ApiError as error:
        error.headers += timing
        raise
    response.headers += timing
    return response


async def _rendered(context: Context, result: Result) -> Response:
    return await context.services.large.response(
        result,
        failure_status=context.services.settings.jobs.sync_failure_status,
        as_cbor=context.wants_cbor,
    )


def _server_timing(job: Job) -> tuple[tuple[str, str], ...]:
    """Where the time went, in milliseconds (W3C Server Timing)."""
    timing = job.timing
    if timing is None:  # it has not run, or not to its end
        return (("Server-Timing", f"queue;dur={(time.perf_counter() - job.submitted_s) * 1000:.2f}"),)
    value = f"queue;dur={timing.queue_s * 1000:.2f}, start;dur={timing.start_s * 1000:.2f}, run;dur={timing.run_s * 1000:.2f}"
    return (("Server-Timing", value),)


class _Caller:
    """Someone who waits for a job, and without whom it has no purpose: leaving, or waiting for too long, cancels it.

    A context manager by hand: one of contextlib's costs a tenth of what a whole call of a dedicated worker does.
    """

    __slots__ = ("_context", "_forget", "_has_left", "is_late", "job")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.job: Job | None = None
        self.is_late = False
        self._has_left = False
        self._forget: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        self._forget = self._context.request.on_disconnect(self.leave)
        self._context.services.sync_waits.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.services.sync_waits.discard(self)
        if self._forget is not None:
            self._forget()
        self.leave()

    def wait_for(self, job: Job) -> None:
        """This is the job; its caller may have left while it was stored."""
        self.job = job
        if self._has_left:
            self.leave()

    def leave(self) -> None:
        """Cancels the job, unless it has ended."""
        self._has_left = True
        job = self.job
        if job is not None and not job.state.is_final and job.early is None:
            cancellation = Cancellation(self._context.principal.username, CONNECTION_BROKE)
            self._context.services.jobs.cancel(job, cancellation)

    def expire(self) -> None:
        """The wait has lasted too long."""
        self.is_late = True
        self.leave()
