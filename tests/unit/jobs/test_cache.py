"""Which runs are equal, and how long their results are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from minwebhook.db.database import Database
from minwebhook.jobs import cache
from minwebhook.jobs.cache import ResultCache, cache_key
from minwebhook.jobs.model import JobState, Outcome
from tests.jobs import job_spec

SPEC = job_spec(
    kind="script", language="python3", source=b"code", arguments=b'{"a":1,"b":{"c":2,"d":[1.0]}}', script_hash=7
)
KEY = cache_key(SPEC)
GOOD = Outcome(JobState.SUCCESS, b'{"r":"eA=="}', mask=b'{"r":true}')


def test_equal_runs() -> None:
    assert cache_key(replace(SPEC, arguments=b'{ "b": {"c": 2, "d": [1.0]}, "a": 1 }')) == KEY
    assert cache_key(replace(SPEC, source=b"same hash, same code", created_by="b", tag="t")) == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace": "other"},
        {"script_hash": 8},
        {"kind": "preview"},
        {"language": "bash"},
        {"preprocess": True},
        {"mask": b'{"a":true}'},
        {"arguments": b'{"a":1.0,"b":{"c":2,"d":[1.0]}}'},
        {"arguments": b'{"a":1,"b":{"c":2,"d":[1.0]},"c":null}'},
        {"arguments": b"{}"},
    ],
)
def test_runs_that_differ(changes: dict[str, object]) -> None:
    assert cache_key(replace(SPEC, **changes)) != KEY  # type: ignore[arg-type]


def test_previews_are_known_by_their_code() -> None:
    preview = replace(SPEC, kind="preview", script_hash=None)
    assert cache_key(replace(preview, source=b"other")) != cache_key(preview)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(tmp_path / "x.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened
        nursery.cancel_scope.cancel()
    opened.close()


async def test_a_success_is_kept_until_it_expires(database: Database) -> None:
    kept = ResultCache(database)
    kept.keep(KEY, GOOD, 10, 1000)
    await database.flush()
    found = kept.find(KEY, 10_999)
    assert found == GOOD
    assert kept.find(KEY, 11_000) is None
    assert kept.find(b"other", 1000) is None


@pytest.mark.parametrize(
    ("result", "labels"),
    [
        (b'{"wm_labels":["b","a"],"x":1}', ("a", "b")),
        (b'{"\\u0077m_labels":["a"]}', ("a",)),
        (b'{"x":{"wm_labels":["a"]}}', ()),
        (b'["wm_labels"]', ()),
    ],
)
async def test_labels_of_a_result_come_again_with_it(
    database: Database, result: bytes, labels: tuple[str, ...]
) -> None:
    kept = ResultCache(database)
    kept.keep(KEY, Outcome(JobState.SUCCESS, result, labels), 10, 0)
    await database.flush()
    assert kept.find(KEY, 0) == Outcome(JobState.SUCCESS, result, labels)


async def test_a_cache_that_cannot_be_read_is_no_reason_to_fail(database: Database) -> None:
    await database.write("DROP TABLE result_cache")
    assert ResultCache(database).find(KEY, 0) is None


async def test_failures_and_large_results_are_not_kept(database: Database) -> None:
    kept = ResultCache(database)
    kept.keep(KEY, Outcome(JobState.FAILURE, b"{}"), 10, 0)
    kept.keep(KEY, Outcome(JobState.SUCCESS, bytes(cache.MAX_KEPT_BYTES + 1)), 10, 0)
    await database.flush()
    assert kept.find(KEY, 0) is None


async def test_what_expires_first_leaves(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_KEPT", 2)
    kept = ResultCache(database)
    for number in (3, 1, 2):
        kept.keep(b"%d" % number, GOOD, number, 0)
    await database.flush()
    assert [kept.find(b"%d" % number, 0) is not None for number in (1, 2, 3)] == [False, True, True]
    kept.keep(b"4", GOOD, 1, 2500)
    await database.flush()
    assert [row[0] for row in database.read("SELECT key FROM result_cache ORDER BY key")] == [b"3", b"4"]


async def test_a_closed_database_knows_nothing(database: Database) -> None:
    database.close()
    assert ResultCache(database).find(KEY, 0) is None
