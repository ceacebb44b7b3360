"""Plain request heads without a parser: one regular expression that accepts only what needs no judgment. Pure.

Most requests have the same plain form: a known method, a path, ``HTTP/1.1``, one Host, ordinary fields. h11 spends some
80 microseconds on each; matching takes a tenth of that. Whatever is not exactly of that form, or names a field that
changes framing or the connection's future, is left to h11, bytes untouched. The tests hold both against each other:
same requests, same refusals. The setting ``http_parser = h11`` switches this off.
"""

from __future__ import annotations

import re
from typing import Final

#: Line ends, control characters and the body's length were checked before (framing.py, strict.py).
_PLAIN: Final = re.compile(
    r"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (/[!-~]*) HTTP/1\.1\r\n"
    r"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_FOR_H11: Final = frozenset({"transfer-encoding", "expect", "upgrade", "http2-settings", "te", "trailer"})


def recognize(raw: bytes) -> tuple[str, str, list[tuple[str, str]]] | None:
    """Method, target, and fields (lower-case names, trimmed values) of a plain head; None if h11 must look at it."""
    match = _PLAIN.fullmatch(raw.decode("latin-1"))
    if match is None:
        return None
    method, target, lines = match.groups()
    fields: list[tuple[str, str]] = []
    hosts = 0
    for line in lines.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            break  # behind the last line
        name = name.lower()
        if name == "host":
            hosts += 1
        elif name in _FOR_H11:
            return None
        fields.append((name, value.strip("\t ")))
    return (method, target, fields) if hosts == 1 else None
