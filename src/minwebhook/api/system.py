"""Version, description of the API, and the caller's identity."""

from __future__ import annotations

import trio

import minwebhook
from minwebhook.api.context import Context
from minwebhook.http.messages import Response


async def version(context: Context) -> Response:
    """The program's version as bare text, in the form clients parse."""
    return Response.text(f"CE v{minwebhook.__version__}")


async def openapi_json(context: Context) -> Response:
    """This API as an OpenAPI document, as JSON."""
    return Response.json(await trio.to_thread.run_sync(context.services.openapi_json))


async def openapi_yaml(context: Context) -> Response:
    """This API as an OpenAPI document, as YAML."""
    return Response(200, await trio.to_thread.run_sync(context.services.openapi_yaml), "application/yaml")


async def uptodate(context: Context) -> Response:
    """Whether this is the newest version, as text: the server asks nobody, so it always says so."""
    return Response.text("yes")


async def ee_license(context: Context) -> Response:
    """The license of an enterprise edition, as text: there is none."""
    return Response.text("")
