"""``/api/w/{workspace}/scripts``: all paths at once, the history of one, and taking versions out of service, or away."""

from __future__ import annotations

from typing import Final

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.api.permissions import check_path, visible_paths
from minwebhook.api.scripts import find_version, get_by_path, path_of_file
from minwebhook.errors import AdminRequired, BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.scripts.fields import boolean, text
from minwebhook.scripts.model import TYPESCRIPT, hash_from_hex, split_extension
from minwebhook.scripts.script import Script
from minwebhook.scripts.specifiers import without_versions

#: Paths that are deleted at once.
MAX_AT_ONCE: Final = 1000


async def list_paths(context: Context) -> Response:
    """The paths of all scripts that are not archived."""
    found = await context.services.scripts.live(context.workspace, visible_paths(context.principal, "scripts"))
    return Response.json(orjson.dumps([path for path, _ in found]))


async def list_search(context: Context) -> Response:
    """Path and code of all scripts that are not archived, for a search in them."""
    within = visible_paths(context.principal, "scripts")
    found = await context.services.scripts.live(context.workspace, within, with_content=True)
    return Response.json(orjson.dumps([{"path": path, "content": content} for path, content in found]))


async def get_draft(context: Context) -> Response:
    """The newest version; what was saved and not deployed is not kept here, so there is no ``draft`` in it."""
    return await get_by_path(context)


async def get_latest_version(context: Context) -> Response:
    """The newest item of the history; null if there is no such script."""
    items = await context.services.scripts.history(context.workspace, context.params["path"])
    return Response.json(orjson.dumps(items[0].to_json() if items else None))


async def update_history(context: Context) -> Response:
    """Gives a version another deployment message."""
    script = find_version(context)
    if script.path != context.params["path"]:
        raise NotFound(f"version {context.params['hash']} is none of {context.params['path']}")
    context.audited_resource = script.path
    message = Fields(await context.json()).get("deployment_msg")
    message = text("deployment_msg", "" if message is None else message)
    await context.services.scripts.set_setting(context.workspace, script.hash, "deployment_message", message)
    return Response.text("history updated")


async def toggle_error_handler(context: Context) -> Response:
    """Notes whether a workspace's error handler is to hear of failed runs; there is none here that could."""
    script = context.services.scripts.get_by_path(context.workspace, context.params["path"])
    muted = boolean("muted", Fields(await context.json()).get("muted") or False)
    await context.services.scripts.set_setting(context.workspace, script.hash, "ws_error_handler_muted", muted)
    return Response.text(f"error handler {'muted' if muted else 'not muted'} for {script.path}")


async def archive_version(context: Context) -> Response:
    """Takes one version out of service: the version."""
    script = find_version(context)
    context.audited_resource = script.path
    return _shown(await context.services.scripts.archive_hash(context.workspace, script.hash))


async def delete_version(context: Context) -> Response:
    """Leaves nothing of the code, lock and schema of one version, and takes it out of service: what is left."""
    script = find_version(context)
    context.audited_resource = script.path
    return _shown(await context.services.scripts.delete_hash(context.workspace, script.hash))


async def delete(context: Context) -> Response:
    """Removes all versions of a script: the path. For admins; for others if it is a draft that was never deployed."""
    path = context.params["path"]
    script = context.services.scripts.newest(context.workspace, path)
    if not context.principal.is_admin and not (script is not None and script.settings.get("draft_only")):
        raise AdminRequired(context.principal.username)
    await context.services.scripts.delete_path(context.workspace, path)
    return Response.json(orjson.dumps(path))


async def delete_bulk(context: Context) -> Response:
    """Removes all versions of the scripts at ``paths``, all or none: the paths of those that were there."""
    paths = Fields(await context.json()).get("paths")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths) or len(paths) > MAX_AT_ONCE:
        raise BadRequest(f"paths: send an array of at most {MAX_AT_ONCE} paths")
    for path in paths:
        check_path(context.principal, context.endpoint, path)
    gone = await context.services.scripts.delete_paths(context.workspace, paths)
    context.audited_resource = ",".join(gone)
    return Response.json(orjson.dumps(gone))


async def raw_by_hash(context: Context) -> Response:
    """The code of one version, at ``{hash}`` or ``{hash}.{extension}``."""
    name = context.params["file"]
    digits, _ = split_extension(name) or (name, None)
    script = context.services.scripts.get_by_hash(context.workspace, hash_from_hex(digits))
    check_path(context.principal, context.endpoint, script.path)
    if script.deleted:
        raise NotFound(f"script not found at hash {digits}")
    return Response.text(script.content)


async def raw_unpinned(context: Context) -> Response:
    """The code of the live version, with imports of packages of npm without the versions that it asks for."""
    script = context.services.scripts.deployed(context.workspace, path_of_file(context))
    return Response.text(without_versions(script.content) if script.language in TYPESCRIPT else script.content)


def _shown(script: Script) -> Response:
    return Response.json(orjson.dumps(script.to_json()))
