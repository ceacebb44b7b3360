"""``/api/settings``: what super admins do with the instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from minwebhook.api.context import Context
from minwebhook.api.fields import Fields
from minwebhook.errors import BadRequest
from minwebhook.http.messages import Response
from minwebhook.mail.smtp import Delivery, Mail, MailError
from minwebhook.settings import MailSettings

_MAX_PORT: Final = 65535


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
