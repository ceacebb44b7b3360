"""The same filter over rows and over records: SQL in a real database and ``matches`` agree on random jobs."""

from __future__ import annotations

import sqlite3
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.db.migrations import migrate
from minwebhook.errors import BadRequest
from minwebhook.jobs.filters import MAX_PER_PAGE, JobFilter
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobOptions, JobRecord

FINAL = [JobState.SUCCESS, JobState.FAILURE, JobState.CANCELED]
words = st.sampled_from(["", "a", "b", "a/b", "A", "é", "%", "_", "u/a", "u/a%", "'", "!a"])
parents = st.sampled_from([None, UUID(int=1), UUID(int=2)])


@st.composite
def records(draw: st.DrawFn, number: int) -> JobRecord:
    return JobRecord(
        id=UUID(int=1000 + number),
        workspace=draw(st.sampled_from(["demo", "other"])),
        kind=draw(st.sampled_from(["script", "preview"])),
        state=draw(st.sampled_from(FINAL)),
        path=draw(words) or None,
        script_hash=None,
        language="bash",
        raw_code=None,
        created_by=draw(words),
        email="e",
        permissioned_as="u/a",
        created_at_ms=number,
        scheduled_for_ms=number,
        started_at_ms=None,
        completed_at_ms=None,
        duration_ms=None,
        arguments=None,
        result=None,
        canceled_by=None,
        canceled_reason=None,
        tag=draw(words),
        priority=None,
        timeout_s=None,
        parent_job=draw(parents),
        root_job=None,
        labels=(),
        visible_to_owner=True,
        options=JobOptions(),
    )


lists = st.lists(words.filter(lambda word: "," not in word), min_size=1, max_size=3).map(",".join)
flags = st.sampled_from(["true", "false"])
queries = st.fixed_dictionaries(
    {},
    optional={
        "script_path_exact": lists | lists.map(lambda text: "!" + text),
        "created_by": lists | lists.map(lambda text: "!" + text),
        "tag": lists | lists.map(lambda text: "!" + text),
        "job_kinds": st.sampled_from(["script", "preview,script", "!script", "none"]),
        "script_path_start": words,
        "parent_job": parents.map(lambda parent: str(parent) if parent else ""),
        "has_null_parent": flags,
        "success": flags,
    },
)


@given(st.integers(0, 6).flatmap(lambda n: st.tuples(*(records(i) for i in range(n)))), queries)
def test_rows_and_records_agree(jobs: tuple[JobRecord, ...], query: dict[str, str]) -> None:
    wanted = JobFilter.parse(query)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        for job in jobs:
            connection.execute(
                "INSERT INTO job (id, workspace_id, kind, status, script_path, created_by, email, permissioned_as,"
                " created_at, scheduled_for, tag, parent_job) VALUES (?, ?, ?, ?, ?, ?, '', '', 0, 0, ?, ?)",
                (
                    job.id.bytes,
                    job.workspace,
                    job.kind,
                    job.state.value,
                    job.path,
                    job.created_by,
                    job.tag or None,
                    job.parent_job.bytes if job.parent_job else None,
                ),
            )
        where, values = wanted.where("demo")
        found = {UUID(bytes=row[0]) for row in connection.execute(f"SELECT id FROM job WHERE {where}", values)}  # noqa: S608
    finally:
        connection.close()
    assert found == {job.id for job in jobs if job.workspace == "demo" and wanted.matches(job)}


@given(st.dictionaries(st.sampled_from(["page", "per_page", "running", "success", "tag", "parent_job"]), st.text()))
def test_any_query_is_a_filter_or_a_bad_request(query: dict[str, str]) -> None:
    try:
        wanted = JobFilter.parse(query)
    except BadRequest as error:
        assert any(name in error.detail for name in query)
        return
    assert 1 <= wanted.per_page <= MAX_PER_PAGE
    assert 0 <= wanted.offset < 1 << 62


def test_pages() -> None:
    assert JobFilter.parse({"page": "0"}) == JobFilter.parse({"page": "1"}) == JobFilter.parse({"page": "-5"})
    assert JobFilter.parse({"page": "3", "per_page": "20"}).offset == 40


def test_the_default_page_size_is_that_of_the_documentation() -> None:
    assert JobFilter.parse({}).per_page == 1000
