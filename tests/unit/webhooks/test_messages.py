"""Messages on a WebSocket of jobs."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.http.codecs import json_text
from minwebhook.webhooks.messages import CBOR, JSON, NO_ID, BadMessage, Cancel, Id, Run, Subscribe, event, parse, result
from minwebhook.webhooks.responses import Result

JOB = UUID("01a20156-0fca-7000-b6a3-dd03b6257e63")
VALUES = st.none() | st.text(max_size=50) | st.integers(-(2**53), 2**53)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
IDS = VALUES.map(lambda value: NO_ID if value is None else Id(value, json_text(value).decode()))
ARGUMENTS = st.dictionaries(st.text(max_size=8), PLAIN, max_size=4)


def encode(subprotocol: str, value: Any) -> str | bytes:
    return cbor2.dumps(value) if subprotocol == CBOR else json.dumps(value)


def decode(message: str | bytes) -> Any:
    return json.loads(message) if isinstance(message, str) else cbor2.loads(message)


@pytest.mark.parametrize("subprotocol", [JSON, CBOR])
@given(message_id=VALUES, arguments=ARGUMENTS, logs=st.booleans(), stream=st.booleans())
def test_a_run(subprotocol: str, message_id: Any, arguments: dict[str, Any], logs: bool, stream: bool) -> None:
    sent = {"op": "run", "id": message_id, "path": "u/a/b", "args": arguments, "logs": logs, "stream": stream}
    asked = parse(encode(subprotocol, sent), subprotocol)
    assert isinstance(asked, Run)
    assert (asked.id.value, asked.path, asked.hash, asked.logs, asked.stream) == (
        message_id,
        "u/a/b",
        None,
        logs,
        stream,
    )
    assert json.loads(asked.arguments.text) == arguments
    assert asked.arguments.mask == b""


def test_byte_strings_are_noted() -> None:
    asked = parse(cbor2.dumps({"op": "run", "hash": "0f", "args": {"data": b"\xff", "text": "x"}}), CBOR)
    assert isinstance(asked, Run)
    assert asked.hash == "0f"
    assert json.loads(asked.arguments.text) == {"data": "/w==", "text": "x"}
    assert json.loads(asked.arguments.mask).keys() == {"data"}


@pytest.mark.parametrize("subprotocol", [JSON, CBOR])
def test_subscribe_and_cancel(subprotocol: str) -> None:
    sent = {"op": "subscribe", "id": "s", "job": str(JOB)}
    assert parse(encode(subprotocol, sent), subprotocol) == Subscribe(Id("s", '"s"'), JOB)
    sent = {"op": "cancel", "job": str(JOB), "reason": "why not"}
    assert parse(encode(subprotocol, sent), subprotocol) == Cancel(NO_ID, JOB, "why not")


@given(st.text() | st.binary() | PLAIN.map(json.dumps) | PLAIN.map(cbor2.dumps), st.sampled_from((JSON, CBOR)))
def test_anything_else_is_refused(message: str | bytes, subprotocol: str) -> None:
    with pytest.raises(BadMessage):
        parse(message, subprotocol)


@given(VALUES, st.dictionaries(st.sampled_from(("op", "path", "hash", "args", "logs", "job", "reason")), PLAIN))
def test_what_is_wrong_is_told_with_the_id(message_id: Any, members: dict[str, Any]) -> None:
    try:
        asked = parse(json.dumps({**members, "id": message_id}), JSON)
    except BadMessage as error:
        assert error.id.value == message_id
    else:
        assert asked.id.value == message_id


@pytest.mark.parametrize("message_id", [[], {}, "x" * 201])
def test_ids_that_are_none(message_id: Any) -> None:
    with pytest.raises(BadMessage, match="id: send") as raised:
        parse(json.dumps({"op": "cancel", "id": message_id, "job": str(JOB)}), JSON)
    assert raised.value.id is NO_ID


@pytest.mark.parametrize("subprotocol", [JSON, CBOR])
@given(message_id=IDS, text=st.text())
def test_events(subprotocol: str, message_id: Id, text: str) -> None:
    told = event(subprotocol, "log", message_id, str(JOB), text=text)
    assert decode(told) == {"type": "log", "id": message_id.value, "job": str(JOB), "text": text}


@pytest.mark.parametrize("subprotocol", [JSON, CBOR])
@given(message_id=IDS, value=PLAIN, is_success=st.booleans())
def test_results(subprotocol: str, message_id: Id, value: Any, is_success: bool) -> None:
    told = result(subprotocol, message_id, str(JOB), Result(json.dumps(value).encode(), is_success))
    expected = {"type": "result", "id": message_id.value, "job": str(JOB), "success": is_success, "result": value}
    assert decode(told) == expected


def test_a_result_with_byte_strings() -> None:
    ended = Result(b'{"data":"/w=="}', True, b'{"data":true}')
    assert decode(result(CBOR, NO_ID, str(JOB), ended))["result"] == {"data": b"\xff"}
    assert decode(result(JSON, NO_ID, str(JOB), ended))["result"] == {"data": "/w=="}
