"""Who fails too often: failures by key in windows of a minute, in bounded memory. Pure; time is an argument."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from typing import Final

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


def address_key(peer: str) -> str:
    """The address of a peer (``host:port``) without its port; of IPv6 the network of 64 bits that one caller may have."""
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
