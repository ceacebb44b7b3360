"""From the outcome of a job to the answer of a sync call. Pure.

A result is sent as it is: its JSON text, or the same as CBOR for those who ask. A *composite* result says itself how it
is to be sent: an object with ``wm_status_code``, ``wm_content_type``, ``wm_headers`` or ``wm_content_transfer_encoding``
(or ``windmill_...``), whose ``result`` is the body. An object with such a member of the wrong type is no composite one;
it is sent whole.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.child import values
from minwebhook.errors import Internal, ResultError
from minwebhook.http.codecs import CBOR, encode_cbor, json_text
from minwebhook.http.messages import JSON, Response

_OK: Final = 200
_NO_CONTENT: Final = 204
_PREFIXES: Final = ("wm_", "windmill_")
#: Control members without their prefix.
_CONTROLS: Final = ("status_code", "content_type", "headers", "content_transfer_encoding")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
#: Nearly all results are not composite, and nearly all of those need not be decoded to know: they have none of these.
#: A name may be written in escapes.
_HINTS: Final = (b"wm_", b"windmill_", b"\\u")

_MAX_INDEX_DIGITS: Final = 10


@dataclass(slots=True)  # a frozen one takes three times as long to make, for every job
class Result:
    """How a job ended, as far as its caller sees it."""

    #: JSON text.
    text: bytes
    is_success: bool
    #: Where byte strings are (child/values.py), as JSON text; b"" for nowhere.
    mask: bytes = b""


def sync_response(result: Result, *, failure_status: int, as_cbor: bool = False) -> Response:
    """The answer to a caller who waited.

    ``failure_status`` is for failed jobs that do not say a status themselves; ``as_cbor`` for bodies that would be JSON.
    Raises :class:`ResultError` and :class:`Internal` (500) for composite results that cannot be sent.
    """
    composite = _Composite.of(result.text)
    if composite is not None:
        return composite.response(result, failure_status=failure_status, as_cbor=as_cbor)
    status = _OK if result.is_success else failure_status
    if as_cbor:
        return Response(status, encode_cbor(values.loads(result.text), _mask(result)), CBOR)
    return Response(status, result.text, JSON)


def may_be_composite(text: bytes) -> bool:
    """False for nearly all results, which then need not be decoded."""
    # Unrolled: a generator costs more than the looking, and this is on the way of every result.
    first, second, third = _HINTS
    return text[:1] == b"{" and (first in text or second in text or third in text)


def part_response(text: bytes, mask: bytes, path: str, *, as_cbor: bool) -> Response:
    """What is at a path such as ``a.0.b`` in JSON, null if there is nothing; "" is all of it. ``mask`` as of a result."""
    value, inner = values.loads(text), values.loads(mask or b"null")
    if path:
        value, inner = _part_of(value, path), _part_of(inner, path)
    return Response(200, encode_cbor(value, inner), CBOR) if as_cbor else Response.json(json_text(value))


def _part_of(value: Any, path: str) -> Any:
    """What is at a path in a JSON value; None if there is nothing."""
    for name in path.split("."):
        value = _part(value, name)
    return value


def _part(value: Any, name: str) -> Any:
    """A member of an object, or an item of an array; None if there is none."""
    if isinstance(value, dict):
        return value.get(name)
    is_index = name.isascii() and name.isdigit() and len(name) < _MAX_INDEX_DIGITS
    if isinstance(value, list) and is_index and int(name) < len(value):
        return value[int(name)]
    return None


def _mask(result: Result) -> values.Mask:
    return values.loads(result.mask) if result.mask else None


@dataclass(frozen=True, slots=True)
class _Composite:
    """The control members of a result, and its ``result``."""

    status: int | None
    content_type: str | None
    headers: dict[str, str]
    encoding: str | None
    body: Any

    @classmethod
    def of(cls, text: bytes) -> _Composite | None:
        """None if the result is not composite."""
        if not may_be_composite(text):
            return None
        value = values.loads(text)
        if not any(value.get(prefix + name) is not None for prefix in _PREFIXES for name in _CONTROLS):
            return None
        found: dict[str, Any] = {}
        for name in _CONTROLS:
            present = [value[prefix + name] for prefix in _PREFIXES if prefix + name in value]
            if len(present) > 1:
                return None
            found[name] = present[0] if present else None
        status, headers = found["status_code"], found["headers"]
        if status is not None and (isinstance(status, bool) or not isinstance(status, int) or not 0 <= status <= 65535):
            return None
        if headers is not None and not (
            isinstance(headers, dict) and all(isinstance(header, str) for header in headers.values())
        ):
            return None
        if not isinstance(found["content_type"], str | None):
            return None
        if not isinstance(found["content_transfer_encoding"], str | None):
            return None
        return cls(
            status, found["content_type"], headers or {}, found["content_transfer_encoding"], value.get("result")
        )

    def response(self, result: Result, *, failure_status: int, as_cbor: bool) -> Response:
        """What the members ask for."""
        status = self.status
        if status is None:
            status = failure_status if not result.is_success else _NO_CONTENT if self.body is None else _OK
        elif not 200 <= status <= 999:  # below 200 an answer is not a final one
            raise ResultError("Invalid status code")
        for name, value in self.headers.items():
            if not _FIELD_NAME.fullmatch(name):
                raise Internal(f"Invalid header name {name[:60]!r} in the result of the script")
            if not _FIELD_VALUE.fullmatch(value):
                raise Internal(f"Invalid header value of {name[:60]} in the result of the script")
        content_type = self.content_type
        if content_type is not None and not _FIELD_VALUE.fullmatch(content_type):
            raise Internal("Invalid content type in the result of the script")
        fields = {name.lower(): (name, value) for name, value in self.headers.items()}  # one of a name: the last
        _, own_type = fields.pop("content-type", ("", None))
        if self.encoding is not None:
            body: bytes = self._decoded()
        elif self.body is None:
            body = b""
        elif content_type is not None:
            body = self.body.encode() if isinstance(self.body, str) else json_text(self.body)
        elif as_cbor:
            mask = _mask(result)
            # A process may send any mask.
            inner = mask.get("result") if isinstance(mask, dict) else None
            body, own_type = encode_cbor(self.body, inner), own_type or CBOR
        else:
            body, own_type = json_text(self.body), own_type or JSON
        return Response(status, body, content_type or own_type, tuple(fields.values()))

    def _decoded(self) -> bytes:
        """The bytes of a base64 ``result``; whatever does not fit is an error, never another form of the answer."""
        if self.encoding != "base64":
            raise ResultError(f"Invalid content transfer encoding {str(self.encoding)[:60]!r}: only base64 is known")
        if self.content_type is None:
            raise ResultError("A content transfer encoding needs a content type")
        if self.body is None:
            return b""
        if not isinstance(self.body, str):
            raise ResultError("The result must be a string of base64")
        try:
            return base64.b64decode(self.body, validate=True)
        except (binascii.Error, ValueError):
            raise ResultError("The result is not valid base64") from None
