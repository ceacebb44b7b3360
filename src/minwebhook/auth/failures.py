"""Who fails too often: failures by key in windows of a minute, in bounded memory. Pure; time is an argument."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from minwebhook.addresses import address_key
from minwebhook.auth.tokens import token_prefix
from minwebhook.errors import TooManyRequests

WINDOW_S: Final = 60.0
#: Keys kept; the ones that failed first go first.
MAX_KEYS: Final = 10_000


class FailureLimit:
    """At most ``limit`` failures of one key in a window; 0 is no limit."""

    def __init__(self, limit: int, *, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._max_keys = max_keys
        #: When the window began, and failures since then.
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> int:
        """Seconds for which the key is to be refused; 0 if it is not."""
        began, count = self._seen.get(key, (now_s, 0))
        left = began + WINDOW_S - now_s
        return math.ceil(left) if 0 < self._limit <= count and left > 0 else 0

    def note(self, key: str, now_s: float) -> None:
        """It has failed."""
        if not self._limit:
            return
        began, count = self._seen.pop(key, (now_s, 0))
        if now_s - began >= WINDOW_S:
            began, count = now_s, 0
        self._seen[key] = began, count + 1
        while len(self._seen) > self._max_keys:
            self._seen.popitem(last=False)

    def take_back(self, key: str) -> None:
        """What was noted was no failure."""
        began, count = self._seen.get(key, (0.0, 0))
        if count > 1:
            self._seen[key] = began, count - 1
        else:
            self._seen.pop(key, None)

    def __len__(self) -> int:
        return len(self._seen)


class FailedTokens:
    """Tokens that were refused, by address and by their public beginning. Tokens that are in use are never asked about."""

    def __init__(self, per_address: int, per_prefix: int) -> None:
        self._by_address = FailureLimit(per_address)
        self._by_prefix = FailureLimit(per_prefix)

    @property
    def is_watching(self) -> bool:
        """Whether there was any failure that still counts, or did lately."""
        return len(self._by_address) > 0 or len(self._by_prefix) > 0

    def check(self, client: str, token: str, now_s: float) -> None:
        """Raises :class:`TooManyRequests` if the caller, or whoever guesses at this token, has to wait."""
        wait_s = max(
            self._by_address.wait_s(address_key(client), now_s), self._by_prefix.wait_s(token_prefix(token), now_s)
        )
        if wait_s:
            raise TooManyRequests("too many tokens that do not work; try again later", retry_after_s=wait_s)

    def note(self, client: str, token: str, now_s: float) -> None:
        """One more."""
        self._by_address.note(address_key(client), now_s)
        self._by_prefix.note(token_prefix(token), now_s)
