"""``/api/w/{workspace}/jobs/run*/preview``: code that comes with the request. Of the query only ``job_id``, ``tag``,
``timeout`` and, for async runs, ``scheduled_*`` count."""

from __future__ import annotations

from typing import Any

from minwebhook.api.context import Context
from minwebhook.api.imports import find_imports
from minwebhook.api.permissions import check_tag
from minwebhook.api.runs import queue
from minwebhook.api.scripts import check_language
from minwebhook.api.waiting import answer_with_result
from minwebhook.errors import BadRequest
from minwebhook.http.codecs import json_text
from minwebhook.http.messages import Response
from minwebhook.jobs.model import JobSpec
from minwebhook.jobs.submission import preview_spec
from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.validation import ANNOTATION, asks_for_validation
from minwebhook.scripts.model import Language, check_content, marked_language, parse_language
from minwebhook.webhooks.query import RunOptions


async def run_preview(context: Context) -> Response:
    """Queues a run of code that comes with the request: 201 and the job's id, durable."""
    options = RunOptions.parse(context.query)
    return await queue(context, await _spec(context, options), options)


async def run_wait_preview(context: Context) -> Response:
    """Runs code that comes with the request and answers with its result."""
    options = RunOptions.parse(context.query)
    return await answer_with_result(context, await _spec(context, options), options.job_id)


async def _spec(context: Context, options: RunOptions) -> JobSpec:
    body = await context.json(exact=True)
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object with content, language and args")
    arguments = body.get("args")
    if arguments is not None and not isinstance(arguments, dict):
        raise BadRequest("args: send an object")
    if body.get("kind") not in (None, "code"):
        raise BadRequest("kind: only code is run here")
    content = _text(body, "content", "")
    language = marked_language(_language(body), content)
    check_content(language, content)
    await check_language(context, language, content)
    spec = preview_spec(
        context.workspace,
        context.principal,
        language=language,
        content=content,
        path=_text(body, "path", ""),
        arguments=json_text(arguments or {}),
        tag=options.tag or _text(body, "tag", "") or None,
        timeout_s=options.timeout_s,
    )
    if asks_for_validation(language.value, content):
        try:
            schema = await context.services.schemas.read(language.value, content)
        except SchemaError as error:
            raise BadRequest(f"{ANNOTATION}: the signature of main cannot be read: {error}") from None
        await context.services.large.check(schema, json_text(arguments or {}))
    imports = find_imports(context, language, content, spec.path)
    spec.imports = tuple(imports.items())
    spec.lock = context.services.scripts.lock_with(context.workspace, spec.lock, imports)
    check_tag(context.principal, spec.tag)
    return spec


def _language(body: dict[str, Any]) -> Language:
    if "language" not in body:
        raise BadRequest("language: say which, for example python3 or bash")
    return parse_language(body["language"])


def _text(body: dict[str, Any], name: str, default: str) -> str:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or "\0" in value:
        raise BadRequest(f"{name}: send a text without NUL characters")
    return value
