"""Conditional and range requests for one representation (RFC 9110 §13 and §14). Pure."""

from __future__ import annotations

import re
from typing import Final

from minwebhook.http.messages import Headers

_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE: Final = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})", re.ASCII)


def is_not_modified(headers: Headers, etag: str) -> bool:
    """Whether the client has this very representation, so that 304 is the answer (§13.1.2)."""
    fields = headers.get_all("if-none-match")
    if not fields:
        return False
    value = ",".join(fields)
    return value.strip() == "*" or etag.removeprefix("W/") in [tag.removeprefix("W/") for tag in _ETAG.findall(value)]


def wanted_range(headers: Headers, etag: str | None) -> tuple[int | None, int | None] | None:
    """First and last byte of the one range that is asked for; None for the whole representation.

    (None, n) are the last n bytes, (n, None) everything from n. What is malformed, several ranges, and a range of another
    representation (``If-Range``) are answered with the whole, as §14.2 and §13.1.5 allow or want.
    """
    fields = headers.get_all("range")
    if len(fields) != 1:
        return None
    condition = headers.get("if-range")
    if condition is not None and (etag is None or etag.startswith("W/") or condition.strip() != etag):
        return None
    match = _RANGE.fullmatch(fields[0].replace(" ", ""))
    if match is None:
        return None
    first = int(match["first"]) if match["first"] else None
    last = int(match["last"]) if match["last"] else None
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        return None
    return first, last
