"""``/api/w/{workspace}/jobs/run*/p|h``: starting deployed scripts, with the id or the result as the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

from minwebhook.api.context import Context
from minwebhook.api.job_access import check_family
from minwebhook.api.keys import begin_run, finish_key, submit_once
from minwebhook.api.permissions import check_run, check_script_client, check_tag
from minwebhook.api.receiving import check_arguments, receive_arguments
from minwebhook.api.waiting import answer_with_result
from minwebhook.errors import Internal, NotFound
from minwebhook.http.messages import Response
from minwebhook.jobs.model import JobSpec
from minwebhook.jobs.submission import script_spec
from minwebhook.scripts.model import hash_from_hex
from minwebhook.scripts.script import Script
from minwebhook.times import now_ms
from minwebhook.webhooks.arguments import Layout
from minwebhook.webhooks.query import RunOptions

#: Priority of jobs that a job starts by path, unless their script has one (upstream's rule).
_CHILD_PRIORITY: Final = 2


async def run_by_path(context: Context) -> Response:
    """Queues a run of the live version: 201 and the job's id, durable."""
    return accepted(await submit_by_path(context))


async def run_by_hash(context: Context) -> Response:
    """Queues a run of one version."""
    return accepted(await submit_by_hash(context))


async def submit_by_path(context: Context) -> UUID:
    """A queued run of the live version, on disk; or the one that has the idempotency key of the request."""
    begin_run(context)
    options = RunOptions.parse(context.query)
    spec = await _spec(context, _deployed(context), options)
    if spec.priority is None and (options.parent_job or options.root_job):
        spec = replace(spec, priority=_CHILD_PRIORITY)
    return await submit_once(context, spec, options.job_id, options.scheduled_ms(now_ms()), finish_key(context))


async def submit_by_hash(context: Context) -> UUID:
    """A queued run of one version, on disk; or the one that has the idempotency key of the request."""
    begin_run(context)
    options = RunOptions.parse(context.query)
    spec = await _version_spec(context, _version(context), options)
    return await submit_once(context, spec, options.job_id, options.scheduled_ms(now_ms()), finish_key(context))


async def run_wait_by_path(context: Context) -> Response:
    """Runs the live version and answers with its result."""
    begin_run(context)
    options = RunOptions.parse(context.query)
    script = _deployed(context)
    spec = await _spec(context, script, options)
    limit = context.services.settings.jobs.queue_limit_wait_result
    check_queue(context, options.queue_limit if limit < 0 else limit)
    return await answer_with_result(
        context, spec, options.job_id, delete_after_s=script.delete_after_s, key=finish_key(context)
    )


async def run_wait_by_hash(context: Context) -> Response:
    """Runs one version and answers with its result."""
    begin_run(context)
    options = RunOptions.parse(context.query)
    script = _version(context)
    spec = await _version_spec(context, script, options)
    check_queue(context, options.queue_limit)
    return await answer_with_result(
        context, spec, options.job_id, delete_after_s=script.delete_after_s, key=finish_key(context)
    )


async def head(context: Context) -> Response:
    """A liveness probe: runs nothing and looks nothing up."""
    return Response(200)


async def queue(context: Context, spec: JobSpec, options: RunOptions) -> Response:
    """The answer to an async call: the id of a job that is on disk."""
    return accepted(await submit_once(context, spec, options.job_id, options.scheduled_ms(now_ms())))


def accepted(job_id: UUID) -> Response:
    """The answer to an async call."""
    return Response.text(str(job_id), 201)


def _deployed(context: Context) -> Script:
    return find_deployed(context, context.params["path"])


def _version(context: Context) -> Script:
    return find_version(context, context.params["hash"])


def find_deployed(context: Context, path: str) -> Script:
    """The live version at a path that the caller may run. Raises :class:`NotFound`, and 403 for where the request is from."""
    script = context.services.scripts.deployed(context.workspace, path)
    check_script_client(script, context.request.client)
    return script


def find_version(context: Context, text: str) -> Script:
    """The version whose hash is ``text``, as :func:`find_deployed`; 400 if it is no hash."""
    script_hash = hash_from_hex(text)
    script = context.services.scripts.find_by_hash(context.workspace, script_hash)
    if script is None or script.deleted:
        raise NotFound(f"script not found at name {script_hash}")
    check_run(context.principal, script.path)
    check_script_client(script, context.request.client)
    return script


async def _version_spec(context: Context, script: Script, options: RunOptions) -> JobSpec:
    """By hash, a run may have its own ``cache_ttl``."""
    spec = await _spec(context, script, options)
    return spec if options.cache_ttl_s is None else replace(spec, cache_ttl_s=options.cache_ttl_s or None)


async def _spec(context: Context, script: Script, options: RunOptions) -> JobSpec:
    check_family(context, options)
    layout = Layout.PLAIN if options.skip_preprocessor else Layout.of(script.preprocessor_parameters)
    arguments = await receive_arguments(context, script, layout)
    if layout is Layout.PLAIN:  # those that a preprocessor makes are not checked
        await check_arguments(context, script, arguments.text)
    spec = script_spec(script, context.principal, arguments, options, preprocess=layout is not Layout.PLAIN)
    check_tag(context.principal, spec.tag)
    return spec


def check_queue(context: Context, limit: int | None) -> None:
    """Refuses a sync call that would have to wait behind more jobs than it wants to (upstream's answer)."""
    if limit is None:
        return
    count = context.services.jobs.due_count()
    if count > limit:
        raise Internal(f"Number of queued job is too high: {count} > {limit}", headers=(("Retry-After", "1"),))
