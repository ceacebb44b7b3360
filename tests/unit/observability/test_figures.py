"""Figures count right, and their text says what they are."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from minwebhook.observability.exposition import render
from minwebhook.observability.figures import SECONDS, Histogram, JobFigures, Tally
from minwebhook.observability.metrics import METRICS, Readings

BOUNDS = (0.1, 1.0, 10.0)


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS)))
def test_a_histogram_counts_what_is_at_most_each_bound(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.add(value)
    expected = [sum(value <= bound for value in values) for bound in (*BOUNDS, math.inf)]
    assert histogram.cumulative() == expected
    assert math.isclose(histogram.total, sum(values), abs_tol=1e-9)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1000))))
def test_a_tally_keeps_count_and_seconds_of_each_kind(events: list[tuple[str, int]]) -> None:
    tally: Tally[str] = Tally()
    for kind, seconds in events:
        tally.add(kind, seconds)
    assert tally.entries == {
        kind: [sum(k == kind for k, _ in events), sum(s for k, s in events if k == kind)]
        for kind in {k for k, _ in events}
    }


def test_ended_jobs_by_state() -> None:
    figures = JobFigures()
    for state in ("success", "failure", "success"):
        figures.ended(state)
    assert figures.by_state == {"success": 2, "failure": 1}


def filled(label: str = "x") -> Readings:
    readings = Readings()
    for number, info in enumerate(METRICS):
        if info.kind == "histogram":
            histogram = Histogram()
            histogram.add(0.003)
            histogram.add(1000)
            readings.set_histogram(info.name, histogram)
        else:
            readings.set(info.name, number, *([label] * len(info.labels)))
    return readings


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_every_metric_is_in_both_formats_whatever_its_labels_hold(label: str) -> None:
    for accept, parse, kind in (
        ("", parse_text, "text/plain"),
        ("application/openmetrics-text", parse_openmetrics, "application/openmetrics-text"),
    ):
        body, content_type = render(filled(label), accept)
        assert content_type.startswith(kind)
        families = {family.name: family for family in parse(body.decode())}
        for number, info in enumerate(METRICS):
            family = families[info.full_name.removesuffix("_total")]
            assert (family.type, family.documentation) == (info.kind, info.sentence)
            if info.kind == "histogram":
                samples = {sample.labels.get("le"): sample.value for sample in family.samples}
                assert samples["0.0025"] == 0
                assert samples["0.005"] == 1
                assert samples["+Inf"] == 2
                assert len([le for le in samples if le]) == len(SECONDS) + 1
            else:
                [sample] = [sample for sample in family.samples if not sample.name.endswith("_created")]
                assert (sample.value, sample.labels) == (number, dict.fromkeys(info.labels, label))
        assert "process_resident_memory_bytes" in families


def test_names_follow_the_rules() -> None:
    names = [info.full_name for info in METRICS]
    assert len(set(names)) == len(names)
    assert all((info.kind == "counter") == info.full_name.endswith("_total") for info in METRICS)
