"""Job ids: UUIDv7 (RFC 9562 section 5.7), so that ids sort by time."""

from __future__ import annotations

from uuid import UUID

from minwebhook.entropy import Entropy


class IdMaker:
    """Makes UUIDv7s that increase strictly, also within one millisecond and when the clock steps back."""

    def __init__(self) -> None:
        self._last = 0
        self._entropy = Entropy()

    def make(self, now_ms: int) -> UUID:
        """A new id for the time ``now_ms`` (Unix milliseconds)."""
        # 48 bits of time and 12 bits that count within it (rand_a), then 62 random bits.
        stamp = max(now_ms << 12, self._last + 1)
        self._last = stamp
        random = int.from_bytes(self._entropy.take(8), "big") & (1 << 62) - 1
        return UUID(int=(stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random)
