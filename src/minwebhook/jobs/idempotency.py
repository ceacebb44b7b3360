"""Idempotency keys: a request that is sent again with its key gets the job of the first one.

A key is taken while its first request is being stored (:meth:`IdempotencyKeys.claim`); from then on a row, written in the
transaction of the job's own row, says which job it has. So a key is on disk exactly if its job is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import trio

from minwebhook.db.database import Database
from minwebhook.errors import BadRequest, KeyReused
from minwebhook.http.messages import Headers
from minwebhook.times import now_ms

#: Characters of a key; the senders' own are UUIDs and the like.
MAX_KEY_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What tells the requests apart that get a job each."""

    #: SHA-256 of the workspace, the runnable, the owner of the token, and the key as it was sent.
    digest: bytes
    #: SHA-256 of the query and the body: the same key for another request is a mistake.
    fingerprint: bytes
    expires_at_ms: int


class _Pending:
    __slots__ = ("done", "fingerprint")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.done = trio.Event()


class IdempotencyKeys:
    """All keys that are remembered."""

    def __init__(
        self, db: Database, *, header_names: tuple[str, ...], ttl_s: float, clock: Callable[[], int] = now_ms
    ) -> None:
        """A key comes in the first of these header fields that a request has, and is remembered for ``ttl_s``."""
        self._db = db
        self._names = tuple(name.lower() for name in header_names)
        self._ttl_ms = round(ttl_s * 1000)
        self._clock = clock
        self._pending: dict[bytes, _Pending] = {}

    def sent(self, headers: Headers) -> str | None:
        """The key of a request as it was sent; None if it has none. Raises :class:`BadRequest` for one too long."""
        for name in self._names:
            value = headers.get(name)
            if value:
                if len(value) > MAX_KEY_LENGTH:
                    raise BadRequest(f"{name}: an idempotency key has at most {MAX_KEY_LENGTH} characters")
                return value
        return None

    def make(self, sent: str, *, workspace: str, runnable: str, email: str, fingerprint: bytes) -> IdempotencyKey:
        """The key of a request for ``runnable``, a name that no other kind of runnable has."""
        digest = hashlib.sha256()
        for part in (workspace, runnable, email, sent):
            encoded = part.encode("utf-8", "surrogateescape")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        return IdempotencyKey(digest.digest(), fingerprint, self._clock() + self._ttl_ms)

    async def find(self, key: IdempotencyKey) -> UUID | None:
        """The job that this key has, waiting for one that is being stored; None if there is none.

        Raises :class:`KeyReused` if its request was another one. After None there is no wait until :meth:`claim`.
        """
        while (pending := self._pending.get(key.digest)) is not None:
            _compare(key, pending.fingerprint)
            await pending.done.wait()
        rows = self._db.read(
            "SELECT fingerprint, job_id FROM idempotency WHERE key = ? AND expires_at > ?", (key.digest, self._clock())
        )
        if not rows:
            return None
        _compare(key, rows[0]["fingerprint"])
        return UUID(bytes=rows[0]["job_id"])

    @contextmanager
    def claim(self, key: IdempotencyKey) -> Iterator[None]:
        """Around the storing of the job of a key that :meth:`find` did not find: whoever asks for it meanwhile waits."""
        pending = self._pending[key.digest] = _Pending(key.fingerprint)
        try:
            yield
        finally:
            del self._pending[key.digest]
            pending.done.set()


def _compare(key: IdempotencyKey, fingerprint: bytes) -> None:
    if key.fingerprint != fingerprint:
        raise KeyReused("this idempotency key was sent with another request; use a new key for a new request")
