"""``/api/w/{workspace}/scripts``: versions of scripts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from minwebhook.api.context import Context
from minwebhook.api.imports import find_imports
from minwebhook.api.permissions import check_path, visible_paths
from minwebhook.api.rights import readable
from minwebhook.auth.rights import may_read
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.jobs.packages import submit_lock_job
from minwebhook.runtimes.programs import check_executable
from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.validation import ANNOTATION, asks_for_validation
from minwebhook.scripts.fields import text
from minwebhook.scripts.imports import FIELD
from minwebhook.scripts.model import (
    EXTENSIONS,
    Language,
    NewScript,
    hash_from_hex,
    hash_to_hex,
    parse_language,
    parse_script_path,
    split_extension,
)
from minwebhook.scripts.query import ScriptQuery
from minwebhook.scripts.script import Script
from minwebhook.times import now_ms
from minwebhook.variables.model import is_path


async def create(context: Context) -> Response:
    """Deploys a new version: 201 and its hash as bare text."""
    new = NewScript.parse(await context.json())
    check_path(context.principal, context.endpoint, new.path)
    await check_language(context, new.language, new.content)
    if imports := find_imports(context, new.language, new.content, new.path):
        lock = context.services.scripts.lock_with(context.workspace, new.lock, imports)
        new = replace(new, settings={**new.settings, FIELD: imports}, lock=lock)
    _check_secret(context, new)
    _check_parent(context, new)
    if new.lock is not None:
        context.services.executor.expect(new.language.value, new.source)
    if new.schema is None:
        new = replace(new, schema=await _schema_of(context, new.language, new.content))
    context.audited_resource = new.path
    script_hash = await context.services.scripts.create(
        context.workspace,
        new,
        context.principal.username,
        now_ms(),
        skip_if_noop=context.query.flag("skip_if_noop"),
    )
    if new.lock is None:
        await _find_lock(context, script_hash)
    else:
        await context.services.executor.settle(new.language.value, new.source)
    return Response.text(hash_to_hex(script_hash), 201)


async def check_language(context: Context, language: Language, content: str) -> None:
    """Raises :class:`BadRequest` if a script of this language and code cannot be run on this machine."""
    context.services.engines.check(language.value, content.encode())
    check_executable(language.value, content.encode())
    if reason := await context.services.programs.missing_after_check(language.value):
        raise BadRequest(reason)


async def _schema_of(context: Context, language: Language, content: str) -> dict[str, Any] | None:
    """The schema of a script that comes without; None if its signature cannot be read.

    Raises :class:`BadRequest` if the script wants its arguments checked by it.
    """
    try:
        return await context.services.schemas.read(language.value, content)
    except SchemaError as error:
        if asks_for_validation(language.value, content):
            raise BadRequest(f"{ANNOTATION}: the signature of main cannot be read, send a schema: {error}") from None
        return None


async def infer_schema(context: Context) -> Response:
    """The schema that a script with this code would get if it were deployed without one."""
    body = await context.json()
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object with content and language")
    language = parse_language(body.get("language"))
    content = text("content", body.get("content"))
    try:
        schema = await context.services.schemas.read(language.value, content)
    except SchemaError as error:
        raise BadRequest(f"content: {error}") from None
    return Response.json(orjson.dumps(schema))


def _check_secret(context: Context, new: NewScript) -> None:
    """A script's signature may be checked with a variable that its author may read. Raises :class:`BadRequest`."""
    signature = new.settings.get("signature")
    name = signature["secret"] if signature is not None else ""
    if is_path(name) and not readable(context, "variables", name):
        raise BadRequest(f"signature.secret: variable {name} is not yours to read")


def _check_parent(context: Context, new: NewScript) -> None:
    """A version that follows one at another path takes that out of service. Raises :class:`BadRequest`, 403."""
    if new.parent_hash is None:
        return
    parent = context.services.scripts.find_by_hash(context.workspace, new.parent_hash)
    if parent is None or parent.path == new.path:
        return
    if not may_read(context.principal, parent.path):  # as if it were not there
        raise BadRequest(f"parent_hash: there is no version {hash_to_hex(parent.hash)} in this workspace")
    check_path(context.principal, context.endpoint, parent.path)


async def _find_lock(context: Context, script_hash: int) -> None:
    """Has the packages of a version found; not if it is an old one whose packages are known, or looked for."""
    services = context.services
    script = services.scripts.get_by_hash(context.workspace, script_hash)
    if script.lock is None and (script.lock_job is None or script.lock_error_logs is not None):
        await submit_lock_job(services.scripts, services.jobs, script, context.principal.email)


async def deployment_status(context: Context) -> Response:
    """The packages of a version, or why they were not found, and the job that looked for them."""
    return Response.json(orjson.dumps(find_version(context).deployment_status()))


async def get_by_path(context: Context) -> Response:
    """The newest version, even if archived."""
    script = context.services.scripts.get_by_path(context.workspace, context.params["path"])
    return Response.json(orjson.dumps(script.to_json()))


async def get_by_hash(context: Context) -> Response:
    """One version."""
    return Response.json(orjson.dumps(find_version(context).to_json()))


def find_version(context: Context) -> Script:
    """The version of the route. Raises :class:`NotFound`, and 400 if it is no hash."""
    script = context.services.scripts.get_by_hash(context.workspace, hash_from_hex(context.params["hash"]))
    check_path(context.principal, context.endpoint, script.path)
    return script


async def list_scripts(context: Context) -> Response:
    """One page of scripts."""
    query = replace(ScriptQuery.parse(context.query.last_values()), within=visible_paths(context.principal, "scripts"))
    scripts = await context.services.scripts.list(context.workspace, query)
    items = [
        script.to_list_item(
            with_description=not query.without_description, with_deployment_msg=query.with_deployment_msg
        )
        for script in scripts
    ]
    return Response.json(orjson.dumps(items))


async def exists(context: Context) -> Response:
    """Whether there is any version."""
    found = context.services.scripts.exists(context.workspace, context.params["path"])
    return Response.json(orjson.dumps(found))


async def history(context: Context) -> Response:
    """Versions, newest first."""
    items = await context.services.scripts.history(context.workspace, context.params["path"])
    return Response.json(orjson.dumps([item.to_json() for item in items]))


async def list_users(context: Context) -> Response:
    """The paths of scripts that are not archived and import the script at a path."""
    within = visible_paths(context.principal, "scripts")
    found = await context.services.scripts.users_of(
        context.workspace, parse_script_path(context.params["path"]), within
    )
    return Response.json(orjson.dumps(found))


async def list_tokens(context: Context) -> Response:
    """The tokens, of all users, that are bound to the workspace and made for this script, newest first."""
    infos = await context.services.tokens.list_of_runnable(context.workspace, "scripts", context.params["path"])
    return Response.json(orjson.dumps([info.to_runnable_json() for info in infos]))


async def archive(context: Context) -> Response:
    """Takes a path out of service."""
    await context.services.scripts.archive_path(context.workspace, context.params["path"])
    return Response(200, b"", "text/plain; charset=utf-8")


async def raw(context: Context) -> Response:
    """The source of the live version at ``{path}.{extension}``."""
    return Response.text(context.services.scripts.deployed(context.workspace, path_of_file(context)).content)


def path_of_file(context: Context) -> str:
    """The path of the route without its ending. Raises :class:`BadRequest`."""
    known = split_extension(context.params["path"])
    if known is None:
        raise BadRequest(f"the path must end in one of {', '.join(EXTENSIONS)}")
    path, _ = known
    check_path(context.principal, context.endpoint, path)
    return path
