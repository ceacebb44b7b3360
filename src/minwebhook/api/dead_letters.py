"""``/api/w/{workspace}/jobs/dead_letters`` and ``jobs/replay``: what failed for good, and running ended jobs again.

A dead letter is an async job that was to be tried again and failed for good, or that ran each time the server died. It stays
in the list until it is driven again, or discarded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from minwebhook.api.context import Context
from minwebhook.api.job_access import readable_ended
from minwebhook.api.permissions import check_run, check_script_client, check_tag, job_conditions
from minwebhook.api.receiving import check_arguments
from minwebhook.api.waiting import is_wiped
from minwebhook.auth.principal import Principal
from minwebhook.errors import ApiError, BadRequest, Gone, NotFound, Unavailable
from minwebhook.http.messages import Response
from minwebhook.jobs.filters import DEFAULT_PER_PAGE, MAX_PER_PAGE
from minwebhook.jobs.model import DRIVEN_KINDS, FLOW, Job, JobSpec
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.submission import restored_spec
from minwebhook.times import now_ms

#: Jobs that one request drives again.
MAX_REDRIVEN: Final = 1000


async def list_dead(context: Context) -> Response:
    """One page of dead letters, those that ended last first."""
    per_page = min(max(context.number("per_page", DEFAULT_PER_PAGE), 1), MAX_PER_PAGE)
    page = max(context.number("page", 1), 1)
    records = await _dead(context, (page - 1) * per_page, per_page)
    with_arguments = context.query.flag("include_args")
    return Response.json(orjson.dumps([record.to_list_item(with_arguments=with_arguments) for record in records]))


async def redrive(context: Context) -> Response:
    """Runs one of them again: 201 and the id of the new job."""
    record = readable_ended(context)
    if not record.is_dead:
        raise NotFound(f"{record.id} is no dead letter; jobs/replay runs any ended job again")
    return Response.text(str((await run_again(context, record, use_latest_version=_wants_latest(context))).id), 201)


async def redrive_all(context: Context) -> Response:
    """Runs all of them again, or those of a script: the ids of the new jobs, and how many letters are left."""
    _wants_latest(context)  # a mistake is said also if there is no letter
    jobs: list[str] = []
    failed: dict[str, str] = {}
    for record in await _dead(context, 0, MAX_REDRIVEN):
        try:
            jobs.append(str((await run_again(context, record, use_latest_version=_wants_latest(context))).id))
        except Unavailable:
            if not jobs:
                raise
            break  # the queue is full: the rest stays
        except ApiError as error:
            failed[str(record.id)] = error.detail
    path, visible = context.query.get("script_path_exact"), job_conditions(context.principal, context.endpoint)
    left = await context.services.job_store.count_dead(context.workspace, path, visible)
    return Response.json(orjson.dumps({"jobs": jobs, "failed": failed, "left": left}))


async def discard(context: Context) -> Response:
    """Takes one of them off the list. The job stays what it is."""
    record = readable_ended(context)
    if not await context.services.job_store.discard_dead(record.id):
        raise NotFound(f"{record.id} is no dead letter")
    return Response.text(str(record.id))


async def replay(context: Context) -> Response:
    """Runs an ended job again with its arguments: 201 and the id of the new job."""
    return Response.text(
        str((await run_again(context, readable_ended(context), use_latest_version=_wants_latest(context))).id), 201
    )


async def _dead(context: Context, offset: int, limit: int) -> list[JobRecord]:
    path = context.query.get("script_path_exact")
    visible = job_conditions(context.principal, context.endpoint)
    return await context.services.job_store.list_dead(context.workspace, path, visible, offset=offset, limit=limit)


def _wants_latest(context: Context) -> bool:
    return context.query.flag("use_latest_version")


async def run_again(
    context: Context, record: JobRecord, *, use_latest_version: bool, arguments: bytes | None = None
) -> Job:
    """A new job like the old one, for whoever asks. A dead letter is none any more, and the job on disk, when this returns.

    ``arguments``: JSON text of others.
    """
    if record.kind in DRIVEN_KINDS:
        spec = flow_spec_again(context, record, use_latest_version=use_latest_version)
    else:
        check_run(context.principal, record.path if record.kind == "script" else None)
        spec = await _spec(context, record, use_latest_version=use_latest_version, arguments=arguments)
    if arguments is not None:
        spec = replace(spec, arguments=arguments, mask=b"")
    check_tag(context.principal, spec.tag)
    job = await context.services.jobs.submit(context.stamped(spec), revives=record.id if record.is_dead else None)
    context.started_job = job.id
    return job


async def _spec(context: Context, record: JobRecord, *, use_latest_version: bool, arguments: bytes | None) -> JobSpec:
    services, principal = context.services, context.principal
    script = None
    if record.path is not None and use_latest_version:
        script = services.scripts.deployed(record.workspace, record.path)
    elif record.script_hash is not None:
        script = services.scripts.find_by_hash(record.workspace, record.script_hash)
    if script is not None and script.deleted:
        script = None
    if record.deleted or (script is not None and is_wiped(record, script.delete_after_s, now_ms())):
        raise Gone(f"the arguments of job {record.id} were deleted")
    if script is None:
        check_run(principal, None)
    else:
        check_script_client(script, context.request.client)
        if arguments is not None:
            await check_arguments(context, script, arguments)
    spec = restored_spec(record if arguments is None else replace(record, arguments=arguments), script)
    if spec is None:
        raise Gone(
            f"the code of job {record.id} was deleted; send use_latest_version=true to run what its path has now"
        )
    return _again(spec, record, principal, None if script is None else script.hash)


def flow_spec_again(context: Context, record: JobRecord, *, use_latest_version: bool) -> JobSpec:
    """The spec of another run of a whole flow: its parts make no sense without it."""
    flows, principal = context.services.flows, context.principal
    if record.step_id:
        raise BadRequest(f"job {record.id} is a part of the flow job {record.root_id}: run that one again")
    if record.deleted:
        raise Gone(f"the arguments of job {record.id} were deleted")
    version: int | None = None
    if record.kind == FLOW:
        check_run(principal, record.path, "flows")
        if use_latest_version:
            version = flows.deployed(record.workspace, record.path or "").id
        else:
            version = record.script_hash
            if version is None or flows.version(record.workspace, version) is None:
                raise Gone(f"the flow of job {record.id} was deleted")
    else:
        check_run(principal, None)
    spec = restored_spec(record, None)
    assert spec is not None  # noqa: S101 - of a flow there is always one
    return _again(spec, record, principal, version)


def _again(spec: JobSpec, record: JobRecord, principal: Principal, script_hash: int | None) -> JobSpec:
    """The same for another caller, and on its own."""
    return replace(
        spec,
        step_id="",
        # These are what a preprocessor has made already.
        preprocess=spec.preprocess and not record.options.is_preprocessed,
        verbatim=spec.verbatim or record.options.is_preprocessed,
        restarted_from=None,
        script_hash=script_hash,
        created_by=principal.display_name,
        username=principal.username,
        email=principal.email,
        permissioned_as=principal.permissioned_as,
        owner=principal.owner,
        scopes=principal.scopes,
        authored=None,  # it is the caller's now, whoever wrote it
        parent_job=None,
        root_job=None,
    )
