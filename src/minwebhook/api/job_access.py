"""Finding the job that a request names, and whether this caller may see or cancel it: asked here for every such route.

Whoever has a token sees the jobs that it is for (``permissions.py``). Without one, it is the jobs that anonymous callers
started. A view token shows the one job that it is for to anyone.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from minwebhook.api.context import Context
from minwebhook.api.permissions import may_see_job
from minwebhook.auth.principal import ANONYMOUS
from minwebhook.auth.view_tokens import is_view_token
from minwebhook.errors import AdminRequired, ApiError, BadRequest, NotFound, PermissionDenied
from minwebhook.jobs.model import Job
from minwebhook.jobs.record import JobRecord
from minwebhook.webhooks.query import RunOptions, parse_uuid

#: The workspace from which all others can be looked into.
_ADMINS: Final = "admins"
#: Ids that one request may send.
MAX_IDS: Final = 10_000
_ONLY_ANONYMOUS: Final = "As a non logged in user, you can only {verb} jobs ran by anonymous users"


def find_readable(context: Context, job_id: UUID) -> JobRecord | None:
    """A job of the workspace that the caller may look at; None if there is no such job.

    Raises :class:`PermissionDenied`, for callers without a token :class:`BadRequest`, and :class:`NotFound` for tokens that
    have to do with jobs of other tags only.
    """
    record = find(context, job_id)
    if record is not None and not may_read(context, record):
        raise _refusal(context, record, "see")
    return record


def find_cancellable(context: Context, job_id: UUID) -> JobRecord | None:
    """A job of the workspace that the caller may cancel; None if there is no such job. Raises as :func:`find_readable`."""
    record = find(context, job_id)
    if record is not None and not _is_free(context, record):
        raise _refusal(context, record, "cancel")
    return record


def check_family(context: Context, options: RunOptions) -> None:
    """Whether a run may say that it belongs to these jobs: one of a token with scopes to those alone that the token is for.

    Its scripts, which act for the user, would take the job that is named for their own. Raises :class:`PermissionDenied`.
    """
    if context.principal.scopes is None:
        return
    for name, job_id in (("parent_job", options.parent_job), ("root_job", options.root_job)):
        record = None if job_id is None else find(context, job_id)
        if record is not None and not may_see_job(context.principal, context.endpoint, record):
            raise PermissionDenied(f"{name}: the token is not for that job; leave it out")


def readable(context: Context) -> JobRecord:
    """The job of the route, whatever its state. Raises :class:`NotFound`, and as :func:`find_readable`."""
    job_id = context.job_id()
    record = find_readable(context, job_id)
    if record is None:
        raise NotFound(f"Job not found at name {job_id}")
    return record


def readable_ended(context: Context) -> JobRecord:
    """The job of the route once it has ended. Raises :class:`NotFound`, and as :func:`find_readable`."""
    job_id = context.job_id()
    record = find_readable(context, job_id)
    if record is None or not record.state.is_final:
        raise NotFound(f"Completed Job not found at name {job_id}")
    return record


def may_read(context: Context, record: JobRecord) -> bool:
    """Whether the caller may look at the job."""
    if _is_free(context, record):
        return True
    token = context.query.get("view_token") or context.request.headers.get("x-view-token")
    key = context.services.workspace_keys.find(record.workspace) if token else None
    return bool(token and key) and is_view_token(str(key), str(token), record.id)


def may_end(context: Context, job: Job) -> bool:
    """Whether the caller may cancel a live job."""
    return _is_free(context, JobRecord.of(job))


def searched_workspace(context: Context) -> str | None:
    """The workspace that a list is about; None is all of them, for super admins in ``admins`` who ask for it."""
    if not context.query.flag("all_workspaces"):
        return context.workspace
    if context.workspace != _ADMINS:
        raise BadRequest(f"all_workspaces: this is possible in the workspace {_ADMINS} only")
    if not context.principal.is_super_admin:
        raise AdminRequired(context.principal.username)
    return None


def parse_ids(body: Any) -> list[UUID]:
    """The job ids of a decoded JSON body. Raises :class:`BadRequest`."""
    if not isinstance(body, list) or not all(isinstance(item, str) for item in body):
        raise BadRequest("send a JSON array of job ids")
    if len(body) > MAX_IDS:
        raise BadRequest(f"send at most {MAX_IDS} job ids")
    return [parse_uuid(item, "job id") for item in body]


def _is_free(context: Context, record: JobRecord) -> bool:
    """Whether the caller may do with the job what the endpoint is for."""
    if context.caller is None:
        return record.created_by == ANONYMOUS
    return may_see_job(context.caller, context.endpoint, record)


def _refusal(context: Context, record: JobRecord, verb: str) -> ApiError:
    if context.caller is None:
        return BadRequest(_ONLY_ANONYMOUS.format(verb=verb))
    scopes = context.caller.scopes
    if scopes is not None and not scopes.allows_tag(record.tag):  # upstream's answer
        return NotFound(f"Job not found at name {record.id}")
    return PermissionDenied(
        f"you may not {verb} job {record.id}; whoever may see it can share it with a view token (jobs/job_view_token)"
    )


def find(context: Context, job_id: UUID) -> JobRecord | None:
    """A job of the workspace, whoever asks; None if there is no such job."""
    job = context.services.jobs.get(job_id)
    if job is not None:
        return JobRecord.of(job) if job.spec.workspace == context.workspace else None
    return context.services.job_store.get(context.workspace, job_id)
