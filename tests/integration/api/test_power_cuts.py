"""Power cuts: what was not synced is gone. ``bench/faults.py`` tries more moments."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import powercuts
from bench.powercuts import Recording
from tests import powercut

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return powercuts.record(tmp_path_factory.mktemp("recorded"), answers=200, seed=3)


def test_what_was_answered_before_the_power_was_cut_is_there(recording: Recording, tmp_path: Path) -> None:
    for cut in powercut.cuts(recording.record, 60, seed=4, after=recording.begin):
        assert powercuts.missing(cut, recording, tmp_path) == []


def test_what_was_left_is_run_when_there_is_power_again(recording: Recording, tmp_path: Path) -> None:
    *_, cut = powercut.cuts(recording.record, 10, seed=5, after=recording.begin)
    verdict = powercuts.restart(cut, recording, tmp_path)
    assert (verdict.broken, verdict.failures) == ([], {})
    assert verdict.jobs >= sum(told <= cut.moment for _, told in recording.told) / 2


def test_nothing_is_answered_behind_a_sync_that_failed(tmp_path: Path) -> None:
    recorded = powercuts.record(tmp_path, answers=300, failures=10, seed=7)
    kinds = [operation.kind for operation in powercut.operations(recorded.record.read_bytes())]
    assert kinds.count("F") > 10
    for cut in powercut.cuts(recorded.record, 100, seed=8, after=recorded.begin):
        assert powercuts.missing(cut, recorded, tmp_path) == []


def test_a_disk_that_does_not_obey_would_lose_something(recording: Recording, tmp_path: Path) -> None:
    """That the cuts do cut."""
    broken = [
        problem
        for cut in powercut.cuts(recording.record, 60, seed=4, after=recording.begin, obeys_syncs=False)
        for problem in powercuts.missing(cut, recording, tmp_path)
    ]
    assert any("is lost" in problem or "no such table" in problem for problem in broken)
