"""Tokens whose time is nearly over, and over: their owners get a mail, once for each, and what is over is deleted.

Only tokens that users make are worth a mail. Without a mail server, nothing is written down to be sent.
"""

# Queries are put together from the constants of this file; values are always bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from minwebhook.auth.requests import is_reserved_label
from minwebhook.db.database import Database
from minwebhook.mail.outbox import enqueue
from minwebhook.mail.smtp import Mail
from minwebhook.repeating import repeat
from minwebhook.times import now_ms, rfc3339

WARN_BEFORE_MS: Final = 7 * 24 * 3600 * 1000
EVERY_S: Final = 600.0

_COLUMNS: Final = "hash, prefix, label, email, workspace_id, expiration"


class TokenExpiry:
    """Warns of, and deletes, tokens."""

    def __init__(
        self,
        db: Database,
        *,
        sends_mail: bool,
        on_deleted: Callable[[Iterable[str]], None],
        on_mail: Callable[[], None],
    ) -> None:
        """``on_deleted`` lets go of what is cached of tokens, by their hashes; ``on_mail`` is told that there are mails."""
        self._db = db
        self._sends_mail = sends_mail
        self._on_deleted = on_deleted
        self._on_mail = on_mail

    async def run(self) -> None:
        """Looks from time to time, until cancelled."""
        await repeat(lambda: self.look(now_ms()), "expired tokens cannot be looked for now", pause_s=EVERY_S)

    async def look(self, at_ms: int) -> tuple[int, int]:
        """How many owners are warned, and how many tokens were deleted. Each mail is written together with its reason."""

        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            warned = connection.execute(
                "UPDATE token SET warned_at = ?1 WHERE expiration > ?1 AND expiration <= ?1 + ?2 AND warned_at IS NULL"
                f" RETURNING {_COLUMNS}",
                (at_ms, WARN_BEFORE_MS),
            ).fetchall()
            deleted = connection.execute(
                f"DELETE FROM token WHERE expiration <= ? RETURNING {_COLUMNS}",
                (at_ms,),
            ).fetchall()
            mails = [_warning(row) for row in warned if not is_reserved_label(row["label"])]
            mails += [_farewell(row) for row in deleted if not is_reserved_label(row["label"])]
            if self._sends_mail:
                for mail in mails:
                    enqueue(connection, mail, at_ms)
            self._on_deleted(row["hash"] for row in deleted)
            return len(warned), len(deleted)

        done = await self._db.transact(work)
        if any(done):
            self._on_mail()
        return done


def _warning(row: sqlite3.Row) -> Mail:
    name, when = _name(row), str(rfc3339(row["expiration"]))
    return Mail(
        row["email"],
        "minwebhook: a token is expiring soon",
        f"The token {name}{_place(row)} stops working at {when}.\n\n"
        "If something still uses it, make a new token and put it in its place before then.\n",
    )


def _farewell(row: sqlite3.Row) -> Mail:
    name, when = _name(row), str(rfc3339(row["expiration"]))
    return Mail(
        row["email"],
        "minwebhook: a token has expired",
        f"The token {name}{_place(row)} has expired at {when} and was deleted.\n\n"
        "What used it is refused from now on. If it is still needed, make a new token.\n",
    )


def _name(row: sqlite3.Row) -> str:
    """Of a token, only what names it in lists."""
    shown = f"{row['prefix']}****"
    return shown if not row["label"] else f"'{row['label']}' ({shown})"


def _place(row: sqlite3.Row) -> str:
    return f" of the workspace {row['workspace_id']}" if row["workspace_id"] else ""
