"""The status of a flow: what is shown is what is stored, and is read back whole."""

from __future__ import annotations

from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.flows.status import FlowStatus, ModuleStatus, State

_IDS = st.uuids()
_MODULES = st.builds(
    ModuleStatus,
    id=st.text("abc", min_size=1),
    state=st.sampled_from([State.QUEUED, State.SUCCESS, State.FAILURE]),
    job=_IDS,
    flow_jobs=st.none() | st.lists(_IDS, max_size=3),
    branch_chosen=st.none() | st.integers(0, 3),
    approvers=st.lists(st.tuples(st.integers(0, 9), st.text("xy")), max_size=2),
    failed_retries=st.lists(_IDS, max_size=2),
    handled=st.booleans(),
    timing=st.none() | st.tuples(st.just(1.5), st.just(2.5), st.just(3.5)),
    parent_module=st.none() | st.just("a"),
)


@given(st.lists(_MODULES, max_size=3), _MODULES, st.none() | _MODULES, st.lists(_IDS, max_size=2), st.booleans())
def test_it_is_read_back(
    modules: list[ModuleStatus],
    failure: ModuleStatus,
    preprocessor: ModuleStatus | None,
    failed: list[UUID],
    stopped: bool,
) -> None:
    status = FlowStatus(1, modules, failure, preprocessor, failed, {"k": [1]}, stopped=stopped)
    text = status.to_json()
    again = FlowStatus.parse(text)
    assert again.to_json() == text


def test_a_loop_that_runs_is_read_back() -> None:
    loop = ModuleStatus("l", State.RUNNING, UUID(int=3), flow_jobs=[UUID(int=4)], flow_jobs_success=[None])
    loop.is_iterator, loop.length, loop.parallel = True, 7, True
    stored = orjson.loads(orjson.dumps(loop.to_json()))
    assert stored["iterator"] == {"index": 0, "itered_len": 7}
    again = ModuleStatus.parse(stored)
    assert (again.length, again.is_iterator, again.parallel) == (7, True, True)


@given(st.lists(st.tuples(_IDS, st.none() | st.booleans(), st.none() | st.integers(0, 9)), max_size=5), st.data())
def test_iterations_beside_it_are_read_back(
    iterations: list[tuple[UUID, bool | None, int | None]], data: st.DataObject
) -> None:
    loop = ModuleStatus("l", State.RUNNING, UUID(int=3), flow_jobs=[job for job, _, _ in iterations])
    loop.flow_jobs_success = [ok for _, ok, _ in iterations]
    loop.started_at_ms = loop.durations_ms = [number for _, _, number in iterations]
    status = FlowStatus(0, [loop], ModuleStatus("failure"))
    text = status.to_json(beside=True)
    assert b'"flow_jobs"' not in text
    rows = [loop.iteration(place) for place in range(len(iterations))]
    left = (len(rows), UUID(int=1), True, 1, 1)  # of an earlier run of the loop
    again = FlowStatus.parse(text, {"l": data.draw(st.permutations([*rows, left])), "other": [left]})
    assert again.to_json() == status.to_json()


def test_a_step_whose_job_runs_is_in_progress() -> None:
    step = ModuleStatus("a", State.QUEUED, UUID(int=3))
    assert step.to_json()["type"] == "WaitingForExecutor"
    assert step.to_json(is_running=True)["type"] == "InProgress"
