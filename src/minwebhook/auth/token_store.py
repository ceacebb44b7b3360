"""Tokens as rows: making, listing, changing and deleting them.

Whatever changes a row evicts it from the cache of :class:`~minwebhook.auth.store.AuthStore` inside its transaction: what was
deleted or restricted is so for the next request. Nobody can hand out more than they have (:func:`check_narrowing`).
"""

# Queries are put together from the constants of this file; values are always bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from minwebhook.addresses import covers, parse_network
from minwebhook.auth.principal import Principal
from minwebhook.auth.requests import NewToken, is_reserved_label
from minwebhook.auth.scopes import run_scopes
from minwebhook.auth.store import AuthStore
from minwebhook.auth.tokens import EPHEMERAL_LABEL, new_token, token_hash, token_prefix
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotFound, PermissionDenied
from minwebhook.times import rfc3339

#: Tokens of one user, so that a script gone wild cannot fill the disk with them.
MAX_TOKENS_PER_USER: Final = 10_000

DEFAULT_PER_PAGE: Final = 30
MAX_PER_PAGE: Final = 100
#: Tokens of one script that are listed.
MAX_LISTED: Final = 1000

_DAY_MS: Final = 24 * 3600 * 1000
_SHOWN: Final = (
    "prefix, label, expiration, created_at, last_used_at, workspace_id, scopes, read_only, email, networks,"
    " requests_per_minute"
)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One row of a list; never holds the token or its hash."""

    token_prefix: str
    label: str | None
    expiration_ms: int | None
    created_at_ms: int
    last_used_at_ms: int | None
    workspace_id: str | None
    scopes: tuple[str, ...]
    read_only: bool
    email: str
    allowed_networks: tuple[str, ...] | None
    requests_per_minute: int | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> TokenInfo:
        """From the columns ``_SHOWN``."""
        return cls(
            row["prefix"],
            row["label"],
            row["expiration"],
            row["created_at"],
            row["last_used_at"],
            row["workspace_id"],
            stored_scopes(row["scopes"]),
            bool(row["read_only"]),
            row["email"],
            stored_networks(row["networks"]),
            row["requests_per_minute"],
        )

    def to_json(self) -> dict[str, Any]:
        """The item of ``GET /api/users/tokens/list``."""
        return {
            **self._common(),
            "workspace_id": self.workspace_id,
            "read_only": self.read_only,
            "allowed_networks": None if self.allowed_networks is None else list(self.allowed_networks),
            "requests_per_minute": self.requests_per_minute,
        }

    def to_runnable_json(self) -> dict[str, Any]:
        """The item of ``scripts/list_tokens``, which shows the tokens of everyone."""
        return {**self._common(), "email": self.email}

    def _common(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "token_prefix": self.token_prefix,
            "expiration": rfc3339(self.expiration_ms),
            "created_at": rfc3339(self.created_at_ms),
            # Upstream never answers null here: a token that was not used yet shows its creation.
            "last_used_at": rfc3339(self.created_at_ms if self.last_used_at_ms is None else self.last_used_at_ms),
            "scopes": list(self.scopes) or None,
        }


class TokenStore:
    """The tokens of all users. ``max_days``: days after which a new one ends at the latest; 0 = no such limit."""

    def __init__(self, db: Database, auth: AuthStore, max_days: int = 0) -> None:
        self._db = db
        self._auth = auth
        self._max_days = max_days

    async def create(self, principal: Principal, request: NewToken, now_ms: int) -> str:
        """Make a token of ``principal`` and return it; it cannot be had again.

        Raises :class:`PermissionDenied` if it could do more than the caller's, :class:`BadRequest` for a workspace that
        does not exist or is archived, and for too many tokens.
        """
        check_narrowing(principal, request.scopes)
        check_limits(principal, request)
        most = principal.requests_per_minute
        if request.requests_per_minute is None and most != self._auth.requests_per_minute:
            request = replace(request, requests_per_minute=most or None)
        return await self._create(principal.email, principal.is_super_admin, request, now_ms)

    async def impersonate(self, email: str, request: NewToken, now_ms: int) -> str:
        """Make a token of another user, for a super admin. Raises :class:`NotFound`, and what :meth:`create` raises."""
        rows = self._db.read("SELECT super_admin FROM usr WHERE email = ? AND disabled = 0", (email,))
        if not rows:
            raise NotFound(f"user {email} not found")
        return await self._create(email, bool(rows[0]["super_admin"]), request, now_ms)

    async def _create(self, email: str, is_super_admin: bool, request: NewToken, now_ms: int) -> str:
        if self._max_days:
            request = request.ending_by(now_ms + self._max_days * _DAY_MS)
        token = new_token()

        def work(connection: sqlite3.Connection) -> None:
            if request.workspace_id is not None:
                query = "SELECT archived FROM workspace WHERE id = ?"
                workspace = connection.execute(query, (request.workspace_id,)).fetchone()
                if workspace is None:
                    raise BadRequest(f"workspace_id: there is no workspace {request.workspace_id}")
                if workspace["archived"]:
                    raise BadRequest(f"workspace_id: the workspace {request.workspace_id} is archived")
            query = "SELECT count(*) FROM token WHERE email = ?"
            if connection.execute(query, (email,)).fetchone()[0] >= MAX_TOKENS_PER_USER:
                raise BadRequest(f"a user has at most {MAX_TOKENS_PER_USER} tokens; delete some first")
            insert_token(connection, token, request, email, is_super_admin, now_ms)

        await self._db.transact(work)
        return token

    async def list_own(
        self, principal: Principal, exclude_ephemeral: bool = False, page: int = 1, per_page: int = DEFAULT_PER_PAGE
    ) -> list[TokenInfo]:
        """The caller's own tokens, newest first. Pages count from 1; 0 is taken as 1, official clients send it."""
        limit = min(max(per_page, 1), MAX_PER_PAGE)
        # SQLite takes 64-bit integers; a page far beyond any list is as empty as the next.
        offset = min((max(page, 1) - 1) * limit, 2**62)
        return await self._db.read_in_thread(
            f"SELECT {_SHOWN} FROM token WHERE email = ? AND (NOT ? OR label IS NOT ?)"
            " ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?",
            (principal.email, exclude_ephemeral, EPHEMERAL_LABEL, limit, offset),
            TokenInfo.from_row,
        )

    async def list_of_runnable(self, workspace: str, kind: str, path: str) -> list[TokenInfo]:
        """The tokens, of all users, that are bound to a workspace and made for one script of it."""
        return await self._db.read_in_thread(
            f"SELECT {_SHOWN} FROM token WHERE workspace_id = ? AND scopes IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM json_each(token.scopes) WHERE value IN (?, ?))"
            " ORDER BY created_at DESC, rowid DESC LIMIT ?",
            (workspace, *run_scopes(kind, path), MAX_LISTED),
            TokenInfo.from_row,
        )

    async def set_scopes(self, principal: Principal, prefix: str, scopes: tuple[str, ...]) -> None:
        """Restrict the caller's tokens with this prefix to ``scopes``; none of them: to nothing.

        Raises :class:`NotFound`, and :class:`PermissionDenied` if the caller's own token may do less.
        """
        check_narrowing(principal, scopes)
        await self._change(principal, prefix, "scopes = ?", scopes_text(scopes))

    async def set_label(self, principal: Principal, prefix: str, label: str | None) -> None:
        """Rename the caller's tokens with this prefix. Raises :class:`NotFound`."""
        await self._change(principal, prefix, "label = ?", label)

    async def _change(self, principal: Principal, prefix: str, change: str, value: str | None) -> None:
        def work(connection: sqlite3.Connection) -> None:
            rows = connection.execute(
                "SELECT hash, label FROM token WHERE email = ? AND prefix = ?", (principal.email, prefix)
            ).fetchall()
            hashes = [row["hash"] for row in rows if not is_reserved_label(row["label"])]
            if not hashes:
                raise NotFound(f"there is no token {prefix}***** of yours that can be changed")
            for digest in hashes:
                connection.execute(f"UPDATE token SET {change} WHERE hash = ?", (value, digest))
            self._auth.evict(hashes)

        await self._db.transact(work)

    async def delete(self, principal: Principal, prefix: str) -> int:
        """Delete every token of the caller with this prefix; how many. They stop working at once."""
        return await self._delete("email = ? AND prefix = ?", (principal.email, prefix))

    async def _delete(self, where: str, params: Iterable[Any]) -> int:
        def work(connection: sqlite3.Connection) -> int:
            rows = connection.execute(f"DELETE FROM token WHERE {where} RETURNING hash", tuple(params)).fetchall()
            self._auth.evict(row["hash"] for row in rows)
            return len(rows)

        return await self._db.transact(work)


def check_narrowing(principal: Principal, scopes: tuple[str, ...]) -> None:
    """Raises :class:`PermissionDenied` unless a token with ``scopes`` can do no more than the caller's."""
    if principal.scopes is not None and not principal.scopes.covers(scopes):
        raise PermissionDenied(
            "a restricted token makes tokens only whose scopes are all among its own; send such scopes"
        )


def check_limits(principal: Principal, request: NewToken) -> None:
    """Raises :class:`PermissionDenied` unless the new token may be used from no other places, and no more often."""
    wanted = request.allowed_networks
    if principal.networks is not None and (
        wanted is None or not covers(principal.networks, map(parse_network, wanted))
    ):
        held = ", ".join(map(str, principal.networks))
        raise PermissionDenied(f"allowed_networks: send networks within those of your own token, {held}")
    most = principal.requests_per_minute
    if most and (request.requests_per_minute or most) > most:
        raise PermissionDenied(f"requests_per_minute: your own token may make {most}; send no more")


def insert_token(
    connection: sqlite3.Connection, token: str, request: NewToken, email: str, is_super_admin: bool, now_ms: int
) -> None:
    """Write the row of a new token; inside a transaction."""
    connection.execute(
        "INSERT INTO token (hash, prefix, label, expiration, workspace_id, email, super_admin, created_at, scopes,"
        " read_only, networks, requests_per_minute) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token_hash(token),
            token_prefix(token),
            request.label,
            request.expiration_ms,
            request.workspace_id,
            email,
            int(is_super_admin),
            now_ms,
            scopes_text(request.scopes),
            int(request.read_only),
            None if request.allowed_networks is None else orjson.dumps(request.allowed_networks).decode(),
            request.requests_per_minute,
        ),
    )


def scopes_text(scopes: tuple[str, ...]) -> str | None:
    """As the database has them: a JSON array, NULL for no restriction."""
    return orjson.dumps(scopes).decode() if scopes else None


def stored_scopes(text: str | None) -> tuple[str, ...]:
    """The scopes of a row."""
    return () if text is None else tuple(orjson.loads(text))


def stored_networks(text: str | None) -> tuple[str, ...] | None:
    """The networks of a row."""
    return None if text is None else tuple(orjson.loads(text))
