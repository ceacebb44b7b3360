"""A directory tree that nothing leads out of: every step is taken relative to an open directory, and links are not steps.

Whoever may write below the root by other means (a mount shared with a script, a restored backup) can plant symbolic
links there. A path given to the kernel whole would follow them; here each folder is opened from its parent with
``O_NOFOLLOW`` (man 2 openat), so a planted link is an error, whenever it was planted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Nothing but plain files is ever opened; O_NONBLOCK, lest opening a planted pipe waits for its other end.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: How often a folder is made again that others remove because it is empty.
_MAX_TRIES: Final = 100


class Tree:
    """The tree below one open directory. Names are given as segments; errors are :class:`OSError`."""

    def __init__(self, root: int) -> None:
        self._root = root

    @contextmanager
    def folder(self, segments: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder, valid inside the block; with ``make`` it and its parents are made durable."""
        current = os.dup(self._root)
        try:
            for segment in segments:
                child = _step(current, segment, make=make)
                os.close(current)
                current = child
            yield current
        finally:
            os.close(current)

    def open_file(self, segments: Sequence[str]) -> tuple[int, os.stat_result]:
        """A plain file for reading; anything else at this place is a :class:`FileNotFoundError`."""
        with self.folder(segments[:-1]) as folder:
            fd = os.open(segments[-1], _FILE, dir_fd=folder)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, segments[-1])
        except BaseException:
            os.close(fd)
            raise
        return fd, found

    def create_file(self, segments: Sequence[str]) -> int:
        """A new file for writing, readable by the owner alone; its folder must be there."""
        with self.folder(segments[:-1]) as folder:
            return os.open(segments[-1], _NEW_FILE, 0o600, dir_fd=folder)

    def stat_file(self, segments: Sequence[str]) -> os.stat_result | None:
        """What is known of a plain file; None when there is none at this place."""
        with suppress(FileNotFoundError, NotADirectoryError), self.folder(segments[:-1]) as folder:
            found = os.stat(segments[-1], dir_fd=folder, follow_symlinks=False)
            return found if stat.S_ISREG(found.st_mode) else None
        return None

    def rename(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Move a file over ``new``, whose folders are made, and make that durable."""
        for _ in range(_MAX_TRIES):
            try:
                with self.folder(old[:-1]) as source, self.folder(new[:-1], make=True) as target:
                    os.rename(old[-1], new[-1], src_dir_fd=source, dst_dir_fd=target)
                    os.fsync(target)
                    os.fsync(source)
                    return
            except FileNotFoundError:
                if self.stat_file(old) is None:
                    raise
                # Somebody removed a folder on the way to the new place, because it was empty.
        raise FileNotFoundError(errno.ENOENT, new[-1])

    def remove(self, segments: Sequence[str], *, prune: bool = False) -> bool:
        """Remove a plain file or a link, durably; whether there was one. ``prune`` removes folders that it leaves empty."""
        try:
            with self.folder(segments[:-1]) as folder:
                os.unlink(segments[-1], dir_fd=folder)
                os.fsync(folder)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        if prune:
            self.prune(segments[:-1])
        return True

    def prune(self, segments: Sequence[str]) -> None:
        """Remove the folder if it is empty, then its parents likewise; never the root."""
        for depth in range(len(segments), 0, -1):
            try:
                with self.folder(segments[: depth - 1]) as parent:
                    os.rmdir(segments[depth - 1], dir_fd=parent)
            except FileNotFoundError:
                continue
            except OSError:
                return  # it is not empty

    def names(self, segments: Sequence[str]) -> Iterator[str]:
        """What is in a folder, in no order: names of plain files, and of folders with a ``/`` at the end.

        Nothing when the folder is not there. Left out are links and the like, and names that are not UTF-8.
        """
        absent = suppress(FileNotFoundError, NotADirectoryError)
        with absent, self.folder(segments) as folder, os.scandir(folder) as entries:
            for entry in entries:
                if not _is_utf8(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield f"{entry.name}/"
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name


def _step(parent: int, segment: str, *, make: bool) -> int:
    """Open a folder in ``parent``, made if need be. A link in its place is a :class:`NotADirectoryError`."""
    try:
        return os.open(segment, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(segment, 0o700, dir_fd=parent)
        os.fsync(parent)
    return os.open(segment, _FOLDER, dir_fd=parent)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # surrogates in place of other bytes (PEP 383)
        return False
    return True
