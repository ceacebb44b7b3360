"""``/api/w/{workspace}/jobs/run/{dependencies,flow_dependencies}``, and the same with ``_async`` behind it: finding the locks of
code that comes with the request."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.api.flows import check_languages
from minwebhook.api.imports import find_imports, find_step_imports
from minwebhook.api.permissions import check_tag
from minwebhook.api.waiting import answer_with_result
from minwebhook.errors import BadRequest
from minwebhook.flows.reading import read_value
from minwebhook.http.messages import Response
from minwebhook.jobs.model import JobSpec
from minwebhook.jobs.packages import code_lock_spec
from minwebhook.scripts.fields import text
from minwebhook.scripts.model import marked_language, parse_language


async def run_dependencies(context: Context) -> Response:
    """Queues the search for the packages of one script: 201 and the job's id. Its result is ``{"lock": TEXT}``."""
    return await _queue(context, await _script_spec(context))


async def run_wait_dependencies(context: Context) -> Response:
    """Finds the packages of one script: ``{"lock": TEXT}``."""
    return await answer_with_result(context, await _script_spec(context), None)


async def run_flow_dependencies(context: Context) -> Response:
    """Queues the search for the packages of the scripts within a flow: 201 and the job's id. Its result is
    ``{"updated_flow_value": {...}}``: the definition with the locks that it had not."""
    return await _queue(context, await _flow_spec(context))


async def run_wait_flow_dependencies(context: Context) -> Response:
    """Finds the packages of the scripts within a flow: ``{"updated_flow_value": {...}}``, the definition with the locks that it
    had not."""
    return await answer_with_result(context, await _flow_spec(context), None)


async def _queue(context: Context, spec: JobSpec) -> Response:
    job = await context.services.jobs.submit(context.stamped(spec))
    context.started_job = job.id
    return Response.text(str(job.id), 201)


async def _flow_spec(context: Context) -> JobSpec:
    body = Fields(await context.json())
    path, value = body.text("path") or "", body.get("flow_value")
    flow = read_value(value)
    await check_languages(context, flow)
    source = {"flow_value": value, "imports": find_step_imports(context, flow, path)}
    spec = code_lock_spec(
        context.workspace,
        "",
        orjson.dumps(source),
        path,
        username=context.principal.username,
        email=context.principal.email,
    )
    check_tag(context.principal, spec.tag)
    return spec


async def _script_spec(context: Context) -> JobSpec:
    body = await context.json()
    scripts = body.get("raw_scripts") if isinstance(body, dict) else None
    if not (isinstance(scripts, list) and len(scripts) == 1 and isinstance(scripts[0], dict)):
        raise BadRequest("raw_scripts: send a list with one object of raw_code, language and script_path")
    if (entrypoint := body.get("entrypoint")) is not None:
        text("entrypoint", entrypoint)  # only flows of several scripts have use for it
    raw = scripts[0]
    path = "" if raw.get("script_path") is None else text("script_path", raw["script_path"])
    code = text("raw_code", raw.get("raw_code"))
    language = marked_language(parse_language(raw.get("language")), code)
    spec = code_lock_spec(
        context.workspace,
        language.value,
        code.encode(),
        path,
        username=context.principal.username,
        email=context.principal.email,
        imports=find_imports(context, language, code, path),
    )
    check_tag(context.principal, spec.tag)
    return spec
