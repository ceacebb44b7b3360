"""``/api/w/{workspace}/groups``: groups of members."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.auth.rights import parse_name
from minwebhook.http.messages import Response


async def create(context: Context) -> Response:
    """Makes an empty group; for admins."""
    fields = Fields(await context.json())
    context.audited_resource = name = parse_name(fields.get("name"))
    await context.services.groups.create(context.workspace, name, fields.text("summary"))
    return Response.text(f"created group {name}")


async def list_groups(context: Context) -> Response:
    """The groups with their members, ``all`` first."""
    groups = await context.services.groups.list_all(context.workspace)
    return Response.json(orjson.dumps([group.to_json(context.workspace) for group in groups]))


async def list_names(context: Context) -> Response:
    """Their names."""
    groups = await context.services.groups.list_all(context.workspace)
    return Response.json(orjson.dumps([group.name for group in groups]))


async def get(context: Context) -> Response:
    """One group."""
    group = context.services.groups.get(context.workspace, context.params["name"])
    return Response.json(orjson.dumps(group.to_json(context.workspace)))


async def update(context: Context) -> Response:
    """Changes the ``summary``; for admins."""
    name = context.params["name"]
    await context.services.groups.update(context.workspace, name, Fields(await context.json()).text("summary"))
    return Response.text(f"updated group {name}")


async def add_user(context: Context) -> Response:
    """A member of the workspace joins, ``{"username"}``; for admins."""
    name, username = context.params["name"], Fields(await context.json()).required_text("username")
    await context.services.groups.add(context.workspace, name, username)
    return Response.text(f"added {username} to group {name}")


async def remove_user(context: Context) -> Response:
    """A member leaves, ``{"username"}``; for admins."""
    name, username = context.params["name"], Fields(await context.json()).required_text("username")
    await context.services.groups.remove(context.workspace, name, username)
    return Response.text(f"removed {username} from group {name}")


async def delete(context: Context) -> Response:
    """Removes a group; for admins."""
    name = context.params["name"]
    await context.services.groups.delete(context.workspace, name)
    return Response.text(f"deleted group {name}")
