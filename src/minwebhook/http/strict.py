"""What h11 leaves to the server: the strict checks on request heads, chunk-size lines and trailers.

Pure functions from bytes to a value or a :class:`Refusal`; nothing here keeps state. The raw bytes of a head are
checked before h11 sees them (:func:`check_head_bytes`), its request line and single fields after (:func:`check_target`,
:func:`check_host`, ...). Every rule exists because some pair of server and proxy disagreed about it, and a disagreement
about where a request ends is request smuggling. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.errors import ApiError

#: Length of a body that comes in chunks, where a number would be the Content-Length.
CHUNKED: Final = -1

#: Methods some endpoint may have; any other gets 501 (RFC 9110 §9.1).
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

#: Longest chunk-size line with its extensions and CRLF, in bytes. Senders in the wild use ten.
MAX_CHUNK_LINE_BYTES: Final = 256

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_IS_TOKEN: Final = re.compile(_TOKEN)
#: Everything but HTAB, CR, LF, 0x20-0x7e and 0x80-0xff (RFC 9110 §5.5). CR and LF are judged by their place.
_LEGAL_HEAD_BYTES: Final = bytes(b for b in range(256) if b in b"\t\r\n" or (b >= 0x20 and b != 0x7F))
#: A Content-Length of more digits is over every limit (10^18 bytes); h11 stops at 20 digits with a 400.
_MAX_LENGTH_DIGITS: Final = 18
#: reg-name or IP-literal with an optional port (RFC 3986 §3.2.2), without the comma that merged fields would show.
_HOST: Final = re.compile(
    r"(?:(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~:-]+\])(?::[0-9]{0,5})?"
)
_BAD_IN_TARGET: Final = re.compile(r"[#\\]")
#: Encoded line ends and NUL have no place in a path; in a query they are text like any other.
_BAD_IN_PATH: Final = re.compile(r"%0[0aAdD]")
_ABSOLUTE: Final = re.compile(r"[hH][tT][tT][pP][sS]?://([^/?]*)(.*)", re.DOTALL)
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
#: RFC 9112 §7.1.1, with the blanks a recipient has to put up with around ``;`` and ``=``.
_EXTENSION: Final = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
_TRAILER_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e\x80-\xff]*\r\n")
#: Fields that would change framing, routing, authorization or the meaning of the body (RFC 9110 §6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"authorization", b"cookie", b"content-type"}
)


class Refusal(ApiError):
    """The bytes of a request are not acceptable. Its connection gets ``status`` with a public text, and is closed."""

    prefix = ""

    def __init__(self, status: int, detail: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail, headers=headers)
        self.status = status


def check_line_ends(lines: bytes, before: bytes = b"") -> None:
    """Refuse anything but CRLF as a line end, and folded lines, in ``lines`` that follow the bytes ``before``.

    A CR at the very end counts as bare: leave it out while its LF may still come. RFC 9112 §2.2, §5.2.
    """
    crlf = lines.count(b"\r\n")
    if lines.count(b"\n") != crlf or lines.count(b"\r") != crlf:
        raise Refusal(400, "Only CRLF may end a line of the request head")
    seam = before + lines
    if b"\n " in seam or b"\n\t" in seam:
        raise Refusal(400, "Folded or indented lines are not allowed in the request head")


def check_head_bytes(head: bytes, max_header_fields: int) -> int:
    """The length of the body that a complete head announces, or :data:`CHUNKED`; all checks h11 cannot make later.

    ``head`` ends with the empty line and has passed :func:`check_line_ends`. Field lines can therefore be found by
    their name after a line feed: nothing else starts there.
    """
    if head.count(b"\n") - 2 > max_header_fields:
        raise Refusal(431, f"More than {max_header_fields} header fields")
    if head.translate(None, _LEGAL_HEAD_BYTES):
        raise Refusal(400, "Control characters are not allowed in the request head")
    folded_case = head.lower()
    if b"\ncontent-type:" in folded_case:
        _only_value(folded_case, b"\ncontent-type:", "Content-Type")
    has_length = b"\ncontent-length:" in folded_case
    if b"\ntransfer-encoding:" in folded_case:
        if has_length:
            raise Refusal(400, "Send either Content-Length or Transfer-Encoding, not both")
        _check_transfer_encoding(_only_value(folded_case, b"\ntransfer-encoding:", "Transfer-Encoding"))
        return CHUNKED
    if has_length:
        return _body_length(_only_value(folded_case, b"\ncontent-length:", "Content-Length"))
    return 0


def _only_value(head: bytes, start: bytes, name: str) -> bytes:
    at = head.index(start) + len(start)
    if head.find(start, at) >= 0:
        raise Refusal(400, f"{name} must not be repeated")
    return head[at : head.index(b"\r", at)].strip(b" \t")


def _check_transfer_encoding(value: bytes) -> None:
    # h11 has 501 for every value it does not know, but a list or a malformed one is the framing attack itself.
    if value == b"chunked":
        return
    if _IS_TOKEN.fullmatch(value):
        raise Refusal(501, "The only supported Transfer-Encoding is chunked")
    raise Refusal(400, "Malformed Transfer-Encoding; the only supported one is chunked")


def _body_length(digits: bytes) -> int:
    if not digits.isdigit() or (digits.startswith(b"0") and digits != b"0"):
        raise Refusal(400, "Content-Length must be one decimal number without leading zeros")
    if len(digits) > _MAX_LENGTH_DIGITS:
        raise Refusal(413, "The announced body is too large")
    return int(digits)


def check_version(version: bytes) -> None:
    """Refuse versions other than ``1.0`` and ``1.1`` with 505 (RFC 9110 §15.6.6)."""
    if version not in (b"1.1", b"1.0"):
        raise Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are supported")


def check_method(method: bytes) -> None:
    """Refuse methods no endpoint has with 501; CONNECT and TRACE are among them."""
    if method not in METHODS:
        raise Refusal(501, "This method is not implemented")


def check_host(value: str) -> None:
    """Refuse a Host that is not a host with an optional port: empty, userinfo, a path, a list."""
    if not _HOST.fullmatch(value):
        raise Refusal(400, "Host must be a host name or address with an optional port")


def check_target(method: str, target: str) -> tuple[str, str, str | None]:
    """Path, query (without ``?``) and, for an absolute URL, authority of a request target (RFC 9112 §3.2)."""
    if _BAD_IN_TARGET.search(target):
        raise Refusal(400, "The request target contains characters that are not allowed there")
    authority = None
    if not target.startswith("/"):
        if target == "*":
            if method != "OPTIONS":
                raise Refusal(400, "The target * is only for OPTIONS")
            return target, "", None
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise Refusal(400, "The request target must start with / or be an http(s) URL")
        authority, target = absolute.groups()
        check_host(authority)
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    if _BAD_IN_PATH.search(path):
        raise Refusal(400, "The path contains an encoded line end or NUL")
    return path, query, authority


def chunk_size(line: bytes) -> int:
    """The size in a chunk-size line that ends with CRLF (RFC 9112 §7.1)."""
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise Refusal(400, "Malformed chunk size")
    return int(match[1], 16)


def check_trailer(line: bytes) -> None:
    """Refuse a malformed trailer field, and those that must not come after the body (RFC 9110 §6.5.1)."""
    match = _TRAILER_LINE.fullmatch(line)
    if match is None:
        raise Refusal(400, "Malformed trailer field")
    if match[1].lower() in _NOT_IN_TRAILERS:
        raise Refusal(400, "This field is not allowed in trailers")
