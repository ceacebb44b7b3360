"""Ids that sort by time, and the environment of a job."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import wire
from minwebhook.jobs.environment import JobHeaders, changing_variables, lasting_variables
from minwebhook.jobs.ids import IdMaker
from minwebhook.jobs.model import Job, JobSpec

SPEC = JobSpec(
    workspace="demo",
    kind="script",
    language="bash",
    source=b"",
    arguments=b"{}",
    created_by="label-x",
    username="alice",
    email="alice@x",
    permissioned_as="u/alice",
    path="u/alice/some/script",
    script_hash=-1,
)


@given(st.lists(st.integers(0, (1 << 44) - 1), min_size=1, max_size=50))
def test_ids_increase_whatever_the_clock_does(times: list[int]) -> None:
    maker = IdMaker()
    ids = [maker.make(time) for time in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(each.version == 7 and each.variant == "specified in RFC 4122" for each in ids)
    assert ids[0].int >> 80 == times[0]


def test_more_ids_in_a_millisecond_than_it_can_count() -> None:
    maker = IdMaker()
    ids = [maker.make(5) for _ in range(10_000)]
    assert ids == sorted(ids)
    assert maker.make(6) > ids[-1]


def environment(spec: JobSpec = SPEC) -> dict[str, str]:
    job = Job(UUID(int=7), spec, 1_700_000_000_123, 1_700_000_001_999)
    lasting = lasting_variables(spec, base_url="http://b", internal_url="http://i")
    changing = changing_variables(job, token="t")
    assert not lasting.keys() & changing.keys()
    return lasting | changing


def test_values() -> None:
    made = environment()
    job_id = str(UUID(int=7))
    assert made["WM_JOB_ID"] == made["WM_ROOT_JOB_ID"] == job_id
    assert made["WM_SCHEDULED_FOR"] == "2023-11-14T22:13:21Z"
    assert made["WM_RUNNABLE_ID"] == "f" * 16
    assert made["WM_STATE_PATH"] == "u/alice/some/script/user"
    assert made["WM_OBJECT_PATH"] == f"u_alice_some_script/manual/1700000000123_{job_id}"
    assert (made["WM_BASE_URL"], made["BASE_INTERNAL_URL"], made["WM_TOKEN"]) == ("http://b", "http://i", "t")
    assert (made["WM_USERNAME"], made["WM_PERMISSIONED_AS"], made["WM_EMAIL"]) == ("alice", "u/alice", "alice@x")


def test_parents_and_roots() -> None:
    parent, root = UUID(int=1), UUID(int=2)
    assert environment(replace(SPEC, parent_job=parent))["WM_ROOT_JOB_ID"] == str(parent)
    assert environment(replace(SPEC, parent_job=parent, root_job=root))["WM_ROOT_JOB_ID"] == str(root)


def test_own_variables_may_hold_anything_but_forge_no_identity() -> None:
    made = environment(replace(SPEC, environment=("A=b=c", "B=", "TZ=Mars", "WM_JOB_ID=forged", "WM_TOKEN=forged")))
    assert (made["A"], made["B"], made["TZ"]) == ("b=c", "", "Mars")
    assert "forged" not in made.values()


def test_all_values_are_text_without_a_path() -> None:
    made = environment(replace(SPEC, path="", script_hash=None))
    assert all(isinstance(value, str) for value in made.values())
    assert (made["WM_JOB_PATH"], made["WM_RUNNABLE_ID"]) == ("", "")
    assert made["WM_STATE_PATH"] == "u/alice/tmp_state"


def test_headers_of_one_version_and_caller_are_made_once() -> None:
    headers = JobHeaders(base_url="http://b", internal_url="http://i")
    first = headers.lasting(SPEC, stays=True)
    assert headers.lasting(replace(SPEC, arguments=b'{"a":1}'), stays=True) is first
    specs = [
        replace(SPEC, script_hash=5),
        replace(SPEC, email="b@x"),
        replace(SPEC, username="b"),
        replace(SPEC, permissioned_as="u/b"),
        replace(SPEC, workspace="other"),
        replace(SPEC, path="u/b/x"),
        replace(SPEC, environment=("A=b",)),
        replace(SPEC, preprocess=True),
    ]
    others = [headers.lasting(spec, stays=True) for spec in specs]
    others += [headers.lasting(SPEC, stays=False), first]
    others += [headers.lasting(SPEC, stays=True, limits="AS=1"), headers.lasting(SPEC, stays=True, api_url="http://j")]
    assert len(set(others)) == len(others)


def test_a_process_that_stays_gets_what_changes() -> None:
    job = Job(UUID(int=7), SPEC, 0, 0)
    changing = changing_variables(job, token="t")
    header = wire.unpack_header(wire.add_variables(JobHeaders.changing(SPEC, stays=True), changing))
    assert header.stays
    assert not header.preprocess
    assert header.variables == [f"{name}={value}".encode() for name, value in changing.items()]
