"""From a request to the arguments of a script, as the text of a JSON object. Pure.

The body gives either an object, whose members are the arguments, or another value, which becomes the argument ``body``.
Chosen headers, then chosen query values, then ``raw_string`` are added and win over members of the same name.

A body that needs nothing added is handed on as it came, checked but not re-encoded. Nesting is bounded by the JSON
parser (1024 levels), size by the caller.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from minwebhook.errors import BadRequest
from minwebhook.http.messages import Headers
from minwebhook.webhooks.query import BodyOptions, Query

_NO_ARGUMENTS: Final = b"{}"
_TEXT_TYPES: Final = ("text/plain", "application/xml", "text/xml")
_MAX_FORM_FIELDS: Final = 10_000


def post_arguments(headers: Headers, body: bytes, query: Query) -> bytes:
    """The arguments of a POST. Raises :class:`BadRequest` that says what is wrong with the body or a parameter."""
    options = BodyOptions.parse(query)
    content_type = headers.get("content-type") or ""
    raw_string: str | None = None
    value: Any = {}
    if content_type.startswith("application/x-www-form-urlencoded"):
        value = _form(body)
    elif content_type.startswith(_TEXT_TYPES):
        raw_string = _text(body)
    elif content_type.startswith("application/json") or not content_type:
        if body or content_type:
            value = _json(body)
    else:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = {}
        raw_string = body.decode("utf-8", "replace")
    if options.raw and raw_string is None:
        raw_string = _text(body)
    return _lay_out(value, body, options, headers, query, raw_string)


def get_arguments(headers: Headers, query: Query) -> bytes:
    """The arguments of a GET: the ``payload`` parameter; a body is not looked at."""
    options = BodyOptions.parse(query)
    payload = query.get("payload")
    value: Any = {} if payload is None else decode_payload(payload)
    return _lay_out(value, b"", options, headers, query, "" if options.raw else None)


def decode_payload(payload: str) -> dict[str, Any]:
    """The JSON object in base64, standard or URL-safe, with or without padding. Raises :class:`BadRequest`."""
    standard = payload.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(
            "payload: not base64; send a JSON object in base64, percent-encoded ('+' in a URL means a space)"
        ) from None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if not _is_utf8(data):
            raise BadRequest("payload: the text inside the base64 is not UTF-8") from None
        raise BadRequest(f"payload: invalid json: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("payload: the JSON inside must be an object with the arguments")
    return value


def _lay_out(
    value: Any, body: bytes, options: BodyOptions, headers: Headers, query: Query, raw_string: str | None
) -> bytes:
    extra: dict[str, Any] = {}
    for name in options.include_header:
        header = headers.get(name.lower())
        if header is not None:
            extra[name.lower().replace("-", "_")] = header if _is_visible_ascii(header) else ""
    for name in options.include_query:
        parameter = query.get(name)
        if parameter is not None:
            extra[name] = parameter
    if raw_string is not None:
        extra["raw_string"] = raw_string
    is_object = isinstance(value, dict)
    if is_object and not extra and not options.wrap_body:
        if not value:
            return _NO_ARGUMENTS
        if body[:1] == b"{":
            return body
    if not is_object or options.wrap_body:
        value = {"body": value}
    return orjson.dumps({**value, **extra}) if extra else orjson.dumps(value)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _text(body)  # a body that is not UTF-8 is told so
        if not body:
            raise BadRequest("invalid json: EOF while parsing a value at line 1 column 0") from None
        raise BadRequest(f"invalid json: {error}") from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"invalid utf8: {error.reason} at byte {error.start}") from None


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(_text(body), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FORM_FIELDS)
    except UnicodeDecodeError:
        raise BadRequest("invalid urlencoded data: not percent-encoded UTF-8") from None
    except ValueError:
        raise BadRequest(f"invalid urlencoded data: more than {_MAX_FORM_FIELDS} fields") from None
    return dict(pairs)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_visible_ascii(value: str) -> bool:
    return all(" " <= character <= "~" or character == "\t" for character in value)
