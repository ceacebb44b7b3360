"""The webhook contract over sockets: one row, one request, one expectation.

Rows that the documentation or its sources give are restated here in our own words. What a row does not say is not
looked at; where a row gives a value, the answer's JSON must be equal to it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
import pytest

from minwebhook.webhooks.query import CONTROL
from tests.server import Answer, Client, serving

ANY: Final = object()
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}
CBOR = {"Content-Type": "application/cbor"}
EVENT = {"Content-Type": "application/cloudevents+json"}
ID = "01890000-0000-7000-8000-0000000000"
SYNC = "/jobs/run_wait_result/p/u/test/echo"
ASYNC = "/jobs/run/p/u/test/echo"
GIVE = "/jobs/run_wait_result/p/u/test/give"
PRE = "/jobs/run_wait_result/p/u/test/pre"
OLD = "/jobs/run_wait_result/p/u/test/old"
TYPES = "/jobs/run_wait_result/p/u/test/types"
FAIL = "/jobs/run_wait_result/p/u/test/fail"

SCRIPTS = {
    "u/test/echo": "def main(**arguments):\n    return arguments\n",
    # What the body says is the result.
    "u/test/give": "def main(body=None):\n    return body\n",
    "u/test/types": "def main(**arguments):\n    return {name: repr(value) for name, value in arguments.items()}\n",
    "u/test/fail": "def main(**arguments):\n    raise LookupError('no luck')\n",
    "u/test/failing_give": "def main(body):\n    return {**body, 'wm_failure': 'not today'}\n",
    "u/test/binary": "def main():\n    return {'data': b'\\x00\\xff', 'deep': [{'x': b'y'}], 'n': 1}\n",
    "u/test/pre": "def preprocessor(event):\n    return {'event': event}\n\ndef main(event):\n    return event\n",
    "u/test/old": "def preprocessor(wm_trigger, **rest):\n    return {'wm_trigger': wm_trigger, **rest}\n\n"
    "def main(**arguments):\n    return arguments\n",
    "u/test/pre_bytes": "def preprocessor(event):\n    return {'data': event['body']['data'] + b'!'}\n\n"
    "def main(data: bytes):\n    return data\n",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the scripts, two workers, and one header that every run includes."""
    environment = {"INCLUDE_HEADERS": "X-Always"}
    data = tmp_path_factory.mktemp("contract") / "data"
    with serving(data, "--workers", "2", environment=environment) as (_, client):
        for path, code in SCRIPTS.items():
            client.deploy(path, code)
        client.deploy("f/team/greet", 'name="$1"\necho "hello $name"', language="bash")
        yield client


@dataclass(frozen=True)
class Row:
    """A request and what is expected of its answer."""

    name: str
    path: str = SYNC
    body: bytes | None = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    method: str = "POST"
    status: int = 200
    #: The JSON of the answer; the text if it is a string that starts with ``text:``; the bytes.
    expected: Any = ANY
    #: What the text of the answer starts with.
    starts: str = ""
    #: Header fields of the answer; None: must not be there.
    answers: Mapping[str, str | None] = field(default_factory=dict)
    has_token: bool = True


def check(row: Row, answer: Answer) -> None:
    assert answer.status == row.status, answer.body[:300]
    if isinstance(row.expected, bytes):
        assert answer.body == row.expected
    elif row.expected is not ANY:
        assert answer.json() == row.expected
    assert answer.text.startswith(row.starts) if row.starts else True, answer.body[:300]
    for name, value in row.answers.items():
        assert answer.headers.get(name) == value, name


def b64(value: Any) -> str:
    text = base64.b64encode(json.dumps(value).encode()).decode()
    return text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


DOCUMENTED = [
    Row("an object is the arguments", body=b'{"a":1}', expected={"a": 1}),
    Row("an array is body", body=b"[1,2,3]", expected={"body": [1, 2, 3]}),
    Row("a string is body", body=b'"s"', expected={"body": "s"}),
    Row("a number is body", body=b"5", expected={"body": 5}),
    Row("true is body", body=b"true", expected={"body": True}),
    Row("null is body", body=b"null", expected={"body": None}),
    Row("wrap an object", SYNC + "?wrap_body=true", b'{"a":1}', expected={"body": {"a": 1}}),
    Row("wrap an array once", SYNC + "?wrap_body=true", b"[1]", expected={"body": [1]}),
    Row("raw", SYNC + "?raw=true", b'{"a": 1}', expected={"a": 1, "raw_string": '{"a": 1}'}),
    Row("raw and wrap", SYNC + "?raw=true&wrap_body=true", b"{}", expected={"body": {}, "raw_string": "{}"}),
    Row("form", SYNC, b"a=1&a=2&b=", FORM, expected={"a": "2", "b": ""}),
    Row("text", SYNC, b"hi", TEXT, expected={"raw_string": "hi"}),
    Row("text that is JSON", SYNC, b'{"a":1}', TEXT, expected={"raw_string": '{"a":1}'}),
    Row("xml", SYNC, b"<a/>", {"Content-Type": "application/xml"}, expected={"raw_string": "<a/>"}),
    Row("text/xml", SYNC, b"<a/>", {"Content-Type": "text/xml"}, expected={"raw_string": "<a/>"}),
    Row("csv", SYNC, b"a;b", {"Content-Type": "text/csv"}, expected={"raw_string": "a;b"}),
    Row(
        "any type that is JSON",
        SYNC,
        b'{"a":1}',
        {"Content-Type": "application/vnd.api+json"},
        expected={"a": 1, "raw_string": '{"a":1}'},
    ),
    Row("any type, bytes", SYNC, b"\xff", {"Content-Type": "image/png"}, expected={"raw_string": "�"}),
    Row(
        "headers",
        SYNC + "?include_header=X-Sign,foo,absent",
        headers={**JSON, "X-Sign": "s", "Foo": "f"},
        expected={"x_sign": "s", "foo": "f"},
    ),
    Row(
        "query",
        SYNC + "?include_query=a,b,c&a=foo&b=bar&c=foobar",
        None,
        {},
        "GET",
        expected={"a": "foo", "b": "bar", "c": "foobar"},
    ),
    Row("query wins over the body", SYNC + "?include_query=a&a=2", b'{"a":1}', expected={"a": "2"}),
    Row(
        "query wins over headers",
        SYNC + "?include_query=a&include_header=a&a=q",
        headers={**JSON, "a": "h"},
        expected={"a": "q"},
    ),
    Row("payload", f"{SYNC}?payload={b64({'a': 2})}", None, {}, "GET", expected={"a": 2}),
    Row("payload without padding", SYNC + "?payload=e30", None, {}, "GET", expected={}),
    Row("payload, URL-safe", SYNC + "?payload=eyJhIjoiPz8-In0", None, {}, "GET", expected={"a": "??>"}),
    Row("GET with a JSON type and no body", SYNC, None, JSON, "GET", expected={}),
    Row("GET ignores a body", SYNC, b'{"a":1}', JSON, "GET", expected={}),
    Row("a header of every run", headers={**JSON, "X-Always": "1"}, expected={"x_always": "1"}),
    Row(
        "a header of every run and others",
        SYNC + "?include_header=x-b",
        headers={**JSON, "X-Always": "1", "x-b": "2"},
        expected={"x_always": "1", "x_b": "2"},
    ),
    Row("large integers", body=b'{"a":12345678901234567890123}', expected={"a": 12345678901234567890123}),
    Row("a name twice", body=b'{"a":1,"a":2}', expected={"a": 2}),
    Row("no body, no type", SYNC, b"", {}, expected={}),
    Row("no body, no type, raw", SYNC + "?raw=true", b"", {}, expected={"raw_string": ""}),
]

CBOR_ROWS = [
    Row("a map", TYPES, cbor2.dumps({"a": 1, "b": b"\x00"}), CBOR, expected={"a": "1", "b": "b'\\x00'"}),
    Row("bytes in depth", TYPES, cbor2.dumps({"a": [{"b": b"x"}]}), CBOR, expected={"a": "[{'b': b'x'}]"}),
    Row("bytes alone", TYPES, cbor2.dumps(b"x"), CBOR, expected={"body": "b'x'"}),
    Row("JSON callers see base64", SYNC, cbor2.dumps({"a": b"x"}), CBOR, expected={"a": "eA=="}),
    Row("wrap", TYPES + "?wrap_body=true", cbor2.dumps({"a": b"x"}), CBOR, expected={"body": "{'a': b'x'}"}),
    Row("raw", TYPES + "?raw=true", cbor2.dumps({}), CBOR, expected={"raw_string": "b'\\xa0'"}),
    Row(
        "with query", TYPES + "?include_query=q&q=1", cbor2.dumps({"a": b"x"}), CBOR, expected={"a": "b'x'", "q": "'1'"}
    ),
    Row("bignum", TYPES, cbor2.dumps({"a": 2**70}), CBOR, expected={"a": str(2**70)}),
    Row("indefinite lengths", TYPES, b"\xbf\x61a\x5f\x41x\x41y\xff\xff", CBOR, expected={"a": "b'xy'"}),
    Row("self-described", TYPES, b"\xd9\xd9\xf7\xa1\x61a\x01", CBOR, expected={"a": "1"}),
    Row(
        "sequence",
        SYNC,
        b"\x01\x02",
        {"Content-Type": "application/cbor-seq"},
        status=415,
        starts="application/cbor-seq",
    ),
    Row("two items", SYNC, b"\xa0\xa0", CBOR, status=400, starts="Bad request: invalid cbor: 1 bytes behind the item"),
    Row("empty", SYNC, b"", CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("cut", SYNC, b"\xa1\x61a", CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("keys that are no texts", SYNC, cbor2.dumps({1: 2}), CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("a key twice", SYNC, b"\xa2\x61a\x01\x61a\x02", CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("NaN", SYNC, cbor2.dumps({"a": float("nan")}), CBOR, status=400, starts="Bad request: invalid cbor: NaN"),
    Row("depth", SYNC, b"\x81" * 200, CBOR, status=400, starts="Bad request: invalid cbor: maximum container nesting"),
    Row("a regular expression", SYNC, b"\xd8\x23\x61a", CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("a reference", SYNC, b"\xd8\x1c\x81\xd8\x1d\x00", CBOR, status=400, starts="Bad request: invalid cbor: "),
    Row("not UTF-8", SYNC, b"\x61\xff", CBOR, status=400, starts="Bad request: invalid cbor: "),
]

CLOUD = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
META = "WEBHOOK__METADATA__"
BINARY_EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
CLOUD_ROWS = [
    Row("object data", SYNC, dumped({**CLOUD, "data": {"a": 1}}), EVENT, expected={"a": 1, META: CLOUD}),
    Row("number data", SYNC, dumped({**CLOUD, "data": 7}), EVENT, expected={"body": 7, META: CLOUD}),
    Row("no data", SYNC, dumped(CLOUD), EVENT, expected={"body": None, META: CLOUD}),
    Row(
        "wrapped",
        SYNC + "?wrap_body=true",
        dumped({**CLOUD, "data": {"a": 1}}),
        EVENT,
        expected={"body": {"a": 1, META: CLOUD}},
    ),
    Row("no object", SYNC, b"[]", EVENT, status=400, starts="Bad request: invalid cloudevents+json: "),
    Row("no JSON", SYNC, b"{", EVENT, status=400, starts="Bad request: invalid cloudevents+json: "),
    Row(
        "a batch",
        SYNC,
        b"[]",
        {"Content-Type": "application/cloudevents-batch+json"},
        status=400,
        starts="Bad request: Cloud events batching is not supported yet",
    ),
    Row(
        "binary mode",
        SYNC,
        b'{"a":1}',
        {**JSON, **BINARY_EVENT},
        expected={"a": 1, META: {**CLOUD, "datacontenttype": "application/json"}},
    ),
    Row(
        "binary mode without a type",
        SYNC,
        b'{"a":1}',
        {**JSON, "ce-specversion": "1.0", "ce-id": "1"},
        expected={"a": 1},
    ),
    Row(
        "handshake",
        SYNC,
        None,
        {"Webhook-Request-Origin": "eventgrid.example"},
        "OPTIONS",
        answers={"webhook-allowed-origin": "eventgrid.example", "webhook-allowed-rate": "*"},
        has_token=False,
    ),
]


def gives(value: Any) -> bytes:
    """The body that makes the script return ``value``."""
    return dumped([value])[1:-1] if not isinstance(value, dict) else dumped({"body": value})


def composite(name: str, value: Any, status: int, body: Any, content_type: str | None = "application/json") -> Row:
    return Row(
        name, GIVE, gives(value), status=status, expected=body if body is not None else b"",
        answers={"content-type": content_type},
    )  # fmt: skip


BASE64 = {"wm_content_type": "image/png", "wm_content_transfer_encoding": "base64"}
COMPOSITE = [
    composite("a string is JSON", "x", 200, b'"x"'),
    composite("null is JSON", None, 200, b"null"),
    composite("a member result alone is nothing special", {"result": 1}, 200, {"result": 1}),
    composite("status", {"wm_status_code": 201, "result": {"a": 1}}, 201, {"a": 1}),
    composite("status, long name", {"windmill_status_code": 201, "result": [1]}, 201, [1]),
    composite("status without result", {"wm_status_code": 204}, 204, None, None),
    composite("status 200 without result", {"wm_status_code": 200, "result": None}, 200, None, None),
    composite("418", {"wm_status_code": 418, "result": "tea"}, 418, b'"tea"'),
    composite("599", {"wm_status_code": 599, "result": 1}, 599, b"1"),
    composite("999", {"wm_status_code": 999, "result": 1}, 999, b"1"),
    composite("status as a string", {"wm_status_code": "201"}, 200, {"wm_status_code": "201"}),
    composite("status as a fraction", {"wm_status_code": 201.5}, 200, {"wm_status_code": 201.5}),
    composite("status true", {"wm_status_code": True}, 200, {"wm_status_code": True}),
    composite("status below zero", {"wm_status_code": -1}, 200, {"wm_status_code": -1}),
    composite("status too large to be one", {"wm_status_code": 70000}, 200, {"wm_status_code": 70000}),
    composite("status null", {"wm_status_code": None, "a": 1}, 200, {"wm_status_code": None, "a": 1}),
    composite(
        "both names",
        {"wm_status_code": 201, "windmill_status_code": 201},
        200,
        {"wm_status_code": 201, "windmill_status_code": 201},
    ),
    composite("csv", {"wm_content_type": "text/csv", "result": "Hello;World"}, 200, b"Hello;World", "text/csv"),
    composite("html", {"windmill_content_type": "text/html", "result": "<p>"}, 200, b"<p>", "text/html"),
    composite("html without result", {"wm_content_type": "text/html"}, 204, None, "text/html"),
    composite(
        "text of an object", {"wm_content_type": "text/plain", "result": {"a": 1}}, 200, b'{"a":1}', "text/plain"
    ),
    composite("type as a number", {"wm_content_type": 1}, 200, {"wm_content_type": 1}),
    composite("siblings are dropped", {"wm_status_code": 201, "result": 1, "other": 2}, 201, b"1"),
    composite("headers as a list", {"wm_headers": ["a"]}, 200, {"wm_headers": ["a"]}),
    composite("a header that is a number", {"wm_headers": {"a": 1}}, 200, {"wm_headers": {"a": 1}}),
    composite("headers alone", {"wm_headers": {"X-A": "1"}}, 204, None, None),
    composite("a content type by header", {"wm_headers": {"Content-Type": "a/b"}, "result": "x"}, 200, b'"x"', "a/b"),
    composite("base64", {**BASE64, "result": "iVBORw=="}, 200, b"\x89PNG", "image/png"),
    composite("base64 of nothing", {**BASE64, "result": ""}, 200, b"", "image/png"),
    composite("an unknown control member", {"wm_other": 1}, 200, {"wm_other": 1}),
    Row(
        "headers of the answer",
        GIVE,
        gives({"wm_headers": {"X-A": "1", "Location": "/elsewhere", "Set-Cookie": "a=b"}, "wm_status_code": 302}),
        status=302,
        answers={"x-a": "1", "location": "/elsewhere", "set-cookie": "a=b"},
    ),
    Row(
        "framing is the server's",
        GIVE,
        gives({"wm_headers": {"Content-Length": "999", "Transfer-Encoding": "x", "Date": "never"}, "result": 1}),
        expected=b"1",
        answers={"content-length": "1", "transfer-encoding": None},
    ),
    *[
        Row(name, GIVE, gives(value), status=500, starts=text, answers={"content-type": "text/plain"})
        for name, value, text in (
            ("status 0", {"wm_status_code": 0}, "Invalid status code"),
            ("status 99", {"wm_status_code": 99}, "Invalid status code"),
            ("status 100", {"wm_status_code": 100, "result": 1}, "Invalid status code"),
            ("status 1000", {"wm_status_code": 1000}, "Invalid status code"),
            ("header name", {"wm_headers": {"a b": "1"}}, "Internal: Invalid header name"),
            ("header value", {"wm_headers": {"a": "1\r\nx: y"}}, "Internal: Invalid header value"),
            ("content type", {"wm_content_type": "a\nb"}, "Internal: Invalid content type"),
            ("bad base64", {**BASE64, "result": "!"}, "The result is not valid base64"),
            ("base64 of a number", {**BASE64, "result": 1}, "The result must be a string of base64"),
            ("base64 of null members", {**BASE64, "result": [None]}, "The result must be a string of base64"),
            (
                "another encoding",
                {**BASE64, "wm_content_transfer_encoding": "7bit"},
                "Invalid content transfer encoding",
            ),
            (
                "an encoding without a type",
                {"wm_content_transfer_encoding": "base64"},
                "A content transfer encoding needs",
            ),
        )
    ],
    Row("a failed job", FAIL, expected=ANY, answers={"content-type": "application/json"}),
    Row(
        "a failed job says its status",
        "/jobs/run_wait_result/p/u/test/failing_give",
        gives({"wm_status_code": 409, "result": "why", "wm_content_type": "text/plain"}),
        status=409,
        expected=b"why",
    ),
    Row(
        "a failed job with its headers only",
        "/jobs/run_wait_result/p/u/test/failing_give",
        gives({"wm_headers": {"X-A": "1"}, "result": 1}),
        status=200,
        expected=1,
        answers={"x-a": "1"},
    ),
]

WANTS_CBOR = {**JSON, "Accept": "application/cbor"}
NEGOTIATION = [
    Row("CBOR", "/jobs/run_wait_result/p/u/test/binary", headers=WANTS_CBOR,
        expected=cbor2.dumps({"data": b"\x00\xff", "deep": [{"x": b"y"}], "n": 1}),
        answers={"content-type": "application/cbor"}),
    Row("JSON of the same", "/jobs/run_wait_result/p/u/test/binary", headers=JSON,
        expected={"data": "AP8=", "deep": [{"x": "eQ=="}], "n": 1}),
    Row("JSON weighs more", headers={**JSON, "Accept": "application/cbor;q=0.5, application/json"},
        answers={"content-type": "application/json"}),
    Row("CBOR weighs more", headers={**JSON, "Accept": "application/cbor, application/json;q=0.5"},
        answers={"content-type": "application/cbor"}),
    Row("CBOR not wanted", headers={**JSON, "Accept": "application/cbor;q=0"}, answers={"content-type": "application/json"}),
    Row("anything", headers={**JSON, "Accept": "*/*"}, answers={"content-type": "application/json"}),
    Row("composite CBOR", GIVE, gives({"wm_status_code": 201, "result": [1]}), WANTS_CBOR, status=201,
        expected=cbor2.dumps([1]), answers={"content-type": "application/cbor"}),
    Row("own type wins over CBOR", GIVE, gives({"wm_content_type": "a/b", "result": "x"}), WANTS_CBOR, expected=b"x",
        answers={"content-type": "a/b"}),
    Row("errors stay text", SYNC, b"{", WANTS_CBOR, status=400, starts="Bad request: invalid json"),
    Row("problem documents", SYNC, b"{", {**JSON, "Accept": "application/problem+json"}, status=400,
        answers={"content-type": "application/problem+json"}),
]  # fmt: skip

EVENT_BODY = {"kind": "webhook", "raw_string": None}
PREPROCESSORS = [
    Row("skipped", PRE + "?skip_preprocessor=true", b'{"event":1}', expected=1),
    Row("old style, skipped", OLD + "?skip_preprocessor=true", b'{"a":1}', expected={"a": 1}),
    Row("bytes", "/jobs/run_wait_result/p/u/test/pre_bytes", cbor2.dumps({"data": b"x"}), CBOR, expected="eCE="),
    Row(
        "false is false",
        PRE + "?skip_preprocessor=no",
        status=400,
        starts="Bad request: skip_preprocessor: send true or",
    ),
]

CORS = {"access-control-allow-origin": "*"}
NO_CORS = {"access-control-allow-origin": None}
PREFLIGHT = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET,POST",
    "access-control-allow-headers": "content-type,authorization",
}
HEADS = [SYNC, ASYNC, "/jobs/run/h/0000000000000001", "/jobs/run_wait_result/h/0000000000000001"]
ADDRESSES = [
    Row("async", ASYNC, status=201, answers={"content-type": "text/plain; charset=utf-8", **CORS}),
    Row("one more slash", "/jobs/run_wait_result/p//u/test/echo", b'{"a":1}', expected={"a": 1}),
    Row("two more slashes", "/jobs/run_wait_result/p///u/test/echo", status=404),
    Row("bash", "/jobs/run_wait_result/p/f/team/greet", b'{"name":"Ada"}', expected="hello Ada"),
    Row("unknown script", "/jobs/run_wait_result/p/u/test/none", status=404,
        starts="Not found: script not found at name u/test/none", answers=CORS),
    Row("unknown script, async", "/jobs/run/p/u/test/none", status=404),
    Row("the kind is part of the path", "/jobs/run_wait_result/u/test/echo", status=404),
    Row("no GET for async", ASYNC, None, {}, "GET", status=405),
    Row("no GET by hash", "/jobs/run_wait_result/h/0000000000000001", None, {}, "GET", status=405),
    Row("unknown hash", "/jobs/run_wait_result/h/0000000000000001", status=404, starts="Not found: script not found at name 1"),
    Row("a hash that is none", "/jobs/run/h/xyz", status=400, starts="Bad request: hash must be 16 hex digits"),
    Row("PUT", SYNC, status=405, method="PUT"),
    *[Row(f"HEAD {path}", path, None, {}, "HEAD", expected=b"", answers=CORS) for path in HEADS],
    *[Row(f"HEAD {path} wants a token", path, None, {}, "HEAD", status=401, has_token=False) for path in HEADS],
    Row("HEAD of a restart", f"/jobs/restart/f/{ID}01", None, {}, "HEAD", expected=b""),
    Row("HEAD looks nothing up", "/jobs/run_wait_result/p/u/test/none", None, {}, "HEAD", expected=b""),
    *[Row(f"OPTIONS {path}", path, None, {}, "OPTIONS", expected=b"", answers=PREFLIGHT, has_token=False) for path in HEADS],
    Row("OPTIONS below jobs_u", f"/jobs_u/get/{ID}01", None, {}, "OPTIONS", answers=PREFLIGHT, has_token=False),
    Row("OPTIONS of a result", f"/jobs/completed/get_result/{ID}01", None, {}, "OPTIONS", answers=PREFLIGHT, has_token=False),
    Row("OPTIONS of a step's result", f"/jobs/result_by_id/{ID}01/a", None, {}, "OPTIONS", answers=PREFLIGHT, has_token=False),
    Row("no CORS for lists", "/jobs/list", None, {}, "OPTIONS", status=204, answers=NO_CORS, has_token=False),
    Row("no CORS for previews", "/jobs/run/preview", None, {}, "OPTIONS", status=204, answers=NO_CORS, has_token=False),
    Row("no handshake elsewhere", "/jobs/list", None, {"Webhook-Request-Origin": "x"}, "OPTIONS", status=204,
        answers={"webhook-allowed-origin": None}, has_token=False),
    Row("OPTIONS of nothing", "/jobs/nothing", None, {}, "OPTIONS", status=404, has_token=False),
    Row("any origin may read an error", SYNC, b"{", status=400, answers=CORS),
    Row("any origin may read that it may not", SYNC, None, {}, "DELETE", status=405, answers=CORS),
    Row("any origin may read that it cannot be fetched", ASYNC, None, {}, "GET", status=405, answers=CORS),
    Row("any origin may read that a path is malformed", SYNC + "%zz", status=400, answers=CORS),
    Row("but not that a list takes no such method", "/jobs/list", None, {}, "DELETE", status=405, answers=NO_CORS),
    Row("any origin may read that there was no token", SYNC, status=401, answers=CORS, has_token=False),
    Row("a script says who may read", GIVE, gives({"wm_headers": {"Access-Control-Allow-Origin": "https://a"}, "result": 1}),
        answers={"access-control-allow-origin": "https://a"}),
    Row("a token in the query", SYNC + "?token=wrong", status=401, has_token=False, starts="Not authorized: Unauthorized"),
]  # fmt: skip

OPTIONS = [
    Row("parent and root", f"{ASYNC}?parent_job={ID}01&root_job={ID}02", status=201),
    Row("an empty parent", SYNC + "?parent_job=", expected={}),
    Row("a tag", SYNC + "?tag=special", expected={}),
    Row("an empty tag", SYNC + "?tag=", expected={}),
    Row("scheduled sync runs at once", SYNC + "?scheduled_in_secs=3600", expected={}),
    Row("scheduled in the past", ASYNC + "?scheduled_in_secs=-5", status=201),
    Row("scheduled for", ASYNC + "?scheduled_for=2099-01-01T00:00:00Z", status=201),
    Row("invisible", SYNC + "?invisible_to_owner=true", expected={}),
    Row("a queue limit that is not reached", SYNC + "?queue_limit=100", expected={}),
    Row("cache_ttl by path is not looked at", SYNC + "?cache_ttl=60&cache_ignore_s3_path=true", expected={}),
    Row("timeout of a deployed script is not looked at", SYNC + "?timeout=1", expected={}),
    Row("unknown parameters", SYNC + "?memory_id=x&suspended_mode=y&z", expected={}),
    *[
        Row(f"bad {query}", f"{path}?{query}", status=400, starts=f"Bad request: {query.partition('=')[0]}: ")
        for path in (SYNC, ASYNC)
        for query in (
            "job_id=7",
            "parent_job=x",
            "root_job=x",
            "scheduled_for=tomorrow",
            "scheduled_in_secs=soon",
            "timeout=0",
            "cache_ttl=-1",
            "queue_limit=x",
            "raw=1",
            "raw=",
            "raw=TRUE",
            "wrap_body=yes",
            "invisible_to_owner=1",
            "cache_ignore_s3_path=x",
            "skip_preprocessor=",
        )
    ],
    *[
        Row(f"twice {name}", f"{SYNC}?{name}=true&{name}=true", status=400, starts=f"Bad request: {name}: give it once")
        for name in CONTROL
    ],
]

BAD = [
    Row("no JSON", body=b"{", status=400, starts="Bad request: invalid json: "),
    Row("more than JSON", body=b"{}x", status=400, starts="Bad request: invalid json: "),
    Row(
        "nothing",
        body=b"",
        status=400,
        starts="Bad request: invalid json: EOF while parsing a value at line 1 column 0",
    ),
    Row("not UTF-8", body=b'"\xff"', status=400, starts="Bad request: invalid utf8: "),
    Row("half a surrogate", body=b'"\\ud800"', status=400, starts="Bad request: invalid json: "),
    Row("NaN", body=b"NaN", status=400, starts="Bad request: invalid json: "),
    Row("a depth bomb", body=b"[" * 100_000, status=400, starts="Bad request: invalid json: "),
    Row("1025 levels", body=b"[" * 1025 + b"]" * 1025, status=400, starts="Bad request: invalid json: "),
    Row("text that is not UTF-8", SYNC, b"\xff", TEXT, status=400, starts="Bad request: invalid utf8: "),
    Row("form that is not UTF-8", SYNC, b"a=%FF", FORM, status=400, starts="Bad request: invalid urlencoded data: "),
    Row(
        "form with too many fields",
        SYNC,
        b"a&" * 10_001,
        FORM,
        status=400,
        starts="Bad request: invalid urlencoded data: ",
    ),
    Row("raw of what is not UTF-8", SYNC + "?raw=true", b'"\xff"', status=400, starts="Bad request: invalid utf8: "),
    Row("query that is not UTF-8", SYNC + "?a=%FF", status=400, starts="Bad request: the query is not percent-encoded"),
    *[
        Row(f"payload {payload}", f"{SYNC}?payload={payload}", None, {}, "GET", status=400, starts=text)
        for payload, text in (
            ("%21", "Bad request: payload: not base64"),
            ("e30+", "Bad request: payload: not base64"),
            ("e", "Bad request: payload: not base64"),
            (b64([1]), "Bad request: payload: the JSON inside must be an object"),
            (b64("x"), "Bad request: payload: the JSON inside must be an object"),
            ("ew", "Bad request: payload: invalid json"),
            ("_w", "Bad request: payload: the text inside the base64 is not UTF-8"),
            ("", "Bad request: payload: invalid json"),
        )
    ],
]

ROWS = [
    *(("documented", row) for row in DOCUMENTED),
    *(("cbor", row) for row in CBOR_ROWS),
    *(("events", row) for row in CLOUD_ROWS),
    *(("composite", row) for row in COMPOSITE),
    *(("negotiation", row) for row in NEGOTIATION),
    *(("preprocessors", row) for row in PREPROCESSORS),
    *(("addresses", row) for row in ADDRESSES),
    *(("options", row) for row in OPTIONS),
    *(("bad", row) for row in BAD),
]


def test_there_are_enough_rows() -> None:
    assert len(ROWS) >= 200
    assert len({(kind, row.name, row.path) for kind, row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=[f"{kind}: {row.name}" for kind, row in ROWS])
def test_row(client: Client, kind: str, row: Row) -> None:
    caller = client if row.has_token else client.with_token("")
    check(row, caller.call(row.method, row.path, row.body, row.headers))
