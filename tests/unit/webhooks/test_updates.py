"""What clients may ask about a job that they follow, and the ids of events."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.webhooks.query import Query
from minwebhook.webhooks.updates import EventId, UpdateOptions, update_text

JOB = "01a20156-0fca-7000-b6a3-dd03b6257e63"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", UpdateOptions()),
        ("log_offset=0", UpdateOptions()),
        ("log_offset=1", UpdateOptions()),
        ("log_offset=12&stream_offset=3", UpdateOptions(log=11, stream=3)),
        ("running=false&no_logs=true", UpdateOptions(running=False, no_logs=True)),
        ("running=true&only_result=true", UpdateOptions(running=True, only_result=True)),
        ("fast=true&get_progress=false&is_flow=true&poll_delay_ms=50&other=x", UpdateOptions()),
    ],
)
def test_parameters(query: str, options: UpdateOptions) -> None:
    assert UpdateOptions.parse(Query(query)) == options


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("log_offset=-1", "log_offset: send a whole number of characters"),
        ("log_offset=x", "log_offset: send a whole number of characters"),
        ("log_offset=", "log_offset: send a whole number of characters"),
        ("log_offset=1e3", "log_offset: send"),
        ("stream_offset=-1", "stream_offset: send a whole number of chunks"),
        ("stream_offset=99999999999999999999", "stream_offset: send"),
        ("poll_delay_ms=soon", "poll_delay_ms: send a whole number of milliseconds"),
        *((f"{flag}=1", f"{flag}: send true or false")
          for flag in ("running", "no_logs", "only_result", "get_progress", "fast", "is_flow")),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(query: str, error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        UpdateOptions.parse(Query(query))


@pytest.mark.parametrize(
    ("asked", "only_result", "queued", "runs", "ended"),
    [
        (None, False, None, None, False),
        (True, False, None, None, False),
        (False, False, None, True, False),
        (None, True, None, None, None),
        (True, True, True, True, True),
        (False, True, False, True, False),
    ],
)
def test_running(
    asked: bool | None, only_result: bool, queued: bool | None, runs: bool | None, ended: bool | None
) -> None:
    options = UpdateOptions(running=asked, only_result=only_result)
    assert options.running_member(is_running=False, has_ended=False) is queued
    assert options.running_member(is_running=True, has_ended=False) is runs
    assert options.running_member(is_running=False, has_ended=True) is ended


@pytest.mark.parametrize(
    "result", [b'{"a":\n 1,\r\n"b": "x\\ny"}', '"\u2028"'.encode(), b"[\r1\r]", b'"\\u0000"', b"null"]
)
def test_an_update_is_one_line_that_means_the_same(result: bytes) -> None:
    text = update_text({"type": "update", "only_result": orjson.Fragment(result)})
    assert not {b"\r", b"\n"} & {text[i : i + 1] for i in range(len(text))}
    assert orjson.loads(text) == {"type": "update", "only_result": orjson.loads(result)}


@given(st.uuids(), st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1), st.booleans(), st.booleans())
def test_ids_come_back_as_they_were(job: UUID, log: int, stream: int, is_running_told: bool, is_end: bool) -> None:
    event_id = EventId(job, log, stream, is_running_told and not is_end, is_end)
    assert EventId.parse(str(event_id)) == event_id


@given(st.text())
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="Last-Event-ID: send the id of an event of this stream"):
        EventId.parse(text)


@pytest.mark.parametrize(
    "text",
    [JOB, f"{JOB}:1:2", f"{JOB}:1:2:x", f"{JOB}:-1:2:q", f"{JOB}:1:2:q\n", f"{JOB.upper()}:1:2:q", f"{JOB}:\u0661:2:q",
     f"{JOB}:{10**12}:2:q", f"{JOB.replace('-', '')}----:1:2:q", f"-{JOB[1:]}:1:2:q"],
)  # fmt: skip
def test_nearly_ids_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="Last-Event-ID"):
        EventId.parse(text)
