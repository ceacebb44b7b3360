"""Secrets hidden in what a job writes, exactly and as it comes: also those that lie across two pieces. Pure.

What is hidden of a secret: the text itself, the text as it is inside JSON, and each longer line of a text of several.
Short ones are left alone: hiding every ``no`` would make logs unreadable and tell the secret by what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from minwebhook.http.codecs import json_text

#: Characters of the shortest secret that is hidden, and of the shortest line of one.
MIN_LENGTH: Final = 6
MIN_LINE_LENGTH: Final = 16
#: Bytes of the longest one: the end of a log is held back while it may be the beginning of one.
MAX_BYTES: Final = 64 * 1024
#: Texts that are hidden in the log of one job, and their bytes together; the first ones count.
MAX_TEXTS: Final = 200
MAX_TEXTS_BYTES: Final = 384 * 1024
STARS: Final = b"********"

#: So much of a text is looked for before its beginnings are counted one by one.
_HEAD_BYTES: Final = 16
#: Repetitions of a text in itself are followed in steps of about so many bytes.
_STEPS_BYTES: Final = (8192, 512, 32, 1)


class Mask:
    """Replaces secrets by asterisks in a stream of bytes. What several secrets cover that overlap is replaced once.

    Time is linear in the stream for each text, whatever both are: a job chooses both.
    """

    __slots__ = ("_bytes", "_forms", "_held", "_replaced")

    def __init__(self) -> None:
        self._forms: dict[bytes, _Form] = {}
        self._bytes = 0
        #: The end of what was fed, which may be the beginning of a secret.
        self._held = b""
        #: How much of that belongs to a secret that was replaced already.
        self._replaced = 0

    def add(self, secret: str) -> None:
        """From now on ``secret`` is hidden."""
        for text in _forms(secret):
            if text in self._forms:
                continue
            if len(self._forms) >= MAX_TEXTS or self._bytes + len(text) > MAX_TEXTS_BYTES:
                return
            self._forms[text] = _Form(text)
            self._bytes += len(text)

    def feed(self, data: bytes) -> bytes:
        """What may be shown, now that ``data`` has come."""
        if not self._forms:
            return data
        data = self._held + data
        hold = min(form.open_from(data) for form in self._forms.values())
        shown, self._replaced = self._show(data, hold)
        self._held = data[hold:]
        return shown

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        shown, _ = self._show(self._held, len(self._held))
        self._held, self._replaced = b"", 0
        return shown

    def hide(self, data: bytes) -> bytes:
        """``data``, which is whole, without secrets."""
        return b"".join(_replaced(data, self._covered(data, 0), 0))

    def _show(self, data: bytes, hold: int) -> tuple[bytes, int]:
        """``data`` up to ``hold`` without secrets, and how much behind that belongs to one that is replaced in it."""
        covered = self._covered(data, self._replaced)
        begun = [each for each in covered if each[0] < hold]
        shown = b"".join(_replaced(data[:hold], begun, self._replaced))
        return shown, max(begun[-1][1] - hold, 0) if begun else max(self._replaced - hold, 0)

    def _covered(self, data: bytes, replaced: int) -> list[tuple[int, int]]:
        """Where secrets are, from start to end, in order; those that overlap as one. The first ``replaced`` bytes are one."""
        found = sorted(run for form in self._forms.values() for run in form.runs(data))
        if replaced:
            found.insert(0, (0, replaced))
        joined: list[tuple[int, int]] = []
        for start, end in found:
            if joined and start < joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined


def _replaced(data: bytes, covered: list[tuple[int, int]], known: int) -> Iterator[bytes]:
    """The pieces of ``data`` with asterisks in place of what is covered; those of the first ``known`` bytes are out."""
    at = 0
    for start, end in covered:
        yield data[at:start]
        if not (known and start == 0):
            yield STARS
        at = end
    yield data[at:]


class _Form:
    """One text that is hidden."""

    def __init__(self, text: bytes) -> None:
        self.text: Final = text

    @cached_property
    def _borders(self) -> list[int]:
        """For each of its beginnings, the length of the longest shorter one that it ends with (Knuth, Morris, Pratt)."""
        text, borders, length = self.text, [0], 0
        for byte in text[1:]:
            while length and byte != text[length]:
                length = borders[length - 1]
            if byte == text[length]:
                length += 1
            borders.append(length)
        return borders

    def runs(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where it is in ``data``, from start to end: one that follows another as its end allows, as one run."""
        text = self.text
        size = len(text)
        start = data.find(text)
        while start >= 0:
            end = start + size
            step = size - self._borders[-1]
            if step < size:  # it is there again if what is behind goes on as it ends
                for many in _STEPS_BYTES:
                    block = text[size - step :] * max(many // step, 1)
                    while data.startswith(block, end):
                        end += len(block)
            yield start, end
            start = data.find(text, end - size + 1)

    def open_from(self, data: bytes) -> int:
        """Where the longest end of ``data`` begins that is a beginning of this, and not all of it."""
        text = self.text
        tail = data[max(len(data) - len(text) + 1, 0) :]
        at = tail.find(text[:_HEAD_BYTES])
        if at < 0:
            lengths = range(min(len(tail), _HEAD_BYTES - 1), 0, -1)
            return len(data) - next((length for length in lengths if tail.endswith(text[:length])), 0)
        borders, length = self._borders, 0
        for byte in tail[at:]:
            while length and byte != text[length]:
                length = borders[length - 1]
            if byte == text[length]:
                length += 1
        return len(data) - length


def _forms(secret: str) -> list[bytes]:
    """The texts that are hidden for a secret."""
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    texts = [secret, secret.strip(), *(line for line in lines if len(line) >= MIN_LINE_LENGTH)]
    found = [text.encode("utf-8", "replace") for text in texts if len(text) >= MIN_LENGTH]
    found += [json_text(text)[1:-1] for text in texts if len(text) >= MIN_LENGTH]
    return [form for form in dict.fromkeys(found) if len(form) <= MAX_BYTES]
