"""Pauses between the runs of a step that fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.flows.model import Retry
from minwebhook.flows.results import MAX_PAUSE_S, pause_s


def pauses(retry: Retry, random: tuple[float, ...] = (0.0,)) -> list[float]:
    """All of them, in their order."""
    found: list[float] = []
    numbers = iter(random * 1000)
    while (pause := pause_s(retry, len(found), lambda: next(numbers))) is not None:
        found.append(pause)
    return found


def test_constant_ones_come_before_those_that_grow() -> None:
    retry = Retry(constant_attempts=2, constant_s=5, exponential_attempts=3, multiplier=2, exponential_s=3)
    assert pauses(retry) == [5, 5, 2 * 3**3, 2 * 3**4, 2 * 3**5]  # the power counts all failures
    assert pauses(Retry()) == []


@pytest.mark.parametrize(
    ("numbers", "pause"), [((0.5, 0.4), 12), ((0.5, 0.6), 8), ((0.0, 0.4), 10), ((0.99, 0.4), 13.9)]
)
def test_they_are_longer_or_shorter_by_a_random_percentage(numbers: tuple[float, float], pause: float) -> None:
    retry = Retry(exponential_attempts=1, exponential_s=10, random_factor=40)
    assert pauses(retry, numbers) == [pytest.approx(pause)]


@given(
    st.integers(0, 5),
    st.floats(0, 1e9),
    st.integers(0, 50),
    st.floats(0, 1e9),
    st.floats(0.001, 1e9),
    st.integers(0, 100),
    st.floats(0, 0.999),
)
def test_there_are_as_many_as_attempts_and_none_is_too_long(
    constant: int, seconds: float, growing: int, multiplier: float, base: float, factor: int, number: float
) -> None:
    found = pauses(Retry(constant, seconds, growing, multiplier, base, factor), (number,))
    assert len(found) == constant + growing
    assert all(0 <= pause <= MAX_PAUSE_S for pause in found[constant:])
