"""Mails in the database, from the change that they tell of until a mail server has taken them.

A mail is written in the transaction of what it tells of, and its row goes when the mail server has accepted it: it is
sent, even across restarts and a mail server that is down for days. A crash between the two sends it twice; never not at all.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from minwebhook.db.database import Database
from minwebhook.mail.smtp import Delivery, Mail, MailError
from minwebhook.repeating import repeat
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

#: Pauses between attempts, doubled from the first to the last; given up when older than the age.
_FIRST_PAUSE_MS: Final = 60_000
_LONGEST_PAUSE_MS: Final = 6 * 3600 * 1000
MAX_AGE_MS: Final = 7 * 24 * 3600 * 1000
_AT_ONCE: Final = 50
_LONGEST_SLEEP_S: Final = 300.0
_PAUSE_AFTER_ERROR_S: Final = 30.0


def enqueue(connection: sqlite3.Connection, mail: Mail, at_ms: int) -> None:
    """Put a mail into the outbox, inside a transaction."""
    connection.execute(
        "INSERT INTO mail (recipient, subject, body, created_at, next_attempt_at) VALUES (?, ?, ?, ?, ?)",
        (mail.recipient, mail.subject, mail.body, at_ms, at_ms),
    )


async def _as_it_is(mail: Mail) -> Mail:
    return mail


class Outbox:
    """Sends what waits, one after the other."""

    def __init__(self, db: Database, delivery: Delivery, fill: Callable[[Mail], Awaitable[Mail]] = _as_it_is) -> None:
        """``fill`` makes a mail ready to be sent: what is secret in it is not stored."""
        self._db = db
        self._delivery = delivery
        self._fill = fill
        self._wake = trio.Event()
        #: Those whose rows could not be removed yet.
        self._sent: set[int] = set()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    async def run(self) -> None:
        """Sends mails until cancelled."""
        await repeat(self._send_and_wait, "mails cannot be sent now", pause_s=0, after_error_s=_PAUSE_AFTER_ERROR_S)

    async def _send_and_wait(self) -> None:
        """Until something is due again, or new."""
        self._wake = trio.Event()
        pause_s = await self._send_due()
        with trio.move_on_after(pause_s):
            await self._wake.wait()

    async def _send_due(self) -> float:
        """Sends what is due; the seconds until something is again."""
        query = "SELECT * FROM mail WHERE next_attempt_at <= ? ORDER BY next_attempt_at, id LIMIT ?"
        while rows := await self._db.read_in_thread(query, (now_ms(), _AT_ONCE)):
            for row in rows:
                await self._send(row)
        soonest = self._db.read("SELECT min(next_attempt_at) AS at FROM mail")[0]["at"]
        return _LONGEST_SLEEP_S if soonest is None else min(max((soonest - now_ms()) / 1000, 0.0), _LONGEST_SLEEP_S)

    async def _send(self, row: sqlite3.Row) -> None:
        try:
            if row["id"] not in self._sent:
                await self._delivery.send(await self._fill(Mail(row["recipient"], row["subject"], row["body"])))
                self._sent.add(row["id"])
        except MailError as error:
            at_ms = now_ms()
            if error.is_final or at_ms - row["created_at"] > MAX_AGE_MS:
                logger.error("a mail could not be sent, and is given up: %s", error)
            else:
                pause_ms = min(_FIRST_PAUSE_MS << min(row["attempts"], 20), _LONGEST_PAUSE_MS)
                logger.warning("a mail could not be sent, the next attempt is in %d s: %s", pause_ms // 1000, error)
                await self._db.write(
                    "UPDATE mail SET attempts = attempts + 1, next_attempt_at = ? WHERE id = ?",
                    (at_ms + pause_ms, row["id"]),
                )
                return
        await self._db.write("DELETE FROM mail WHERE id = ?", (row["id"],))
        self._sent.discard(row["id"])
