"""Handing a mail to a mail server (RFC 5321), in a thread: with TLS from the start, or with STARTTLS, which is then required."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import trio

from minwebhook.errors import MinwebhookError
from minwebhook.settings import MailSettings

if TYPE_CHECKING:
    import smtplib
    from email.message import EmailMessage

#: Answers of a mail server from here on mean "never", below "not now".
_PERMANENT: Final = 500


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail of plain text to one person."""

    recipient: str
    subject: str
    body: str


class MailError(MinwebhookError):
    """A mail could not be handed over; the text holds neither its body nor a password. ``is_final``: it never can be."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class Delivery:
    """The mail server of the settings."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    async def send(self, mail: Mail) -> None:
        """Hand ``mail`` over; when this returns, the mail server is responsible for it. Raises :class:`MailError`."""
        await trio.to_thread.run_sync(self._send, mail, abandon_on_cancel=True)

    def _send(self, mail: Mail) -> None:
        import smtplib  # noqa: PLC0415 - large with all of its package email, and most servers send no mails

        settings = self._settings
        try:
            message = _message(mail, settings.smtp_from)
            with self._connect() as server:
                if settings.smtp_username:
                    server.login(settings.smtp_username, settings.smtp_password)
                server.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise MailError(f"the mail server refuses smtp_username and smtp_password ({error.smtp_code})") from error
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            is_final = all(code >= _PERMANENT for code in codes)
            raise MailError(f"the mail server refuses the recipient ({codes})", is_final=is_final) from error
        except smtplib.SMTPResponseException as error:
            raise MailError(f"the mail server answers {error.smtp_code}") from error
        except (smtplib.SMTPException, OSError) as error:
            raise MailError(f"{settings.smtp_host}:{settings.smtp_port}: {error or type(error).__name__}") from error
        except (ValueError, IndexError, UnicodeError) as error:
            raise MailError("the address of the recipient is none", is_final=True) from error

    def _connect(self) -> smtplib.SMTP:
        import smtplib  # noqa: PLC0415

        settings = self._settings
        host, port, timeout_s = settings.smtp_host, settings.smtp_port, settings.smtp_timeout_s
        context = ssl.create_default_context(cafile=settings.smtp_ca or None)
        if settings.smtp_tls == "implicit":
            return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
        server = smtplib.SMTP(host, port, timeout=timeout_s)
        try:
            if settings.smtp_tls == "starttls":
                server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server


def _message(mail: Mail, sender: str) -> EmailMessage:
    from email.headerregistry import Address  # noqa: PLC0415
    from email.message import EmailMessage  # noqa: PLC0415
    from email.policy import SMTP  # noqa: PLC0415
    from email.utils import format_datetime, make_msgid  # noqa: PLC0415

    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    # As an address object: no line end or comma in it can add a field or a recipient.
    message["To"] = Address(addr_spec=mail.recipient)
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].strip("<> ") or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body)
    return message
