"""Forms whose files go to storage while they come in: nothing is held but a piece, and nothing is left of a failure.

:func:`receive_form` reads the body, stores the files, and gives fields and files. Until a job has them
(:meth:`Uploads.handing_over`), the files are the request's own: :meth:`Uploads.discard` removes them, and so does the next
start of the program if this one does not live to (:mod:`~minwebhook.storage.journal`).
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio

from minwebhook.errors import ApiError, BadRequest
from minwebhook.http.messages import Body
from minwebhook.http.multipart import (
    Event,
    Field,
    FileData,
    FileEnd,
    FileStart,
    MultipartLimits,
    MultipartReader,
    boundary,
    form_values,
)
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import ObjectKey, upload_key
from minwebhook.storage.model import ObjectHeaders, inline_disposition
from minwebhook.storage.objects import ObjectStorage, Upload
from minwebhook.storage.workspaces import WorkspaceStorages

logger = logging.getLogger(__name__)

#: How long the files of a failed request are tried to be removed; what is left then, the next start removes.
DISCARD_S: Final = 30.0
#: Upload numbers begin anywhere, so that two processes that share a bucket do not meet.
_NUMBERS: Final = itertools.count(secrets.randbelow(1 << 16))


def next_number() -> int:
    """A number for the key of an upload: no two of this process are the same."""
    return next(_NUMBERS) % (1 << 31)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a form, in storage."""

    key: ObjectKey
    filename: str | None
    size: int
    #: Hexadecimal; None if it was not asked for.
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What a script gets: an S3 object, with what is known of it if that was asked for."""
        if self.sha256 is None:
            return {"s3": self.key}
        return {"s3": self.key, "filename": self.filename, "size": self.size, "sha256": self.sha256}


class Uploads:
    """The files of one request, until a job has them. They go to the workspace's primary storage."""

    def __init__(self, storages: WorkspaceStorages, journal: UploadJournal, workspace: str) -> None:
        self._storages = storages
        self._journal = journal
        self._workspace = workspace
        #: Known from the first file on, and the same for all, whatever is configured meanwhile.
        self._storage: ObjectStorage | None = None
        self._keys: list[ObjectKey] = []

    async def open(self, key: ObjectKey, headers: ObjectHeaders) -> Upload:
        """A new object; entered by the caller. Raises :class:`BadRequest` if the workspace has no storage."""
        if self._storage is None:
            self._storage = await self._storages.find(self._workspace)
        if self._storage is None:
            raise BadRequest("You need to connect your workspace to an S3 bucket to use multipart/form-data")
        self._keys.append(key)
        await self._journal.open(self._workspace, key)
        return self._storage.put(key, headers)

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """A job gets the files in this block; if it raises, they are still the request's.

        The job's row has to be queued for writing in the turn of the loop in which the block is entered: then row and
        journal change in one transaction.
        """
        self._journal.settle(self._workspace, self._keys)
        yield
        self._keys = []

    async def discard(self) -> None:
        """Remove the files that no job has. Goes on when cancelled, within bounds."""
        keys, self._keys = self._keys, []
        if not keys or self._storage is None:
            return
        gone: list[ObjectKey] = []
        with trio.move_on_after(DISCARD_S, shield=True):
            for key in keys:
                try:
                    await self._storage.delete(key)
                except ApiError as error:
                    logger.warning("an upload could not be removed, the next start will: %s", error.detail)
                else:
                    gone.append(key)
        self._journal.settle(self._workspace, gone)


async def receive_form(
    body: Body,
    content_type: str,
    uploads: Uploads,
    limits: MultipartLimits,
    *,
    now_ms: Callable[[], int],
    on_bytes: Callable[[bytes], None] | None = None,
    with_details: bool = False,
) -> dict[str, Any]:
    """Read a multipart form to its end: text by name, and lists of S3 objects by name.

    The files are with ``uploads``, also when this raises: 400 for a malformed or cut body, 413 for one over ``limits``,
    and what the storage says. ``on_bytes`` sees the body as it comes; ``with_details``
    adds name, size and SHA-256 to each file.
    """
    receiver = _Receiver(uploads, now_ms, with_details=with_details)
    reader = MultipartReader(boundary(content_type), limits)
    try:
        while data := await body.read_chunk():
            if on_bytes is not None:
                on_bytes(data)
            for event in reader.feed(data):
                await receiver.take(event)
        reader.finish()
    finally:
        await receiver.leave()  # noqa: ASYNC102 - it bounds itself
    return form_values(receiver.fields, ((name, file.to_json()) for name, file in receiver.files))


class _Receiver:
    """What a form consists of, one part after the other."""

    def __init__(self, uploads: Uploads, now_ms: Callable[[], int], *, with_details: bool) -> None:
        self._uploads = uploads
        self._now_ms = now_ms
        self._with_details = with_details
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, StoredFile]] = []
        #: The file under way.
        self._start: FileStart | None = None
        self._upload: Upload | None = None
        self._hash = hashlib.sha256()

    async def take(self, event: Event) -> None:
        """The next part, or piece of one. Returns when the storage has room for more."""
        match event:
            case Field(name, value):
                self.fields.append((name, value))
            case FileStart():
                await self._begin(event)
            case FileData(data):
                assert self._upload is not None  # noqa: S101 - the reader's order
                if self._with_details:
                    self._hash.update(data)
                await self._upload.write(data)
            case FileEnd():
                await self._end()

    async def _begin(self, start: FileStart) -> None:
        key = upload_key(self._now_ms(), next_number(), start.filename)
        disposition = inline_disposition(start.filename or "")
        upload = await self._uploads.open(key, ObjectHeaders(start.content_type, disposition))
        self._upload = await upload.__aenter__()
        self._start = start
        self._hash = hashlib.sha256()

    async def _end(self) -> None:
        assert self._upload is not None  # noqa: S101 - the reader's order
        assert self._start is not None  # noqa: S101
        info = await self._upload.commit()
        sha256 = self._hash.hexdigest() if self._with_details else None
        self.files.append((self._start.name, StoredFile(info.key, self._start.filename, info.size, sha256)))
        await self.leave()

    async def leave(self) -> None:
        """Give up the file under way, if there is one."""
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.__aexit__(None, None, None)


async def remove_unsettled(
    storages: WorkspaceStorages, journal: UploadJournal, left: Iterable[tuple[str, ObjectKey]]
) -> None:
    """Remove what requests of an earlier process left: ``left`` is what the journal had at the start.

    Runs beside other work. What cannot be reached stays in the journal for the next start.
    """
    for workspace, key in left:
        try:
            storage = await storages.find(workspace)
            if storage is not None:
                await storage.abandon(key)
        except ApiError as error:
            logger.warning("an unfinished upload could not be removed, the next start will: %s", error.detail)
        else:
            journal.settle(workspace, [key])
