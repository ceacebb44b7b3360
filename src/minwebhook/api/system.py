"""Version, health, description of the API, and the caller's identity."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

import minwebhook
from minwebhook.api.context import Context
from minwebhook.http.messages import Response
from minwebhook.times import now_ms, rfc3339


async def version(context: Context) -> Response:
    """The program's version as bare text, in the form clients parse."""
    return Response.text(f"CE v{minwebhook.__version__}")


async def health_status(context: Context) -> Response:
    """Whether the server can do its work: 200, or 503 when the database does not answer or it is shutting down."""
    try:
        context.services.db.read("SELECT 1")
        database_healthy = True
    except sqlite3.Error:
        database_healthy = False
    is_healthy = database_healthy and not context.services.is_draining
    shown: dict[str, Any] = {
        "status": "healthy" if is_healthy else "unhealthy",
        "checked_at": rfc3339(now_ms()),
        "database_healthy": database_healthy,
        "workers_alive": context.services.settings.worker_count,
    }
    if context.services.is_draining:
        shown["draining"] = True
    return Response.json(orjson.dumps(shown), 200 if is_healthy else 503)


async def openapi_json(context: Context) -> Response:
    """This API as an OpenAPI document, as JSON."""
    return Response.json(context.services.openapi_json)


async def openapi_yaml(context: Context) -> Response:
    """This API as an OpenAPI document, as YAML."""
    return Response(200, context.services.openapi_yaml, "application/yaml")


async def whoami(context: Context) -> Response:
    """The caller, instance-wide."""
    principal = context.principal
    shown = {
        "email": principal.email,
        "login_type": "password",
        "super_admin": principal.is_super_admin,
        "devops": principal.is_super_admin,
        "verified": True,
        "name": None,
        "company": None,
        "username": principal.username,
    }
    return Response.json(orjson.dumps(shown))
