"""Time as the program counts and shows it: Unix milliseconds inside, RFC 3339 in UTC outside."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, overload

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(second: int) -> str:
    """A Unix time as in fields of HTTP, ``Sun, 06 Nov 1994 08:49:37 GMT`` (RFC 9110 section 5.6.7)."""
    year, month, day, hour, minute, of_minute, weekday, *_ = time.gmtime(second)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{of_minute:02} GMT"


def now_ms() -> int:
    """The wall clock as Unix milliseconds."""
    return time.time_ns() // 1_000_000


@overload
def rfc3339(time_ms: int) -> str: ...
@overload
def rfc3339(time_ms: None) -> None: ...
def rfc3339(time_ms: int | None) -> str | None:
    """A time as on the wire: UTC, microseconds, ``Z``; None stays None."""
    if time_ms is None:
        return None
    second, milliseconds = divmod(time_ms, 1000)
    return f"{_second(second)}.{milliseconds:03}000Z"


@lru_cache(maxsize=4096)  # the times of a list are close together
def _second(second: int) -> str:
    # Not strftime: its %Y leaves out the zeros of years below 1000.
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat(timespec="seconds")


def parse_rfc3339(text: str) -> int:
    """An RFC 3339 date-time as Unix milliseconds, rounded down. Raises ValueError."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("not an RFC 3339 date-time")
    try:
        # In UTC first: an offset may lead out of the years 1 to 9999, and such a time could not be shown again.
        return (datetime.fromisoformat(text.upper()).astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except OverflowError as error:
        raise ValueError("a date-time out of range") from error
