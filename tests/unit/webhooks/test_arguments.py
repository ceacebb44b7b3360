"""From a request to arguments: the documented table, and whatever bytes come, arguments or a 4xx, nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.errors import ApiError, BadRequest
from minwebhook.http.messages import Headers
from minwebhook.webhooks.arguments import decode_payload, get_arguments, post_arguments
from minwebhook.webhooks.query import MAX_PAIRS, Query
from minwebhook.webhooks.responses import sync_response

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"


def post(body: bytes, content_type: str | None = JSON, query: str = "", **headers: str) -> Any:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if content_type is not None:
        fields.append(("content-type", content_type))
    return json.loads(post_arguments(Headers(fields), body, Query(query)))


def get(query: str = "", **headers: str) -> Any:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return json.loads(get_arguments(Headers(fields), Query(query)))


@pytest.mark.parametrize(
    ("content_type", "body", "query", "expected"),
    [
        (None, b"", "", {}),
        (None, b"", "raw=true", {"raw_string": ""}),
        (None, b'{"a":1}', "", {"a": 1}),
        (None, b"7", "", {"body": 7}),
        (JSON, b'{"a":1,"a":2}', "", {"a": 2}),
        (JSON, b"{}", "", {}),
        (JSON, b"[]", "", {"body": []}),
        (JSON, b"true", "wrap_body=true", {"body": True}),
        (JSON, b'{"body":1}', "wrap_body=true", {"body": {"body": 1}}),
        (JSON, b"[1]", "raw=true", {"body": [1], "raw_string": "[1]"}),
        ("application/json; charset=utf-8", b"1", "", {"body": 1}),
        ("application/json-patch+json", b"[]", "", {"body": []}),
        (TEXT, b"", "", {"raw_string": ""}),
        (TEXT, b'{"a":1}', "", {"raw_string": '{"a":1}'}),
        ("text/plain; charset=utf-8", "é".encode(), "raw=true", {"raw_string": "é"}),
        ("text/xml", b"<a/>", "wrap_body=true", {"body": {}, "raw_string": "<a/>"}),
        ("application/xml", b"<a/>", "", {"raw_string": "<a/>"}),
        (FORM, b"", "", {}),
        (FORM, b"a=1&a=2&b&c=&d=%20+x", "", {"a": "2", "b": "", "c": "", "d": "  x"}),
        (FORM, b"a=1", "wrap_body=true&raw=true", {"body": {"a": "1"}, "raw_string": "a=1"}),
        (FORM, b"raw_string=x", "", {"raw_string": "x"}),
        ("", b'{"a":1}', "", {"a": 1}),
        ("image/png", b"\x89PNG", "", {"raw_string": "�PNG"}),
        ("image/png", b"", "", {"raw_string": ""}),
        ("image/png", b'{"raw_string":1,"b":2}', "", {"raw_string": '{"raw_string":1,"b":2}', "b": 2}),
        ("image/png", b"[1]", "", {"body": [1], "raw_string": "[1]"}),
        ("APPLICATION/JSON", b"{", "", {"raw_string": "{"}),
    ],
)
def test_post(content_type: str | None, body: bytes, query: str, expected: Any) -> None:
    assert post(body, content_type, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("include_header=X-Sign", {"x_sign": "abc"}),
        ("include_header=x-sign,X-SIGN,missing", {"x_sign": "abc"}),
        ("include_header=,", {}),
        ("include_header=", {}),
        ("include_header=X-Sign, X-Twice", {"x_sign": "abc"}),
        ("include_header=x_sign", {}),
        ("include_query=a,b&a=1&a=2", {"a": "2"}),
        ("include_query=A&a=1", {}),
        ("include_query=include_query", {"include_query": "include_query"}),
        ("include_query=token&token=t", {"token": "t"}),
        ("include_query=a&a=%C3%A9+%2B", {"a": "é +"}),
        ("include_query=a&a=", {"a": ""}),
        ("include_query=x_sign&x_sign=q&include_header=X-Sign", {"x_sign": "q"}),
        ("raw=true&include_query=raw_string&raw_string=q", {"raw_string": "{}"}),
    ],
)
def test_extra_arguments(query: str, expected: Any) -> None:
    assert post(b"{}", query=query, x_sign="abc") == expected


def test_headers_first_value_and_visible_ascii_only() -> None:
    headers = Headers([("x-a", "first"), ("x-a", "second"), ("x-b", "caf\xe9"), ("x-c", "a\tb")])
    made = post_arguments(headers, b"", Query("include_header=X-A,X-B,X-C"))
    assert json.loads(made) == {"x_a": "first", "x_b": "", "x_c": "a\tb"}


def encoded(value: Any) -> str:
    return quote(base64.b64encode(json.dumps(value).encode()).decode(), safe="")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("payload=" + encoded({"a": 1}), {"a": 1}),
        ("payload=e30", {}),
        ("payload=e30%3D", {}),
        ("payload=" + encoded({"a": 1}) + "&wrap_body=true", {"body": {"a": 1}}),
        ("wrap_body=true", {"body": {}}),
        ("raw=true", {"raw_string": ""}),
        ("payload=" + encoded({"a": 1}) + "&include_query=a&a=2", {"a": "2"}),
        ("include_query=payload&payload=e30%3D", {"payload": "e30="}),
    ],
)
def test_get(query: str, expected: Any) -> None:
    assert get(query, content_type=JSON) == expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=15,
)
json_objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=5)


@given(json_objects, st.booleans())
def test_any_object_goes_through_payload(value: Any, url_safe: bool) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(json.dumps(value).encode()).decode()
    assert decode_payload(text) == decode_payload(text.rstrip("="))
    assert json.loads(decode_payload(text)) == value
    assert get("payload=" + quote(text, safe="")) == value


@given(json_values, st.sampled_from(["", "raw=true", "wrap_body=true", "raw=true&wrap_body=true"]))
def test_any_json_body(value: Any, query: str) -> None:
    body = json.dumps(value).encode()
    is_object = isinstance(value, dict)
    expected = {"body": value} if not is_object or "wrap" in query else dict(value)
    if "raw" in query:
        expected["raw_string"] = body.decode()
    assert post(body, query=query) == expected


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_any_form(fields: dict[str, str]) -> None:
    assert post(urlencode(fields).encode(), FORM) == fields


INTEGERS = [
    (post, (b"[12345678901234567890123]",), {"body": [12345678901234567890123]}),
    (post, (b'{"a":12345678901234567890123}', JSON, "raw=true"), None),
    (post, (b'{"a":12345678901234567890123}', JSON, "wrap_body=true"), {"body": {"a": 12345678901234567890123}}),
    (get, ("payload=" + encoded({"a": 12345678901234567890123}),), {"a": 12345678901234567890123}),
]


def test_large_integers_keep_their_digits_in_a_plain_object() -> None:
    assert post(b'{"a":12345678901234567890123}') == {"a": 12345678901234567890123}


@pytest.mark.parametrize(("call", "arguments", "expected"), INTEGERS, ids=["array", "raw", "wrap", "payload"])
def test_large_integers_keep_their_digits(call: Any, arguments: tuple[Any, ...], expected: Any) -> None:
    made = call(*arguments)
    made.pop("raw_string", None)
    assert made == (expected or {"a": 12345678901234567890123})


content_types = st.sampled_from(
    [None, JSON, FORM, TEXT, "text/xml", "", "x/y", "multipart/form-data", "application/cbor"]
)
pieces = st.sampled_from(
    [
        "raw=true",
        "raw=x",
        "wrap_body=true",
        "include_header=x-a,",
        "include_query=a,b",
        "a=%FF",
        "a=1",
        "payload=e30",
        "%",
    ]
)
queries = st.lists(pieces, max_size=4).map("&".join) | st.text(st.characters(codec="latin-1"), max_size=30)
bodies = st.binary(max_size=200) | st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(content_types, bodies, queries, st.text(st.characters(codec="latin-1")))
@example(JSON, b"[" * 100_000, "", "")
@example(JSON, b'{"a":' * 2000 + b"1" + b"}" * 2000, "", "")
@example(JSON, b'"\\ud800"', "", "")
@example(JSON, b"1e999", "", "")
@example(JSON, b"-", "", "")
@example(FORM, b"&".join([b"a"] * 20_000), "", "")
@example(FORM, "\ud800".encode("utf-8", "surrogatepass"), "", "")
@example("x/y", b"NaN", "wrap_body=true", "")
def test_any_request_gives_an_object_or_a_4xx(content_type: str | None, body: bytes, query: str, header: str) -> None:
    fields = [("x-a", header)] + ([("content-type", content_type)] if content_type is not None else [])
    for method in ("POST", "GET"):
        try:
            parsed, seen = Query(query), Headers(fields)
            made = post_arguments(seen, body, parsed) if method == "POST" else get_arguments(seen, parsed)
        except ApiError as error:
            assert 400 <= error.status < 500
            assert error.detail
        else:
            assert isinstance(json.loads(made), dict)


@given(st.text())
def test_any_payload_is_an_object_or_a_bad_request(payload: str) -> None:
    try:
        assert isinstance(decode_payload(payload), dict)
    except BadRequest as error:
        assert error.detail.startswith("payload: ")


names = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(names.filter(lambda name: name not in ("raw", "token")), names), max_size=10))
def test_queries_are_decoded(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    try:
        query = Query(raw)
    except BadRequest as error:
        assert "give it once" in error.detail
        return
    assert query.last_values() == dict(pairs)


def test_more_parameters_than_anyone_sends() -> None:
    assert Query("&".join(["a=1"] * MAX_PAIRS)).get("a") == "1"
    with pytest.raises(BadRequest, match="more than"):
        Query("&".join(["a=1"] * (MAX_PAIRS + 1)))


@pytest.mark.parametrize("name", ["raw", "wrap_body", "include_header", "include_query", "payload", "job_id", "token"])
def test_control_parameters_are_given_once(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name}: give it once"):
        Query(f"{name}=a&x=1&{name}=a")


@pytest.mark.parametrize(
    ("is_success", "failure_status", "status"), [(True, 422, 200), (False, 200, 200), (False, 422, 422)]
)
def test_the_answer_is_the_result_as_it_is(is_success: bool, failure_status: int, status: int) -> None:
    answer = sync_response(b'{"b": 1.0}', is_success=is_success, failure_status=failure_status)
    assert (answer.status, answer.body, answer.content_type) == (status, b'{"b": 1.0}', "application/json")
