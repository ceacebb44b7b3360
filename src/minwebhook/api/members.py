"""``/api/w/{workspace}/users``: who is in a workspace."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.auth.rights import EVERYONE
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.times import rfc3339


async def whoami(context: Context) -> Response:
    """The caller in this workspace."""
    principal, services = context.principal, context.services
    member = services.workspaces.find_member(context.workspace, email=principal.email)
    rights = services.auth.rights(context.workspace, principal.username)
    shown = {
        "workspace_id": context.workspace,
        "email": principal.email,
        "username": principal.username,
        "is_admin": principal.is_admin,
        "is_super_admin": principal.is_super_admin,
        "created_at": rfc3339(0 if member is None else member.created_at_ms),
        "groups": list(rights.groups),
        "operator": principal.operator,
        "disabled": False,
        "role": "admin" if principal.is_admin else "operator" if principal.operator else "developer",
        "folders_read": list(rights.folders_read),
        "folders": list(rights.folders_write),
        "folders_owners": list(rights.folders_owned),
        "name": None if member is None else member.name,
        "is_service_account": False,
        "non_member": member is None,
    }
    return Response.json(orjson.dumps(shown))


async def list_members(context: Context) -> Response:
    """The members, by name."""
    members = await context.services.workspaces.members(context.workspace)
    return Response.json(orjson.dumps([member.to_json() for member in members]))


async def list_usernames(context: Context) -> Response:
    """The names of the members that are not disabled."""
    members = await context.services.workspaces.members(context.workspace)
    return Response.json(orjson.dumps([member.username for member in members if not member.is_disabled]))


async def get(context: Context) -> Response:
    """One member by name."""
    member = context.services.workspaces.get_member(context.workspace, context.params["username"])
    return Response.json(orjson.dumps(member.to_json()))


async def username_to_email(context: Context) -> Response:
    """The e-mail of a member, as text."""
    return Response.text(context.services.workspaces.get_member(context.workspace, context.params["username"]).email)


async def exists(context: Context) -> Response:
    """Whether there is a member of this name."""
    username = Fields(await context.json()).required_text("username")
    found = context.services.workspaces.find_member(context.workspace, username=username)
    return Response.json(b"true" if found else b"false")


async def is_owner(context: Context) -> Response:
    """Whether the caller owns the path: it is below the caller's name, or a folder of which the caller is an owner."""
    kind, _, rest = context.params["path"].partition("/")
    name, principal = rest.partition("/")[0], context.principal
    rights = context.services.auth.rights(context.workspace, principal.username)
    owns = {
        "u": name == principal.username,
        "g": name in rights.groups and name != EVERYONE,
        "f": name in rights.folders_owned,
    }
    return Response.json(b"true" if principal.is_admin or owns.get(kind) else b"false")


async def update(context: Context) -> Response:
    """Changes a member: ``is_admin``, ``operator``, ``disabled``; for admins. It counts from the next request on."""
    fields, username = Fields(await context.json()), context.params["username"]
    await context.services.workspaces.update_member(
        context.workspace,
        username,
        is_admin=fields.flag("is_admin"),
        operator=fields.flag("operator"),
        is_disabled=fields.flag("disabled"),
    )
    return Response.text(f"user {username} updated")


async def delete(context: Context) -> Response:
    """Ends a membership, with the tokens of the user that are bound to the workspace; for admins."""
    username = context.params["username"]
    await context.services.workspaces.remove_member(context.workspace, username)
    return Response.text(f"user {username} removed from the workspace")


async def leave(context: Context) -> Response:
    """The caller leaves the workspace."""
    member = context.services.workspaces.find_member(context.workspace, email=context.principal.email)
    if member is None:
        raise BadRequest("you are no member of the workspace")
    await context.services.workspaces.remove_member(context.workspace, member.username)
    return Response.text("left the workspace")
