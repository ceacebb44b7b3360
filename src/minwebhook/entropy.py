"""Random bytes in small pieces, without a system call for each: many are needed for every job."""

from __future__ import annotations

import os
from typing import Final

_BLOCK_BYTES: Final = 4096


class Entropy:
    """Gives out what the system's generator made, each byte once.

    For processes that never fork: two that share a block would give out the same bytes.
    """

    __slots__ = ("_at", "_block")

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """So many bytes, at most 4096."""
        start = self._at
        end = start + size
        if end > len(self._block):
            self._block = os.urandom(_BLOCK_BYTES)
            start, end = 0, size
        self._at = end
        return self._block[start:end]
