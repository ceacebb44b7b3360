"""What an endpoint does is noted in the audit log, in the very transaction in which it is done."""

from __future__ import annotations

import sqlite3

from minwebhook.api.context import Context
from minwebhook.api.endpoint import Endpoint
from minwebhook.audit.record import Event
from minwebhook.auth.principal import ANONYMOUS
from minwebhook.http.messages import Response
from minwebhook.observability.redaction import redact
from minwebhook.times import now_ms

_FAILED = 400


async def call_audited(context: Context, endpoint: Endpoint) -> Response:
    """Calls an endpoint that changes something: with its change there is a record of it, without there is none.

    The record goes into the first transaction that the endpoint asks for, or, if it asks for none, into one of its own
    before the answer.
    """
    assert endpoint.audited is not None  # noqa: S101 - or it would be called without this
    what = endpoint.audited

    def append(connection: sqlite3.Connection) -> None:
        resource = context.audited_resource or _resource_of(context)
        context.services.audit.append(connection, (event_of(context, what, resource),))

    with context.services.db.together_with(append) as companion:
        response = await endpoint.call(context)
        if not companion.is_done and response.status < _FAILED:
            await context.services.db.transact(lambda connection: None)
    return response


def event_of(context: Context, what: tuple[str, str], resource: str | None) -> Event:
    """That the caller does this: an operation and its kind, as in :data:`~minwebhook.api.audited.AUDITED`."""
    username = ANONYMOUS if context.caller is None else context.caller.username
    workspace, said = context.params.get("workspace"), context.audited_parameters()
    return Event(*what, username, workspace, _redacted(resource), now_ms(), said)


def _redacted(resource: str | None) -> str | None:
    return None if resource is None else redact(resource)


def _resource_of(context: Context) -> str | None:
    """What the route names."""
    for name in ("path", "id", "hash", "name", "prefix", "email", "username", "workspace_id"):
        if name in context.params:
            return context.params[name]
    return None
