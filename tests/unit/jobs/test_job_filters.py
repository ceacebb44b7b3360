"""The same filter over rows and over records: SQL in a real database and ``matches`` agree on random jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwebhook.db import functions
from minwebhook.db.migrations import migrate
from minwebhook.errors import BadRequest
from minwebhook.jobs.conditions import fits_wildcard
from minwebhook.jobs.filters import MAX_ITEMS, MAX_PER_PAGE, JobFilter
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobOptions, JobRecord
from minwebhook.scripts.model import hash_to_hex
from minwebhook.times import rfc3339

FINAL = [JobState.SUCCESS, JobState.FAILURE, JobState.CANCELED]
words = st.sampled_from(
    ["", "a", "b", "a/b", "A", "é", "É", "%", "_", "u/a", "u/a%", "'", "!a", "*", "a*", "[a]", "?", "b?"]
)
hashes = st.sampled_from([None, 1, -1, 1 << 40])
parents = st.sampled_from([None, UUID(int=1), UUID(int=2)])
times = st.integers(0, 5)
documents = st.sampled_from([None, b"{}", b'{"a":1}', b'{"a":[1,{"b":2}],"c":null}', b"[1,2]", b'"x"'])


@st.composite
def records(draw: st.DrawFn, number: int, states: list[JobState]) -> JobRecord:
    state = draw(st.sampled_from(states))
    created = draw(times)
    return JobRecord(
        id=UUID(int=1000 + number),
        workspace=draw(st.sampled_from(["demo", "other"])),
        kind=draw(st.sampled_from(["script", "preview"])),
        state=state,
        path=draw(words) or None,
        script_hash=draw(hashes),
        language="bash",
        raw_code=None,
        created_by=draw(words),
        email="e",
        permissioned_as="u/a",
        created_at_ms=created,
        scheduled_for_ms=draw(times),
        started_at_ms=draw(st.none() | times),
        completed_at_ms=draw(times) if state.is_final else None,
        duration_ms=None,
        arguments=draw(documents),
        result=draw(documents) if state.is_final else None,
        canceled_by=None,
        canceled_reason=None,
        tag=draw(words),
        priority=None,
        timeout_s=None,
        parent_job=draw(parents),
        root_job=None,
        labels=tuple(sorted(draw(st.sets(words, max_size=3)))) if state.is_final else (),
        visible_to_owner=True,
        options=JobOptions(),
    )


def jobs(states: list[JobState]) -> st.SearchStrategy[tuple[JobRecord, ...]]:
    return st.integers(0, 6).flatmap(lambda n: st.tuples(*(records(i, states) for i in range(n))))


def negatable(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(items, min_size=1, max_size=3).map(",".join)
    return lists | lists.map(lambda text: "!" + text)


flags = st.sampled_from(["true", "false"])
instants = times.map(rfc3339)
texts = negatable(words)
queries = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("script_path_exact", "script_path_start", "created_by", "tag", "label", "worker", "trigger_path"), texts
        ),
        "schedule_path": texts,
        "script_hash": negatable(st.sampled_from([1, -1, 5]).map(hash_to_hex)),
        "job_kinds": negatable(st.sampled_from(["script", "preview", "none"])),
        "trigger_kind": negatable(st.sampled_from(["webhook", "http"])),
        "allow_wildcards": flags,
        "parent_job": parents.map(lambda parent: str(parent) if parent else ""),
        "args": st.sampled_from(['{"a":1}', "{}", '{"a":[{"b":2}]}', "[2]", '"x"', "1", '{"c":null}']),
        "result": st.sampled_from(['{"a":1}', "{}", "[2]", '"x"', ""]),
        "broad_filter": words,
        "success": flags,
        "status": st.sampled_from(["success", "failure", "canceled", "skipped"]),
        **dict.fromkeys(("is_skipped", "is_flow_step", "suspended", "has_null_parent", "is_not_schedule"), flags),
        "scheduled_for_before_now": flags,
        **{
            f"{name}_{end}": instants
            for name in ("created", "started", "completed", "created_or_started")
            for end in ("before", "after")
        },
        "created_before_queue": instants,
        "created_after_queue": instants,
    },
)


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the program, and no jobs."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    functions.register(connection)
    yield connection
    connection.close()


def insert(connection: sqlite3.Connection, job: JobRecord) -> None:
    row: dict[str, Any] = {
        "id": job.id.bytes,
        "workspace_id": job.workspace,
        "kind": job.kind,
        "status": job.state.value,
        "script_path": job.path,
        "script_hash": job.script_hash,
        "created_by": job.created_by,
        "email": "",
        "permissioned_as": "",
        "created_at": job.created_at_ms,
        "scheduled_for": job.scheduled_for_ms,
        "started_at": job.started_at_ms,
        "completed_at": job.completed_at_ms,
        "args": job.arguments,
        "result": job.result,
        "tag": job.tag,
        "parent_job": job.parent_job.bytes if job.parent_job else None,
        "labels": orjson.dumps(job.labels).decode() if job.labels else None,
    }
    query = f"INSERT INTO job ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
    connection.execute(query, list(row.values()))


@settings(max_examples=400)
@given(jobs(FINAL), queries, st.sampled_from(["demo", None]))
def test_rows_and_records_agree(
    connection: sqlite3.Connection, jobs: tuple[JobRecord, ...], query: dict[str, str], workspace: str | None
) -> None:
    wanted = JobFilter.parse(query, 2)
    connection.execute("BEGIN")
    try:
        for job in jobs:
            insert(connection, job)
        where, values = wanted.where(workspace)
        found = {UUID(bytes=row[0]) for row in connection.execute(f"SELECT id FROM job WHERE {where}", values)}  # noqa: S608
    finally:
        connection.execute("ROLLBACK")
    assert found == {job.id for job in jobs if job.workspace in (workspace or job.workspace,) and wanted.matches(job)}


@given(jobs([JobState.QUEUED, JobState.RUNNING]), queries)
def test_live_jobs_answer_as_if_they_had_ended_but_for_how(jobs: tuple[JobRecord, ...], query: dict[str, str]) -> None:
    """Conditions do not look at the state: with the same ones for both, a live job matches when its ended twin does."""
    for name in ("success", "status", "is_skipped", "created_before_queue", "created_after_queue"):
        query.pop(name, None)
    wanted = JobFilter.parse(query, 2)
    for job in jobs:
        matches = wanted.matches(job)
        job.state = JobState.SUCCESS
        assert wanted.matches(job) is matches


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["queued", "running", "success", "failure", "canceled"]),
        ({"running": "true"}, ["running"]),
        ({"running": "false"}, ["queued"]),
        ({"success": "true"}, ["success"]),
        ({"success": "false"}, ["failure", "canceled"]),
        ({"status": "canceled"}, ["canceled"]),
        ({"status": "success", "success": "false"}, []),
        ({"status": "skipped"}, []),
        ({"is_skipped": "true"}, []),
        ({"is_skipped": "false"}, ["queued", "running", "success", "failure", "canceled"]),
        ({"running": "false", "success": "true"}, []),
    ],
)
def test_states(query: dict[str, str], expected: list[str]) -> None:
    wanted = JobFilter.parse(query, 0)
    assert {state.value for state in wanted.states} == set(expected)
    assert wanted.wants_ended is bool({"success", "failure", "canceled"} & set(expected))


@pytest.mark.parametrize(
    "name",
    ["success", "status", "label", "result", "completed_before", "completed_after", "created_before", "started_before"],
)
def test_a_running_job_is_not_asked_how_it_ended(name: str) -> None:
    values = {"success": "false", "status": "success", "label": "a", "result": "1"}
    query = {"running": "true", name: values.get(name, "2030-01-31T12:00:00Z")}
    with pytest.raises(BadRequest, match=f"running=true and {name}"):
        JobFilter.parse(query, 0)


def test_live_jobs_have_bounds_of_their_own() -> None:
    query = {"created_after": rfc3339(3), "created_after_queue": rfc3339(1), "created_before": rfc3339(4)}
    wanted = JobFilter.parse(query, 0)
    [live_after, live_before] = sorted(condition.sql() for condition in wanted.live)[::-1]
    assert (live_after, live_before) == (("job.created_at >= ?", [1]), ("job.created_at <= ?", [4]))
    assert ("job.created_at >= ?", [3]) in [condition.sql() for condition in wanted.ended]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"page": "x"}, "page: send a whole number, not 'x'"),
        ({"per_page": "1_0"}, "per_page: send a whole number"),
        ({"page": "٣"}, "page: send a whole number"),
        ({"order_desc": "1"}, "order_desc: send true or false, not '1'"),
        ({"running": ""}, "running: send true or false"),
        ({"include_args": "yes"}, "include_args: "),
        ({"allow_wildcards": "1"}, "allow_wildcards: "),
        ({"suspended": "1"}, "suspended: "),
        ({"is_skipped": "1"}, "is_skipped: "),
        ({"is_flow_step": "1"}, "is_flow_step: "),
        ({"has_null_parent": "1"}, "has_null_parent: "),
        ({"is_not_schedule": "1"}, "is_not_schedule: "),
        ({"scheduled_for_before_now": "1"}, "scheduled_for_before_now: "),
        ({"status": "done"}, "status: send one of success, failure, canceled, skipped, not 'done'"),
        ({"parent_job": "7"}, "parent_job: '7' is not a job id (UUID)"),
        ({"script_hash": "1234"}, "script_hash must be 16 hex digits"),
        ({"script_hash": "!0000000000000001,x"}, "script_hash must be 16 hex digits"),
        ({"args": "{"}, "args: '{' is not JSON"),
        ({"result": "'a'"}, "result: "),
        ({"args": "[" + "1," * MAX_ITEMS + "1]"}, f"args: send at most {MAX_ITEMS} values"),
        ({"tag": "a," * MAX_ITEMS + "a"}, f"tag: send at most {MAX_ITEMS} values"),
        ({"tag": "a\0b"}, "tag: send a text without NUL"),
        ({"broad_filter": "\0"}, "broad_filter: "),
        ({"created_before": "yesterday"}, "created_before: 'yesterday' is not a time"),
        ({"created_after": "2030-01-31T12:00:00 02:00"}, "created_after: "),
        ({"started_before": "2030-02-31T12:00:00Z"}, "started_before: "),
        ({"started_after": "2030-01-31"}, "started_after: "),
        ({"completed_before": "x"}, "completed_before: "),
        ({"completed_after": "x"}, "completed_after: "),
        ({"created_or_started_before": "x"}, "created_or_started_before: "),
        ({"created_or_started_after": "x"}, "created_or_started_after: "),
        ({"created_before_queue": "x"}, "created_before_queue: "),
        ({"created_after_queue": "x"}, "created_after_queue: "),
    ],
)
def test_bad_values_are_named(query: dict[str, str], text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        JobFilter.parse(query, 0)
    assert caught.value.detail.startswith(text)


NAMES = [
    "page",
    "per_page",
    "running",
    "success",
    "tag",
    "parent_job",
    "args",
    "created_after",
    "script_hash",
    "status",
]


@given(st.dictionaries(st.sampled_from(NAMES), st.text()))
def test_any_query_is_a_filter_or_a_bad_request(query: dict[str, str]) -> None:
    try:
        wanted = JobFilter.parse(query, 0)
    except BadRequest as error:
        assert any(name in error.detail for name in query)
        return
    assert 1 <= wanted.per_page <= MAX_PER_PAGE
    assert 0 <= wanted.offset < 1 << 62


def test_pages() -> None:
    assert JobFilter.parse({"page": "0"}, 0) == JobFilter.parse({"page": "1"}, 0) == JobFilter.parse({"page": "-5"}, 0)
    assert JobFilter.parse({"page": "3", "per_page": "20"}, 0).offset == 40


def test_the_default_page_size_is_that_of_the_documentation() -> None:
    assert JobFilter.parse({}, 0).per_page == 1000


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "ab", True),
        ("*b", "ab", True),
        ("a*a", "a", False),
        ("*", "", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("**", "x", True),
        ("a?", "ab", False),
        ("[ab]", "a", False),
    ],
)
def test_wildcards(pattern: str, text: str, fits: bool) -> None:
    assert fits_wildcard(pattern, text) is fits


def test_a_pattern_of_many_stars_is_no_trap() -> None:
    assert not fits_wildcard("a*" * 1000 + "b", "a" * 100_000)
