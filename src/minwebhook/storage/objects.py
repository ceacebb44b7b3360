"""The interface to stored objects: the async side of every backend.

::

    async with storage.put(key, ObjectHeaders("text/csv")) as upload:
        await upload.write(chunk)  # waits when the store is slower than the sender
        info = await upload.commit()  # leaving without it leaves nothing

    async with storage.get(key, ByteRange(0, 99)) as download:
        while chunk := await download.read_chunk():
            ...

Disks and S3 are worked on in threads of a limited number per storage. A call that is cancelled waits for its thread;
how long that can be is the backend's own deadline. Discarding runs even when cancelled, for at most ``DISCARD_S``.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Generic, ParamSpec, Self, TypeVar

import outcome
import trio

from minwebhook.errors import ApiError, BadRequest
from minwebhook.storage.backend import Backend, Bytes, Sink, Source
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.model import MAX_PAGE, ByteRange, ObjectHeaders, ObjectInfo, Page
from minwebhook.storage.signing import Signer

P = ParamSpec("P")
T = TypeVar("T")

#: Calls of one storage that run at the same time. Enough to keep a disk or a line to S3 busy; few enough that a store
#: that hangs holds a handful of threads and not all there are.
MAX_THREADS: Final = 8

#: Discards that run at the same time; they have threads of their own, so that calls that hang cannot keep them out.
MAX_DISCARDS: Final = 4

#: Longest wait for a discard. It goes on in its thread; what a dead store keeps nevertheless is for the sweep.
DISCARD_S: Final = 10.0

#: Longest life of a signature, the limit of S3.
MAX_SIGNED_S: Final = 7 * 24 * 3600


class ObjectStorage:
    """One storage, for all tasks of the loop. ``signer`` makes and checks the tokens that this server takes."""

    def __init__(self, backend: Backend, signer: Signer) -> None:
        self._backend = backend
        self.signer = signer
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._discards = trio.CapacityLimiter(MAX_DISCARDS)

    def put(self, key: ObjectKey, headers: ObjectHeaders | None = None) -> Upload:
        """An upload to enter: write to it, then commit. Replaces an object of the same key."""
        return Upload(self, key, headers or ObjectHeaders())

    def get(self, key: ObjectKey, wanted: ByteRange | None = None) -> Download:
        """A download to enter; entering raises :class:`NotFound` and :class:`RangeNotSatisfiable`."""
        return Download(self, key, wanted)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """What is known of an object; raises :class:`NotFound`."""
        return await self.call(self._backend.head, key)

    async def delete(self, key: ObjectKey) -> None:
        """Remove an object; one that is not there is no error."""
        await self.call(self._backend.delete, key)

    async def list(self, *, prefix: str = "", marker: str = "", max_keys: int = MAX_PAGE) -> Page:
        """The objects whose keys begin with ``prefix``, after ``marker``; at most ``max_keys`` (up to ``MAX_PAGE``)."""
        if not 1 <= max_keys <= MAX_PAGE:
            raise BadRequest(f"max_keys must be from 1 to {MAX_PAGE}")
        for name, value in (("prefix", prefix), ("marker", marker)):
            if "\0" in value or not _is_unicode(value):
                raise BadRequest(f"{name} must be valid Unicode without NUL")
        return await self.call(self._backend.list, prefix, marker, max_keys)

    async def copy(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Copy an object, its headers included, over ``target``; raises :class:`NotFound`."""
        if source == target:
            return await self.head(source)
        return await self.call(self._backend.copy, source, target)

    async def move(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Move an object over ``target``; raises :class:`NotFound`."""
        if source == target:
            return await self.head(source)
        return await self.call(self._backend.move, source, target)

    async def sign(self, key: ObjectKey, now_s: float, expires_in_s: int) -> str:
        """What lets its bearer read ``key`` for ``expires_in_s``.

        A whole URL if the store gives objects away itself (S3); else ``exp=…&sig=…``, to be checked with ``signer``.
        """
        if not 1 <= expires_in_s <= MAX_SIGNED_S:
            raise BadRequest(f"a signature is valid for 1 to {MAX_SIGNED_S} seconds")
        url = await self.call(self._backend.sign, key, expires_in_s)
        return url or self.signer.sign(key, int(now_s) + expires_in_s)

    async def sweep(self, before_ms: int) -> int:
        """Remove what crashes before ``before_ms`` left (the S3 clock's time, there); how many things that were.

        For the start of the program, next to its other work: it can be cancelled between its steps.
        """
        steps: Iterator[int] = self._backend.sweep(before_ms)
        removed = 0
        while (step := await self.call(next, steps, None)) is not None:
            removed += step
        return removed

    async def abandon(self, key: ObjectKey) -> None:
        """Remove an object that a dead process was storing, and whatever is pending of it."""
        await self.call(self._backend.abandon, key)

    def close(self) -> None:
        """Give back what the storage holds; nothing may be open any more."""
        self._backend.close()

    @property
    def backend(self) -> Backend:
        """The blocking side."""
        return self._backend

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function`` in one of this storage's threads."""
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._threads)

    async def begin(self, function: Callable[[], T]) -> _Call[T]:
        """The same without waiting for its end; only for a free thread."""
        begun: _Call[T] = _Call()
        await self._threads.acquire_on_behalf_of(begun)
        token = trio.lowlevel.current_trio_token()

        def end(result: outcome.Outcome[T]) -> None:
            self._threads.release_on_behalf_of(begun)
            begun.end(result)

        def deliver(result: outcome.Outcome[T]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(end, result)

        trio.lowlevel.start_thread_soon(function, deliver, "storage")
        return begun

    async def discard(self, function: Callable[[], None]) -> None:
        """``function`` in a thread, although the caller was cancelled; its errors stay here.

        Something else went wrong before, and that is what the caller should hear.
        """
        with trio.move_on_after(DISCARD_S, shield=True), suppress(ApiError):
            await trio.to_thread.run_sync(function, limiter=self._discards, abandon_on_cancel=True)


class Upload:
    """An object that is being stored. Entered, written to in order by one task, committed once.

    One piece is gathered while the one before is written, in two buffers that take turns. They are mappings: memory that
    begins at a page, of which only what was used is taken, so that small objects take little.
    """

    def __init__(self, storage: ObjectStorage, key: ObjectKey, headers: ObjectHeaders) -> None:
        self._storage = storage
        self._key = key
        self._headers = headers
        self._sink: Sink | None = None
        self._buffer = mmap.mmap(-1, storage.backend.piece_bytes)
        self._other: mmap.mmap | None = None
        self._used = 0
        self._writing: _Call[None] | None = None
        self._is_committed = False

    async def __aenter__(self) -> Self:
        self._sink = await self._storage.call(self._storage.backend.open_sink, self._key, self._headers)
        return self

    async def write(self, data: Bytes) -> None:
        """Append ``data``. Returns when there is room for more; raises what the store said of earlier pieces, too."""
        sink, size = self._open_sink(), self._storage.backend.piece_bytes
        view = memoryview(data)
        while view:
            part = view[: size - self._used]
            self._buffer[self._used : self._used + len(part)] = part
            self._used += len(part)
            view = view[len(part) :]
            if self._used == size:
                await self._written()
                self._writing = await self._storage.begin(partial(sink.write, memoryview(self._buffer)))
                free = mmap.mmap(-1, size) if self._other is None else self._other
                self._buffer, self._other, self._used = free, self._buffer, 0

    async def commit(self) -> ObjectInfo:
        """Make the object visible, whole and durable; what is known of it now."""
        sink = self._open_sink()
        await self._written()
        with memoryview(self._buffer)[: self._used] as rest:
            info = await self._storage.call(sink.commit, rest)
        self._is_committed = True
        return info

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sink, self._sink = self._sink, None
        if sink is not None and not self._is_committed:
            # As a call does that is cancelled: the backend's own deadline ends it.
            with trio.CancelScope(shield=True), suppress(ApiError):
                await self._written()  # noqa: ASYNC102
            await self._storage.discard(sink.discard)  # noqa: ASYNC102 (it shields, with a deadline)

    async def _written(self) -> None:
        """The piece before is with the store. Raises what that said."""
        writing = self._writing
        if writing is not None:
            await writing.ended.wait()
            self._writing = None
            writing.result()

    def _open_sink(self) -> Sink:
        if self._sink is None or self._is_committed:
            raise RuntimeError("an upload is written to between entering and committing it")
        return self._sink


class _Call(Generic[T]):
    """A call in a thread that goes on while its beginner does something else."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self._outcome: outcome.Outcome[T] | None = None

    def end(self, result: outcome.Outcome[T]) -> None:
        """In the loop."""
        self._outcome = result
        self.ended.set()

    def result(self) -> T:
        """What it gave or raised, once it has ended."""
        assert self._outcome is not None  # noqa: S101 - has ended
        return self._outcome.unwrap()


class Download:
    """An object that is being read, as it was when entered."""

    def __init__(self, storage: ObjectStorage, key: ObjectKey, wanted: ByteRange | None) -> None:
        self._storage = storage
        self._key = key
        self._wanted = wanted
        self._source: Source | None = None

    async def __aenter__(self) -> Self:
        self._source = await self._storage.call(self._storage.backend.open_source, self._key, self._wanted)
        return self

    @property
    def info(self) -> ObjectInfo:
        """What is known of the object, its full size included."""
        return self._open_source().info

    @property
    def span(self) -> tuple[int, int]:
        """The first byte that is read, and the one after the last."""
        return self._open_source().span

    async def read_chunk(self) -> bytes:
        """The next piece of up to some MiB; ``b""`` at the end."""
        return await self._storage.call(self._open_source().read)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        source, self._source = self._source, None
        if source is not None:
            await self._storage.discard(source.close)  # noqa: ASYNC102 (it shields, with a deadline)

    def _open_source(self) -> Source:
        if self._source is None:
            raise RuntimeError("a download is read between entering and leaving it")
        return self._source


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
