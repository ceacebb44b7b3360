"""Results that answer further runs with equal arguments, for as long as ``cache_ttl`` says.

Kept in the database, by workspace, code and arguments; successes only. Those that expire first leave when there are too
many.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any, Final

import orjson

from minwebhook.child import values
from minwebhook.db.database import Database
from minwebhook.errors import Unavailable
from minwebhook.jobs import outcomes
from minwebhook.jobs.model import JobSpec, Outcome
from minwebhook.variables.references import may_hold_references

#: Results kept, and the largest one.
MAX_KEPT: Final = 10_000
MAX_KEPT_BYTES: Final = 1024 * 1024

_FIND: Final = "SELECT result, mask FROM result_cache WHERE key = ? AND expires_at > ?"
_KEEP: Final = "INSERT OR REPLACE INTO result_cache (key, result, mask, expires_at) VALUES (?, ?, ?, ?)"
_EXPIRE: Final = "DELETE FROM result_cache WHERE expires_at <= ?"
_BOUND: Final = (
    "DELETE FROM result_cache WHERE key IN (SELECT key FROM result_cache ORDER BY expires_at"
    " LIMIT max(0, (SELECT count(*) FROM result_cache) - ?))"
)


class ResultCache:
    """The kept results of all workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def find(self, key: bytes, now_ms: int) -> Outcome | None:
        """The outcome of an equal run that is still good; None if there is none, or it cannot be read now."""
        try:
            rows = self._db.read(_FIND, (key, now_ms))
        except (Unavailable, sqlite3.Error):  # a damaged page as well: the job runs again
            return None
        return outcomes.repeated(rows[0]["result"], rows[0]["mask"]) if rows else None

    def keep(self, key: bytes, outcome: Outcome, ttl_s: int, now_ms: int) -> None:
        """Keeps a success. It is written behind the answer: a lost one is only run again."""
        if not outcome.is_success or len(outcome.result) > MAX_KEPT_BYTES:
            return
        self._db.post(_EXPIRE, (now_ms,))
        self._db.post(_KEEP, (key, outcome.result, outcome.mask, now_ms + 1000 * ttl_s))
        self._db.post(_BOUND, (MAX_KEPT,))


def cache_key(spec: JobSpec) -> bytes:
    """Equal for runs that must have equal results: the same code in the same workspace, the same arguments in any order.

    Arguments are compared as JSON: 1 and 1.0 differ. Those with references mean what their reader may know: such runs
    are equal for the same user with the same scopes only. So are steps of flows, and code that came with the request: whoever
    wrote it has not said that others may have the result of a run, and what it imports depends on where it stands. The author
    of a deployed script, or flow, has said so with its ``cache_ttl``.
    """
    arguments = values.loads(spec.arguments)
    ordered = values.dumps([[name, arguments[name]] for name in sorted(arguments)])
    is_deployed = spec.script_hash is not None
    is_shared = is_deployed and not spec.step_id and not may_hold_references(spec.arguments)
    reader = [] if is_shared else _reader(spec)
    place = [] if is_deployed else [spec.path, spec.flow_path, spec.step_id, spec.lock, spec.imports, spec.step_imports]
    digest = hashlib.sha256()
    for part in (
        orjson.dumps(
            [spec.workspace, spec.kind, spec.language, spec.script_hash, spec.preprocess, spec.is_preprocessor]
        ),
        orjson.dumps([reader, place]),
        b"" if is_deployed else spec.source,
        ordered.encode(),
        spec.mask,
    ):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _reader(spec: JobSpec) -> list[Any]:
    """With whose rights references are followed."""
    scopes = None if spec.scopes is None else spec.scopes.texts
    return [spec.permissioned_as, scopes, spec.authored, spec.verbatim]
