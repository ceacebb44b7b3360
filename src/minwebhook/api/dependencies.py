"""``/api/w/{workspace}/jobs/run/dependencies_async``: finding the lock of code that comes with the request."""

from __future__ import annotations

from minwebhook.api.context import Context
from minwebhook.api.imports import find_imports
from minwebhook.api.permissions import check_tag
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.jobs.packages import code_lock_spec
from minwebhook.scripts.fields import text
from minwebhook.scripts.model import marked_language, parse_language


async def run_dependencies(context: Context) -> Response:
    """Queues the search for the packages of one script: 201 and the job's id. Its result is ``{"lock": TEXT}``."""
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
    job = await context.services.jobs.submit(context.stamped(spec))
    context.started_job = job.id
    return Response.text(str(job.id), 201)
