"""A random walk over a local directory, against a dict of what should be in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from minwebhook.errors import BadRequest, NotFound, RangeNotSatisfiable
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.local import LocalBackend
from minwebhook.storage.model import ByteRange, ObjectHeaders

#: Keys that are folders of each other, sort oddly around "/", and share first letters.
KEYS = st.sampled_from(["a", "a/b", "a/b/c", "a-b", "a.b", "a/é", "aa", "b", "b/c", "日/a", "%2e", "a b/c"]).map(
    ObjectKey
)
DATA = st.binary(max_size=8) | st.just(b"x" * 70_000)
TYPES = st.sampled_from(["text/plain", "text/csv", "application/octet-stream"])

#: Where an fsync costs nothing.
MEMORY = Path("/dev/shm")


class Directory(RuleBasedStateMachine):
    """The rules; ``model`` is what should be there: key → content and type."""

    @initialize()
    def begin(self) -> None:
        """An empty directory."""
        base = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="minwebhook-test-", dir=base))
        self.backend = LocalBackend.open(self.root)
        self.model: dict[str, tuple[bytes, str]] = {}

    def has_room(self, key: str) -> bool:
        """Whether a file system lets ``key`` be an object beside the others."""
        others = set(self.model) - {key}
        return not any(other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in others)

    def expect(self, is_possible: bool, work: Callable[..., Any], *args: Any) -> bool:
        """Does ``work``, which must be refused when it is not possible; whether it was done."""
        try:
            work(*args)
        except BadRequest:
            assert not is_possible
            return False
        assert is_possible
        return True

    @rule(key=KEYS, data=DATA, content_type=TYPES)
    def put(self, key: ObjectKey, data: bytes, content_type: str) -> None:
        """Store or replace."""

        def work() -> None:
            sink = self.backend.open_sink(key, ObjectHeaders(content_type))
            sink.write(data[:3])
            assert sink.commit(data[3:]).size == len(data)
            sink.discard()

        if self.expect(self.has_room(key), work):
            self.model[key] = (data, content_type)

    @rule(key=KEYS, data=DATA)
    def give_up(self, key: ObjectKey, data: bytes) -> None:
        """Begin, and leave nothing."""

        def work() -> None:
            sink = self.backend.open_sink(key, ObjectHeaders())
            sink.write(data)
            sink.discard()
            sink.discard()

        self.expect(self.has_room(key), work)

    @rule(key=KEYS)
    def delete(self, key: ObjectKey) -> None:
        """Remove, or nothing."""
        self.backend.delete(key)
        self.model.pop(key, None)

    @rule(key=KEYS, new=KEYS)
    def copy(self, key: ObjectKey, new: ObjectKey) -> None:
        """Copy with type."""
        if key == new:
            return
        if key not in self.model:
            self.expect_missing(self.backend.copy, key, new)
        elif self.expect(self.has_room(new), self.backend.copy, key, new):
            self.model[new] = self.model[key]

    @rule(key=KEYS, new=KEYS)
    def move(self, key: ObjectKey, new: ObjectKey) -> None:
        """Move with type. Below or above itself it cannot go."""
        if key == new:
            return
        if key not in self.model:
            self.expect_missing(self.backend.move, key, new)
        elif self.expect(self.has_room(new), self.backend.move, key, new):
            self.model[new] = self.model.pop(key)

    def expect_missing(self, work: Callable[..., Any], *args: Any) -> None:
        """``work`` finds no object."""
        try:
            work(*args)
        except NotFound:
            return
        raise AssertionError("an object that is not there was found")

    @rule(key=KEYS, first=st.integers(0, 9), last=st.integers(0, 9))
    def read_range(self, key: ObjectKey, first: int, last: int) -> None:
        """A part of an object is that part."""
        if first > last or key not in self.model:
            return
        data = self.model[key][0]
        try:
            source = self.backend.open_source(key, ByteRange(first, last))
        except RangeNotSatisfiable:
            assert first >= len(data)
            return
        assert b"".join(iter(source.read, b"")) == data[first : last + 1]
        source.close()

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "a/b", "a-", "b/", "zz", "日"]),
        after=st.sampled_from(["", "a", "a/", "a/b", "a/zz", "b", "é"]),
        limit=st.integers(1, 4),
    )
    def list_pages(self, prefix: str, after: str, limit: int) -> None:
        """The pages together are all keys, once, in order."""
        listed: list[str] = []
        marker = after
        while True:
            page = self.backend.list(prefix, marker, limit)
            listed += [found.key for found in page.objects]
            assert all(found.size == len(self.model[found.key][0]) for found in page.objects)
            if page.next_marker is None:
                break
            assert len(page.objects) == limit
            marker = page.next_marker
        expected = (key for key in self.model if key.startswith(prefix) and key.encode() > after.encode())
        assert listed == sorted(expected, key=str.encode)

    @rule()
    def restart(self) -> None:
        """As the next server finds it."""
        self.backend.close()
        self.backend = LocalBackend.open(self.root)
        assert sum(self.backend.sweep(0)) == 0, "nothing is left over by what went well"

    @invariant()
    def everything_is_there(self) -> None:
        """Content, size and type of every object; and no file beyond the objects and their sidecars."""
        if not hasattr(self, "model"):
            return
        for key, (data, content_type) in self.model.items():
            source = self.backend.open_source(ObjectKey(key), None)
            assert b"".join(iter(source.read, b"")) == data
            assert (source.info.size, source.info.headers.content_type) == (len(data), content_type)
            source.close()
        files = [path for path in self.root.rglob("*") if path.is_file()]
        assert len(files) == 2 * len(self.model) + 1

    def teardown(self) -> None:
        """Leave the machine as it was."""
        if hasattr(self, "backend"):
            self.backend.close()
            shutil.rmtree(self.root)


Directory.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestDirectory = Directory.TestCase
