"""Secrets hidden in what a job writes, exactly and as it comes: also those that lie across two pieces. Pure.

What is hidden of a secret: the text itself, the text as it is inside JSON, and each longer line of a text of several.
Short ones are left alone: hiding every ``no`` would make logs unreadable and tell the secret by what is missing.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.http.codecs import json_text

#: Characters of the shortest secret that is hidden, and of the shortest line of one.
MIN_LENGTH: Final = 6
MIN_LINE_LENGTH: Final = 16
#: Bytes of the longest one: the end of a log is held back while it may be the beginning of one.
MAX_BYTES: Final = 64 * 1024
#: Secrets of one job; the first ones count.
MAX_SECRETS: Final = 200
STARS: Final = b"********"


class Mask:
    """Replaces secrets by asterisks in a stream of bytes."""

    __slots__ = ("_forms", "_held", "_pattern")

    def __init__(self) -> None:
        self._forms: dict[bytes, None] = {}
        self._pattern: re.Pattern[bytes] | None = None
        #: The end of what was fed, which may be the beginning of a secret.
        self._held = b""

    def add(self, secret: str) -> None:
        """From now on ``secret`` is hidden."""
        new = [form for form in _forms(secret) if form not in self._forms]
        if not new or len(self._forms) >= MAX_SECRETS:
            return
        self._forms.update(dict.fromkeys(new))
        # The longest first: where one secret begins with another, the whole of it goes.
        self._pattern = re.compile(b"|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True)))

    def feed(self, data: bytes) -> bytes:
        """What may be shown, now that ``data`` has come."""
        if self._pattern is None:
            return data
        data = self._held + data
        shown = bytearray()
        at, hold = 0, self._open_from(data, 0)
        for match in self._pattern.finditer(data):
            if match.start() >= hold:
                break
            shown += data[at : match.start()] + STARS
            at = match.end()
            if at > hold:
                hold = self._open_from(data, at)
        shown += data[at:hold]
        self._held = data[hold:]
        return bytes(shown)

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        rest, self._held = self._held, b""
        return self.hide(rest)

    def hide(self, data: bytes) -> bytes:
        """``data``, which is whole, without secrets."""
        return data if self._pattern is None else self._pattern.sub(STARS, data)

    def _open_from(self, data: bytes, start: int) -> int:
        """Where the first secret begins that ``data`` may hold the beginning of; its length if there is none."""
        first = len(data)
        for form in self._forms:
            at = max(start, len(data) - len(form) + 1)
            while (at := data.find(form[:1], at, first)) >= 0:
                if form.startswith(data[at:]):
                    first = at
                    break
                at += 1
        return first


def _forms(secret: str) -> list[bytes]:
    """The texts that are hidden for a secret."""
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    texts = [secret, secret.strip(), *(line for line in lines if len(line) >= MIN_LINE_LENGTH)]
    found = [text.encode("utf-8", "replace") for text in texts if len(text) >= MIN_LENGTH]
    found += [json_text(text)[1:-1] for text in texts if len(text) >= MIN_LENGTH]
    return [form for form in dict.fromkeys(found) if len(form) <= MAX_BYTES]
