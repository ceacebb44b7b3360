"""From a request to the arguments of a script, as the text of a JSON object. Pure.

The body gives either an object, whose members are the arguments, or another value, which becomes the argument ``body``.
Chosen headers, then chosen query values, then ``raw_string`` are added and win over members of the same name.

A body that needs nothing added is handed on as it came, checked but not re-encoded. Nesting is bounded by the JSON
parser (1024 levels), size by the caller.
"""

from __future__ import annotations

import base64
import binascii
import json
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
    text: bytes = _NO_ARGUMENTS
    if content_type.startswith("application/x-www-form-urlencoded"):
        text = orjson.dumps(_form(body))
    elif content_type.startswith(_TEXT_TYPES):
        raw_string = _text(body)
    elif content_type.startswith("application/json") or not content_type:
        if body or content_type:
            text = body
    else:
        try:
            orjson.loads(body)
            text = body
        except orjson.JSONDecodeError:
            pass
        raw_string = body.decode("utf-8", "replace")
    if options.raw and raw_string is None:
        raw_string = _text(body)
    return _lay_out(text, _json(text), options, _extra(options, headers, query, raw_string))


def get_arguments(headers: Headers, query: Query) -> bytes:
    """The arguments of a GET: the ``payload`` parameter; a body is not looked at."""
    options = BodyOptions.parse(query)
    payload = query.get("payload")
    text = _NO_ARGUMENTS if payload is None else decode_payload(payload)
    extra = _extra(options, headers, query, "" if options.raw else None)
    return _lay_out(text, orjson.loads(text), options, extra)


def decode_payload(payload: str) -> bytes:
    """The text of the JSON object in base64, standard or URL-safe, with or without padding. Raises :class:`BadRequest`."""
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
    return data


def _extra(options: BodyOptions, headers: Headers, query: Query, raw_string: str | None) -> dict[str, str]:
    """What is added to the body's arguments: chosen headers, then chosen query values, then ``raw_string``."""
    extra: dict[str, str] = {}
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
    return extra


def _lay_out(text: bytes, value: Any, options: BodyOptions, extra: dict[str, str]) -> bytes:
    """The arguments from the body's JSON ``text``, which means ``value``, and ``extra``.

    The text is put together, not encoded again: numbers keep all their digits.
    """
    if not isinstance(value, dict) or options.wrap_body:
        members = b'"body":' + text
    elif not extra:
        return text if value else _NO_ARGUMENTS
    elif extra.keys() & value.keys():
        # Which of two equal names counts is no question to leave to a parser; json keeps large integers exact.
        kept = {name: member for name, member in json.loads(text).items() if name not in extra}
        members = json.dumps(kept, ensure_ascii=False).encode()[1:-1]
    else:
        members = text.strip()[1:-1].strip()
    if extra:
        members += (b"," if members else b"") + orjson.dumps(extra)[1:-1]
    return b"{" + members + b"}"


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
