"""Principals from tokens.

Authentication is on the way of every request, so what it found is kept in a bounded cache: one entry per token hash,
with the principal for each workspace it was used in. Whatever makes an entry stale evicts it inside the transaction
that does so, therefore a deleted token stops working at once. Whoever changes users or members elsewhere calls
:meth:`AuthStore.forget`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from minwebhook.addresses import parse_network
from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import Folder, Rights
from minwebhook.auth.scopes import Scopes
from minwebhook.auth.tokens import (
    EPHEMERAL_LABEL,
    SESSION_LABEL,
    display_name,
    new_token,
    same_hash,
    token_hash,
    token_prefix,
)
from minwebhook.db.database import Database
from minwebhook.errors import NotAuthorized

ADMIN_EMAIL: Final = "admin@localhost"
ADMIN_USERNAME: Final = "admin"
#: Workspaces of a new instance, id and name.
FIRST_WORKSPACES: Final = (("admins", "Admins"), ("demo", "Demo"))

#: Tokens, and workspaces per token, that the cache keeps; the oldest leaves first.
MAX_CACHED_TOKENS: Final = 10_000
MAX_CACHED_WORKSPACES: Final = 256

#: How often the time of last use is written for a busy token.
LAST_USED_EVERY_MS: Final = 120_000


@dataclass(slots=True, eq=False)
class _Cached:
    """What is known of one token."""

    row: sqlite3.Row
    last_used_at_ms: int
    principals: dict[str | None, Principal] = field(default_factory=dict)


class AuthStore:
    """Who a token stands for. ``admin_token`` is the one from the settings, if any; ``requests_per_minute`` what tokens may
    make that do not say themselves, 0 for any number."""

    def __init__(self, db: Database, admin_token: str | None = None, *, requests_per_minute: int = 0) -> None:
        self._db = db
        #: What tokens have that do not say themselves.
        self.requests_per_minute: Final = requests_per_minute
        self._admin_hash = token_hash(admin_token) if admin_token else None
        self._cache: dict[str, _Cached] = {}
        self._workspaces: set[str] = set()
        self._admins: dict[str | None, Principal] = {}
        self._rights: dict[tuple[str, str], Rights] = {}
        #: Users in workspaces, without their rights.
        self._members: dict[tuple[str, str | None], Principal] = {}

    async def bootstrap(self, now_ms: int) -> str | None:
        """Create the first workspaces and the user ``admin``; a new admin token, to be shown once, or None.

        A token is made when none of the admin's is left that works, unless the settings name one. Safe to repeat.
        """
        token = new_token()

        def work(connection: sqlite3.Connection) -> bool:
            for workspace, name in FIRST_WORKSPACES:
                connection.execute(
                    "INSERT OR IGNORE INTO workspace (id, name, created_at) VALUES (?, ?, ?)",
                    (workspace, name, now_ms),
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
                " AND (expiration IS NULL OR expiration > ?) AND scopes IS NULL AND read_only = 0"
                " AND label IS NOT ? AND label IS NOT ? LIMIT 1",
                (ADMIN_EMAIL, now_ms, EPHEMERAL_LABEL, SESSION_LABEL),
            ).fetchone()
            if usable is None:
                connection.execute(
                    "INSERT INTO token (hash, prefix, email, super_admin, created_at) VALUES (?, ?, ?, 1, ?)",
                    (token_hash(token), token_prefix(token), ADMIN_EMAIL, now_ms),
                )
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

    def knows(self, token: str) -> bool:
        """Whether the token has been found lately: it is nobody's guess."""
        digest = token_hash(token)
        return digest in self._cache or (self._admin_hash is not None and same_hash(digest, self._admin_hash))

    def rights(self, workspace_id: str, username: str) -> Rights:
        """Where a member of this name has rights by folders and groups; kept until somebody changes them."""
        known = self._rights.get((workspace_id, username))
        if known is None:
            groups = self._db.read(
                "SELECT name FROM usr_group_member WHERE workspace_id = ? AND username = ?", (workspace_id, username)
            )
            folders = self._db.read("SELECT * FROM folder WHERE workspace_id = ? ORDER BY name", (workspace_id,))
            known = Rights.of(username, (row["name"] for row in groups), map(folder_from_row, folders))
            if len(self._rights) >= MAX_CACHED_TOKENS:
                self._rights.clear()
            self._rights[workspace_id, username] = known
        return known

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

        A job of a super admin has an admin's rights in its workspace, and none over the instance. Raises
        :class:`NotAuthorized`. Kept until somebody changes users or members: every step of a flow asks.
        """
        key = (email, workspace_id)
        known = self._members.get(key)
        if known is None:
            if len(self._members) >= MAX_CACHED_TOKENS:
                self._members.clear()
            known = self._members[key] = replace(
                self._identity(email, workspace_id, is_super_admin=True), is_super_admin=False
            )
        return self._with_rights(known)

    def principal_in(self, principal: Principal, workspace_id: str) -> Principal:
        """What a caller of an instance-wide route is in a workspace, with the same token. Raises :class:`NotAuthorized`."""
        found = self._member(principal.email, workspace_id, is_super_admin=principal.is_super_admin)
        return replace(found, scopes=principal.scopes)

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

    def evict(self, hashes: Iterable[str]) -> None:
        """Forget tokens that change; called inside the transaction that changes them."""
        for digest in hashes:
            self._cache.pop(digest, None)

    def forget(self) -> None:
        """Drop all caches; to be called by whoever changes users, members or workspaces."""
        self._cache.clear()
        self._workspaces.clear()
        self._rights.clear()
        self._members.clear()

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
        owner = self._member(token["email"], workspace_id, is_super_admin=bool(token["super_admin"]))
        texts = None if token["scopes"] is None else orjson.loads(token["scopes"])
        networks = None if token["networks"] is None else orjson.loads(token["networks"])
        return replace(
            owner,
            display_name=display_name(token["label"], owner.username),
            token_prefix=token["prefix"],
            scopes=Scopes.of(texts, is_read_only=bool(token["read_only"])),
            networks=None if networks is None else tuple(map(parse_network, networks)),
            requests_per_minute=token["requests_per_minute"] or self.requests_per_minute,
        )

    def _member(self, email: str, workspace_id: str | None, *, is_super_admin: bool) -> Principal:
        """A user as a member of a workspace, with their rights; a super admin only if the token says so, too."""
        return self._with_rights(self._identity(email, workspace_id, is_super_admin=is_super_admin))

    def _with_rights(self, principal: Principal) -> Principal:
        workspace_id = principal.workspace_id
        if workspace_id is None or principal.is_admin:
            return principal
        rights = self.rights(workspace_id, principal.username)
        return replace(principal, readable=rights.readable, writable=rights.writable)

    def _identity(self, email: str, workspace_id: str | None, *, is_super_admin: bool) -> Principal:
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


def folder_from_row(row: sqlite3.Row) -> Folder:
    """A row of ``folder``."""
    return Folder(
        row["name"],
        tuple(orjson.loads(row["owners"])),
        orjson.loads(row["extra_perms"]),
        row["display_name"],
        row["summary"],
        row["created_by"],
        row["edited_at"],
    )
