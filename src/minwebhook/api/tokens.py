"""``/api/users/tokens``: a caller's own tokens."""

from __future__ import annotations

from dataclasses import replace

import orjson

from minwebhook.api.context import Context
from minwebhook.auth.catalogue import CATALOGUE
from minwebhook.auth.requests import NewToken, parse_label, parse_scopes
from minwebhook.auth.token_store import check_limits
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def create(context: Context) -> Response:
    """Makes a token: 201 and the bare token, which cannot be read again."""
    new = NewToken.parse(await context.json())
    context.audited_resource = new.label
    return Response.text(await context.services.tokens.create(context.principal, new, now_ms()), 201)


async def impersonate(context: Context) -> Response:
    """Makes a token of another user, for super admins: 201 and the bare token. Scopes are ignored."""
    body = await context.json()
    new = NewToken.parse(body)
    email = body.get("impersonate_email")
    if not isinstance(email, str) or not email:
        raise BadRequest("impersonate_email: send the e-mail of the user")
    new = replace(new, scopes=(), read_only=False)
    check_limits(context.principal, new)
    context.audited_resource = email.lower()
    return Response.text(await context.services.tokens.impersonate(email.lower(), new, now_ms()), 201)


async def list_tokens(context: Context) -> Response:
    """The caller's tokens, newest first."""
    infos = await context.services.tokens.list_own(
        context.principal,
        exclude_ephemeral=context.query.flag("exclude_ephemeral"),
        page=context.number("page", 1),
        per_page=context.number("per_page", 30),
    )
    return Response.json(orjson.dumps([info.to_json() for info in infos]))


async def update_scopes(context: Context) -> Response:
    """Restricts the caller's tokens with this prefix to other scopes, from the next request on."""
    scopes, prefix = parse_scopes(await context.json()), context.params["prefix"]
    await context.services.tokens.set_scopes(context.principal, prefix, scopes)
    return Response.text(f"scopes of {prefix}***** updated")


async def update_label(context: Context) -> Response:
    """Renames the caller's tokens with this prefix."""
    label, prefix = parse_label(await context.json()), context.params["prefix"]
    await context.services.tokens.set_label(context.principal, prefix, label)
    return Response.text(f"label of {prefix}***** updated")


async def delete(context: Context) -> Response:
    """Deletes every token of the caller with this prefix; they stop working at once."""
    prefix = context.params["prefix"]
    count = await context.services.tokens.delete(context.principal, prefix)
    return Response.text(f"{count} tokens deleted with prefix {prefix}*****")


async def list_scopes(context: Context) -> Response:
    """The scopes that tokens may have, by domain, for those who choose."""
    return Response.json(CATALOGUE)
