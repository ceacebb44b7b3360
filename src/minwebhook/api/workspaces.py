"""``/api/workspaces`` and ``/api/w/{workspace}/workspaces``: which there are, who is in them, how they are set up."""

from __future__ import annotations

from typing import Any

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.auth.rights import parse_username, parse_workspace_id
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def list_own(context: Context) -> Response:
    """The workspaces of the caller."""
    workspaces = await context.services.workspaces.list_all(_only_of(context))
    return Response.json(orjson.dumps([each.to_json() for each in workspaces if not each.is_archived]))


async def list_as_super_admin(context: Context) -> Response:
    """All workspaces, archived ones too; for super admins."""
    workspaces = await context.services.workspaces.list_all()
    return Response.json(orjson.dumps([each.to_json() for each in workspaces]))


async def list_users(context: Context) -> Response:
    """The caller's workspaces with the caller's name in each: ``{"email", "workspaces"}``."""
    email = context.principal.email
    workspaces = await context.services.workspaces.list_all(email)
    return Response.json(orjson.dumps({"email": email, "workspaces": [each.to_user_json() for each in workspaces]}))


async def create(context: Context) -> Response:
    """Makes a workspace whose admin is the caller; for super admins."""
    fields, principal = Fields(await context.json()), context.principal
    context.audited_resource = workspace = parse_workspace_id(fields.get("id"))
    name = fields.required_text("name")
    username = fields.text("username")
    username = parse_username(username) if username else principal.username
    await context.services.workspaces.create(workspace, name, principal.email, username, now_ms())
    return Response.text(f"created workspace {workspace}", 201)


async def exists(context: Context) -> Response:
    """Whether there is a workspace with this ``id``."""
    workspace = Fields(await context.json()).required_text("id")
    return Response.json(b"true" if context.services.workspaces.find(workspace) else b"false")


async def unarchive(context: Context) -> Response:
    """Puts a workspace back into service; for super admins."""
    workspace = context.params["workspace_id"]
    await context.services.workspaces.set_archived(workspace, False)
    return Response.text(f"unarchived workspace {workspace}")


async def archive(context: Context) -> Response:
    """Takes the workspace out of service; nothing in it is lost. For its admins."""
    await context.services.workspaces.set_archived(context.workspace, True)
    return Response.text(f"archived workspace {context.workspace}")


async def delete(context: Context) -> Response:
    """Removes an archived workspace for good, with scripts, flows, jobs, variables and tokens; for super admins.

    400 while it is in service, or jobs of it have not ended. Objects in storages stay, and so does the audit log.
    """
    services, workspace = context.services, context.params["workspace_id"]
    if any(not job.state.is_final for job in services.jobs.live(workspace)):
        raise BadRequest(f"jobs of the workspace {workspace} have not ended; cancel them first")
    await services.workspaces.delete(workspace)
    services.scripts.forget(workspace)
    services.flows.forget(workspace)
    services.storages.forget(workspace)
    return Response.text(f"deleted workspace {workspace}")


async def exists_username(context: Context) -> Response:
    """Whether a workspace ``id`` has a member of the name ``username``."""
    fields = Fields(await context.json())
    workspace, username = fields.required_text("id"), fields.required_text("username")
    found = context.services.workspaces.find_member(workspace, username=username)
    return Response.json(b"true" if found else b"false")


async def is_creation_restricted(context: Context) -> Response:
    """Whether only super admins make workspaces: always."""
    return Response.json(b"true")


async def get_settings(context: Context) -> Response:
    """How the workspace is set up, without secrets; for its admins."""
    workspace = context.services.workspaces.find(context.workspace)
    shown = {
        "workspace_id": context.workspace,
        "name": workspace.name if workspace else "",
        "large_file_storage": _storage_shown(context),
        # Windmill's, which are not here.
        **dict.fromkeys(("webhook", "deploy_to", "error_handler", "default_app", "color")),
    }
    return Response.json(orjson.dumps(shown))


async def get_public_settings(context: Context) -> Response:
    """What every member may know of it."""
    shown = {"workspace_id": context.workspace, "large_file_storage": _storage_shown(context)}
    return Response.json(orjson.dumps(shown))


def _storage_shown(context: Context) -> dict[str, Any] | None:
    """Of what type the storages are; null if the workspace has none of its own."""
    config = context.services.storages.config(context.workspace)
    if config is None:
        return None
    others = config.json.get("secondary_storage") or {}
    secondary = {name: {"type": each["type"]} for name, each in others.items()}
    return {"type": config.json["type"], "secondary_storage": secondary}


async def get_encryption_key(context: Context) -> Response:
    """The key that the workspace signs with, ``{"key"}``; for its admins."""
    return Response.json(orjson.dumps({"key": context.services.workspace_keys.find(context.workspace)}))


async def set_encryption_key(context: Context) -> Response:
    """Gives the workspace the key ``new_key``: what the old one signed, such as view tokens, is worth nothing any more."""
    fields = Fields(await context.json())
    fields.flag("skip_reencrypt")
    await context.services.workspace_keys.replace(context.workspace, fields.required_text("new_key"))
    return Response.text("encryption key updated")


async def get_name(context: Context) -> Response:
    """The workspace's name, as text."""
    workspace = context.services.workspaces.find(context.workspace)
    return Response.text(workspace.name if workspace else "")


async def add_user(context: Context) -> Response:
    """A user of the instance becomes a member: ``{"email", "username"?, "is_admin"?, "operator"?}``; for admins."""
    fields = Fields(await context.json())
    email, username = fields.email(), fields.text("username")
    context.audited_resource = email
    await context.services.workspaces.add_member(
        context.workspace,
        email,
        parse_username(username) if username else None,
        bool(fields.flag("is_admin")),
        bool(fields.flag("operator")),
        now_ms(),
    )
    return Response.text(f"user {email} added to the workspace", 201)


def _only_of(context: Context) -> str | None:
    """Whose workspaces the caller sees: super admins all."""
    return None if context.principal.is_super_admin else context.principal.email


async def edit_storage(context: Context) -> Response:
    """Sets where the workspace's objects are, or takes the setting away; admins only."""
    await context.services.storages.edit(context.workspace, await context.json(), now_ms())
    return Response.text(f"Edit large file storage config for workspace {context.workspace}")


async def secondary_names(context: Context) -> Response:
    """The names of the secondary storages."""
    return Response.json(orjson.dumps(context.services.storages.secondary_names(context.workspace)))
