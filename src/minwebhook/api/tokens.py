"""``/api/users/tokens``: a caller's own tokens."""

from __future__ import annotations

import orjson

from minwebhook.api.context import Context
from minwebhook.auth.requests import NewToken
from minwebhook.http.messages import Response
from minwebhook.times import now_ms


async def create(context: Context) -> Response:
    """Makes a token: 201 and the bare token, which cannot be read again."""
    new = NewToken.parse(await context.json())
    return Response.text(await context.services.auth.create_token(context.principal, new, now_ms()), 201)


async def list_tokens(context: Context) -> Response:
    """The caller's tokens, newest first."""
    infos = await context.services.auth.list_tokens(
        context.principal,
        exclude_ephemeral=context.query.flag("exclude_ephemeral"),
        page=context.number("page", 1),
        per_page=context.number("per_page", 30),
    )
    return Response.json(orjson.dumps([info.to_json() for info in infos]))


async def delete(context: Context) -> Response:
    """Deletes every token of the caller with this prefix; they stop working at once."""
    prefix = context.params["prefix"]
    count = await context.services.auth.delete_tokens(context.principal, prefix)
    return Response.text(f"{count} tokens deleted with prefix {prefix}*****")
