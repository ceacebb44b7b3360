"""From a request to arguments: the documented table, and whatever bytes come, arguments or a 4xx, nothing else."""

from __future__ import annotations

import base64
import datetime
import json
import re
from typing import Any
from urllib.parse import quote, quote_plus, urlencode
from uuid import UUID

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.child import values
from minwebhook.errors import ApiError, BadRequest, UnsupportedMediaType
from minwebhook.http.messages import Headers
from minwebhook.webhooks.arguments import (
    METADATA,
    Arguments,
    Layout,
    decode_payload,
    form_arguments,
    get_arguments,
    post_arguments,
)
from minwebhook.webhooks.query import CONTROL, MAX_PAIRS, Query, RunOptions

STRUCTURED = "application/cloudevents+json"
JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"


def plain(made: Arguments) -> Any:
    """The arguments as a script gets them."""
    return values.restore(json.loads(made.text), json.loads(made.mask) if made.mask else None)


def post(body: bytes, content_type: str | None = JSON, query: str = "", **headers: str) -> Any:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if content_type is not None:
        fields.append(("content-type", content_type))
    return plain(post_arguments(Headers(fields), body, Query(query)))


def get(query: str = "", **headers: str) -> Any:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return plain(get_arguments(Headers(fields), Query(query)))


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
        ("include_query=token&token=t", {}),
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
    assert plain(made) == {"x_a": "first", "x_b": "", "x_c": "a\tb"}


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


content_types = (
    st.none()
    | st.sampled_from((JSON, FORM, TEXT, "text/xml", "", "x/y", "application/cbor", "application/cbor-seq", STRUCTURED))
    | st.sampled_from(("multipart/form-data", "multipart/form-data; boundary=b"))
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
bodies = (
    st.binary(max_size=200)
    | st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | json_values.map(cbor2.dumps)
    | json_values.map(lambda value: json.dumps(value).encode())
)


layouts = st.sampled_from(Layout)


@given(content_types, bodies, queries, st.text(st.characters(codec="latin-1")), layouts)
@example(JSON, b"[" * 100_000, "", "", Layout.PLAIN)
@example(JSON, b'{"a":' * 2000 + b"1" + b"}" * 2000, "", "", Layout.EVENT)
@example(JSON, b'{"a":' * 1020 + b"1" + b"}" * 1020, "include_query=a&a=1", "", Layout.PLAIN)
@example("application/cloudevents+json", b'{"data":' * 1020 + b"1" + b"}" * 1020, "raw=true", "", Layout.PLAIN)
@example(JSON, b'"\\ud800"', "", "", Layout.PLAIN)
@example(JSON, b"1e999", "", "", Layout.PLAIN)
@example(JSON, b"-", "", "", Layout.PLAIN)
@example(FORM, b"&".join([b"a"] * 20_000), "", "", Layout.PLAIN)
@example(FORM, "\ud800".encode("utf-8", "surrogatepass"), "", "", Layout.PLAIN)
@example("x/y", b"NaN", "wrap_body=true", "", Layout.PLAIN)
@example("application/cbor", b"\x81" * 100_000, "", "", Layout.PLAIN)
@example("application/cbor", b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "", "", Layout.PLAIN)
@example("application/cbor", b"\xc2\x5a\x00\x01\x00\x00" + b"\xff" * 65536, "", "", Layout.PLAIN)
def test_any_request_gives_an_object_or_a_4xx(
    content_type: str | None, body: bytes, query: str, header: str, layout: Layout
) -> None:
    fields = [("x-a", header), ("ce-specversion", "1"), ("ce-id", header), ("ce-source", "s"), ("ce-type", "t")]
    fields += [("content-type", content_type)] if content_type is not None else []
    for method in ("POST", "GET"):
        try:
            parsed, seen = Query(query), Headers(fields)
            if method == "POST":
                made = post_arguments(seen, body, parsed, layout=layout)
            else:
                made = get_arguments(seen, parsed, layout=layout)
        except ApiError as error:
            assert 400 <= error.status < 500
            assert error.detail
        else:
            assert isinstance(plain(made), dict)


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


@pytest.mark.parametrize("name", CONTROL)
def test_control_parameters_are_given_once(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name}: give it once"):
        Query(f"{name}=a&x=1&{name}=a")


# --- CBOR -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "query", "expected"),
    [
        ({"a": 1, "b": b"\x00\xff"}, "", {"a": 1, "b": b"\x00\xff"}),
        ({"a": [{"b": [b"x", "y"]}]}, "", {"a": [{"b": [b"x", "y"]}]}),
        (b"x", "", {"body": b"x"}),
        ([b"x"], "", {"body": [b"x"]}),
        (None, "", {"body": None}),
        ({}, "", {}),
        ({"a": b"x"}, "wrap_body=true", {"body": {"a": b"x"}}),
        ({"a": b"x"}, "include_query=a&a=q", {"a": "q"}),
        ({"a": b"x", "b": b"y"}, "include_query=a&a=q", {"a": "q", "b": b"y"}),
        ({"a": 1}, "raw=true", {"a": 1, "raw_string": cbor2.dumps({"a": 1})}),
        ({"raw_string": b"x"}, "raw=true", {"raw_string": cbor2.dumps({"raw_string": b"x"})}),
        ({"n": 10**30, "f": 1.5, "t": True}, "", {"n": 10**30, "f": 1.5, "t": True}),
        ({"n": 10**30}, "include_query=q&q=1", {"n": 10**30, "q": "1"}),
        ({"when": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)}, "", {"when": "2024-01-02T00:00:00Z"}),
        ({"a": cbor2.undefined}, "", {"a": None}),
    ],
)
def test_cbor(value: Any, query: str, expected: Any) -> None:
    assert post(cbor2.dumps(value), "application/cbor", query) == expected
    assert post(cbor2.dumps(value), "application/cbor; charset=binary", query) == expected


def test_bytes_are_base64_for_whoever_knows_only_json() -> None:
    made = post_arguments(Headers([("content-type", "application/cbor")]), cbor2.dumps({"a": [b"x"]}), Query(""))
    assert (made.text, made.mask) == (b'{"a":["eA=="]}', b'{"a":{"0":true}}')


def test_json_cannot_pose_as_bytes() -> None:
    assert (
        post_arguments(Headers([("content-type", JSON)]), b'{"a":{"0":true},"mask":{"a":true}}', Query("")).mask == b""
    )


def test_integers_are_as_large_as_json_parsers_take() -> None:
    assert post(cbor2.dumps({"n": 2**1023 - 1}), "application/cbor") == {"n": 2**1023 - 1}
    for value in (2**1023, 2**2000, -(2**2000), 2**20_000):
        with pytest.raises(BadRequest, match="an integer of more than 1023 bits"):
            post(cbor2.dumps({"n": value}), "application/cbor")


@pytest.mark.parametrize(
    "body",
    [
        b"\x9a\x00\x98\x96\x80" + b"\x80" * 1_000_000,
        b"\x9f" + b"\x60" * 1_000_000,
        b"\x5f" + b"\x40" * 1_000_000,
        b"\x9f" + b"\x19\x01\x00" * 1_000_000,
        b"\xc1" * 1_000_001,
    ],
)
def test_more_values_than_memory_has_room_for_are_refused_before_any_is_made(body: bytes) -> None:
    # None of these has an end, which is what a decoder would say.
    with pytest.raises(BadRequest, match="invalid cbor: more than 1000000 values"):
        post(body, "application/cbor")


def test_what_counts_are_values_and_not_bytes() -> None:
    data = {"data": b"\x80" * 3_000_000, "text": "a" * 2_000_000, "pieces": [b"x" * 300] * 5}
    assert post(cbor2.dumps(data), "application/cbor") == data


def test_a_sequence_of_cbor_items_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="send one item as application/cbor"):
        post(b"\x01\x02", "application/cbor-seq")


# --- multipart forms, once they have been read --------------------------------------------------------------------------

FILES = [{"s3": "windmill_uploads/upload_1_2.txt"}]


@pytest.mark.parametrize(
    ("form", "query", "expected"),
    [
        ({}, "", {}),
        ({"a": "1", "f": FILES}, "", {"a": "1", "f": FILES}),
        ({"a": "é"}, "raw=true", {"a": "é"}),
        ({"a": "1", "f": FILES}, "wrap_body=true", {"body": {"a": "1", "f": FILES}}),
        ({"a": "1"}, "include_query=a&a=q", {"a": "q"}),
        ({"f": FILES}, "include_header=X-A", {"f": FILES, "x_a": "h"}),
    ],
)
def test_a_form_is_an_object(form: dict[str, Any], query: str, expected: Any) -> None:
    headers = Headers([("content-type", "multipart/form-data; boundary=b"), ("x-a", "h")])
    assert plain(form_arguments(headers, form, Query(query))) == expected


def test_a_form_as_an_event() -> None:
    headers = Headers([("content-type", "multipart/form-data; boundary=b")])
    event = plain(form_arguments(headers, {"a": "1", "f": FILES}, Query("raw=true"), layout=Layout.EVENT))["event"]
    assert (event["body"], event["raw_string"]) == ({"a": "1", "f": FILES}, None)


# --- CloudEvents ------------------------------------------------------------------------------------------------------

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("event", "query", "expected"),
    [
        ({**EVENT, "data": {"a": 1}}, "", {"a": 1, METADATA: EVENT}),
        ({**EVENT, "data": [1]}, "", {"body": [1], METADATA: EVENT}),
        ({**EVENT, "data": 5}, "", {"body": 5, METADATA: EVENT}),
        (EVENT, "", {"body": None, METADATA: EVENT}),
        ({**EVENT, "data": {METADATA: 1}}, "", {METADATA: EVENT}),
        ({**EVENT, "data": {"a": 1}}, "wrap_body=true", {"body": {"a": 1, METADATA: EVENT}}),
        ({**EVENT, "data": {}, "more": 10**30}, "", {METADATA: {**EVENT, "more": 10**30}}),
        ({}, "", {"body": None, METADATA: {}}),
    ],
)
def test_structured_cloud_events(event: Any, query: str, expected: Any) -> None:
    assert post(json.dumps(event).encode(), STRUCTURED + "; charset=utf-8", query) == expected


def test_structured_cloud_events_with_their_raw_text() -> None:
    body = b'{"id": "1", "data": {"a": 1}}'
    assert post(body, STRUCTURED, "raw=true") == {"a": 1, METADATA: {"id": "1"}, "raw_string": body.decode()}


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (STRUCTURED, b"[]", "invalid cloudevents\\+json: the envelope must be an object"),
        (STRUCTURED, b"{", "invalid cloudevents\\+json: invalid json"),
        (STRUCTURED, b"", "invalid cloudevents\\+json: invalid json: EOF"),
        ("application/cloudevents-batch+json", b"[]", "Cloud events batching is not supported yet"),
    ],
)
def test_cloud_events_that_are_refused(content_type: str, body: bytes, text: str) -> None:
    with pytest.raises(BadRequest, match=text):
        post(body, content_type)


BINARY = {"ce_id": "1", "ce_source": "/s", "ce_type": "t", "ce_specversion": "1.0", "ce_subject": "a%20b%E2%82%AC"}
ATTRIBUTES = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0", "subject": "a b€"}


@pytest.mark.parametrize(
    ("content_type", "body", "query", "expected"),
    [
        (JSON, b'{"a":1}', "", {"a": 1, METADATA: {**ATTRIBUTES, "datacontenttype": JSON}}),
        (JSON, b"[1]", "", {"body": [1], METADATA: {**ATTRIBUTES, "datacontenttype": JSON}}),
        (TEXT, b"hi", "", {"raw_string": "hi", METADATA: {**ATTRIBUTES, "datacontenttype": TEXT}}),
        (None, b"", "", {METADATA: ATTRIBUTES}),
        (None, b'{"a":1}', "wrap_body=true", {"body": {"a": 1, METADATA: ATTRIBUTES}}),
    ],
)
def test_cloud_events_in_binary_mode(content_type: str | None, body: bytes, query: str, expected: Any) -> None:
    assert post(body, content_type, query, **BINARY) == expected
    lacking = {name: value for name, value in BINARY.items() if name != "ce_type"}
    assert METADATA not in str(post(body, content_type, query, **lacking))


# --- preprocessors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "layout"),
    [
        (None, Layout.PLAIN),
        ((), Layout.EVENT),
        (("event",), Layout.EVENT),
        (("event", "other"), Layout.EVENT),
        (("wm_trigger",), Layout.SPREAD),
        (("event", "wm_trigger"), Layout.SPREAD),
        (("a", "b"), Layout.SPREAD),
    ],
)
def test_what_a_preprocessor_wants(parameters: tuple[str, ...] | None, layout: Layout) -> None:
    assert Layout.of(parameters) is layout


HEADERS = [("content-type", JSON), ("x-sign", "1"), ("x-sign", "2"), ("authorization", "Bearer t")]
SHOWN = {"content-type": JSON, "x-sign": "2", "authorization": "Bearer [hidden]"}


@pytest.mark.parametrize(
    ("body", "query", "shown", "raw_string"),
    [
        (b'{"a":1}', "", {"a": 1}, None),
        (b"[1]", "", [1], None),
        (b'{"a":1}', "wrap_body=true&include_header=x-sign&include_query=wrap_body", {"a": 1}, None),
        (b'{"a": 1}', "raw=true&token=t&a=1&a=2", {"a": 1}, '{"a": 1}'),
    ],
)
def test_the_event_is_the_whole_request(body: bytes, query: str, shown: Any, raw_string: Any) -> None:
    made = plain(post_arguments(Headers(HEADERS), body, Query(query), layout=Layout.EVENT, include_headers=("x-sign",)))
    event = {"kind": "webhook", "body": shown, "raw_string": raw_string, "headers": SHOWN}
    kept = {name: value for name, value in Query(query).last_values().items() if name != "token"}
    assert made == {"event": {**event, "query": kept}}


def test_the_event_of_other_bodies() -> None:
    def event(content_type: str, body: bytes, query: str = "") -> Any:
        made = post_arguments(Headers([("content-type", content_type)]), body, Query(query), layout=Layout.EVENT)
        return plain(made)["event"]

    assert (event(TEXT, b"hi")["body"], event(TEXT, b"hi")["raw_string"]) == ({}, "hi")
    assert event(FORM, b"a=1")["body"] == {"a": "1"}
    assert event("application/cbor", cbor2.dumps([b"x"]))["body"] == [b"x"]
    assert event("application/cbor", cbor2.dumps(1), "raw=true")["raw_string"] == b"\x01"
    got = plain(get_arguments(Headers([("x", "1")]), Query("payload=e30"), layout=Layout.EVENT))["event"]
    assert got == {
        "kind": "webhook",
        "body": {},
        "raw_string": None,
        "headers": {"x": "1"},
        "query": {"payload": "e30"},
    }


def test_the_old_kind_of_preprocessor_gets_everything_spread_out() -> None:
    query = Query("include_header=X-Sign&q=1&raw=true")
    assert plain(post_arguments(Headers(HEADERS), b'{"a":1,"q":"lost"}', query, layout=Layout.SPREAD)) == {
        "a": 1,
        **SHOWN,
        "include_header": "X-Sign",
        "q": "1",
        "raw": "true",
        "wm_trigger": {"kind": "webhook"},
        "x_sign": "1",
        "raw_string": '{"a":1,"q":"lost"}',
    }


def test_headers_that_every_run_includes() -> None:
    headers = Headers([("content-type", JSON), ("x-a", "1"), ("x-b", "2")])
    made = post_arguments(headers, b"{}", Query("include_header=X-A"), include_headers=("X-B", "X-C"))
    assert plain(made) == {"x_a": "1", "x_b": "2"}
    assert plain(get_arguments(headers, Query(""), include_headers=("X-B",))) == {"x_b": "2"}


# --- run options ------------------------------------------------------------------------------------------------------

ID = "01890000-0000-7000-8000-000000000001"


def test_run_options() -> None:
    query = Query(
        f"job_id={ID}&parent_job={ID}&root_job={ID}&tag=t&timeout=5&scheduled_for=2030-01-01T00:00:00%2B01:00"
        "&scheduled_in_secs=-1&cache_ttl=0&skip_preprocessor=true&invisible_to_owner=true&queue_limit=0&more=1"
    )
    assert RunOptions.parse(query) == RunOptions(
        UUID(ID), UUID(ID), UUID(ID), "t", 5, 1893452400000, -1, 0, True, True, 0
    )
    assert RunOptions.parse(query).scheduled_ms(0) == 1893452400000
    assert RunOptions.parse(Query("scheduled_in_secs=2")).scheduled_ms(1000) == 3000
    assert RunOptions.parse(Query("parent_job=&tag=")) == RunOptions.parse(Query("")) == RunOptions()
    assert RunOptions().scheduled_ms(0) is None


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("job_id=7", "job_id: '7' is not a UUID"),
        ("job_id=", "job_id: '' is not a UUID"),
        ("parent_job={01890000-0000-7000-8000-000000000001}", "parent_job: "),
        ("root_job=x", "root_job: "),
        ("timeout=0", "timeout: send a whole number of seconds from 1 to"),
        ("timeout=1.5", "timeout: "),
        ("timeout=", "timeout: "),
        ("scheduled_for=tomorrow", "scheduled_for: send an RFC 3339 time"),
        ("scheduled_for=2030-01-01T00:00:00+01:00", "scheduled_for: send an RFC 3339 time"),
        ("scheduled_for=2030-02-30T00:00:00Z", "scheduled_for: "),
        ("scheduled_in_secs=1e3", "scheduled_in_secs: send a whole number of seconds"),
        ("scheduled_in_secs=99999999999999999999999", "scheduled_in_secs: "),
        ("cache_ttl=-1", "cache_ttl: send a whole number of seconds from 0"),
        ("cache_ignore_s3_path=1", "cache_ignore_s3_path: send true or false"),
        ("skip_preprocessor=yes", "skip_preprocessor: send true or false"),
        ("invisible_to_owner=", "invisible_to_owner: send true or false"),
        ("queue_limit=many", "queue_limit: send a whole number of jobs"),
        ("queue_limit=٣", "queue_limit: "),
        ("tag=" + "x" * 256, "tag: send at most 255 characters"),
        ("tag=%00", "tag: "),
    ],
)
def test_run_options_that_are_refused(query: str, text: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(text)):
        RunOptions.parse(Query(query))
