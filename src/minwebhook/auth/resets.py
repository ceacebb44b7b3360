"""Passwords that are forgotten: a token by mail, for one new password, within an hour.

The token is made when the mail is sent, and only its hash is stored: in the database no mail that waits has one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from minwebhook.auth.tokens import new_token, token_hash
from minwebhook.auth.users import UserStore
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest
from minwebhook.mail.outbox import enqueue
from minwebhook.mail.smtp import Mail
from minwebhook.times import now_ms

LASTS_MS: Final = 3600 * 1000
#: What stands for the token in a mail that waits.
_PLACE: Final = "{the token}"
_INVALID: Final = "the token is wrong, was used, or is older than an hour; ask for another mail"


class PasswordResets:
    """Whose password may be set by whom has got a mail."""

    def __init__(self, db: Database, users: UserStore, base_url: str) -> None:
        self._db = db
        self._users = users
        self._base_url = base_url.rstrip("/")
        #: Told that there are mails.
        self.on_mail: Callable[[], None] = lambda: None

    async def request(self, email: str, at_ms: int) -> None:
        """A mail to the user, if there is one who may log in; nobody can tell from here whether there is."""

        def work(connection: sqlite3.Connection) -> None:
            query = "SELECT 1 FROM usr WHERE email = ? AND disabled = 0"
            if connection.execute(query, (email,)).fetchone() is not None:
                enqueue(connection, self._mail(email), at_ms)

        await self._db.transact(work)
        self.on_mail()

    async def fill(self, mail: Mail) -> Mail:
        """The mail as it is sent: one of these gets a token, and those of its user before it are worth nothing."""
        if _PLACE not in mail.body:
            return mail
        token, at_ms = new_token(), now_ms()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM password_reset WHERE email = ? OR expires_at <= ?", (mail.recipient, at_ms))
            connection.execute(
                "INSERT INTO password_reset (hash, email, expires_at) SELECT ?, email, ? FROM usr WHERE email = ?",
                (token_hash(token), at_ms + LASTS_MS, mail.recipient),
            )

        await self._db.transact(work)
        return replace(mail, body=mail.body.replace(_PLACE, token))

    def email_of(self, token: str, at_ms: int) -> str:
        """Whose password the token sets. Raises :class:`BadRequest`."""
        rows = self._db.read(
            "SELECT r.email FROM password_reset AS r JOIN usr AS u ON u.email = r.email AND u.disabled = 0"
            " WHERE r.hash = ? AND r.expires_at > ?",
            (token_hash(token), at_ms),
        )
        if not rows:
            raise BadRequest(_INVALID)
        return str(rows[0]["email"])

    async def use(self, token: str, email: str, password_hash: str) -> None:
        """Sets the password; the token, and all sessions, end. Raises :class:`BadRequest` if somebody else has used it."""
        digest = token_hash(token)

        def work(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM password_reset WHERE hash = ? AND email = ?"
            if not connection.execute(query, (digest, email)).rowcount:
                raise BadRequest(_INVALID)
            self._users.write_password(connection, email, password_hash)

        await self._db.transact(work)

    def _mail(self, email: str) -> Mail:
        return Mail(
            email,
            "minwebhook: a new password",
            f"Somebody has asked for a new password of {email} at {self._base_url or 'a minwebhook server'}.\n\n"
            "If that was you, set one within an hour, with this token:\n\n"
            f"    {_PLACE}\n\n"
            f'Send {{"token": …, "new_password": …}} as JSON to {self._base_url}/api/auth/reset_password.\n\n'
            "If it was not you, there is nothing to do: your password is what it was.\n",
        )
