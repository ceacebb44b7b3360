"""Percentiles, cells, ratios and tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.loadclient import Load
from bench.report import RatioRule, Run, cells, duration, percentile, ratio, table, workload_table


def run(number: int, system: str, latencies_us: list[float], *, elapsed_s: float = 1.0, errors: int = 0) -> Run:
    ordered = sorted(latencies_us)
    latency = {"p50": percentile(ordered, 500)} if ordered else {}
    load = Load(len(ordered), len(ordered) / elapsed_s, elapsed_s, latency, errors, {}, "", 1)
    return Run(number, "w", system, load, latencies_us)


@pytest.mark.parametrize(
    ("count", "permille", "expected"),
    [(1, 500, 1), (1, 999, 1), (2, 500, 1), (3, 500, 2), (100, 990, 99), (100, 991, 100), (1000, 999, 999), (10, 0, 1)],
)
def test_percentile_is_the_nearest_rank(count: int, permille: int, expected: int) -> None:
    assert percentile(list(range(1, count + 1)), permille) == expected


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 1000))
def test_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[int], permille: int) -> None:
    ordered = sorted(values)
    enough = [value for value in ordered if sum(other <= value for other in ordered) * 1000 >= permille * len(ordered)]
    assert percentile(ordered, permille) == min(enough)


def test_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 500)


def test_a_cell_puts_all_requests_of_all_rounds_together() -> None:
    (cell,) = cells([run(1, "a", [5.0, 1.0, 3.0]), run(2, "a", [9.0], elapsed_s=3.0, errors=2)])
    assert (cell.n, cell.errors, cell.p50, cell.p99, cell.max) == (4, 2, 3.0, 9.0, 9.0)
    assert cell.rps == 1.0
    assert cell.p50_by_round == (3.0, 9.0)


def test_a_system_without_any_answer_has_no_cell() -> None:
    assert cells([run(1, "a", [], errors=7)]) == []


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    runs = [run(1, "a", [10.0]), run(1, "b", [5.0]), run(2, "a", [40.0]), run(2, "b", [10.0]), run(3, "a", [90.0])]
    found = ratio(RatioRule("label", "p50", "w", "a", "b"), runs)
    assert found is not None
    assert (found.label, found.value, found.low, found.high) == ("label", 3.0, 2.0, 4.0)


def test_a_ratio_of_rates() -> None:
    found = ratio(RatioRule("", "rps", "w", "a", "b"), [run(1, "a", [1.0] * 6), run(1, "b", [1.0] * 3)])
    assert found is not None
    assert found.value == 2.0


def test_no_ratio_without_both_systems() -> None:
    runs = [run(1, "a", [10.0]), run(1, "b", [], errors=1), run(2, "b", [10.0])]
    assert ratio(RatioRule("", "p50", "w", "a", "b"), runs) is None
    assert ratio(RatioRule("", "p50", "other", "a", "b"), runs) is None


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0.4, "0 µs"),
        (683.2, "683 µs"),
        (999.4, "999 µs"),
        (999.6, "1.00 ms"),
        (2496, "2.50 ms"),
        (9996, "10.0 ms"),
        (74800, "74.8 ms"),
        (99960, "100 ms"),
        (531000, "531 ms"),
    ],
)
def test_duration_has_three_digits(microseconds: float, expected: str) -> None:
    assert duration(microseconds) == expected


def test_table_aligns_text_left_and_numbers_right() -> None:
    assert table(("name", "n"), [("a", "1"), ("longer", "1000")]).splitlines() == [
        "name       n",
        "------  ----",
        "a          1",
        "longer  1000",
    ]


def test_table_refuses_ragged_rows() -> None:
    with pytest.raises(ValueError, match="as many fields"):
        table(("a", "b"), [("1",)])


def test_workload_table_keeps_the_order_of_the_labels_and_leaves_out_the_missing() -> None:
    found = cells([run(1, "b", [2000.0]), run(1, "a", [100.0, 300.0]), run(2, "a", [400.0])])
    labels = {"a": "Alpha", "x": "Missing", "b": "Beta"}
    lines = workload_table(found, labels, dict.fromkeys(labels, "none")).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["Alpha", "Beta"]
    assert " ".join(lines[2].split()) == "Alpha none 300 µs 400 µs 400 µs 2 3 0 100 µs - 400 µs"
    assert len({len(line) for line in lines}) == 1
