"""The values of the storage: what is known of an object, how it is described when stored, ranges and pages. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from minwebhook.errors import BadRequest, RangeNotSatisfiable
from minwebhook.storage.keys import ObjectKey

#: What an object is when nobody said.
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

#: Keys of one page at most, S3's own limit.
MAX_PAGE: Final = 1000

_MAX_HEADER_LENGTH: Final = 1024
_HEADER: Final = re.compile(r"[\x20-\x7e]*")
_NOT_QUOTABLE: Final = re.compile(r'[^\x20-\x7e]|["\\%]')


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """How an object is to be served. Kept with the object, and given back as response headers.

    Raises :class:`BadRequest` for what is not printable ASCII: these become header fields of our answers and of
    requests to S3, and a line break in one would be a header of the sender's choice.
    """

    content_type: str = DEFAULT_CONTENT_TYPE
    content_disposition: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("content_type", self.content_type), ("content_disposition", self.content_disposition)):
            if value is None:
                continue
            if len(value) > _MAX_HEADER_LENGTH or not _HEADER.fullmatch(value):
                raise BadRequest(f"{name} must be at most {_MAX_HEADER_LENGTH} printable ASCII characters")
            if not value.strip():
                raise BadRequest(f"{name} must not be blank; leave it out instead")

    @classmethod
    def of_others(cls, content_type: str | None, content_disposition: str | None) -> ObjectHeaders:
        """What another program stored: as far as it may be sent."""
        try:
            return cls(content_type or DEFAULT_CONTENT_TYPE, content_disposition or None)
        except BadRequest:
            return cls()


def inline_disposition(filename: str) -> str | None:
    """``Content-Disposition`` that shows an object under its ``filename`` (RFC 6266); None when there is no name.

    Only the last part of a path that a client sent counts. A name that is not plain ASCII is given twice: readable by
    old clients, and exact by all others.
    """
    name = re.split(r"[/\\]", filename)[-1]
    # Lone surrogates cannot be sent at all.
    name = name.encode("utf-8", "replace").decode()[:200].strip()
    if not name:
        return None
    plain = _NOT_QUOTABLE.sub("_", name)
    if plain == name:
        return f'inline; filename="{plain}"'
    exact = quote(name, safe="!#$&+-.^_`|~")
    if len(exact) > _MAX_HEADER_LENGTH - 300:
        return f'inline; filename="{plain}"'
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{exact}"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of a stored object."""

    key: ObjectKey
    size: int
    #: A quoted entity tag (RFC 9110 §8.8.3); it changes with the content.
    etag: str
    last_modified_ms: int
    headers: ObjectHeaders = ObjectHeaders()


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a list."""

    key: ObjectKey
    size: int
    last_modified_ms: int


@dataclass(frozen=True, slots=True)
class Page:
    """Objects in the order of their keys (by UTF-8 bytes). ``next_marker`` asks for the next page; None at the end."""

    objects: tuple[ListedObject, ...]
    next_marker: str | None = None


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes ``first`` to ``last``, both included, or the final ``last`` bytes when ``first`` is None.

    ``last`` None with a ``first`` is everything from there (RFC 9110 §14.1.2).
    """

    first: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        low, high = self.first, self.last
        if (low is None and high is None) or (low or 0) < 0 or (high or 0) < 0:
            raise BadRequest("a byte range needs a first byte or a length, and none below 0")
        if low is not None and high is not None and high < low:
            raise BadRequest("a byte range must not end before it begins")

    def within(self, size: int) -> tuple[int, int]:
        """Start and stop (excluded) in an object of ``size`` bytes; raises :class:`RangeNotSatisfiable`."""
        if self.first is None:
            start, stop = max(0, size - (self.last or 0)), size
        else:
            start, stop = self.first, size if self.last is None else min(self.last + 1, size)
        if start >= stop:
            raise RangeNotSatisfiable(size)
        return start, stop
