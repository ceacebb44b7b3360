"""``/api/w/{workspace}/audit``: who did what."""

from __future__ import annotations

from typing import Final

import orjson

from minwebhook.api.context import Context, parse_number
from minwebhook.audit.log import AuditQuery
from minwebhook.audit.record import ACTION_KINDS
from minwebhook.errors import BadRequest, NotFound
from minwebhook.http.messages import Response
from minwebhook.times import parse_rfc3339

DEFAULT_PER_PAGE: Final = 100
MAX_PER_PAGE: Final = 1000
_MAX_WORDS: Final = 100
_MAX_PAGE: Final = 10**9


async def list_records(context: Context) -> Response:
    """Records, newest first: an admin sees all of the workspace, others their own."""
    query = context.query
    username = query.get("username") or None
    if not context.principal.is_admin:
        if username not in (None, context.principal.username):
            return Response.json(b"[]")
        username = context.principal.username
    kind = query.get("action_kind") or None
    if kind is not None and kind not in ACTION_KINDS:
        raise BadRequest(f"action_kind: send one of {', '.join(ACTION_KINDS)}")
    operation, operations = query.get("operation"), _words(context, "operations")
    wanted = AuditQuery(
        workspace=context.workspace,
        username=username,
        operations=(operation,) if operation else operations,
        without_operations=_words(context, "exclude_operations") or (),
        resource=query.get("resource") or None,
        action_kind=kind,
        before_ms=_time(context, "before"),
        after_ms=_time(context, "after"),
    )
    limit = min(max(context.number("per_page", DEFAULT_PER_PAGE), 1), MAX_PER_PAGE)
    page = min(max(context.number("page", 1), 1), _MAX_PAGE)
    found = await context.services.audit.list(wanted, limit=limit, offset=(page - 1) * limit)
    return Response.json(orjson.dumps([record.to_json() for record in found]))


async def get(context: Context) -> Response:
    """One record."""
    number = parse_number(context.params["id"], "id")
    found = context.services.audit.find(context.workspace, number)
    if found is None or not (context.principal.is_admin or found.username == context.principal.username):
        raise NotFound(f"audit log {number} not found")
    return Response.json(orjson.dumps(found.to_json()))


def _words(context: Context, name: str) -> tuple[str, ...] | None:
    text = context.query.get(name)
    if not text:
        return None
    words = tuple(text.split(","))
    if len(words) > _MAX_WORDS:
        raise BadRequest(f"{name}: send at most {_MAX_WORDS} words")
    return words


def _time(context: Context, name: str) -> int | None:
    text = context.query.get(name)
    if not text:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise BadRequest(f"{name}: send an RFC 3339 date-time such as 2030-01-31T12:00:00Z") from None
