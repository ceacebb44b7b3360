"""``/api/w/{workspace}/jobs/run*/f|fv|preview_flow``: starting flows, and the results of their steps."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import orjson

from minwebhook.api.context import Context, parse_number
from minwebhook.api.flow_restarts import restart_of_preview
from minwebhook.api.flow_views import add_flow, definition_of
from minwebhook.api.flows import check_languages
from minwebhook.api.imports import find_step_imports
from minwebhook.api.job_access import check_family, readable
from minwebhook.api.job_access import find as find_job
from minwebhook.api.keys import begin_run, finish_key, submit_once
from minwebhook.api.permissions import check_run, check_tag
from minwebhook.api.receiving import receive_arguments
from minwebhook.api.runs import accepted, check_queue, queue
from minwebhook.api.waiting import answer_with_result
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.reading import read_value
from minwebhook.flows.results import joined
from minwebhook.flows.specs import STEP_IMPORTS, flow_preview_spec, flow_spec
from minwebhook.flows.status import NO_JOB, FlowStatus, jobs_of
from minwebhook.flows.store import FlowVersion
from minwebhook.http.codecs import json_text
from minwebhook.http.messages import Response
from minwebhook.jobs.model import JobSpec
from minwebhook.scripts.fields import encoded_json, json_object, text
from minwebhook.times import now_ms
from minwebhook.webhooks.arguments import Layout
from minwebhook.webhooks.query import RunOptions

#: Jobs that are shown together.
_MAX_SHOWN: Final = 1000


async def run_by_path(context: Context) -> Response:
    """Queues a run of the newest version of a flow: 201 and the job's id, durable."""
    return accepted(await submit(context))


async def run_by_version(context: Context) -> Response:
    """Queues a run of one version of a flow."""
    return accepted(await submit(context))


async def submit(context: Context) -> UUID:
    """A queued run, on disk; or the one that has the idempotency key of the request."""
    begin_run(context)
    options = RunOptions.parse(context.query)
    spec = await _spec(context, options)
    return await submit_once(context, spec, options.job_id, options.scheduled_ms(now_ms()), finish_key(context))


async def run_wait_by_path(context: Context) -> Response:
    """Runs the newest version of a flow and answers with its result."""
    limit = context.services.settings.jobs.queue_limit_wait_result
    return await _run_wait(context, None if limit < 0 else limit)


async def run_wait_by_version(context: Context) -> Response:
    """Runs one version of a flow and answers with its result."""
    return await _run_wait(context, None)


async def _run_wait(context: Context, limit: int | None) -> Response:
    begin_run(context)
    options = RunOptions.parse(context.query)
    spec = await _spec(context, options)
    check_queue(context, options.queue_limit if limit is None else limit)
    return await answer_with_result(context, spec, options.job_id, key=finish_key(context))


async def run_preview(context: Context) -> Response:
    """Queues a run of a flow that comes with the request: 201 and the job's id, durable."""
    options = RunOptions.parse(context.query)
    return await queue(context, await _preview_spec(context, options), options)


async def run_wait_preview(context: Context) -> Response:
    """Runs a flow that comes with the request and answers with its result."""
    options = RunOptions.parse(context.query)
    return await answer_with_result(context, await _preview_spec(context, options), options.job_id)


def _version(context: Context) -> FlowVersion:
    flows = context.services.flows
    if "path" in context.params:
        return flows.deployed(context.workspace, context.params["path"])
    number = parse_number(context.params["version"], "version")
    version = flows.version(context.workspace, number)
    if version is None:
        raise NotFound(f"flow version {number} not found")
    check_run(context.principal, version.path, "flows")
    return version


async def _spec(context: Context, options: RunOptions) -> JobSpec:
    version = _version(context)
    check_family(context, options)
    layout = Layout.PLAIN if options.skip_preprocessor else Layout.of(version.preprocessor_parameters)
    arguments = await receive_arguments(context, None, layout)
    spec = flow_spec(version, context.principal, arguments, options, preprocess=layout is not Layout.PLAIN)
    check_tag(context.principal, spec.tag)
    return spec


async def _preview_spec(context: Context, options: RunOptions) -> JobSpec:
    body = await context.json(exact=True)
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object with value and args")
    arguments: Any = body.get("args")
    if arguments is not None and not isinstance(arguments, dict):
        raise BadRequest("args: send an object")
    value = json_object("value", body.get("value"))
    flow = read_value(value)
    await check_languages(context, flow)
    path = text("path", body.get("path") or "")
    spec = flow_preview_spec(
        context.workspace,
        context.principal,
        flow,
        encoded_json("value", {**value, STEP_IMPORTS: find_step_imports(context, flow, path)}).encode(),
        path=path,
        arguments=json_text(arguments or {}),
        tag=options.tag or text("tag", body.get("tag") or "") or None,
    )
    spec.timeout_s = options.timeout_s
    if body.get("restarted_from") is not None:
        spec.restarted_from = restart_of_preview(context, flow, body["restarted_from"])
    check_tag(context.principal, spec.tag)
    return spec


async def result_by_id(context: Context) -> Response:
    """The result of a step of a flow, while the flow runs or after; of a loop, or of all branches, an array.

    404 as long as there is none. ``json_path`` names a part of it.
    """
    record = readable(context)
    node = context.params["node"]
    result = None if record.flow_status is None else _result_of(context, FlowStatus.parse(record.flow_status), node)
    if result is None:
        raise NotFound(f"no result of step {node} in job {record.id}")
    path = context.query.get("json_path")
    return Response.json(result) if not path else await context.services.large.part(result, b"", path, as_cbor=False)


async def flow_env(context: Context) -> Response:
    """A value of the ``flow_env`` of a flow job; null if it has none of that name."""
    record = readable(context)
    definition = definition_of(context, record)
    if definition is None:
        raise NotFound(f"job {record.id} is no flow")
    return Response.json(json_text(definition.flow_env.get(context.params["env_name"])))


async def debug_info(context: Context) -> Response:
    """A flow job with all its jobs, by id; of a loop's iterations all. At most 1000."""
    record = readable(context)
    if not record.is_flow:
        raise NotFound(f"job {record.id} is no flow")
    found: dict[str, Any] = {}
    waiting = [record]
    while waiting and len(found) < _MAX_SHOWN:
        each = waiting.pop(0)
        shown = each.to_json()
        add_flow(context, each, shown, with_code=True)
        found[str(each.id)] = shown
        if each.flow_status is not None:
            jobs = jobs_of(FlowStatus.parse(each.flow_status))
            inner = (find_job(context, job_id) for job_id in jobs[: _MAX_SHOWN - len(found)])
            waiting += [job for job in inner if job is not None]
    return Response.json(orjson.dumps(found))


def _result_of(context: Context, status: FlowStatus, node: str) -> bytes | None:
    modules = [*status.modules, status.failure_module]
    module = next((each for each in modules if each.id == node and each.state.is_final), None)
    if module is None:
        for each in modules:  # the branch of an earlier step
            if each.branch_chosen is not None and each.job is not None and each.job != NO_JOB:
                record = context.services.job_store.get(context.workspace, each.job)
                if record is not None and record.flow_status is not None:
                    found = _result_of(context, FlowStatus.parse(record.flow_status), node)
                    if found is not None:
                        return found
        return None
    if module.flow_jobs is not None:
        return joined(_job_result(context, job) for job in module.flow_jobs)
    return b"null" if module.job is None or module.job == NO_JOB else _job_result(context, module.job)


def _job_result(context: Context, job_id: UUID) -> bytes:
    job = context.services.jobs.get(job_id)
    if job is not None:
        return job.kept_result() or b"null"
    record = context.services.job_store.get(context.workspace, job_id)
    return (record.result if record is not None else None) or b"null"
