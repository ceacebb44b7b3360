"""Arguments and results as values, kept for a while: with each step of a flow the same large text may be asked for. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import orjson

#: Shorter texts are read as fast as they are found.
_MIN_BYTES: Final = 2048
#: Of all texts that are kept together; as values they take five to ten times as much.
_MAX_BYTES: Final = 8 * 1024 * 1024


class Parsed:
    """JSON texts, the one unused for longest goes. Whoever gets a value does not change it."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._length = 0
        #: By the identity of the text, which is kept with its value and so stays the only one with it.
        self._known: OrderedDict[int, tuple[bytes, Any]] = OrderedDict()

    def of(self, text: bytes) -> Any:
        """The value of a JSON text."""
        if not _MIN_BYTES <= len(text) <= self._max_bytes:
            return orjson.loads(text)
        key = id(text)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
            return found[1]
        value = orjson.loads(text)
        self._known[key] = text, value
        self._length += len(text)
        while self._length > self._max_bytes:
            self._drop(next(iter(self._known)))
        return value

    def forget(self, text: bytes) -> None:
        """It will not be asked for again."""
        if id(text) in self._known:
            self._drop(id(text))

    def _drop(self, key: int) -> None:
        text, _ = self._known.pop(key)
        self._length -= len(text)
