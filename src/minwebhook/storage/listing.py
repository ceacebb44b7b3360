"""Lists of a directory tree in the order of keys, page by page, in bounded memory.

The order of names is nobody's, so a page means reading the whole folder. What the next pages will show is therefore kept for a
moment: a folder of N files is read once for twenty pages, not once for each.
"""

from __future__ import annotations

import heapq
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from minwebhook.storage.keys import MAX_KEY_BYTES, RESERVED_SEGMENT, ObjectKey, is_key
from minwebhook.storage.model import ListedObject, Page
from minwebhook.storage.tree import Tree

#: Names of one folder that are held at once when all objects are gone through.
_ALL_BATCH: Final = 10_000


#: How many pages, and keys at most, are picked when a folder is read; how long they are kept, and for how many lists.
_PAGES_AHEAD: Final = 20
_KEYS_AHEAD: Final = 20_000
KEPT_S: Final = 10.0
_LISTS_KEPT: Final = 4


@dataclass(slots=True)
class _Ahead:
    """Keys that begin with ``prefix`` and come after ``after``, in order."""

    prefix: str
    after: str
    keys: list[ObjectKey]
    #: Whether there are no further ones.
    is_all: bool
    read_at: float

    def add(self, key: ObjectKey) -> None:
        """There is an object with this key now."""
        if key.startswith(self.prefix) and key > self.after and (self.is_all or (self.keys and key < self.keys[-1])):
            at = bisect_left(self.keys, key)
            if self.keys[at : at + 1] != [key]:
                insort(self.keys, key)


class Lister:
    """Lists one tree. :meth:`page` may be called in several threads at once.

    Files that came by other means than :meth:`note` may be missing for :data:`KEPT_S`.
    """

    def __init__(self, tree: Tree, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tree = tree
        self._clock = clock
        self._lock = threading.Lock()
        #: By prefix and marker, the latest last.
        self._kept: dict[tuple[str, str], _Ahead] = {}
        #: Of lists that are being made: what came meanwhile.
        self._news: list[list[ObjectKey]] = []

    def page(self, prefix: str, after: str, limit: int) -> Page:
        """At most ``limit`` files whose keys begin with ``prefix`` and come after ``after``.

        Texts compare by code points, which is the order of their UTF-8 bytes and so S3's.
        """
        news: list[ObjectKey] = []
        with self._lock:
            self._news.append(news)
            ahead = self._kept.pop((prefix, after), None)
        try:
            if ahead is None or self._clock() - ahead.read_at > KEPT_S:
                ahead = self._read(prefix, after, limit)
            objects: list[ListedObject] = []
            while True:
                for at, key in enumerate(ahead.keys):
                    found = self._tree.stat_file(key.split("/"))
                    if found is None:
                        continue  # it was removed meanwhile
                    if len(objects) == limit:
                        marker = objects[-1].key
                        self._keep(_Ahead(prefix, marker, ahead.keys[at:], ahead.is_all, ahead.read_at), news)
                        return Page(tuple(objects), marker)
                    objects.append(ListedObject(key, found.st_size, found.st_mtime_ns // 1_000_000))
                if ahead.is_all:
                    return Page(tuple(objects))
                ahead = self._read(prefix, ahead.keys[-1], limit)
        finally:
            with self._lock:  # by identity: equal lists are others'
                self._news = [each for each in self._news if each is not news]

    def note(self, key: ObjectKey) -> None:
        """There is an object with this key now."""
        with self._lock:
            for news in self._news:
                news.append(key)
            for ahead in self._kept.values():
                ahead.add(key)

    def _read(self, prefix: str, after: str, limit: int) -> _Ahead:
        wanted = min(max(limit + 1, _PAGES_AHEAD * limit), max(limit + 1, _KEYS_AHEAD))
        read_at = self._clock()
        keys = list(islice(_keys(self._tree, "", prefix, after, wanted), wanted))
        return _Ahead(prefix, after, keys, len(keys) < wanted, read_at)

    def _keep(self, ahead: _Ahead, news: list[ObjectKey]) -> None:
        with self._lock:
            for key in news:
                ahead.add(key)
            self._kept[ahead.prefix, ahead.after] = ahead
            while len(self._kept) > _LISTS_KEPT:
                del self._kept[next(iter(self._kept))]


def all_keys(tree: Tree) -> Iterator[ObjectKey]:
    """The keys of all objects, in order; objects that come and go meanwhile may be among them or not."""
    return _keys(tree, "", "", "", _ALL_BATCH)


def _keys(tree: Tree, base: str, prefix: str, after: str, batch: int) -> Iterator[ObjectKey]:
    """The keys below the folder ``base`` (empty, or with a ``/`` at its end), in order."""
    for name in _names(tree, base, prefix, after, batch):
        path = base + name
        if name.endswith("/"):
            if len(path) <= MAX_KEY_BYTES:
                yield from _keys(tree, path, prefix, after, batch)
        elif is_key(path):
            yield ObjectKey(path)


def _names(tree: Tree, base: str, prefix: str, after: str, batch: int) -> Iterator[str]:
    """The names in one folder that matter, in order.

    A folder of a million files is read as often as it has pages, but never kept: each reading picks the next ``batch``.
    """
    segments = base.split("/")[:-1]

    def matters(name: str) -> bool:
        path = base + name
        if name.endswith("/"):
            if path == f"{RESERVED_SEGMENT}/":
                return False
            # Keys below come after `after` unless it is beyond all that begin with the path.
            return (path.startswith(prefix) or prefix.startswith(path)) and (path > after or after.startswith(path))
        return path.startswith(prefix) and path > after

    position = ""
    while True:
        names = (name for name in tree.names(segments) if name > position and matters(name))
        picked = heapq.nsmallest(batch, names)
        yield from picked
        if len(picked) < batch:
            return
        position = picked[-1]
