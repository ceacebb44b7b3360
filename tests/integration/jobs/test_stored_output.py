"""The output of an ended job, read back from a real database in pieces: the same as that of the running one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import trio

from minwebhook.db.database import Database
from minwebhook.errors import Unavailable
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Job, JobState, Outcome
from minwebhook.jobs.store import JobStore
from tests.jobs import job_spec

SPEC = job_spec()


@pytest.fixture
async def store(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[JobStore]:
    database = Database.open(tmp_path / "test.db")
    await nursery.start(database.run)
    yield JobStore(database)
    database.close()


async def stored(store: JobStore, output: bytes, number: int = 1, *, delete_after_s: int | None = None) -> Job:
    job = Job(UUID(int=number), SPEC, 0, 0, state=JobState.SUCCESS, outcome=Outcome(JobState.SUCCESS, b"1"))
    job.delete_after_s = delete_after_s
    job.log = JobLog("banner\n", 1 << 30)
    job.log.write(output)
    job.log.close()
    await store.save([job])
    return job


OUTPUTS = {
    "nothing": b"",
    "log": "plain\nNUL \0 inside\nhalf \xf0\x9f é 😀\n".encode("latin-1", "replace") + "é😀\n".encode() * 200,
    "stream": b"".join(b"WM_STREAM: chunk %d \xc3\xa9\xff\0\n" % number for number in range(10_000)),
    "empty chunks": b"WM_STREAM: \n" * 9000 + b"WM_STREAM: x\n",
    "both": b"WM_STREAM: a\nlog\nWM_STREAM: " + b"y" * 300_000 + b"\nlog\n",
}


@pytest.mark.parametrize("name", OUTPUTS)
async def test_any_piece_is_the_same(store: JobStore, name: str) -> None:
    job = await stored(store, OUTPUTS[name])
    log, output = job.log, store.output(job.id)
    assert log is not None
    for size in (1, 7, 1000, 65536):
        for start in (0, 1, 6, 500, 1999, 1 << 20):
            assert output.log_piece(start, size) == log.log_piece(start, size)
        for first in (0, 1, 2, 4095, 4096, 4097, 8999, 9999, 10_000, 1 << 20):
            found, after = output.chunks_from(first, size)
            expected, expected_after = log.chunks_from(first, size)
            # The database reads so many ends at once, and gives fewer than would fit only then.
            assert after == expected_after or after - first >= 4095
            assert found == expected if after == expected_after else expected.startswith(found)


async def test_all_of_it_in_order(store: JobStore) -> None:
    for number, output in enumerate(OUTPUTS.values(), 1):
        job = await stored(store, output, number)
        assert job.log is not None
        reader = store.output(job.id)
        log, at = b"", 0
        while piece := reader.log_piece(at, 4096):
            log += piece
            at += len(piece)
        text, first = b"", 0
        while (found := reader.chunks_from(first, 4096))[1] > first:
            text += found[0]
            first = found[1]
        assert log == job.log.text().encode()
        assert (text, first) == (bytes(job.log.chunks.joined), len(job.log.chunks.ends))


async def test_a_job_that_wrote_nothing_has_no_rows(store: JobStore) -> None:
    await stored(store, b"")
    assert store.output(UUID(int=1)).log_piece(0, 10) == b""
    assert store.output(UUID(int=1)).chunks_from(0, 10) == (b"", 0)
    assert store.output(UUID(int=2)).chunks_from(3, 10) == (b"", 3)


async def test_what_is_wiped_is_not_read_any_more(store: JobStore) -> None:
    job = await stored(store, b"log\nWM_STREAM: secret\n")
    output = store.output(job.id)
    assert output.chunks_from(0, 10) == (b"secret", 1)
    await store.wipe([job.id])
    assert output.chunks_from(0, 10) == store.output(job.id).chunks_from(0, 10) == (b"", 0)
    assert output.log_piece(0, 100) == b"##DELETED##"


async def test_what_is_not_to_be_kept_is_not_stored(store: JobStore) -> None:
    job = await stored(store, b"log\nWM_STREAM: secret\n", delete_after_s=0)
    assert job.output is None
    assert store.output(job.id).chunks_from(0, 10) == (b"", 0)
    assert store.output(job.id).log_piece(0, 100) == b"##DELETED##"


async def test_rows_that_go_while_they_are_read(tmp_path: Path, nursery: trio.Nursery) -> None:
    database = Database.open(tmp_path / "other.db")
    await nursery.start(database.run)
    store = JobStore(database)
    job = await stored(store, b"log\nWM_STREAM: a\n")
    output = store.output(job.id)
    await database.write("DELETE FROM job_log")
    await database.write("DELETE FROM job_stream")
    assert output.log_piece(0, 10) == b""
    assert output.chunks_from(0, 10) == (b"", 0)
    database.close()
    with pytest.raises(Unavailable):
        output.log_piece(0, 10)
