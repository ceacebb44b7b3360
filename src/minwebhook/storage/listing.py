"""Lists of a directory tree in the order of keys, page by page, in memory bounded by the page."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from minwebhook.storage.keys import MAX_KEY_BYTES, RESERVED_SEGMENT, ObjectKey, is_key
from minwebhook.storage.model import ListedObject, Page
from minwebhook.storage.tree import Tree

#: Names of one folder that are held at once when all objects are gone through.
_ALL_BATCH: Final = 10_000


def list_tree(tree: Tree, prefix: str, after: str, limit: int) -> Page:
    """At most ``limit`` files whose keys begin with ``prefix`` and come after ``after``.

    Texts compare by code points, which is the order of their UTF-8 bytes and so S3's.
    """
    objects: list[ListedObject] = []
    for key in _keys(tree, "", prefix, after, limit + 1):
        found = tree.stat_file(key.split("/"))
        if found is None:
            continue  # it was removed meanwhile
        if len(objects) == limit:
            return Page(tuple(objects), objects[-1].key)
        objects.append(ListedObject(key, found.st_size, found.st_mtime_ns // 1_000_000))
    return Page(tuple(objects))


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
