"""Times on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.times import http_date, rfc3339


@pytest.mark.parametrize(
    ("time_ms", "shown"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_769_860_800_123, "2026-01-31T12:00:00.123000Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000000Z"),
        (-50_749_601_578_000, "0361-10-23T08:27:02.000000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999000Z"),
    ],
)
def test_a_time_has_four_digits_of_a_year_and_microseconds(time_ms: int | None, shown: str | None) -> None:
    assert rfc3339(time_ms) == shown


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_nothing_is_lost(time_ms: int) -> None:
    shown = datetime.fromisoformat(rfc3339(time_ms))
    assert (shown - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == time_ms


@given(st.integers(0, 253_402_300_799))
def test_a_date_of_http(second: int) -> None:
    assert http_date(second) == formatdate(second, usegmt=True)
