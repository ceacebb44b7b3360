"""``/api/w/{workspace}/workspaces``: how a workspace is set up."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def edit_storage(context: Context) -> Response:
    """Sets where the workspace's objects are, or takes the setting away; admins only."""
    await context.services.storages.edit(context.workspace, await context.json(), now_ms())
    return Response.text(f"Edit large file storage config for workspace {context.workspace}")


async def secondary_names(context: Context) -> Response:
    """The names of the secondary storages."""
    return Response.json(orjson.dumps(context.services.storages.secondary_names(context.workspace)))
