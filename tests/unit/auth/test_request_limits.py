"""The buckets of tokens: nobody gets more than a minute's requests at once, nor more than their rate after."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth.request_limits import WINDOW_S, RequestLimits
from minwebhook.errors import TooManyRequests


def passes(limits: RequestLimits, key: str, per_minute: int, now_s: float) -> bool:
    try:
        limits.take(key, per_minute, now_s)
    except TooManyRequests:
        return False
    return True


def test_a_minutes_requests_at_once_and_then_one_by_one() -> None:
    limits = RequestLimits()
    assert [passes(limits, "a", 3, 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert passes(limits, "b", 3, 100.0)
    with pytest.raises(TooManyRequests) as refused:
        limits.take("a", 3, 100.0)
    assert dict(refused.value.headers) == {
        "Retry-After": "20",
        "RateLimit-Policy": '"token";q=3;w=60',
        "RateLimit": '"token";r=0;t=20',
    }
    assert not passes(limits, "a", 3, 119.9)
    assert passes(limits, "a", 3, 120.0)
    assert not passes(limits, "a", 3, 120.0)
    assert [passes(limits, "a", 3, 500.0) for _ in range(4)] == [True, True, True, False]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30)), max_size=80),
    st.integers(1, 40),
)
def test_no_minute_has_more_than_twice_the_limit_and_what_is_left_is_told(
    steps: list[tuple[str, float]], per_minute: int
) -> None:
    limits, now = RequestLimits(), 0.0
    passed: dict[str, list[float]] = {"a": [], "b": []}
    for key, pause in steps:
        now += pause
        left = int(re.findall(r";r=(\d+);", dict(limits.fields(key, per_minute, now))["RateLimit"])[0])
        took = passes(limits, key, per_minute, now)
        assert took is (left > 0)
        if took:
            passed[key].append(now)
    for times in passed.values():
        for start in times:
            at_most = per_minute * 2
            assert len([each for each in times if start <= each < start + WINDOW_S]) <= at_most
        if times:
            assert len(times) <= per_minute + (times[-1] - times[0]) * per_minute / WINDOW_S + 1e-3


@given(st.lists(st.integers(0, 1000), max_size=60))
def test_the_memory_is_bounded_and_the_busy_ones_are_kept(keys: list[int]) -> None:
    limits = RequestLimits(max_keys=5)
    for key in keys:
        passes(limits, str(key), 10, 1.0)
        passes(limits, "busy", 100, 1.0)
        assert len(limits) <= 5
    left = dict(limits.fields("busy", 100, 1.0))["RateLimit"]
    assert f";r={max(100 - len(keys), 0)};" in left
