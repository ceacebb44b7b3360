"""From a result to an answer: every rule of composite results as a row."""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import ApiError, Internal, ResultError
from minwebhook.http.messages import Headers, Response
from minwebhook.webhooks.preferences import Preference
from minwebhook.webhooks.responses import Result, sync_response

FAILED = {"error": {"name": "E"}}


def answer(value: Any, *, is_success: bool = True, as_cbor: bool = False, mask: bytes = b"") -> Response:
    text = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return sync_response(Result(text, is_success, mask), failure_status=422, as_cbor=as_cbor)


@pytest.mark.parametrize(
    "value",
    [
        "x",
        None,
        [1],
        {},
        {"result": 1},
        {"result": 1, "wm_labels": ["a"]},
        {"wm_status_code": None, "wm_content_type": None, "wm_headers": None, "result": 1},
        {"wm_status_code": "201", "result": 1},
        {"wm_status_code": 201.5, "result": 1},
        {"wm_status_code": 201.0, "result": 1},
        {"wm_status_code": True, "result": 1},
        {"wm_status_code": -1, "result": 1},
        {"wm_status_code": 65536, "result": 1},
        {"wm_status_code": 201, "windmill_status_code": 202, "result": 1},
        {"wm_status_code": 201, "windmill_status_code": None, "result": 1},
        {"wm_content_type": 1, "result": 1},
        {"wm_headers": {"a": 1}, "result": 1},
        {"wm_headers": ["a"], "result": 1},
        {"wm_status_code": 201, "wm_content_transfer_encoding": 64, "result": 1},
        [{"wm_status_code": 201, "result": 1}],
        {"a": {"wm_status_code": 201}},
        "wm_status_code",
        {"x": '"wm_status_code"'},
    ],
)
def test_what_is_no_composite_result_is_sent_whole(value: Any) -> None:
    text = json.dumps(value).encode()
    assert (answer(text).status, answer(text).body, answer(text).content_type) == (200, text, "application/json")
    failed = answer(text, is_success=False)
    assert (failed.status, failed.body) == (422, text)


@pytest.mark.parametrize(
    ("value", "status", "content_type", "body"),
    [
        ({"wm_status_code": 201, "result": {"a": 1}}, 201, "application/json", b'{"a":1}'),
        ({"windmill_status_code": 201, "result": "x"}, 201, "application/json", b'"x"'),
        ({"wm_status_code": 201, "result": "x", "other": 1}, 201, "application/json", b'"x"'),
        ({"wm_status_code": 200}, 200, None, b""),
        ({"wm_status_code": 204, "result": None}, 204, None, b""),
        ({"wm_status_code": 999, "result": 1}, 999, "application/json", b"1"),
        ({"wm_content_type": "text/csv", "result": "Hello;World"}, 200, "text/csv", b"Hello;World"),
        ({"windmill_content_type": "text/html", "result": "<p>é</p>"}, 200, "text/html", "<p>é</p>".encode()),
        ({"wm_content_type": "text/plain", "result": [1, {"a": None}]}, 200, "text/plain", b'[1,{"a":null}]'),
        ({"wm_content_type": "text/html"}, 204, "text/html", b""),
        ({"wm_content_type": "text/plain", "result": False}, 200, "text/plain", b"false"),
        ({"wm_headers": {}, "result": 1}, 200, "application/json", b"1"),
        ({"wm_headers": {}}, 204, None, b""),
        ({"wm_headers": {"Content-Type": "text/x"}, "result": "s"}, 200, "text/x", b'"s"'),
        ({"wm_headers": {"content-type": "text/x"}, "wm_content_type": "text/y", "result": "s"}, 200, "text/y", b"s"),
        (
            {"wm_status_code": 200, "result": 12345678901234567890123},
            200,
            "application/json",
            b"12345678901234567890123",
        ),
        (b'{"wm_\\u0073tatus_code":201,"result":1}', 201, "application/json", b"1"),
        (
            {"wm_content_type": "image/png", "wm_content_transfer_encoding": "base64", "result": "iVBORw=="},
            200,
            "image/png",
            b"\x89PNG",
        ),
        ({"wm_content_type": "image/png", "wm_content_transfer_encoding": "base64"}, 204, "image/png", b""),
        (
            {"wm_content_type": "image/png", "wm_content_transfer_encoding": "base64", "result": ""},
            200,
            "image/png",
            b"",
        ),
    ],
)
def test_composite_results(value: Any, status: int, content_type: str | None, body: bytes) -> None:
    made = answer(value)
    assert (made.status, made.content_type, made.body, made.headers) == (status, content_type, body, ())


def test_headers_of_a_composite_result() -> None:
    made = answer({"windmill_headers": {"X-A": "1", "Location": "/x"}, "wm_status_code": 302})
    assert (made.status, made.body, made.headers) == (302, b"", (("X-A", "1"), ("Location", "/x")))


def test_names_of_headers_that_differ_in_case_are_the_same() -> None:
    made = answer({"wm_headers": {"X-A": "1", "content-type": "a/b", "x-a": "2", "Content-Type": "c/d"}, "result": 1})
    assert (made.content_type, made.headers) == ("c/d", (("x-a", "2"),))


def test_a_failed_job_may_say_how_it_is_answered() -> None:
    value = {"wm_failure": "no", "error": {"name": "ManualFailure", "message": "no"}, "wm_headers": {}, "result": "why"}
    made = answer(value, is_success=False)
    assert (made.status, made.body) == (422, b'"why"')
    made = answer({**value, "wm_status_code": 409, "wm_content_type": "text/plain"}, is_success=False)
    assert (made.status, made.content_type, made.body) == (409, "text/plain", b"why")


BASE64 = {"wm_content_type": "x/y", "wm_content_transfer_encoding": "base64"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"wm_status_code": 0, "result": 1}, "Invalid status code"),
        ({"wm_status_code": 99, "result": 1}, "Invalid status code"),
        ({"wm_status_code": 101, "result": 1}, "Invalid status code"),
        ({"wm_status_code": 1000, "result": 1}, "Invalid status code"),
        ({"wm_status_code": 65535, "result": 1}, "Invalid status code"),
        ({"wm_headers": {"a b": "1"}, "result": 1}, "Internal: Invalid header name"),
        ({"wm_headers": {"": "1"}, "result": 1}, "Internal: Invalid header name"),
        ({"wm_headers": {"é": "1"}, "result": 1}, "Internal: Invalid header name"),
        ({"wm_headers": {"a": "1\r\nb: 2"}, "result": 1}, "Internal: Invalid header value"),
        ({"wm_headers": {"a": "é"}, "result": 1}, "Internal: Invalid header value"),
        ({"wm_headers": {"content-type": "\n"}, "result": 1}, "Internal: Invalid header value"),
        ({"wm_content_type": "text/\nhtml", "result": 1}, "Internal: Invalid content type"),
        (
            {"wm_content_transfer_encoding": "base64", "result": "eA=="},
            "A content transfer encoding needs a content type",
        ),
        ({**BASE64, "wm_content_transfer_encoding": "gzip", "result": "eA=="}, "Invalid content transfer encoding"),
        ({**BASE64, "result": "eA"}, "The result is not valid base64"),
        ({**BASE64, "result": "é"}, "The result is not valid base64"),
        ({**BASE64, "result": "e A=="}, "The result is not valid base64"),
        ({**BASE64, "result": 1}, "The result must be a string of base64"),
        ({**BASE64, "result": True}, "The result must be a string of base64"),
        ({**BASE64, "result": ["eA=="]}, "The result must be a string of base64"),
    ],
)
def test_composite_results_that_cannot_be_sent_are_a_500(value: Any, text: str) -> None:
    with pytest.raises((ResultError, Internal)) as raised:
        answer(value)
    assert (raised.value.status, raised.value.text.startswith(text)) == (500, True), raised.value.text


@given(st.binary())
def test_bytes_go_through_base64(data: bytes) -> None:
    assert answer({**BASE64, "result": base64.b64encode(data).decode()}).body == data


DEEP = '{"d":' * 300 + '"eA=="' + "}" * 300


@pytest.mark.parametrize(
    ("value", "mask", "expected"),
    [
        ('{"wm_status_code":200,"result":[1]}', "[1]", [1]),
        ('{"wm_status_code":200,"result":[1]}', "true", [1]),
        ('{"wm_status_code":200,"result":[1]}', '"result"', [1]),
        ('["eA=="]', '{"' + "1" * 5000 + '":true}', ["eA=="]),
        ('["eA=="]', '{"\u0660":true}', ["eA=="]),
        ('["eA=="]', '{"00":true}', [b"x"]),
    ],
)
def test_a_mask_that_does_not_fit_changes_nothing(value: str, mask: str, expected: Any) -> None:
    assert cbor2.loads(answer(value.encode(), as_cbor=True, mask=mask.encode()).body) == expected


def test_byte_strings_as_deep_as_results_go() -> None:
    mask = DEEP.replace('"eA=="', "true")
    for value, found in ((DEEP, mask), (f'{{"wm_status_code":200,"result":{DEEP}}}', f'{{"result":{mask}}}')):
        assert b"\xa1\x61d\x41x" in answer(value.encode(), as_cbor=True, mask=found.encode()).body


def test_cbor_for_those_who_ask() -> None:
    made = answer(b'{"a":["eA==",1]}', as_cbor=True, mask=b'{"a":{"0":true}}')
    assert (made.status, made.content_type, cbor2.loads(made.body)) == (200, "application/cbor", {"a": [b"x", 1]})
    failed = answer(FAILED, as_cbor=True, is_success=False)
    assert (failed.status, cbor2.loads(failed.body)) == (422, FAILED)
    composite = answer(b'{"wm_status_code":201,"result":"eA=="}', as_cbor=True, mask=b'{"result":true}')
    assert (composite.status, composite.content_type, composite.body) == (201, "application/cbor", cbor2.dumps(b"x"))
    assert answer({"wm_content_type": "text/plain", "result": "x"}, as_cbor=True).body == b"x"
    assert answer({"wm_status_code": 204}, as_cbor=True).body == b""


members = st.sampled_from(
    [prefix + name for prefix in ("wm_", "windmill_") for name in ("status_code", "content_type", "headers")]
    + ["wm_content_transfer_encoding", "result", "other"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(members, json_values) | json_values, st.booleans(), st.booleans())
def test_any_result_is_an_answer_or_a_500_that_says_why(value: Any, is_success: bool, as_cbor: bool) -> None:
    text = json.dumps(value).encode()
    try:
        made = sync_response(Result(text, is_success), failure_status=200, as_cbor=as_cbor)
    except ApiError as error:
        assert error.status == 500
        assert error.detail
    else:
        assert 200 <= made.status <= 999
        assert not made.body or made.content_type


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], None),
        (["wait=10"], Preference(10, "wait=10")),
        (["respond-async"], Preference(0, "respond-async")),
        (["respond-async, wait=5"], Preference(5, "wait=5")),
        (["return=minimal", "Wait=5"], Preference(5, "wait=5")),
        (['wait="7"; foo=bar'], Preference(7, "wait=7")),
        (["wait=1, wait=2"], Preference(1, "wait=1")),
        (["wait=99999999999999"], Preference(1_000_000, "wait=9999999")),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait"], None),
        (["return=representation"], None),
        (["wait=٣"], None),
    ],
)
def test_how_long_a_caller_wants_to_wait(fields: list[str], expected: Preference | None) -> None:
    assert Preference.parse(Headers([("prefer", field) for field in fields])) == expected


@given(st.lists(st.text(st.characters(codec="latin-1"))))
def test_any_prefer_field_is_read_or_ignored(fields: list[str]) -> None:
    preference = Preference.parse(Headers([("prefer", field) for field in fields]))
    assert preference is None or preference.wait_s >= 0
