"""``/api/auth``: logging in with a password, and out."""

from __future__ import annotations

import time
from typing import Final

from minwebhook.addresses import address_key
from minwebhook.api.context import Context, find_token
from minwebhook.api.fields import Fields
from minwebhook.auth.failures import FailureLimit
from minwebhook.auth.passwords import parse_password
from minwebhook.errors import BadRequest, TooManyRequests
from minwebhook.http.messages import Response
from minwebhook.times import http_date, now_ms

_COOKIE: Final = "token"


async def login(context: Context) -> Response:
    """Begins a session: 200 and its token as text, which the cookie ``token`` has, too.

    400 for a wrong password as for a user that there is not; 429 after some failures of an account or an address.
    """
    fields = Fields(await context.json())
    email, password = fields.email(), fields.required_text("password")
    context.audited_resource = email
    services = context.services
    # Counted before it is known, so that guesses that come at once do not pass together.
    _count(services.failed_logins, email, context.request.client, "too many failed log-ins")
    by_account, by_address = services.failed_logins
    if not await services.passwords.matches(services.users.password_hash(email), password):
        raise BadRequest("Invalid login")
    by_account.take_back(email)
    by_address.take_back(address_key(context.request.client))
    lasts_s = services.settings.auth.session_ttl_s
    token = await services.users.begin_session(email, now_ms(), int(lasts_s * 1000))
    return Response.text(token, headers=(("Set-Cookie", _cookie(context, token, lasts_s)), _NO_STORE))


def _count(limits: tuple[FailureLimit, FailureLimit], email: str, client: str, what: str) -> None:
    """One more of an account and of an address. Raises :class:`TooManyRequests`."""
    by_account, by_address = limits
    address, now_s = address_key(client), time.monotonic()
    wait_s = max(by_account.wait_s(email, now_s), by_address.wait_s(address, now_s))
    if wait_s:
        raise TooManyRequests(f"{what}; try again later", retry_after_s=wait_s)
    by_account.note(email, now_s)
    by_address.note(address, now_s)


async def logout(context: Context) -> Response:
    """Ends the session: the token that the request came with stops working. 307 to ``rd``, if it is a path of this server."""
    token = find_token(context.request)
    if token is not None:
        await context.services.users.end_session(token)
    headers = [("Set-Cookie", _cookie(context, "", 0)), _NO_STORE]
    target = context.query.get("rd")
    if (
        target
        and target.startswith("/")
        and target.isprintable()
        and target.isascii()
        and target[1:2] not in ("/", "\\")
    ):
        return Response(307, headers=(*headers, ("Location", target)))
    return Response.text("logged out", headers=tuple(headers))


async def refresh_token(context: Context) -> Response:
    """Begins a new session in the place of the one that the request came with: 200, and the cookie.

    With ``if_expiring_in_less_than_s`` only if that one ends so soon. 400 for tokens that are no session.
    """
    token, services, at_ms = find_token(context.request) or "", context.services, now_ms()
    lasts_s = services.settings.auth.session_ttl_s
    soon_s = context.number("if_expiring_in_less_than_s", int(lasts_s) + 1)
    renewed = await services.users.renew_session(token, at_ms, int(lasts_s * 1000), soon_ms=soon_s * 1000)
    if renewed is None:
        return Response.text("the session lasts long enough", headers=(_NO_STORE,))
    return Response.text("token refreshed", headers=(("Set-Cookie", _cookie(context, renewed, lasts_s)), _NO_STORE))


async def request_password_reset(context: Context) -> Response:
    """Sends a mail to a user who has forgotten the password, ``{"email"}``. The answer is the same if there is no such user.

    400 without a mail server; 429 after some requests for an account, or from an address.
    """
    email, services = Fields(await context.json()).email(), context.services
    context.audited_resource = email
    if not services.settings.mail.smtp_host:
        raise BadRequest("there is no mail server here: ask an admin, who sets passwords with users/set_password_of")
    _count(services.reset_requests, email, context.request.client, "too many requests for new passwords")
    await services.resets.request(email, now_ms())
    return Response.text(f"if there is a user {email}, a mail is on its way")


async def reset_password(context: Context) -> Response:
    """Sets the password of whoever got the mail, ``{"token", "new_password"}``, and ends the user's sessions. 400 if the
    token is none."""
    fields, services = Fields(await context.json()), context.services
    token, password = fields.required_text("token"), parse_password(fields.get("new_password"))
    client, now_s = context.request.client, time.monotonic()
    services.failed_tokens.check(client, token, now_s)
    try:
        context.audited_resource = email = services.resets.email_of(token, now_ms())
    except BadRequest:
        services.failed_tokens.note(client, token, now_s)
        raise
    await services.resets.use(token, email, await services.passwords.hash(password))
    return Response.text(f"password of {email} set")


async def is_smtp_configured(context: Context) -> Response:
    """Whether there is a mail server."""
    return Response.json(b"true" if context.services.settings.mail.smtp_host else b"false")


async def is_password_login_disabled(context: Context) -> Response:
    """Whether users cannot log in with a password: they always can."""
    return Response.json(b"false")


async def is_first_time_setup(context: Context) -> Response:
    """Whether the server has a default password that wants changing: never, there is none."""
    return Response.json(b"false")


_NO_STORE: Final = ("Cache-Control", "no-store")


def _cookie(context: Context, value: str, lasts_s: float) -> str:
    """No script reads it, no page of another site sends it along except by following a link, no plain connection has it."""
    expires = http_date(int(time.time() + lasts_s)) if lasts_s else "Thu, 01 Jan 1970 00:00:00 GMT"
    is_secure = context.request.scheme == "https" or context.services.settings.server.base_url.startswith("https:")
    cookie = f"{_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={int(lasts_s)}; Expires={expires}"
    return cookie + ("; Secure" if is_secure else "")
