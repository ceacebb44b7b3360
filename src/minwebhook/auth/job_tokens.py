"""Tokens of running jobs: made in memory when a job starts, gone when it ends, with the rights of the job's user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from minwebhook.auth.scopes import Scopes
from minwebhook.entropy import Entropy

#: Tells them from stored tokens, which have no prefix.
PREFIX: Final = "mwj_"


def _ignore(secret: str) -> None:
    """Nobody shows anything."""


class JobIdentity(NamedTuple):
    """On whose behalf a job runs, and where."""

    email: str
    workspace: str
    #: Told the secrets that the job asks for, so that its log hides them.
    on_secret: Callable[[str], None] = _ignore
    #: What the token of whoever sent the code is restricted to; None if it was deployed, or that token is not.
    scopes: Scopes | None = None


class JobTokens:
    """The tokens of all jobs that run now."""

    def __init__(self) -> None:
        self._identities: dict[str, JobIdentity] = {}
        self._entropy = Entropy()

    def issue(self, identity: JobIdentity) -> str:
        """A new token."""
        token = PREFIX + self._entropy.take(20).hex()
        self._identities[token] = identity
        return token

    def revoke(self, token: str) -> None:
        """The job has ended."""
        self._identities.pop(token, None)

    def find(self, token: str) -> JobIdentity | None:
        """Whose token it is. A hash look-up of 160 random bits: its timing tells nothing that can be searched for."""
        return self._identities.get(token)
