"""What a kind of storage implements: plain blocking code, each call made in a thread by ``objects.py``.

Rules for every backend:

- A :class:`Sink` shows nothing of an object before its ``commit``; after it readers see the new object, or, if they
  opened the old one before, all of the old one. A sink that is discarded leaves nothing.
- A :class:`Source` that is open gives the object as it was when it was opened, even if it is replaced or deleted.
- Keys come checked (``keys.py``). Errors leave as :mod:`minwebhook.errors`, their texts without paths or secrets.
- No call blocks for ever: what waits for a peer has a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.model import ByteRange, ObjectHeaders, ObjectInfo, Page

Bytes: TypeAlias = bytes | bytearray | memoryview


class Sink(Protocol):
    """An object that is being written; used by one thread at a time."""

    def write(self, data: Bytes) -> None:
        """Append ``data``, which the caller leaves as it is until this returns.

        An upload gives ``piece_bytes`` at a time, which begin at a page of memory.
        """

    def commit(self, rest: Bytes) -> ObjectInfo:
        """Append ``rest`` and make the object visible. Small objects come with this call alone."""

    def discard(self) -> None:
        """Leave nothing. Called after every failure, also one of ``commit``; harmless when repeated."""


class Source(Protocol):
    """An object that is being read; used by one thread at a time."""

    @property
    def info(self) -> ObjectInfo:
        """What is known of the object, its full size included."""

    @property
    def span(self) -> tuple[int, int]:
        """The first byte that ``read`` gives, and the one after the last."""

    def read(self) -> bytes:
        """The next piece of some MiB; ``b""`` at the end of the span."""

    def close(self) -> None:
        """Give back what is held; harmless when repeated."""


class Backend(Protocol):
    """One storage."""

    @property
    def piece_bytes(self) -> int:
        """What is gathered before a sink's ``write`` is called, so that threads are worth their hand-over."""

    def open_sink(self, key: ObjectKey, headers: ObjectHeaders) -> Sink:
        """Begin an object."""

    def open_source(self, key: ObjectKey, wanted: ByteRange | None) -> Source:
        """Open an object; raises :class:`NotFound`, :class:`RangeNotSatisfiable`."""

    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is known of an object; raises :class:`NotFound`."""

    def delete(self, key: ObjectKey) -> None:
        """Remove an object; one that is not there is no error."""

    def abandon(self, key: ObjectKey) -> None:
        """Remove an object that a process stored which does not live any more, and what is pending of it."""

    def list(self, prefix: str, after: str, limit: int) -> Page:
        """At most ``limit`` objects whose keys begin with ``prefix`` and come after ``after``."""

    def copy(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Copy an object with its headers over ``target``; the two are different keys. Raises :class:`NotFound`."""

    def move(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Like ``copy``, and the source is gone."""

    def sign(self, key: ObjectKey, expires_in_s: int) -> str | None:
        """A URL where the store itself gives the object to its bearer; None if it cannot."""

    def sweep(self, before_ms: int) -> Iterator[int]:
        """Remove what crashes left before ``before_ms``, in steps of bounded time; each gives how many it removed."""

    def close(self) -> None:
        """Give back what is held, once nothing is open any more."""
