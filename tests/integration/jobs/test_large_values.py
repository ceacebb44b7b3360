"""Large values are read beside the loop, and come to what the same functions make of small ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import cbor2
import pytest
import trio

from minwebhook.child import wire
from minwebhook.errors import ApiError, BadRequest, PayloadTooLarge, ResultError
from minwebhook.http.messages import Headers
from minwebhook.jobs import outcomes
from minwebhook.jobs.large_values import LARGE_BYTES, LargeValues
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import JobState
from minwebhook.runtimes.reports import Report
from minwebhook.webhooks import messages
from minwebhook.webhooks.arguments import Layout, post_arguments
from minwebhook.webhooks.query import Query
from minwebhook.webhooks.responses import Result, part_response, sync_response

pytestmark = pytest.mark.trio


@pytest.fixture
async def large(nursery: trio.Nursery) -> AsyncIterator[LargeValues]:
    """Its processes, with little memory."""
    made = LargeValues(insecure=False, memory_bytes=96 << 20)
    await nursery.start(made.run)
    yield made


JSON = [("content-type", "application/json"), ("x-sign", "é\xff"), ("cookie", "token=a")]


async def test_arguments_are_the_same(large: LargeValues) -> None:
    for headers, body, query, layout in (
        (JSON, b'{"a": 123456789012345678901, "x_sign": 1}', "include_header=X-Sign&raw=true", Layout.PLAIN),
        (JSON, b'[1, "\xc3\xa9"]', "wrap_body=true", Layout.PLAIN),
        (JSON, b"{}", "a=%FF%20", Layout.PLAIN),
        (JSON, b"[1", "", Layout.PLAIN),
        (JSON, b'"\xff"', "", Layout.PLAIN),
        (JSON, b"[" * 2000, "", Layout.PLAIN),
        (JSON, b'{"a":1}', "raw=1", Layout.PLAIN),
        (JSON, b'{"a":1}', "x=1&token=secret", Layout.EVENT),
        (JSON, b'{"a":1}', "x=1", Layout.SPREAD),
        ([("content-type", "application/cbor")], cbor2.dumps({"a": b"x", "b": [1, b"y"]}), "", Layout.PLAIN),
        ([("content-type", "text/plain")], b"hi", "", Layout.PLAIN),
        ([("content-type", "application/x-www-form-urlencoded")], b"a=1&a=2", "", Layout.PLAIN),
        ([("content-type", "application/cbor2")], b"", "", Layout.PLAIN),
    ):
        outcomes_of_both: list[object] = []
        for is_large in (False, True):
            try:
                if is_large:
                    made = await large.arguments(Headers(headers), body, query, layout=layout, include_headers=())
                else:
                    made = post_arguments(Headers(headers), body, Query(query), layout=layout)
                outcomes_of_both.append((made.text, made.mask))
            except ApiError as error:
                outcomes_of_both.append((type(error), error.text))
        assert outcomes_of_both[0] == outcomes_of_both[1], body[:100]


@pytest.mark.parametrize(
    ("kind", "payload", "mask"),
    [
        (wire.RESULT, b'{"wm_labels": ["b", "a", "a"], "n": 123456789012345678901}', b'{"n":true}'),
        (wire.RESULT, b'{"wm_failure": "no", "error": 1}', b""),
        (wire.RESULT, b"null", b""),
        (wire.RESULT, b"[1", b"\xff"),
        (wire.ERROR, b'{"name": "MemoryError", "message": "x"}', b""),
        (wire.ERROR, b"1", b""),
        (wire.EXIT, b'{"code": 3}', b""),
        (wire.EXIT, b'{"code": 0}', b""),
        (wire.EXIT, b'{"code": 0, "result_json": "{\\"a\\":1}"}', b""),
    ],
)
@pytest.mark.parametrize(
    "output", [b"", b"one\nlast\n", b"WM_STREAM: a\nWM_STREAM: b\n"], ids=["silent", "log", "chunks"]
)
async def test_outcomes_are_the_same(
    large: LargeValues, kind: bytes, payload: bytes, mask: bytes, output: bytes
) -> None:
    report, logs = Report(kind, payload, mask), [JobLog("BANNER\n", 1000), JobLog("BANNER\n", 1000)]
    for log in logs:
        log.write(output)
    assert await large.judge(report, logs[0], "python run") == outcomes.judge(report, logs[1], "python run")


async def test_responses_parts_and_messages_are_the_same(large: LargeValues) -> None:
    filler = b'"' + b"x" * LARGE_BYTES + b'"'
    plain = Result(b'{"a":' + filler + b',"n":[1,{"m":12345678901234567890}]}', False)
    composite = Result(b'{"wm_status_code":201,"wm_headers":{"X-A":"b"},"result":' + filler + b"}", True)
    wrong = Result(b'{"wm_status_code":1,"result":' + filler + b"}", True)
    for result in (plain, composite):
        for as_cbor in (False, True):
            assert await large.response(result, failure_status=422, as_cbor=as_cbor) == sync_response(
                result, failure_status=422, as_cbor=as_cbor
            )
    with pytest.raises(ResultError, match="Invalid status code"):
        await large.response(wrong, failure_status=200, as_cbor=False)
    for path in ("n.1.m", "n.9", ""):
        for as_cbor in (False, True):
            made = await large.part(plain.text, b'{"a":true}', path, as_cbor=as_cbor)
            assert made == part_response(plain.text, b'{"a":true}', path, as_cbor=as_cbor)
    said = f'{{"op":"run","id":1,"path":"u/a/b","args":{{"a":{filler.decode()}}},"logs":true}}'
    assert await large.message(said, messages.JSON) == messages.parse(said, messages.JSON)
    with pytest.raises(messages.BadMessage, match="op: send"):
        await large.message('{"id":7}', messages.JSON)
    with pytest.raises(BadRequest, match="argument a: must be a text, and is an array"):
        await large.check({"properties": {"a": {"type": "string"}}}, b'{"a":[]}')


async def test_values_are_counted(large: LargeValues) -> None:
    few = b'["' + b"x" * LARGE_BYTES + b'", {"a": [1, 2]}]'
    await large.check_count(few)
    await large.check_count(b"[")  # small: whoever reads it says what is wrong
    with pytest.raises(PayloadTooLarge, match="more than 250000 values"):
        await large.check_count(b"[" + b"1, " * 500_000 + b"1]")
    with pytest.raises(BadRequest, match="invalid json"):
        await large.check_count(few + b"]")


async def test_too_many_values_are_refused_and_the_next_are_read(large: LargeValues) -> None:
    body = b"[" + b"[]," * 2_000_000 + b"[]]"
    with pytest.raises(PayloadTooLarge, match="too many values"):
        await large.arguments(Headers(JSON), body, "", layout=Layout.PLAIN, include_headers=())
    failed = await large.judge(Report(wire.RESULT, body), JobLog("", 1000), "python run")
    assert (failed.state, failed.ended_by) == (JobState.FAILURE, "result")
    assert b"the result holds too many values" in failed.result
    made = await large.arguments(Headers(JSON), b"{}", "", layout=Layout.PLAIN, include_headers=())
    assert made.text == b"{}"
