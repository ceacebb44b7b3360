"""``/api/w/{workspace}/flows``: flows and their versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from minwebhook.api.context import Context, parse_number
from minwebhook.api.fields import Fields
from minwebhook.api.imports import find_step_imports
from minwebhook.api.permissions import check_path, visible_paths
from minwebhook.api.scripts import check_language
from minwebhook.auth.rights import may_read
from minwebhook.errors import BadRequest, NotFound
from minwebhook.flows.checks import warnings
from minwebhook.flows.model import FlowValue, RawScript
from minwebhook.flows.store import FlowQuery, FlowVersion, NewFlow
from minwebhook.http.messages import Response
from minwebhook.scripts.fields import boolean, text
from minwebhook.scripts.imports import FIELD
from minwebhook.scripts.locks import texts_of
from minwebhook.scripts.model import check_content, parse_script_path
from minwebhook.times import now_ms

#: Items of one page, at most.
MAX_PER_PAGE: Final = 1000


async def create(context: Context) -> Response:
    """Deploys a new flow: 201 and its path as bare text."""
    new = NewFlow.parse(await context.json())
    check_path(context.principal, context.endpoint, new.path)
    await check_languages(context, new.flow)
    context.audited_resource = new.path
    new = _with_imports(context, new)
    version = await context.services.flows.create(context.workspace, new, context.principal.username, now_ms())
    await _find_locks(context, version)
    return Response.text(new.path, 201)


def _with_imports(context: Context, new: NewFlow) -> NewFlow:
    imports = find_step_imports(context, new.flow, new.path)
    return replace(new, settings={**new.settings, FIELD: imports}) if imports else new


async def _find_locks(context: Context, number: int) -> None:
    """Has the packages of the scripts within a new version found."""
    services, principal = context.services, context.principal
    version = services.flows.version(context.workspace, number)
    if version is not None:
        await services.flow_locks.submit(services.jobs, version, principal.username, principal.email)


async def update(context: Context) -> Response:
    """Deploys a further version, at another path if its body says so; the path as bare text."""
    new = NewFlow.parse(await context.json())
    check_path(context.principal, context.endpoint, new.path)
    await check_languages(context, new.flow)
    path = context.params["path"]
    new = _with_imports(context, new)
    version = await context.services.flows.update(context.workspace, path, new, context.principal.username, now_ms())
    await _find_locks(context, version)
    return Response.text(new.path)


async def check_languages(context: Context, flow: FlowValue) -> None:
    """Raises :class:`BadRequest` if code within the flow cannot be run on this machine."""
    for module in flow.all_modules:
        value = module.value
        if isinstance(value, RawScript):
            try:
                check_content(value.language, value.content)
                texts_of(value.language.value, value.lock or "")
                await check_language(context, value.language, value.content)
            except BadRequest as error:
                raise BadRequest(f"module {module.id}: {error.detail}") from None


async def get(context: Context) -> Response:
    """The newest version, even of an archived flow."""
    return Response.json(orjson.dumps(context.services.flows.get(context.workspace, context.params["path"]).to_json()))


async def get_version(context: Context) -> Response:
    """One version."""
    return Response.json(orjson.dumps(find_version(context).to_json()))


async def get_version_of_path(context: Context) -> Response:
    """One version of the flow at a path."""
    version = find_version(context)
    if version.path != context.params["path"]:
        raise NotFound(f"flow version {version.id} is none of {context.params['path']}")
    return Response.json(orjson.dumps(version.to_json()))


async def get_draft(context: Context) -> Response:
    """The newest version; what was saved and not deployed is not kept here, so there is no ``draft`` in it."""
    return await get(context)


def find_version(context: Context) -> FlowVersion:
    """The version of the route. Raises :class:`NotFound`, and 400 if it is no number."""
    number = parse_number(context.params["version"], "version")
    version = context.services.flows.version(context.workspace, number)
    if version is None:
        raise NotFound(f"flow version {number} not found")
    check_path(context.principal, context.endpoint, version.path)
    return version


async def list_flows(context: Context) -> Response:
    """One page of flows."""
    query = context.query
    wanted = FlowQuery(
        page=context.number("page", 1),
        per_page=min(max(context.number("per_page", 30), 1), MAX_PER_PAGE),
        path_start=query.get("path_start") or None,
        path_exact=query.get("path_exact") or None,
        edited_by=query.get("edited_by") or None,
        show_archived=query.flag("show_archived"),
        order_desc=query.get("order_desc") != "false",
        include_draft_only=query.flag("include_draft_only"),
        starred_only=query.flag("starred_only"),
        within=visible_paths(context.principal, "flows"),
    )
    with_message, without = query.flag("with_deployment_msg"), query.flag("without_description")
    found = await context.services.flows.list(context.workspace, wanted)
    return Response.json(
        orjson.dumps(
            [each.to_list_item(with_deployment_msg=with_message, without_description=without) for each in found]
        )
    )


async def list_paths(context: Context) -> Response:
    """The paths of all flows that are not archived."""
    within = visible_paths(context.principal, "flows")
    return Response.json(
        orjson.dumps([each.path for each in await context.services.flows.live(context.workspace, within)])
    )


async def list_search(context: Context) -> Response:
    """Path and definition of all flows that are not archived, for a search in them."""
    within = visible_paths(context.principal, "flows")
    found = await context.services.flows.live(context.workspace, within)
    return Response.json(orjson.dumps([{"path": each.path, "value": orjson.Fragment(each.value)} for each in found]))


async def list_users(context: Context) -> Response:
    """The paths of flows that are not archived and use the script or flow at a path."""
    kind = context.params["kind"]
    if kind not in ("script", "flow"):
        raise BadRequest("send script or flow before the path")
    within = visible_paths(context.principal, "flows")
    path = parse_script_path(context.params["path"])
    return Response.json(orjson.dumps(await context.services.flows.users_of(context.workspace, kind, path, within)))


async def list_tokens(context: Context) -> Response:
    """The tokens, of all users, that are bound to the workspace and made for this flow, newest first."""
    infos = await context.services.tokens.list_of_runnable(context.workspace, "flows", context.params["path"])
    return Response.json(orjson.dumps([info.to_runnable_json() for info in infos]))


async def exists(context: Context) -> Response:
    """Whether there is a flow, archived or not."""
    return Response.json(orjson.dumps(context.services.flows.exists(context.workspace, context.params["path"])))


async def history(context: Context) -> Response:
    """Its versions, newest first."""
    versions = await context.services.flows.history(context.workspace, context.params["path"])
    return Response.json(orjson.dumps([version.to_history_item() for version in versions]))


async def get_latest_version(context: Context) -> Response:
    """The newest item of the history; null if there is no such flow."""
    versions = await context.services.flows.history(context.workspace, context.params["path"])
    return Response.json(orjson.dumps(versions[0].to_history_item() if versions else None))


async def update_history(context: Context) -> Response:
    """Gives a version another deployment message."""
    version = find_version(context)
    context.audited_resource = version.path
    body = await context.json()
    if not isinstance(body, dict):
        raise BadRequest("send an object with deployment_msg")
    message = body.get("deployment_msg")
    message = text("deployment_msg", "" if message is None else message)
    await context.services.flows.set_setting(version, "deployment_message", message)
    return Response.text("history updated")


async def toggle_error_handler(context: Context) -> Response:
    """Notes whether a workspace's error handler is to hear of failed runs; there is none here that could."""
    version = context.services.flows.get(context.workspace, context.params["path"])
    muted = boolean("muted", Fields(await context.json()).get("muted") or False)
    await context.services.flows.set_setting(version, "ws_error_handler_muted", muted)
    return Response.text(f"error handler {'muted' if muted else 'not muted'} for {version.path}")


async def archive(context: Context) -> Response:
    """Takes a flow out of service, or with ``archived: false`` back into it."""
    body = await context.json()
    if not isinstance(body, dict):
        raise BadRequest("send an object, with archived or empty")
    archived = body.get("archived")
    wanted = True if archived is None else boolean("archived", archived)
    path = context.params["path"]
    await context.services.flows.archive(context.workspace, path, archived=wanted)
    return Response.text(f"Flow {path} {'archived' if wanted else 'unarchived'}")


async def delete(context: Context) -> Response:
    """Removes a flow with all its versions."""
    path = context.params["path"]
    await context.services.flows.delete(context.workspace, path)
    return Response.text(f"Flow {path} deleted")


async def deployment_status(context: Context) -> Response:
    """The job that looked for the packages of the scripts within a flow, and why it did not find them. The flow can be run
    meanwhile: its steps find their packages themselves. ``warnings`` say what may be wrong."""
    services, workspace = context.services, context.workspace
    version = services.flows.get(workspace, context.params["path"])

    def exists(kind: str, path: str) -> bool:
        if not (context.principal.is_admin or may_read(context.principal, path)):
            return False
        return services.scripts.exists(workspace, path) if kind == "script" else services.flows.exists(workspace, path)

    shown = {
        "lock_error_logs": version.lock_error_logs,
        "job_id": version.lock_job,
        "warnings": warnings(version.flow, exists),
    }
    return Response.json(orjson.dumps(shown))
