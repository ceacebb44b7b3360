"""``/api/settings``: what super admins do with the instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import orjson

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.errors import AdminRequired, BadRequest
from minwebhook.http.messages import Response
from minwebhook.mail.smtp import Delivery, Mail, MailError
from minwebhook.settings import MailSettings

_MAX_PORT: Final = 65535
_MIB: Final = 1024 * 1024
#: Settings that whoever is logged in may read.
_PUBLIC: Final = frozenset({"base_url", "automate_username_creation", "disable_password_login", "email_domain"})


async def get_setting(context: Context) -> Response:
    """One of Windmill's instance settings as it is here; null for one that this server does not have.

    They are set in this server's own configuration. Some are for everyone to know, the others for super admins.
    """
    key, principal = context.params["key"], context.principal
    if key not in _PUBLIC and not principal.is_super_admin:
        raise AdminRequired(principal.username)
    return Response.json(orjson.dumps(_known(context).get(key)))


async def list_settings(context: Context) -> Response:
    """All of them, ``[{"name", "value"}]``; for super admins."""
    return Response.json(orjson.dumps([{"name": name, "value": value} for name, value in _known(context).items()]))


def _known(context: Context) -> dict[str, Any]:
    """Windmill's names, of what there is here. No secret is among them."""
    settings, mail = context.services.settings, context.services.settings.mail
    smtp = {
        "smtp_host": mail.smtp_host,
        "smtp_port": mail.smtp_port,
        "smtp_from": mail.smtp_from,
        "smtp_tls_implicit": mail.smtp_tls == "implicit",
    }
    return {
        "base_url": context.services.base_url,
        "automate_username_creation": True,
        "disable_password_login": False,
        "email_domain": None,
        "job_default_timeout": settings.jobs.job_timeout_s,
        "timeout_wait_result": settings.wait_result_s,
        "retention_period_secs": settings.jobs.keep_jobs_s,
        "request_size_limit_mb": settings.http.max_body_bytes // _MIB,
        "max_token_expiration_days": settings.auth.max_token_expiration_days or None,
        "smtp_settings": smtp if mail.smtp_host else None,
    }


async def test_smtp(context: Context) -> Response:
    """Sends a test mail ``to`` somebody by the mail server of the settings, or by the one that ``smtp`` describes.

    400 if there is none, or if it does not take the mail; the answer says what it said.
    """
    fields, settings = Fields(await context.json()), context.services.settings.mail
    recipient, described = fields.email("to"), fields.get("smtp")
    if described is not None:
        settings = _described(described, settings)
    if not settings.smtp_host:
        raise BadRequest("smtp: there is no mail server in the settings; describe one")
    mail = Mail(recipient, "Test mail of minwebhook", "This mail server takes mails of minwebhook.")
    try:
        await Delivery(settings).send(mail)
    except MailError as error:
        raise BadRequest(f"the mail could not be sent: {error}") from error
    return Response.text(f"sent to {recipient}")


def _described(value: Any, settings: MailSettings) -> MailSettings:
    """``{"host", "port", "username", "password", "from", "tls_implicit", "disable_tls"}``."""
    fields = Fields(value)
    port = fields.get("port")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= _MAX_PORT:
        raise BadRequest(f"port: send a whole number from 1 to {_MAX_PORT}")
    tls = "implicit" if fields.flag("tls_implicit") else "none" if fields.flag("disable_tls") else "starttls"
    return replace(
        settings,
        smtp_host=fields.required_text("host"),
        smtp_port=port,
        smtp_username=fields.text("username") or "",
        smtp_password=fields.text("password") or "",
        smtp_from=fields.text("from") or settings.smtp_from,
        smtp_tls=tls,
    )
