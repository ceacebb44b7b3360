"""Passwords: hashed with argon2id, in threads, few at a time.

A hash takes some 20 ms of a core and 19 MiB, on purpose. So it is never made in the loop, at most ``CONCURRENT`` are made at
once, and who finds ``MAX_WAITING`` others waiting is told to come back.
"""

from __future__ import annotations

from typing import Final

import trio

from minwebhook.errors import BadRequest, TooManyRequests

#: OWASP's choice for servers: 19 MiB, two passes.
_MEMORY_BYTES: Final = 19 * 1024 * 1024
_PASSES: Final = 2
CONCURRENT: Final = 2
MAX_WAITING: Final = 32
MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 1000


class Passwords:
    """Makes and checks hashes."""

    def __init__(self, *, memory_bytes: int = _MEMORY_BYTES, max_waiting: int = MAX_WAITING) -> None:
        self._memory_bytes = memory_bytes
        self._limiter = trio.CapacityLimiter(CONCURRENT)
        self._max_waiting = max_waiting
        #: What is checked for users that there are not: whether there is one cannot be told from the time it takes.
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """The stored form. Raises :class:`TooManyRequests`."""
        self._check_room()
        return await trio.to_thread.run_sync(self._hash, password, limiter=self._limiter)

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; None is nobody's. Raises :class:`TooManyRequests`."""
        self._check_room()
        if stored is None and not self._nobody:
            self._nobody = await self.hash("nobody's password")
        found = await trio.to_thread.run_sync(self._verify, stored or self._nobody, password, limiter=self._limiter)
        return found and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        import nacl.exceptions  # noqa: PLC0415 - 1 MiB, for the first who asks
        from nacl.pwhash import argon2id  # noqa: PLC0415

        try:
            return bool(argon2id.verify(stored.encode(), password.encode()))
        except nacl.exceptions.CryptoError:
            return False

    def _hash(self, password: str) -> str:
        from nacl.pwhash import argon2id  # noqa: PLC0415 - 1 MiB, for the first who asks

        return argon2id.str(password.encode(), _PASSES, self._memory_bytes).decode()

    def _check_room(self) -> None:
        if self._limiter.statistics().tasks_waiting >= self._max_waiting:
            raise TooManyRequests("too many log-ins at once; try again")


def parse_password(value: object) -> str:
    """A new password. Raises :class:`BadRequest`."""
    if not isinstance(value, str) or not MIN_LENGTH <= len(value) <= MAX_LENGTH:
        raise BadRequest(f"password must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest("password is not valid Unicode") from None
    return value
