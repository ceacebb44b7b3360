"""From a request to the arguments of a script, as the text of a JSON object. Pure.

Two steps. The body is decoded by its content type into one value, and perhaps a ``raw_string``. Then it is laid out:

- without a preprocessor an object's members are the arguments, another value is the argument ``body``; chosen headers,
  then chosen query values, then ``raw_string`` are added and win over members of the same name;
- a preprocessor gets the whole request as its one argument ``event``, or spread out if its signature is the old one.

A body that needs nothing added is handed on as it came, checked but not encoded again. Nesting is bounded by the parsers
(JSON 1024 levels, CBOR 128), size by the caller.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import orjson

from minwebhook.child import values
from minwebhook.errors import BadRequest, UnsupportedMediaType
from minwebhook.http.codecs import CBOR, FORM, decode_cbor, decode_json, decode_text, json_text, with_members
from minwebhook.http.messages import Headers
from minwebhook.observability.redaction import kept_header, kept_query
from minwebhook.webhooks.query import BodyOptions, Query

_NO_ARGUMENTS: Final = b"{}"
_TEXT_TYPES: Final = ("text/plain", "application/xml", "text/xml")
_MAX_FORM_FIELDS: Final = 10_000
#: The argument with the attributes of a CloudEvent (upstream's name).
METADATA: Final = "WEBHOOK__METADATA__"
#: A request is a CloudEvent in binary mode if it has these (CloudEvents HTTP binding 1.0.2, section 3.1).
_EVENT_FIELDS: Final = ("ce-specversion", "ce-id", "ce-source", "ce-type")


class Layout(enum.Enum):
    """Who gets the arguments."""

    #: ``main``.
    PLAIN = "plain"
    #: A preprocessor with the parameter ``event``.
    EVENT = "event"
    #: A preprocessor of the old kind: arguments as ``main`` would get them, all headers and query values, ``wm_trigger``.
    SPREAD = "spread"

    @classmethod
    def of(cls, preprocessor: tuple[str, ...] | None) -> Layout:
        """The layout for a preprocessor with these parameters; None for no preprocessor."""
        if preprocessor is None:
            return cls.PLAIN
        if "wm_trigger" in preprocessor or (preprocessor and "event" not in preprocessor):
            return cls.SPREAD
        return cls.EVENT


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class Arguments:
    """The text of a JSON object, and the mask of its byte strings as JSON text (child/values.py); b"" for none."""

    text: bytes
    mask: bytes = b""


@dataclass(slots=True)
class _Body:
    """A decoded body."""

    #: JSON text.
    text: bytes
    #: What it means, to look at: large integers have lost digits.
    value: Any
    #: JSON text of ``raw_string``, if the content type makes one or the caller wants it.
    raw_string: bytes | None = None
    mask: values.Mask = None
    #: Whether ``raw_string`` stands for bytes.
    is_raw_binary: bool = False


def post_arguments(
    headers: Headers,
    body: bytes,
    query: Query,
    *,
    layout: Layout = Layout.PLAIN,
    include_headers: tuple[str, ...] = (),
) -> Arguments:
    """The arguments of a POST. Raises :class:`BadRequest` that says what is wrong with the body or a parameter.

    ``include_headers`` are added to those that the request names. Multipart forms are for :func:`form_arguments`.
    """
    options = BodyOptions.parse(query)
    decoded = _decode(headers, body, raw=options.raw, layout=layout)
    return _lay_out(decoded, headers, query, options, layout, include_headers)


def form_arguments(
    headers: Headers,
    form: Mapping[str, Any],
    query: Query,
    *,
    layout: Layout = Layout.PLAIN,
    include_headers: tuple[str, ...] = (),
) -> Arguments:
    """The arguments of a POST whose multipart form has been read: texts, and lists of S3 objects. There is no raw text."""
    options = BodyOptions.parse(query)
    decoded = _Body(json_text(form), dict(form))
    _add_attributes(decoded, headers, layout)
    return _lay_out(decoded, headers, query, options, layout, include_headers)


def get_arguments(
    headers: Headers, query: Query, *, layout: Layout = Layout.PLAIN, include_headers: tuple[str, ...] = ()
) -> Arguments:
    """The arguments of a GET: the ``payload`` parameter; a body is not looked at."""
    options = BodyOptions.parse(query)
    payload = query.get("payload")
    text = _NO_ARGUMENTS if payload is None else decode_payload(payload)
    decoded = _Body(text, orjson.loads(text), b'""' if options.raw else None)
    return _lay_out(decoded, headers, query, options, layout, include_headers)


def decode_payload(payload: str) -> bytes:
    """The text of the JSON object in base64, standard or URL-safe, with or without padding. Raises :class:`BadRequest`."""
    data, value = decode_any_payload(payload)
    if not isinstance(value, dict):
        raise BadRequest("payload: the JSON inside must be an object with the arguments")
    return data


def decode_any_payload(payload: str) -> tuple[bytes, Any]:
    """As :func:`decode_payload`, for any JSON: the text and the value."""
    standard = payload.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(
            "payload: not base64; send JSON in base64, percent-encoded ('+' in a URL means a space)"
        ) from None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if not _is_utf8(data):
            raise BadRequest("payload: the text inside the base64 is not UTF-8") from None
        raise BadRequest(f"payload: invalid json: {error}") from None
    return data, value


# --- step 1: by content type ------------------------------------------------------------------------------------------


def _decode(headers: Headers, body: bytes, *, raw: bool, layout: Layout) -> _Body:
    content_type = headers.get("content-type") or ""
    if content_type.startswith("application/json") or (not content_type and body):
        decoded = _Body(body, decode_json(body))
    elif not content_type:
        decoded = _Body(_NO_ARGUMENTS, {})
    elif content_type.startswith(FORM):
        form = _form(body)
        decoded = _Body(orjson.dumps(form), form)
    elif content_type.startswith(_TEXT_TYPES):
        decoded = _Body(_NO_ARGUMENTS, {}, orjson.dumps(decode_text(body)))
    elif content_type.startswith("application/cloudevents+json"):
        decoded = _cloud_event(body)
    elif content_type.startswith("application/cloudevents-batch+json"):
        raise BadRequest("Cloud events batching is not supported yet")
    elif content_type.startswith(CBOR):
        decoded = _cbor(content_type, body, raw=raw)
    else:
        decoded = _any(body)
    if raw and decoded.raw_string is None:
        decoded.raw_string = orjson.dumps(decode_text(body))
    _add_attributes(decoded, headers, layout)
    return decoded


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(decode_text(body), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FORM_FIELDS)
    except UnicodeDecodeError:
        raise BadRequest("invalid urlencoded data: not percent-encoded UTF-8") from None
    except ValueError:
        raise BadRequest(f"invalid urlencoded data: more than {_MAX_FORM_FIELDS} fields") from None
    return dict(pairs)


def _any(body: bytes) -> _Body:
    """A type that is not known: JSON if it is JSON, and its text in any case."""
    raw_string = orjson.dumps(body.decode("utf-8", "replace"))
    try:
        return _Body(body, orjson.loads(body), raw_string)
    except orjson.JSONDecodeError:
        return _Body(_NO_ARGUMENTS, {}, raw_string)


def _cbor(content_type: str, body: bytes, *, raw: bool) -> _Body:
    if content_type.partition(";")[0].strip() != CBOR:
        raise UnsupportedMediaType(f"{content_type[:60]} is not read here; send one item as {CBOR}")
    text, value, mask = decode_cbor(body)
    raw_string = orjson.dumps(values.to_base64(body)) if raw else None
    return _Body(text, value, raw_string, mask, is_raw_binary=raw)


def _cloud_event(body: bytes) -> _Body:
    """Structured mode: the members of ``data`` are the body, the rest of the envelope is its member METADATA."""
    try:
        envelope = decode_json(body)
    except BadRequest as error:
        raise BadRequest(f"invalid cloudevents+json: {error.detail}") from None
    if not isinstance(envelope, dict):
        raise BadRequest("invalid cloudevents+json: the envelope must be an object")
    exact = values.loads(body)
    data = exact.pop("data", None)
    text = values.dumps(data if isinstance(data, dict) else {"body": data}).encode()
    decoded = _Body(text, data if isinstance(data, dict) else {"body": data})
    _add(decoded, METADATA, values.dumps(exact).encode())
    return decoded


def _add_attributes(body: _Body, headers: Headers, layout: Layout) -> None:
    """Binary mode: the body is the data, the attributes are header fields, percent-encoded."""
    # A preprocessor's event has all headers anyway.
    if layout is Layout.EVENT or headers.get("ce-specversion") is None:  # nearly all: told without a look at the others
        return
    if any(headers.get(name) is None for name in _EVENT_FIELDS):
        return
    content_type = headers.get("content-type")
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if content_type:
        attributes["datacontenttype"] = content_type
    if not isinstance(body.value, dict):
        body.text, body.value, body.mask = _as_member(body)
    _add(body, METADATA, json_text(attributes))


def _add(body: _Body, name: str, text: bytes) -> None:
    """One more member of an object body."""
    body.text = with_members(body.text, body.value, {name: text})
    body.value = {**body.value, name: None}
    if body.mask:
        body.mask.pop(name, None)


def _as_member(body: _Body) -> tuple[bytes, dict[str, Any], values.Mask]:
    """The body as the one member ``body`` of an object: text, value, mask."""
    mask = None if body.mask is None else {"body": body.mask}
    return b'{"body":%b}' % body.text, {"body": body.value}, mask


# --- step 2: by who gets them -----------------------------------------------------------------------------------------


def _lay_out(
    body: _Body,
    headers: Headers,
    query: Query,
    options: BodyOptions,
    layout: Layout,
    include_headers: tuple[str, ...],
) -> Arguments:
    if layout is Layout.EVENT:
        return _event(body, headers, query)
    text, value, mask = body.text, body.value, body.mask
    if not isinstance(value, dict) or options.wrap_body:
        text, value, mask = _as_member(body)
    extra: dict[str, bytes] = {}
    if layout is Layout.SPREAD:
        extra = {name: orjson.dumps(kept_header(name, header)) for name, header in headers.items()}
        extra |= {name: json_text(parameter) for name, parameter in kept_query(query.last_values()).items()}
        extra["wm_trigger"] = b'{"kind":"webhook"}'
    for name in options.include_header + include_headers:
        header = headers.get(name.lower())
        if header is not None:
            header = kept_header(name.lower(), header)
            extra[name.lower().replace("-", "_")] = orjson.dumps(header if _is_visible_ascii(header) else "")
    for name in options.include_query:
        parameter = query.get(name)
        if parameter is not None and kept_query({name: parameter}):
            extra[name] = json_text(parameter)
    if body.raw_string is not None:
        extra["raw_string"] = body.raw_string
    if extra:
        text = with_members(text, value, extra)
        if mask:
            mask = {name: inner for name, inner in mask.items() if name not in extra}
        if body.is_raw_binary:
            mask = {**(mask or {}), "raw_string": True}
    elif not value:
        text = _NO_ARGUMENTS
    return Arguments(text, orjson.dumps(mask) if mask else b"")


def _event(body: _Body, headers: Headers, query: Query) -> Arguments:
    """The one argument ``event`` of a preprocessor: the whole request."""
    text = b'{"event":{"kind":"webhook","body":%b,"raw_string":%b,"headers":%b,"query":%b}}' % (
        body.text,
        b"null" if body.raw_string is None else body.raw_string,
        json_text({name: kept_header(name, header) for name, header in headers.items()}),
        json_text(kept_query(query.last_values())),
    )
    mask = {} if body.mask is None else {"body": body.mask}
    if body.is_raw_binary:
        mask["raw_string"] = True
    return Arguments(text, orjson.dumps({"event": mask}) if mask else b"")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_visible_ascii(value: str) -> bool:
    return value.isascii() and (value.isprintable() or all(" " <= each <= "~" or each == "\t" for each in value))
