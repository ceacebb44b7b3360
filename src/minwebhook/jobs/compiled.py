"""Compiled scripts, kept in memory so that a new process need not compile."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_ALL_BYTES: Final = 64 * 1024 * 1024


class CompiledScripts:
    """By script version; the one unused for longest goes. A process may send anything: what it sent is only ever given
    to jobs of the same version."""

    def __init__(self) -> None:
        self._codes: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def find(self, key: str) -> bytes:
        """What was kept; b"" if nothing was."""
        code = self._codes.get(key)
        if code is None:
            return b""
        self._codes.move_to_end(key)
        return code

    def keep(self, key: str, code: bytes) -> bool:
        """The first one of a version is kept, if it is not too large. Whether it is now."""
        if len(code) > _MAX_BYTES or key in self._codes:
            return False
        self._codes[key] = code
        self._bytes += len(code)
        while self._bytes > _MAX_ALL_BYTES:
            _, oldest = self._codes.popitem(last=False)
            self._bytes -= len(oldest)
        return True
