"""Objects as plain files in a local directory.

::

    ROOT/<key>                       the object, nothing but its bytes
    ROOT/.minwebhook/info/ab/…       what is known of it (sidecars.py)
    ROOT/.minwebhook/new/…           files that are being written
    ROOT/.minwebhook/lock            held by the one server that uses the directory

An object is written to a file in ``new``, flushed to the disk, and renamed to its place, so that it is there whole or
not at all, even if the power fails in between. Files that other programs put below ROOT are objects, too.

Two things a file system cannot do and S3 can: an object ``a`` beside an object ``a/b``, and names of a folder or file
that are over 255 bytes. Both are refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from minwebhook.errors import BadGateway, BadRequest, InsufficientStorage, NotFound, SettingsError
from minwebhook.storage.backend import Bytes
from minwebhook.storage.keys import RESERVED_SEGMENT, ObjectKey
from minwebhook.storage.listing import Lister
from minwebhook.storage.model import ByteRange, ObjectHeaders, ObjectInfo, Page
from minwebhook.storage.sidecars import SHARDS, Sidecars, Version
from minwebhook.storage.tree import Tree

#: Where files are that are being written.
NEW_FOLDER: Final = (RESERVED_SEGMENT, "new")

#: What is handed to a thread at once. A hand-over costs some 0.1 ms (more on a busy machine), writing this much 1 ms.
PIECE_BYTES: Final = 2 * 1024 * 1024

#: What is given to the page cache at once. For some MiB it looks for larger pages, which cost more than they save (ext4);
#: with much less, most of the time goes into calls, and into getting the interpreter back after each.
_WRITE_BYTES: Final = 128 * 1024

#: Files stay in the page cache up to this size, since their job will read them now. The rest of larger ones goes past it,
#: where the file system can do that.
CACHED_BYTES: Final = 32 * 1024 * 1024

#: How much is written to the page cache before the kernel is asked to bring it to the disk, while we go on: the fsync at
#: the end would otherwise wait for all of it.
_FLUSH_BYTES: Final = 32 * 1024 * 1024

#: Locks that keys share; two keys on one lock merely wait for each other.
_LOCKS: Final = 64

#: How often a reader looks again when the object is replaced while it looks.
_MAX_LOOKS: Final = 8

#: Names of files and folders (``NAME_MAX`` of the usual file systems).
_MAX_SEGMENT_BYTES: Final = 255

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR})
_TAKEN: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY})


class LocalBackend:
    """The objects below one directory. One per directory; see :meth:`open`."""

    piece_bytes = PIECE_BYTES

    def __init__(self, root: int, lock: int) -> None:
        self._root = root
        self._lock = lock
        self.tree = Tree(root)
        self.sidecars = Sidecars(self.tree)
        self._lister = Lister(self.tree)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._stamps = threading.Lock()
        self._last_stamp_ns = 0

    @classmethod
    def open(cls, base: Path, *folder: str) -> LocalBackend:
        """Use a directory, which is made if need be (mode 0700), and remove what uploads left that a crash ended.

        It is ``base``, or a ``folder`` below it given by its segments; of these, none may be a link. Raises
        :class:`SettingsError` when it cannot be used or another server uses it.
        """
        root = lock = -1
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            top = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with Tree(top).folder(folder, make=True) as opened:
                    root = os.dup(opened)
            finally:
                os.close(top)
            tree = Tree(root)
            with tree.folder(NEW_FOLDER, make=True), tree.folder((RESERVED_SEGMENT,)) as own:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                lock = os.open("lock", flags, 0o600, dir_fd=own)
            # The locks of keys are in this process's memory, and what is in "new" is taken for left over.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in list(tree.names(NEW_FOLDER)):
                tree.remove((*NEW_FOLDER, name))
            return cls(root, lock)
        except OSError as error:
            for fd in (root, lock):
                if fd >= 0:
                    os.close(fd)
            path = base.joinpath(*folder)
            if isinstance(error, BlockingIOError):
                raise SettingsError(f"the directory of objects {path} is in use by another server") from error
            raise SettingsError(f"cannot use the directory of objects {path}: {error.strerror}") from error

    def open_sink(self, key: ObjectKey, headers: ObjectHeaders) -> _Sink:
        """Begin a file in ``new``; what cannot have a place is refused now, before its bytes come."""
        with _errors_of(key, is_writing=True):
            self._check_place(key.split("/"))
            name = self.temporary()
            return _Sink(self, key, headers, name, self.tree.create_file(name))

    def open_source(self, key: ObjectKey, wanted: ByteRange | None) -> _Source:
        """Open the object's file."""
        with _errors_of(key):
            fd, info = open_object(self.tree, self.sidecars, key)
        try:
            span = (0, info.size) if wanted is None else wanted.within(info.size)
            return _Source(fd, info, span)
        except BaseException:
            os.close(fd)
            raise

    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is known of an object."""
        with _errors_of(key):
            fd, info = open_object(self.tree, self.sidecars, key)
            os.close(fd)
        return info

    def delete(self, key: ObjectKey) -> None:
        """Remove the file, then its sidecar."""
        with suppress(NotFound), _errors_of(key), self.locked(key):
            if self.tree.remove(key.split("/"), prune=True):
                self.sidecars.remove(key)

    def abandon(self, key: ObjectKey) -> None:
        """Remove the file; :meth:`open` has removed what was not one yet."""
        self.delete(key)

    def list(self, prefix: str, after: str, limit: int) -> Page:
        """The files in the order of their keys."""
        with _errors_of("the list"):
            return self._lister.page(prefix, after, limit)

    def copy(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Copy the bytes to a new object; it cannot be cancelled on the way."""
        reader = self.open_source(source, None)
        try:
            sink = self.open_sink(target, reader.info.headers)
            try:
                while piece := reader.read():
                    sink.write(piece)
                return sink.commit(b"")
            except BaseException:
                sink.discard()
                raise
        finally:
            reader.close()

    def move(self, source: ObjectKey, target: ObjectKey) -> ObjectInfo:
        """Rename the file: it is at one of the two places at any time."""
        with _errors_of(source), self.locked(source, target):
            found = self.tree.stat_file(source.split("/"))
            if found is None:
                raise NotFound(f"there is no object {source}")
            version = _known(self.sidecars.read(source), found)
            if version is None:  # it came by other means
                version = Version(found.st_size, found.st_mtime_ns, ObjectHeaders())
            with _errors_of(target, is_writing=True):
                self._check_place(target.split("/"))
                self.place(source.split("/"), target, version)
            self.tree.prune(source.split("/")[:-1])
            self.sidecars.remove(source)
            return _info(target, version)

    def sign(self, key: ObjectKey, expires_in_s: int) -> None:
        """A directory has no URLs."""

    def sweep(self, before_ms: int) -> Iterator[int]:
        """Sidecars whose object is gone. The rest is done by :meth:`open`."""
        for number in range(SHARDS):
            with _errors_of("the sweep"):
                yield sum(self._sweep_one(*found) for found in self.sidecars.shard(number))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._root)
        os.close(self._lock)

    # For sinks

    def temporary(self) -> tuple[str, ...]:
        """The name of a new file that is not an object yet."""
        return (*NEW_FOLDER, os.urandom(12).hex())

    def stamp_ns(self) -> int:
        """A modification time that no other version has: the kernel's own is the same for some milliseconds."""
        with self._stamps:
            self._last_stamp_ns = max(time.time_ns(), self._last_stamp_ns + 1)
            return self._last_stamp_ns

    @contextmanager
    def locked(self, *keys: ObjectKey) -> Iterator[None]:
        """Nobody else changes these objects inside the block."""
        numbers = sorted({hash(key) % _LOCKS for key in keys})
        for number in numbers:
            self._locks[number].acquire()
        try:
            yield
        finally:
            for number in numbers:
                self._locks[number].release()

    def place(self, file: Sequence[str], key: ObjectKey, version: Version) -> None:
        """Make a finished file the object ``key``. The caller holds the lock of ``key``."""
        segments = key.split("/")
        found = self.tree.stat_file(segments)
        old = None if found is None else _known(self.sidecars.read(key), found)
        # Before the object: there is no moment in which it lacks its entry.
        self.sidecars.write(key, [version] if old is None else [old, version], self.temporary())
        try:
            self.tree.rename(file, segments)
            self._lister.note(key)
        except BaseException:
            # No object is there that needs a sidecar, or the old one is; keep what fits.
            if found is None:
                self.tree.prune(segments[:-1])
                self.sidecars.remove(key)
            raise

    def _check_place(self, segments: Sequence[str]) -> None:
        """Raises the error that renaming to this place would raise, as far as that is known now."""
        with suppress(FileNotFoundError), self.tree.folder(segments[:-1]) as folder:
            if stat.S_ISDIR(os.stat(segments[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                raise IsADirectoryError(errno.EISDIR, segments[-1])
        if any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
            raise OSError(errno.ENAMETOOLONG, "a segment")

    def _sweep_one(self, segments: tuple[str, ...], key: ObjectKey | None) -> bool:
        """Remove a sidecar if it is one of nothing."""
        if key is None:
            return self.tree.remove(segments)
        with self.locked(key):
            return self.tree.stat_file(key.split("/")) is None and self.tree.remove(segments)


class _Sink:
    """A file in ``new`` that becomes an object."""

    def __init__(
        self, backend: LocalBackend, key: ObjectKey, headers: ObjectHeaders, name: tuple[str, ...], fd: int
    ) -> None:
        self._backend = backend
        self._key = key
        self._headers = headers
        self._name = name
        self._fd = fd
        self._size = 0
        self._flushed = 0
        self._goes_direct = True

    def write(self, data: Bytes) -> None:
        """Write, and let the disk begin."""
        view = memoryview(data)
        with _errors_of(self._key, is_writing=True):
            if self._goes_direct and self._size >= CACHED_BYTES and len(view) == PIECE_BYTES:
                written = self._write_direct(view)
                self._size += written
                self._flushed = self._size
                view = view[written:]
            while view:
                written = os.write(self._fd, view[:_WRITE_BYTES])
                self._size += written
                view = view[written:]
            if self._size - self._flushed >= _FLUSH_BYTES:
                # "Not needed" starts writing back what is dirty (mm/fadvise.c), and only then drops what is clean.
                os.posix_fadvise(self._fd, self._flushed, self._size - self._flushed, os.POSIX_FADV_DONTNEED)
                self._flushed = self._size

    def commit(self, rest: Bytes) -> ObjectInfo:
        """Flush the file to the disk, then give it its place."""
        self.write(rest)
        with _errors_of(self._key, is_writing=True):
            stamp = self._backend.stamp_ns()
            os.utime(self._fd, ns=(stamp, stamp))
            os.fsync(self._fd)
            found = os.fstat(self._fd)  # a file system may keep times less exactly
            self._close()
            version = Version(found.st_size, found.st_mtime_ns, self._headers)
            with self._backend.locked(self._key):
                self._backend.place(self._name, self._key, version)
        return _info(self._key, version)

    def _write_direct(self, view: memoryview) -> int:
        """Write from this very memory to the disk; gives how many bytes it was.

        0, and then never again, if the file system cannot do that, or not from this memory or to this place: what they
        have to be multiples of is its own business.
        """
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_DIRECT)
            return os.write(self._fd, view)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._goes_direct = False
            return 0
        finally:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, 0)

    def discard(self) -> None:
        """Remove the file; after a commit it is not there any more."""
        with _errors_of(self._key):
            self._close()
            self._backend.tree.remove(self._name)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Source:
    """An object's file that is open."""

    def __init__(self, fd: int, info: ObjectInfo, span: tuple[int, int]) -> None:
        self._fd = fd
        self._at, self._stop = span
        self.info = info
        self.span = span

    def read(self) -> bytes:
        """The next piece of the file."""
        wanted = min(PIECE_BYTES, self._stop - self._at)
        if not wanted:
            return b""
        with _errors_of(self.info.key):
            piece = os.pread(self._fd, wanted, self._at)
        if not piece:  # another program cut the file
            raise BadGateway(f"the object {self.info.key} became shorter while it was read")
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_object(tree: Tree, sidecars: Sidecars, key: ObjectKey) -> tuple[int, ObjectInfo]:
    """The object's file and what is known of it; the two belong together, whoever replaces it meanwhile."""
    seen, looks = None, 0
    while True:
        looks += 1
        fd, found = tree.open_file(key.split("/"))
        try:
            versions = sidecars.read(key)
        except BaseException:
            os.close(fd)
            raise
        version = _known(versions, found)
        if version is not None:
            return fd, _info(key, version)
        # Replaced between the two steps, or, if nothing changes, it came by other means.
        if looks == _MAX_LOOKS or seen == (found.st_ino, found.st_mtime_ns):
            return fd, _foreign_info(key, found, versions)
        seen = (found.st_ino, found.st_mtime_ns)
        os.close(fd)


def _known(versions: list[Version], found: os.stat_result) -> Version | None:
    """The entry of the file; the newest, if times are too coarse to tell two apart."""
    return next((version for version in reversed(versions) if version.is_of(found)), None)


def _info(key: ObjectKey, version: Version) -> ObjectInfo:
    # Its writer made the time unique, so this is of no other content.
    etag = f'"{version.mtime_ns:x}-{version.size:x}"'
    return ObjectInfo(key, version.size, etag, version.mtime_ns // 1_000_000, version.headers)


def _foreign_info(key: ObjectKey, found: os.stat_result, versions: list[Version]) -> ObjectInfo:
    """What is known of a file that no entry fits: it came by other means, or from a backup that rounds times.

    The newest entry of the same size says how a restored file is served.
    """
    headers = next((v.headers for v in reversed(versions) if v.size == found.st_size), ObjectHeaders())
    return _info(key, Version(found.st_size, found.st_mtime_ns, headers))


@contextmanager
def _errors_of(what: str, *, is_writing: bool = False) -> Iterator[None]:
    """What the kernel says, in words for the caller."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage("the disk of the object storage is full") from error
        if is_writing and error.errno == errno.ENAMETOOLONG:
            limit = f"the part of a key between two / has at most {_MAX_SEGMENT_BYTES} bytes in a local directory"
            raise BadRequest(f"{what} cannot be stored: {limit}") from error
        if is_writing and error.errno in _TAKEN:
            reason = "in a local directory, no object can be at a key that is the folder of another object's"
            raise BadRequest(f"{what} cannot be stored: {reason}") from error
        if not is_writing and error.errno in _ABSENT:
            raise NotFound(f"there is no object {what}") from error
        raise BadGateway("the disk of the object storage reports an error") from error
