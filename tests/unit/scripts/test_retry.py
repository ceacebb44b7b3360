"""When failed runs are tried again."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.retry import MAX_PAUSE_S, RetryPolicy

POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "constant": st.fixed_dictionaries({"attempts": st.integers(0, 5), "seconds": st.integers(0, 60)}),
        "exponential": st.fixed_dictionaries(
            {"attempts": st.integers(0, 5), "seconds": st.integers(1, 60)},
            optional={"multiplier": st.integers(1, 9), "random_factor": st.integers(0, 100)},
        ),
        "retry_if": st.fixed_dictionaries({"error_names": st.lists(st.sampled_from(["A", "B"]))}),
    },
)


def pauses(policy: RetryPolicy, error: str = "A", random: float = 0.5) -> list[int]:
    """All pauses in order, in milliseconds."""
    found: list[int] = []
    while (pause := policy.pause_ms(len(found), error, lambda: random)) is not None:
        found.append(pause)
    return found


def test_constant_attempts_come_first_then_exponential_ones() -> None:
    policy = RetryPolicy.parse(
        "retry",
        {"constant": {"attempts": 2, "seconds": 5}, "exponential": {"attempts": 3, "multiplier": 2, "seconds": 3}},
    )
    # The power goes by all failures so far.
    assert pauses(policy) == [5000, 5000, 2 * 27 * 1000, 2 * 81 * 1000, 2 * 243 * 1000]


def test_the_random_factor_is_a_percentage_up_and_down() -> None:
    policy = RetryPolicy.parse("retry", {"exponential": {"attempts": 1, "seconds": 10, "random_factor": 20}})
    assert [pauses(policy, random=value) for value in (0.0, 0.5, 1.0)] == [[8000], [10_000], [12_000]]


def test_only_named_errors_are_tried_again() -> None:
    policy = RetryPolicy.parse("retry", {"constant": {"attempts": 1}, "retry_if": {"error_names": ["TimeoutError"]}})
    assert (pauses(policy, "TimeoutError"), pauses(policy, "ValueError")) == ([0], [])


@given(POLICIES, st.sampled_from("ABC"), st.floats(0, 1))
def test_every_policy_ends_and_no_pause_is_too_long(value: dict[str, Any], error: str, random: float) -> None:
    policy = RetryPolicy.parse("retry", value)
    found = pauses(policy, error, random)
    assert all(0 <= pause <= MAX_PAUSE_S * 1000 for pause in found)
    most = sum(value.get(kind, {}).get("attempts", 0) for kind in ("constant", "exponential"))
    assert len(found) in (0, most)


@given(POLICIES)
def test_a_policy_survives_being_stored(value: dict[str, Any]) -> None:
    policy = RetryPolicy.parse("retry", value)
    again = RetryPolicy.parse("retry", policy.to_json())
    assert pauses(again) == pauses(policy)
    assert again.error_names == policy.error_names


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "retry "),
        ({"constant": {"attempts": -1}}, "retry.constant.attempts"),
        ({"constant": {"attempts": 1.5}}, "retry.constant.attempts"),
        ({"constant": []}, "retry.constant "),
        ({"exponential": {"attempts": 1, "seconds": 0}}, "retry.exponential.seconds"),
        ({"exponential": {"attempts": 1, "seconds": 1, "random_factor": 101}}, "retry.exponential.random_factor"),
        ({"retry_if": {"expr": "true"}}, "retry.retry_if.expr"),
        ({"retry_if": {"error_names": "A"}}, "retry.retry_if.error_names"),
        ({"linear": {}}, "retry.linear"),
    ],
)
def test_what_is_wrong_is_named(value: Any, named: str) -> None:
    with pytest.raises(BadRequest, match=named.replace(".", r"\.")):
        RetryPolicy.parse("retry", value)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
)


@given(_ANYTHING)
def test_whatever_is_sent_is_a_policy_or_a_mistake(value: Any) -> None:
    with contextlib.suppress(BadRequest):
        RetryPolicy.parse("retry", value)
