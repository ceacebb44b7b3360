"""Counting failures: never more than so many in a minute, and never more memory than so many keys."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.addresses import address_key
from minwebhook.auth.failures import WINDOW_S, FailureLimit


def test_the_limit_holds_for_a_window() -> None:
    limit = FailureLimit(2)
    assert limit.wait_s("a", 0) == 0
    limit.note("a", 0)
    assert limit.wait_s("a", 1) == 0
    limit.note("a", 1)
    assert limit.wait_s("a", 1) == 59
    assert limit.wait_s("b", 1) == 0
    assert limit.wait_s("a", 59.5) == 1
    assert limit.wait_s("a", WINDOW_S) == 0
    limit.note("a", WINDOW_S)
    assert limit.wait_s("a", WINDOW_S) == 0


def test_what_was_none_is_taken_back() -> None:
    limit = FailureLimit(2)
    for _ in range(2):
        limit.note("a", 0)
    limit.take_back("a")
    assert limit.wait_s("a", 0) == 0
    limit.take_back("a")
    limit.take_back("a")
    assert len(limit) == 0


def test_no_limit() -> None:
    limit = FailureLimit(0)
    for _ in range(1000):
        limit.note("a", 0)
    assert (limit.wait_s("a", 0), len(limit)) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 5)), max_size=60), st.integers(1, 5))
def test_no_key_gets_further_and_the_memory_is_bounded(steps: list[tuple[str, float]], most: int) -> None:
    limit, now, passed = FailureLimit(most, max_keys=3), 0.0, Counter[tuple[str, int]]()
    for key, pause in steps:
        now += pause
        if not limit.wait_s(key, now):
            limit.note(key, now)
            passed[key, 0] += 1
        assert len(limit) <= 3
    if len({key for key, _ in steps}) <= 3 and now < WINDOW_S:
        assert max(passed.values(), default=0) <= most


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("127.0.0.1:5000", "127.0.0.1"),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:ffff::1]", "2001:db8:1:2::/64"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_addresses_are_counted_without_ports(peer: str, key: str) -> None:
    assert address_key(peer) == key
