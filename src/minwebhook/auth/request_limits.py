"""How many requests a token may make: a bucket of a minute's requests for each, in bounded memory. Pure; time is an argument.

The bucket is kept as one number, the time at which it is full again (GCRA, ITU-T I.371): a request moves it by what one
request takes to come back, and is refused if that would be more than a minute away. A bucket that is full is as good as none,
so what is forgotten first, the one that was used longest ago, is the one that has the most in it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from minwebhook.errors import TooManyRequests

WINDOW_S: Final = 60.0
#: Buckets kept.
MAX_KEYS: Final = 10_000
#: Most that may be asked for.
MAX_PER_MINUTE: Final = 1_000_000
_POLICY: Final = "token"


class RequestLimits:
    """The buckets of tokens, by their public beginnings."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        #: When each is full again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, per_minute: int, now_s: float) -> None:
        """One request. Raises :class:`TooManyRequests` that says when there may be another."""
        full_at = max(self._full_at.get(key, now_s), now_s) + WINDOW_S / per_minute
        wait_s = full_at - now_s - WINDOW_S
        if wait_s > _ROUNDING_S:
            after_s = math.ceil(wait_s)
            raise TooManyRequests(
                f"this token may make {per_minute} requests a minute; try again later",
                retry_after_s=after_s,
                headers=_fields(per_minute, 0, after_s),
            )
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)

    def fields(self, key: str, per_minute: int, now_s: float) -> tuple[tuple[str, str], ...]:
        """What the answer to a request says of the bucket (draft-ietf-httpapi-ratelimit-headers)."""
        used_s = max(self._full_at.get(key, now_s) - now_s, 0.0)
        left = math.floor((WINDOW_S - used_s) * per_minute / WINDOW_S + _ROUNDING_S)
        return _fields(per_minute, max(left, 0), math.ceil(used_s))

    def __len__(self) -> int:
        return len(self._full_at)


#: What sums of times may be off by.
_ROUNDING_S: Final = 1e-6


def _fields(per_minute: int, left: int, after_s: int) -> tuple[tuple[str, str], ...]:
    return (
        ("RateLimit-Policy", f'"{_POLICY}";q={per_minute};w={WINDOW_S:.0f}'),
        ("RateLimit", f'"{_POLICY}";r={left};t={after_s}'),
    )
