"""Tokens of running jobs: made in memory when a job starts, gone when it ends, with the rights of the job's user."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

#: Tells them from stored tokens, which have no prefix.
PREFIX: Final = "mwj_"


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """On whose behalf a job runs, and where."""

    email: str
    workspace: str


class JobTokens:
    """The tokens of all jobs that run now."""

    def __init__(self) -> None:
        self._identities: dict[str, JobIdentity] = {}

    def issue(self, identity: JobIdentity) -> str:
        """A new token."""
        token = PREFIX + secrets.token_hex(20)
        self._identities[token] = identity
        return token

    def revoke(self, token: str) -> None:
        """The job has ended."""
        self._identities.pop(token, None)

    def find(self, token: str) -> JobIdentity | None:
        """Whose token it is. A hash look-up of 160 random bits: its timing tells nothing that can be searched for."""
        return self._identities.get(token)
