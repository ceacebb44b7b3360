"""How many jobs may wait, and what callers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import ApiError, TooManyRequests, Unavailable
from minwebhook.jobs.model import DEPENDENCIES, FLOW_PREVIEW, IDENTITY, JobSpec
from minwebhook.jobs.pressure import Pressure, QueueLimits, ServiceRate
from tests.jobs import job_spec


def spec(workspace: str = "demo", path: str = "u/a/x", owner: str = "t") -> JobSpec:
    return job_spec(workspace=workspace, kind="script", path=path, owner=owner)


@pytest.mark.parametrize(
    ("limits", "error", "policy"),
    [
        (QueueLimits(2), Unavailable, "instance"),
        (QueueLimits(99, workspace=2), Unavailable, "workspace"),
        (QueueLimits(99, script=2), TooManyRequests, "script"),
        (QueueLimits(99, token=2), TooManyRequests, "token"),
    ],
)
def test_one_too_many_is_told_when_to_come_back(limits: QueueLimits, error: type[ApiError], policy: str) -> None:
    pressure = Pressure(limits)
    pressure.enter(spec(), 0)
    pressure.enter(spec(), 0)
    for second in range(4):
        pressure.ended(second * 1000)  # one per second
    with pytest.raises(error) as refused:
        pressure.enter(spec(), 3999)
    headers = dict(refused.value.headers)
    assert headers["Retry-After"] == "2"
    assert headers["RateLimit-Policy"] == f'"{policy}";q=2'
    assert headers["RateLimit"] == f'"{policy}";r=0;t=2'
    pressure.leave(spec())
    pressure.enter(spec(), 3999)


def test_each_bound_counts_its_own() -> None:
    pressure = Pressure(QueueLimits(99, workspace=3, script=2, token=1))
    pressure.enter(spec(owner="a"), 0)
    pressure.enter(spec(owner="b"), 0)
    with pytest.raises(TooManyRequests, match="script"):
        pressure.enter(spec(owner="c"), 0)
    pressure.enter(spec(path="u/a/y", owner="c"), 0)
    with pytest.raises(Unavailable, match="workspace"):
        pressure.enter(spec(path="u/a/z", owner="d"), 0)
    with pytest.raises(TooManyRequests, match="token"):
        pressure.enter(spec("other", owner="a"), 0)


@pytest.mark.parametrize("kind", ["preview", FLOW_PREVIEW, IDENTITY, DEPENDENCIES])
def test_what_came_with_a_request_counts_for_its_caller_whatever_its_path(kind: str) -> None:
    pressure = Pressure(QueueLimits(99, script=1))
    sent = job_spec(kind=kind, path="u/a/x", permissioned_as="u/b")
    pressure.enter(sent, 0)
    with pytest.raises(TooManyRequests, match="script"):
        pressure.enter(sent, 0)
    pressure.enter(spec(), 0)
    pressure.enter(job_spec(kind=kind, path="u/a/x", permissioned_as="u/c"), 0)
    pressure.leave(sent)
    pressure.enter(sent, 0)


def test_finding_the_packages_of_a_version_counts_for_its_script() -> None:
    pressure = Pressure(QueueLimits(99, script=1))
    pressure.enter(job_spec(kind=DEPENDENCIES, path="u/a/x", script_hash=1), 0)
    with pytest.raises(TooManyRequests, match="script"):
        pressure.check_share("demo", "u/a/x", "t", 0)


@given(st.lists(st.sampled_from(["enter", "leave"])), st.integers(1, 5))
def test_the_count_never_passes_the_limit(steps: list[str], limit: int) -> None:
    pressure = Pressure(QueueLimits(99, token=limit))
    waiting = 0
    for step in steps:
        if step == "leave" and waiting:
            pressure.leave(spec())
            waiting -= 1
        elif step == "enter" and waiting < limit:
            pressure.enter(spec(), 0)
            waiting += 1
        elif step == "enter":
            with pytest.raises(TooManyRequests):
                pressure.enter(spec(), 0)
    assert pressure._counts.get(("token", "t"), 0) == waiting


@given(st.lists(st.integers(-50_000, 50_000), max_size=50), st.integers(0, 10**6))
def test_the_time_is_sane_whatever_the_clock_does(steps: list[int], queued: int) -> None:
    rate = ServiceRate()
    now = 10**9
    for step in steps:
        now += step
        rate.count(now)
        assert 1 <= rate.retry_after_s(queued, now) <= 600


def test_what_ended_long_ago_does_not_count() -> None:
    rate = ServiceRate()
    for _ in range(100):
        rate.count(0)
    assert rate.retry_after_s(200, 900) == 2
    assert rate.retry_after_s(200, 60_000) == 10


def test_requests_that_came_late_get_none_of_the_last_places() -> None:
    pressure = Pressure(QueueLimits(8))
    for _ in range(3):
        pressure.check_share("demo", "", "a", 0, waited_s=1.0)
        pressure.enter(spec(), 0)
    with pytest.raises(Unavailable):
        pressure.check_share("demo", "", "a", 0, waited_s=1.0)
    pressure.check_share("demo", "", "a", 0, waited_s=0.001)
    pressure.leave(spec())
    pressure.check_share("demo", "", "a", 0, waited_s=1.0)
