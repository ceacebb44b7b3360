"""Requests with an idempotency key: one job for all of them, and the same answer.

::

    begin_run      before the body is read: if there is a key it is hashed as it comes
    finish_key     the key, for which the body must be known
    submit_once    the job of the key, made if there is none
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from minwebhook.api.context import Context
from minwebhook.jobs.idempotency import IdempotencyKey
from minwebhook.jobs.model import JobSpec


def begin_run(context: Context) -> None:
    """Refuses a new run at once if the queue is full, or the caller's share of it, before anything was done for it; has a
    keyed body hashed.

    Raises :class:`BadRequest`, :class:`Unavailable` and :class:`TooManyRequests`.
    """
    services = context.services
    if services.idempotency.sent(context.request.headers) is None:
        services.jobs.check_room(
            context.workspace,
            context.params.get("path", ""),
            context.principal.owner,
            waited_s=context.request.waited_s,
        )
        return
    query = "&".join(part for part in context.request.query.split("&") if not part.startswith("token="))
    context.body_digest = hashlib.sha256(query.encode("utf-8", "surrogateescape") + b"\n")


def finish_key(context: Context) -> IdempotencyKey | None:
    """The key of the request, whose body has been read; None if it has none."""
    if context.body_digest is None:
        return None
    sent = context.services.idempotency.sent(context.request.headers)
    assert sent is not None  # noqa: S101 - as begin_run saw
    params = context.params
    if context.endpoint.kind == "flows":
        kind, name = ("f", params["path"]) if "path" in params else ("fv", params["version"])
    else:
        kind, name = ("p", params["path"]) if "path" in params else ("h", params["hash"])
    return context.services.idempotency.make(
        sent,
        workspace=context.workspace,
        runnable=f"{kind}/{name}",
        email=context.principal.email,
        fingerprint=context.body_digest.digest(),
    )


async def submit_once(
    context: Context,
    spec: JobSpec,
    job_id: UUID | None,
    scheduled_for_ms: int | None = None,
    key: IdempotencyKey | None = None,
) -> UUID:
    """The id of a job that is on disk: the one that the key has already, or a new one."""
    services, spec = context.services, context.stamped(spec)
    if key is None:
        with context.handing_over_uploads():
            job = await services.jobs.submit(spec, job_id=job_id, scheduled_for_ms=scheduled_for_ms)
        context.started_job = job.id
        return job.id
    found = await services.idempotency.find(key)
    if found is not None:
        context.started_job = found
        return found
    with services.idempotency.claim(key), context.handing_over_uploads():
        job = await services.jobs.submit(spec, job_id=job_id, scheduled_for_ms=scheduled_for_ms, key=key)
    context.started_job = job.id
    return job.id
