"""Principals from tokens, and tokens in the store.

Authentication is on the way of every request, so what it found is kept in a bounded cache: one entry per token hash,
with the principal for each workspace it was used in. Whatever makes an entry stale evicts it inside the transaction
that does so, therefore a deleted token stops working at once. Whoever changes users or members elsewhere calls
:meth:`AuthStore.forget`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from minwebhook.auth.principal import Principal
from minwebhook.auth.requests import NewToken
from minwebhook.auth.tokens import EPHEMERAL_LABEL, display_name, new_token, same_hash, token_hash, token_prefix
from minwebhook.auth.view_tokens import new_workspace_key
from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, NotAuthorized
from minwebhook.times import rfc3339

ADMIN_EMAIL: Final = "admin@localhost"
ADMIN_USERNAME: Final = "admin"
#: Workspaces of a new instance, id and name.
FIRST_WORKSPACES: Final = (("admins", "Admins"), ("demo", "Demo"))

#: Tokens, and workspaces per token, that the cache keeps; the oldest leaves first.
MAX_CACHED_TOKENS: Final = 10_000
MAX_CACHED_WORKSPACES: Final = 256

#: How often the time of last use is written for a busy token.
LAST_USED_EVERY_MS: Final = 120_000

#: Tokens of one user, so that a script gone wild cannot fill the disk with them.
MAX_TOKENS_PER_USER: Final = 10_000

DEFAULT_PER_PAGE: Final = 30
MAX_PER_PAGE: Final = 100

_INSERT_TOKEN: Final = (
    "INSERT INTO token (hash, prefix, label, expiration, workspace_id, email, super_admin, created_at)"  # noqa: S105
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One row of the token list; never holds the token or its hash."""

    token_prefix: str
    label: str | None
    expiration_ms: int | None
    created_at_ms: int
    last_used_at_ms: int | None
    workspace_id: str | None

    def to_json(self) -> dict[str, Any]:
        """The item of ``GET /api/users/tokens/list``."""
        return {
            "label": self.label,
            "token_prefix": self.token_prefix,
            "expiration": rfc3339(self.expiration_ms),
            "created_at": rfc3339(self.created_at_ms),
            # Upstream never answers null here: a token that was not used yet shows its creation.
            "last_used_at": rfc3339(self.created_at_ms if self.last_used_at_ms is None else self.last_used_at_ms),
            "scopes": None,
            "workspace_id": self.workspace_id,
            "read_only": False,
        }


@dataclass(slots=True, eq=False)
class _Cached:
    """What is known of one token."""

    row: sqlite3.Row
    last_used_at_ms: int
    principals: dict[str | None, Principal] = field(default_factory=dict)


class AuthStore:
    """Tokens, users and workspaces in the database. ``admin_token`` is the one from the settings, if any."""

    def __init__(self, db: Database, admin_token: str | None = None) -> None:
        self._db = db
        self._admin_hash = token_hash(admin_token) if admin_token else None
        self._cache: dict[str, _Cached] = {}
        self._workspaces: set[str] = set()
        self._admins: dict[str | None, Principal] = {}

    async def bootstrap(self, now_ms: int) -> str | None:
        """Create the first workspaces and the user ``admin``; a new admin token, to be shown once, or None.

        A token is made when none of the admin's is left that works, unless the settings name one. Safe to repeat.
        """
        token = new_token()

        def work(connection: sqlite3.Connection) -> bool:
            for workspace, name in FIRST_WORKSPACES:
                connection.execute(
                    "INSERT OR IGNORE INTO workspace (id, name, created_at, key) VALUES (?, ?, ?, ?)",
                    (workspace, name, now_ms, new_workspace_key()),
                )
            connection.execute(
                "INSERT OR IGNORE INTO usr (email, username, super_admin, created_at) VALUES (?, ?, 1, ?)",
                (ADMIN_EMAIL, ADMIN_USERNAME, now_ms),
            )
            for workspace, _ in FIRST_WORKSPACES:
                connection.execute(
                    "INSERT OR IGNORE INTO member (workspace_id, email, username, is_admin, created_at)"
                    " VALUES (?, ?, ?, 1, ?)",
                    (workspace, ADMIN_EMAIL, ADMIN_USERNAME, now_ms),
                )
            if self._admin_hash is not None:
                return False
            usable = connection.execute(
                "SELECT 1 FROM token WHERE email = ? AND super_admin = 1 AND workspace_id IS NULL"
                " AND (expiration IS NULL OR expiration > ?) AND label IS NOT ? LIMIT 1",
                (ADMIN_EMAIL, now_ms, EPHEMERAL_LABEL),
            ).fetchone()
            if usable is None:
                connection.execute(_INSERT_TOKEN, _token_row(token, NewToken(), ADMIN_EMAIL, True, now_ms))
            return usable is None

        return token if await self._db.transact(work) else None

    def authenticate(self, token: str, workspace_id: str | None, now_ms: int) -> Principal:
        """The principal of ``token`` in the workspace of the request (None on instance-wide routes).

        Raises :class:`NotAuthorized`, with the same text for every reason: unknown, expired, bound to another
        workspace, user disabled or not a member.
        """
        digest = token_hash(token)
        if self._admin_hash is not None and same_hash(digest, self._admin_hash):
            return self._admin(workspace_id)
        cached = self._cache.get(digest) or self._load(digest)
        if cached is None:
            raise NotAuthorized("Unauthorized")
        expiration = cached.row["expiration"]
        if expiration is not None and expiration <= now_ms:
            raise NotAuthorized("Unauthorized")
        known = cached.principals.get(workspace_id)
        principal = known or self._resolve(cached.row, workspace_id)
        if known is None:
            if len(cached.principals) >= MAX_CACHED_WORKSPACES:
                cached.principals.clear()
            cached.principals[workspace_id] = principal
        if now_ms - cached.last_used_at_ms >= LAST_USED_EVERY_MS:
            cached.last_used_at_ms = now_ms
            self._db.post("UPDATE token SET last_used_at = ? WHERE hash = ?", (now_ms, digest))
        return principal

    def _admin(self, workspace_id: str | None) -> Principal:
        """Whom the token from the settings stands for."""
        principal = self._admins.get(workspace_id)
        if principal is None:
            if len(self._admins) >= MAX_CACHED_WORKSPACES:
                self._admins.clear()
            principal = Principal(ADMIN_EMAIL, ADMIN_USERNAME, True, True, ADMIN_USERNAME, workspace_id, None)
            self._admins[workspace_id] = principal
        return principal

    def principal_of(self, email: str, workspace_id: str | None) -> Principal:
        """A user by e-mail, as :meth:`authenticate` would find them with an unlabelled token; for jobs' own tokens.

        Raises :class:`NotAuthorized`. Not cached: two look-ups by key.
        """
        return self._member(email, workspace_id, is_super_admin=True)

    async def create_token(self, principal: Principal, request: NewToken, now_ms: int) -> str:
        """Make a token of ``principal`` and return it; it cannot be had again.

        Raises :class:`BadRequest` for a workspace that does not exist or is archived, and for too many tokens.
        """
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
            if connection.execute(query, (principal.email,)).fetchone()[0] >= MAX_TOKENS_PER_USER:
                raise BadRequest(f"a user has at most {MAX_TOKENS_PER_USER} tokens; delete some first")
            row = _token_row(token, request, principal.email, principal.is_super_admin, now_ms)
            connection.execute(_INSERT_TOKEN, row)

        await self._db.transact(work)
        return token

    async def list_tokens(
        self, principal: Principal, exclude_ephemeral: bool = False, page: int = 1, per_page: int = DEFAULT_PER_PAGE
    ) -> list[TokenInfo]:
        """The caller's own tokens, newest first. Pages count from 1; 0 is taken as 1, official clients send it."""
        limit = min(max(per_page, 1), MAX_PER_PAGE)
        # SQLite takes 64-bit integers; a page far beyond any list is as empty as the next.
        offset = min((max(page, 1) - 1) * limit, 2**62)
        rows = await self._db.read_in_thread(
            "SELECT prefix, label, expiration, created_at, last_used_at, workspace_id FROM token"
            " WHERE email = ? AND (NOT ? OR label IS NOT ?) ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?",
            (principal.email, exclude_ephemeral, EPHEMERAL_LABEL, limit, offset),
        )
        return [TokenInfo(*row) for row in rows]

    async def delete_tokens(self, principal: Principal, prefix: str) -> int:
        """Delete every token of the caller with this prefix; how many. They stop working at once."""

        def work(connection: sqlite3.Connection) -> int:
            where = "email = ? AND prefix = ?"
            return self._delete(connection, where, (principal.email, prefix))

        return await self._db.transact(work)

    async def delete_expired(self, now_ms: int) -> int:
        """Delete every token whose time is over; how many."""
        return await self._db.transact(lambda connection: self._delete(connection, "expiration <= ?", (now_ms,)))

    def workspace_exists(self, workspace_id: str) -> bool:
        """Whether there is such a workspace that is not archived."""
        if workspace_id in self._workspaces:
            return True
        if not self._db.read("SELECT 1 FROM workspace WHERE id = ? AND archived = 0", (workspace_id,)):
            return False
        if len(self._workspaces) >= MAX_CACHED_TOKENS:
            self._workspaces.clear()
        self._workspaces.add(workspace_id)
        return True

    def workspace_key(self, workspace_id: str) -> str | None:
        """The secret that signs what anonymous callers may see of a workspace; None if it has none."""
        rows = self._db.read("SELECT key FROM workspace WHERE id = ?", (workspace_id,))
        return rows[0]["key"] if rows else None

    def forget(self) -> None:
        """Drop all caches; to be called by whoever changes users, members or workspaces."""
        self._cache.clear()
        self._workspaces.clear()

    def _load(self, digest: str) -> _Cached | None:
        """Read one token into the cache. Unknown ones are not cached: guesses must not push out what is used."""
        rows = self._db.read("SELECT * FROM token WHERE hash = ?", (digest,))
        if not rows or not same_hash(rows[0]["hash"], digest):
            return None
        while len(self._cache) >= MAX_CACHED_TOKENS:
            del self._cache[next(iter(self._cache))]
        last_used = rows[0]["last_used_at"]
        cached = _Cached(rows[0], -LAST_USED_EVERY_MS if last_used is None else last_used)
        self._cache[digest] = cached
        return cached

    def _resolve(self, token: sqlite3.Row, workspace_id: str | None) -> Principal:
        """The principal of a token row."""
        if token["workspace_id"] not in (None, workspace_id):
            raise NotAuthorized("Unauthorized")
        # Columns for restrictions exist in the schema; this version makes no such token and honors none.
        if token["scopes"] is not None or token["read_only"]:
            raise NotAuthorized("Unauthorized")
        owner = self._member(token["email"], workspace_id, is_super_admin=bool(token["super_admin"]))
        return replace(owner, display_name=display_name(token["label"], owner.username), token_prefix=token["prefix"])

    def _member(self, email: str, workspace_id: str | None, *, is_super_admin: bool) -> Principal:
        """A user as a member of a workspace; a super admin only if the token says so, too."""
        users = self._db.read("SELECT * FROM usr WHERE email = ? AND disabled = 0", (email,))
        if not users:
            raise NotAuthorized("Unauthorized")
        # A user who is no longer a super admin loses it for the tokens made before, too.
        is_super_admin = is_super_admin and bool(users[0]["super_admin"])
        username, is_admin, operator = users[0]["username"], is_super_admin, False
        if workspace_id is not None:
            query = "SELECT * FROM member WHERE workspace_id = ? AND email = ?"
            members = self._db.read(query, (workspace_id, email))
            if members and not members[0]["disabled"]:
                username = members[0]["username"]
                is_admin = is_super_admin or bool(members[0]["is_admin"])
                operator = bool(members[0]["operator"]) and not is_admin
            elif is_super_admin:
                username = email
            else:
                raise NotAuthorized("Unauthorized")
        return Principal(email, username, is_admin, is_super_admin, username, workspace_id, None, operator)

    def _delete(self, connection: sqlite3.Connection, where: str, params: Iterable[Any]) -> int:
        """Delete token rows and evict them from the cache; called inside a transaction."""
        rows = connection.execute(f"DELETE FROM token WHERE {where} RETURNING hash", tuple(params)).fetchall()  # noqa: S608
        for row in rows:
            self._cache.pop(row["hash"], None)
        return len(rows)


def _token_row(token: str, request: NewToken, email: str, is_super_admin: bool, now_ms: int) -> tuple[Any, ...]:
    return (
        token_hash(token),
        token_prefix(token),
        request.label,
        request.expiration_ms,
        request.workspace_id,
        email,
        int(is_super_admin),
        now_ms,
    )
