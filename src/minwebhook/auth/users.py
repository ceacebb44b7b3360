"""Users of the instance, their passwords and their sessions.

Every change empties the caches of :class:`~minwebhook.auth.store.AuthStore` inside its transaction: whoever was disabled,
demoted or deleted is so for the next request.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.auth.requests import NewToken
from minwebhook.auth.rights import username_from
from minwebhook.auth.store import AuthStore
from minwebhook.auth.token_store import insert_token
from minwebhook.auth.tokens import SESSION_LABEL, new_token, token_hash
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound

DEFAULT_PER_PAGE: Final = 30
MAX_PER_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class User:
    """One user of the instance; never holds the password's hash."""

    email: str
    username: str
    name: str | None
    is_super_admin: bool
    is_disabled: bool
    has_password: bool

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> User:
        """From the columns of ``usr``."""
        return cls(
            row["email"],
            row["username"],
            row["name"],
            bool(row["super_admin"]),
            bool(row["disabled"]),
            row["password"] is not None,
        )

    def to_json(self) -> dict[str, Any]:
        """The object of ``users/whoami`` and of lists."""
        return {
            "email": self.email,
            "login_type": "password",
            "super_admin": self.is_super_admin,
            "devops": self.is_super_admin,
            "verified": True,
            "name": self.name,
            "company": None,
            "username": self.username,
            "disabled": self.is_disabled,
            "first_time_user": False,
        }


class UserStore:
    """All users."""

    def __init__(self, db: Database, auth: AuthStore) -> None:
        self._db = db
        self._auth = auth

    async def create(
        self,
        email: str,
        now_ms: int,
        *,
        username: str | None = None,
        name: str | None = None,
        password_hash: str | None = None,
        is_super_admin: bool = False,
    ) -> User:
        """A new user, in no workspace. Without a ``username`` one is made of the e-mail.

        Raises :class:`BadRequest` if there is one with the e-mail or the username.
        """

        def work(connection: sqlite3.Connection) -> User:
            if connection.execute("SELECT 1 FROM usr WHERE email = ?", (email,)).fetchone():
                raise BadRequest(f"there is a user {email} already")
            chosen = username or _free_username(connection, email)
            if connection.execute("SELECT 1 FROM usr WHERE username = ?", (chosen,)).fetchone():
                raise BadRequest(f"username: {chosen} is taken; choose another")
            row = (email, chosen, int(is_super_admin), now_ms, name, password_hash)
            connection.execute(
                "INSERT INTO usr (email, username, super_admin, created_at, name, password) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            self._auth.forget()
            return _get(connection, email)

        return await self._db.transact(work)

    def find(self, email: str) -> User | None:
        """A user by e-mail."""
        rows = self._db.read("SELECT * FROM usr WHERE email = ?", (email,))
        return User.from_row(rows[0]) if rows else None

    def get(self, email: str) -> User:
        """The same; raises :class:`NotFound`."""
        user = self.find(email)
        if user is None:
            raise NotFound(f"user {email} not found")
        return user

    async def list_all(self, page: int = 1, per_page: int = DEFAULT_PER_PAGE) -> list[User]:
        """One page of all users by e-mail; page 0 is page 1."""
        limit = min(max(per_page, 1), MAX_PER_PAGE)
        offset = min((max(page, 1) - 1) * limit, 2**62)
        return await self._db.read_in_thread(
            "SELECT * FROM usr ORDER BY email LIMIT ? OFFSET ?", (limit, offset), User.from_row
        )

    async def update(
        self,
        email: str,
        *,
        is_super_admin: bool | None = None,
        is_disabled: bool | None = None,
        name: str | None = None,
    ) -> None:
        """Changes what is given. Raises :class:`NotFound`, and :class:`BadRequest` if no super admin would be left."""
        changes = {"super_admin": is_super_admin, "disabled": is_disabled, "name": name}

        def work(connection: sqlite3.Connection) -> None:
            _get(connection, email)
            for column, value in changes.items():
                if value is not None:
                    connection.execute(f"UPDATE usr SET {column} = ? WHERE email = ?", (value, email))  # noqa: S608
            self._after(connection)

        await self._db.transact(work)

    async def delete(self, email: str) -> None:
        """Removes a user with all tokens and memberships. Scripts and jobs stay. Raises as :meth:`update`."""

        def work(connection: sqlite3.Connection) -> None:
            _get(connection, email)
            connection.execute("DELETE FROM usr WHERE email = ?", (email,))
            self._after(connection)

        await self._db.transact(work)

    # --- logging in ---------------------------------------------------------------------------------------------------

    def password_hash(self, email: str) -> str | None:
        """The hash of the password of a user who may log in; None if there is no such user, or no password."""
        rows = self._db.read("SELECT password FROM usr WHERE email = ? AND disabled = 0", (email,))
        return rows[0]["password"] if rows else None

    async def set_password(self, email: str, password_hash: str) -> None:
        """A new password; sessions that there are end. Raises :class:`NotFound`."""

        await self._db.transact(lambda connection: self.write_password(connection, email, password_hash))

    def write_password(self, connection: sqlite3.Connection, email: str, password_hash: str) -> None:
        """The same, inside a transaction. What a mail has told to set another one with is worth nothing any more."""
        _get(connection, email)
        connection.execute("UPDATE usr SET password = ? WHERE email = ?", (password_hash, email))
        connection.execute("DELETE FROM token WHERE email = ? AND label = ?", (email, SESSION_LABEL))
        connection.execute("DELETE FROM password_reset WHERE email = ?", (email,))
        self._auth.forget()

    async def begin_session(self, email: str, now_ms: int, lasts_ms: int) -> str:
        """A token for a browser. Raises :class:`NotFound`."""
        token = new_token()

        def work(connection: sqlite3.Connection) -> None:
            user = _get(connection, email)
            session = NewToken(SESSION_LABEL, now_ms + lasts_ms)
            insert_token(connection, token, session, email, user.is_super_admin, now_ms)

        await self._db.transact(work)
        return token

    async def renew_session(self, token: str, now_ms: int, lasts_ms: int, *, soon_ms: int) -> str | None:
        """Another token for a browser, if its session ends within ``soon_ms``; the old one stops working.

        Raises :class:`BadRequest` for a token that is no session: sessions have all rights of their user.
        """
        fresh, digest = new_token(), token_hash(token)

        def work(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT * FROM token WHERE hash = ?", (digest,)).fetchone()
            if row is None or row["label"] != SESSION_LABEL:
                raise BadRequest("only the session of a browser is renewed; this is another token")
            if row["expiration"] - now_ms >= soon_ms:
                return False
            session = NewToken(SESSION_LABEL, now_ms + lasts_ms)
            insert_token(connection, fresh, session, row["email"], bool(row["super_admin"]), now_ms)
            connection.execute("DELETE FROM token WHERE hash = ?", (digest,))
            self._auth.evict([digest])
            return True

        return fresh if await self._db.transact(work) else None

    async def end_session(self, token: str) -> None:
        """The token stops working, whatever it was."""
        digest = token_hash(token)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM token WHERE hash = ?", (digest,))
            self._auth.evict([digest])

        await self._db.transact(work)

    def _after(self, connection: sqlite3.Connection) -> None:
        """What must hold after a change: there is somebody who can change anything back."""
        if not connection.execute("SELECT 1 FROM usr WHERE super_admin = 1 AND disabled = 0 LIMIT 1").fetchone():
            raise BadRequest("this is the last super admin who can log in; make another one first")
        self._auth.forget()


def _get(connection: sqlite3.Connection, email: str) -> User:
    row = connection.execute("SELECT * FROM usr WHERE email = ?", (email,)).fetchone()
    if row is None:
        raise NotFound(f"user {email} not found")
    return User.from_row(row)


def _free_username(connection: sqlite3.Connection, email: str) -> str:
    wanted = username_from(email)
    taken = {
        row[0].lower()
        for table in ("usr", "member")
        for row in connection.execute(f"SELECT username FROM {table} WHERE username LIKE ? || '%'", (wanted,))  # noqa: S608
    }
    number, name = 1, wanted
    while name.lower() in taken:
        number += 1
        name = f"{wanted}{number}"
    return name
