"""``multipart/form-data`` bodies: bytes in, fields and files out, however the bytes are cut. Pure.

A part is a **file** if it has a Content-Type header of its own, and a **text field** if not; a filename alone makes no
file. A part whose type is itself ``multipart/...`` is a file of that type: nothing looks inside. A part without a name is
skipped. Line ends are CRLF and header lines are not folded, as in request heads (RFC 7578, RFC 2046 §5.1.1).

The boundary search and the states are those of the package ``multipart``. It runs in its lenient mode: its strict mode
refuses good bodies if the last CRLF comes in a piece of its own. What the lenient mode leaves open is closed here: what
comes before and after the parts is bounded, so is each head as a whole, and a line feed inside a header line is refused
in every cut and not just in some. A body that is wrong gets a 400, one that is over a limit a 413, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

import multipart
from multipart import MultipartError, MultipartSegment, ParserError, ParserLimitReached, PushMultipartParser

from minwebhook.errors import ApiError, BadRequest, PayloadTooLarge
from minwebhook.http.parameters import TCHAR, filename_in, parse_parameters
from minwebhook.settings import KIB, HttpSettings

_DEFAULTS: Final = HttpSettings()
_DEFAULT_TYPE: Final = "application/octet-stream"
_WHAT_TO_SEND: Final = "send multipart/form-data; boundary=TEXT with the boundary that your form encoder chose"

#: RFC 2046 §5.1.1 has letters, digits and ``'()+_,-./:=? ``; the other token characters are seen in the wild.
_BOUNDARY: Final = re.compile(rf"[(),/:=? {TCHAR}]{{0,69}}[(),/:=?{TCHAR}]")
_MEDIA_TYPE: Final = re.compile(r"[\t\x20-\x7e]*+")

FileT = TypeVar("FileT")


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """What one body may hold. ``None`` is no limit. Bytes of skipped parts count to ``max_total_bytes`` alone."""

    max_parts: int = _DEFAULTS.max_form_parts
    #: Each text field, and all of one body together; they are kept in memory.
    max_field_bytes: int = _DEFAULTS.max_form_field_bytes
    max_fields_bytes: int = _DEFAULTS.max_form_fields_bytes
    #: Each file; files are passed on, not kept.
    max_file_bytes: int | None = None
    #: Everything that is fed.
    max_total_bytes: int | None = None
    #: The header lines of one part with their line ends, and their number. RFC 7578 knows three.
    max_part_head_bytes: int = 8 * KIB
    max_part_header_fields: int = 8
    #: Text before the first boundary and after the closing one. It means nothing, and senders of forms have none.
    max_preamble_bytes: int = 8 * KIB
    max_epilogue_bytes: int = 8 * KIB

    @classmethod
    def of(cls, settings: HttpSettings, max_file_bytes: int) -> MultipartLimits:
        """The limits that the settings ``max_form_...`` give, in which 0 is none; the others have their defaults."""
        return cls(
            max_parts=settings.max_form_parts,
            max_field_bytes=settings.max_form_field_bytes,
            max_fields_bytes=settings.max_form_fields_bytes,
            max_file_bytes=max_file_bytes or None,
            max_total_bytes=settings.max_form_bytes or None,
        )


@dataclass(frozen=True, slots=True)
class Field:
    """A text field. ``value`` is "" if its bytes are not UTF-8."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins; its :class:`FileData` and its :class:`FileEnd` follow, and nothing in between.

    ``filename`` is as :func:`~minwebhook.http.parameters.filename_in` gives it: show it, never open it. Browsers send ""
    for a file input without a file. ``content_type`` is printable ASCII.
    """

    name: str
    filename: str | None
    content_type: str


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of a file, never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file is complete."""


Event = Field | FileStart | FileData | FileEnd


class _Part(Enum):
    """What the current part is."""

    FIELD = auto()
    FILE = auto()
    SKIPPED = auto()


def boundary(content_type: str) -> bytes:
    """The boundary in the value of a Content-Type header. Raises :class:`BadRequest` that says what to send."""
    try:
        media_type, parameters = parse_parameters(content_type)
    except ValueError as error:
        raise BadRequest(f"Content-Type: {error}; {_WHAT_TO_SEND}") from None
    if media_type != "multipart/form-data":
        raise BadRequest(f"Content-Type: not multipart/form-data; {_WHAT_TO_SEND}")
    text = parameters.get("boundary", "")
    if not text:
        raise BadRequest(f"Content-Type: no boundary; {_WHAT_TO_SEND}")
    if not _BOUNDARY.fullmatch(text):
        raise BadRequest("Content-Type: the boundary must be 1 to 70 letters, digits or characters of '()+_,-./:=?")
    return text.encode("ascii")


class MultipartReader:
    """Reads one body: :meth:`feed` it as it comes, then :meth:`finish`. After a refusal, every call raises it again.

    Holds the piece that is fed, the text field being read, and an incomplete head. The bytes of a file are copied once,
    those next to the seam of two pieces twice.
    """

    __slots__ = (
        "_delimiter",
        "_epilogue_bytes",
        "_field",
        "_fields_bytes",
        "_file_bytes",
        "_limits",
        "_name",
        "_parser",
        "_part",
        "_part_count",
        "_preamble",
        "_refusal",
        "_total_bytes",
    )

    def __init__(self, boundary: bytes, limits: MultipartLimits = MultipartLimits()) -> None:
        self._limits = limits
        self._parser = _Parser(boundary, limits)
        self._delimiter = b"\r\n--" + boundary
        #: What came before the first boundary; None once that was seen. A line end is put in front of the body, so
        #: that a boundary at its very start is found like any other.
        self._preamble: bytes | None = b"\r\n"
        self._refusal: ApiError | None = None
        self._part = _Part.SKIPPED
        self._name = ""
        self._field = bytearray()
        self._part_count = self._fields_bytes = self._file_bytes = self._total_bytes = self._epilogue_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        """What ``data`` completes, in order. Raises :class:`BadRequest` or :class:`PayloadTooLarge`."""
        if self._refusal is not None:
            raise self._refusal
        try:
            return self._feed(data)
        except ApiError as refusal:
            self._refusal = refusal
            raise

    def finish(self) -> None:
        """Say that the body has ended. Raises :class:`BadRequest` if its closing boundary is missing."""
        if self._refusal is not None:
            raise self._refusal
        if not self._parser.is_complete:
            self._refusal = _malformed(
                "the boundary in Content-Type is not in the body"
                if self._preamble is not None
                else "the body ends before its closing boundary"
            )
            raise self._refusal

    def _feed(self, data: bytes) -> list[Event]:
        limits = self._limits
        self._total_bytes += len(data)
        if limits.max_total_bytes is not None and self._total_bytes > limits.max_total_bytes:
            raise PayloadTooLarge(f"The multipart body is larger than {limits.max_total_bytes} bytes")
        if self._preamble is not None:
            data = self._skip_preamble(self._preamble + data)
        events: list[Event] = []
        if data and not self._parser.is_complete:
            try:
                for item in self._parser.parse(data):
                    if (event := self._event(item)) is not None:
                        events.append(event)
            except ParserLimitReached:
                raise _head_too_large(limits) from None
            except MultipartError as error:
                raise _malformed(str(error.args[0])) from None
            data = self._parser.rest_after_end
        if self._parser.is_complete:
            self._epilogue_bytes += len(data)
            if self._epilogue_bytes > limits.max_epilogue_bytes:
                raise PayloadTooLarge(f"More than {limits.max_epilogue_bytes} bytes follow the closing boundary")
        return events

    def _skip_preamble(self, seen: bytes) -> bytes:
        """The bytes from the first boundary on, its line end left out; ``b""`` while it has not come."""
        max_bytes = self._limits.max_preamble_bytes
        at = seen.find(self._delimiter, 0, max_bytes + len(self._delimiter))
        if at >= 0:
            self._preamble = None
            return seen[at + 2 :]
        if len(seen) >= max_bytes + len(self._delimiter):
            raise _malformed(f"the boundary in Content-Type is not in the first {max_bytes} bytes of the body")
        self._preamble = seen
        return b""

    def _event(self, item: MultipartSegment | bytes | None) -> Event | None:
        if item is None:
            return self._end()
        if isinstance(item, MultipartSegment):
            return self._start(item)
        return self._take(item)

    def _start(self, segment: MultipartSegment) -> Event | None:
        self._part_count += 1
        if self._part_count > self._limits.max_parts:
            raise PayloadTooLarge(f"The form has more than {self._limits.max_parts} parts")
        headers: dict[str, str] = {}
        for key, text in segment.headerlist:
            if key in headers and key in ("Content-Disposition", "Content-Type"):
                raise _malformed(f"a part has two {key} headers")
            headers[key] = text
        try:
            _, parameters = parse_parameters(headers["Content-Disposition"])
        except ValueError as error:
            raise _malformed(f"Content-Disposition: {error}") from None
        name = parameters.get("name")
        if name is None:
            self._part = _Part.SKIPPED
            return None
        if not name:
            raise _malformed("a part has an empty name; give every field a name")
        self._name = name
        content_type = headers.get("Content-Type")
        if content_type is None:
            self._part = _Part.FIELD
            return None
        if not _MEDIA_TYPE.fullmatch(content_type):
            raise _malformed("the Content-Type of a part has characters that are not allowed there")
        self._part = _Part.FILE
        self._file_bytes = 0
        return FileStart(self._name, filename_in(parameters), content_type.strip() or _DEFAULT_TYPE)

    def _take(self, data: bytes) -> Event | None:
        limits = self._limits
        if self._part is _Part.FIELD:
            self._fields_bytes += len(data)
            if len(self._field) + len(data) > limits.max_field_bytes:
                raise PayloadTooLarge(f"A form field is larger than {limits.max_field_bytes} bytes")
            if self._fields_bytes > limits.max_fields_bytes:
                raise PayloadTooLarge(f"The form fields are together larger than {limits.max_fields_bytes} bytes")
            self._field += data
            return None
        if self._part is _Part.SKIPPED:
            return None
        self._file_bytes += len(data)
        if limits.max_file_bytes is not None and self._file_bytes > limits.max_file_bytes:
            raise PayloadTooLarge(f"A file of the form is larger than {limits.max_file_bytes} bytes")
        return FileData(data)

    def _end(self) -> Event | None:
        if self._part is _Part.FILE:
            return FileEnd()
        if self._part is _Part.SKIPPED:
            return None
        try:
            value = self._field.decode()
        except UnicodeDecodeError:
            value = ""
        self._field = bytearray()
        return Field(self._name, value)


def form_values(fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, FileT]]) -> dict[str, str | list[FileT]]:
    """The arguments of a form: of fields with one name the last; the files of one name as a list, in their order.

    Files win over fields of the same name. What stands for a file is the caller's business.
    """
    lists: dict[str, list[FileT]] = {}
    for name, file in files:
        lists.setdefault(name, []).append(file)
    return {**dict(fields), **lists}


class _Parser(PushMultipartParser):
    """The package's parser with bounded heads, whose end can be seen.

    Uses names that are not public, so the version is pinned closely; the tests fail if one of them goes away.
    """

    def __init__(self, boundary: bytes, limits: MultipartLimits) -> None:
        super().__init__(
            boundary,
            max_header_size=limits.max_part_head_bytes,
            max_header_count=limits.max_part_header_fields,
            strict=False,
        )
        self._limits = limits
        self._head_bytes = 0

    @property
    def is_complete(self) -> bool:
        """Whether the closing boundary has been seen."""
        return self._state is multipart._COMPLETE

    @property
    def rest_after_end(self) -> bytes:
        """The bytes that came with the closing boundary and follow it, once :attr:`is_complete`."""
        return self._buffer if self.is_complete else b""

    def _on_segment_headerline(self, line: bytes) -> None:
        if not self._segment_headerlist:
            self._head_bytes = 0
        self._head_bytes += len(line) + 2
        if self._head_bytes > self._limits.max_part_head_bytes:
            raise _head_too_large(self._limits)
        if b"\n" in line or b"\r" in line:
            raise ParserError("Invalid line break in segment header")
        if line[0] in b" \t":
            # The parser would join the lines, each time anew: the square of their number.
            raise ParserError("Folded or indented lines are not allowed in the head of a part")
        super()._on_segment_headerline(line)


def _malformed(what: str) -> BadRequest:
    return BadRequest(f"Error reading multipart field: {what}")


def _head_too_large(limits: MultipartLimits) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The head of a multipart field is larger than {limits.max_part_head_bytes} bytes"
        f" or has more than {limits.max_part_header_fields} lines"
    )
