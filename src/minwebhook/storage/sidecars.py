"""What a plain file cannot carry, kept in a file beside the objects: content type and disposition.

An object and its sidecar are two files, and no system call replaces two files at once. So a sidecar may describe more
than one version of its object: before an object is replaced, its sidecar is replaced by one that knows the old version
and the new. A version is recognized by its file's size and modification time, which the writer makes unique; a reader
takes the entry that fits the file it has open. A crash at any point leaves an object that its sidecar knows.

Sidecars are named by a hash of the key, so that they nest as they like, and hold the key themselves. Extended
attributes would be simpler, but many file systems, archives and copying programs drop them.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from minwebhook.errors import BadRequest
from minwebhook.storage.keys import RESERVED_SEGMENT, ObjectKey
from minwebhook.storage.model import ObjectHeaders
from minwebhook.storage.tree import Tree

_FOLDER: Final = (RESERVED_SEGMENT, "info")

#: Sidecars are spread over this many folders, named in two hex digits.
SHARDS: Final = 256

#: What opening says of a file that is not there, or is a link.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

#: A sidecar is some hundred bytes; one of more is not ours.
_MAX_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object: how its file is recognized, and what is known of it."""

    size: int
    mtime_ns: int
    headers: ObjectHeaders

    def is_of(self, found: os.stat_result) -> bool:
        """Whether the file is this version."""
        return (self.size, self.mtime_ns) == (found.st_size, found.st_mtime_ns)

    def to_json(self) -> dict[str, Any]:
        """The entry in a sidecar."""
        return {
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "content_type": self.headers.content_type,
            "content_disposition": self.headers.content_disposition,
        }


class Sidecars:
    """The sidecars of one tree. Whoever writes holds the object's lock; reading needs none."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def read(self, key: ObjectKey) -> list[Version]:
        """The versions that are known, oldest first; none for an object that came by other means."""
        return _parse(self._read(place(key)))[1]

    def write(self, key: ObjectKey, versions: Sequence[Version], temporary: Sequence[str]) -> None:
        """Replace the sidecar, durably; it is written to ``temporary`` first, which is gone afterwards."""
        data = encode(key, versions)
        try:
            fd = self._tree.create_file(temporary)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            self._tree.rename(temporary, place(key))
        except BaseException:
            with suppress(OSError):
                self._tree.remove(temporary)
            raise

    def remove(self, key: ObjectKey) -> None:
        """Forget an object."""
        self._tree.remove(place(key))

    def shard(self, number: int) -> Iterator[tuple[tuple[str, ...], ObjectKey | None]]:
        """Every file of one shard, with the key it says it is for; None when it is none of ours."""
        folder = (*_FOLDER, f"{number:02x}")
        for name in list(self._tree.names(folder)):
            segments = (*folder, name)
            key, _ = _parse(self._read(segments))
            yield segments, key if key is not None and place(key) == segments else None

    def _read(self, segments: Sequence[str]) -> bytes:
        try:
            fd, _ = self._tree.open_file(segments)
        except OSError as error:
            if error.errno in _ABSENT:
                return b""
            raise  # it may be there: an object must not lose its type because the disk had a bad moment
        try:
            return os.read(fd, _MAX_BYTES)
        finally:
            os.close(fd)


def encode(key: ObjectKey, versions: Sequence[Version]) -> bytes:
    """What a sidecar holds."""
    return orjson.dumps({"key": key, "versions": [version.to_json() for version in versions]})


def place(key: ObjectKey) -> tuple[str, ...]:
    """Where the sidecar of an object is, in segments below the root."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return (*_FOLDER, digest[:2], digest[2:])


def _parse(data: bytes) -> tuple[ObjectKey | None, list[Version]]:
    """What a sidecar says; nothing when it is damaged, so that the object stays readable."""
    try:
        said = orjson.loads(data)
        versions = [
            Version(
                int(entry["size"]),
                int(entry["mtime_ns"]),
                ObjectHeaders(entry["content_type"], entry["content_disposition"]),
            )
            for entry in said["versions"]
        ]
        return ObjectKey(str(said["key"])), versions
    except (ValueError, TypeError, KeyError, BadRequest):
        return None, []
