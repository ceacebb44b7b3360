"""The archive of a backup: what goes in comes out, and nothing else passes for a backup."""

from __future__ import annotations

import contextlib
import io
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwebhook.errors import UpkeepError
from minwebhook.upkeep.archive import END, FORMAT, MANIFEST, ArchiveReader, ArchiveWriter, Member

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=150).filter(
    lambda name: name not in (END, MANIFEST) and not name.endswith("/")
)
MEMBERS = st.lists(
    st.tuples(
        NAMES,
        st.binary(max_size=2000),
        st.integers(0, 4_000_000_000_123_456_789),
        st.dictionaries(st.sampled_from(["content_type", "content_disposition"]), st.text("abc/=é ", min_size=1)),
    ),
    max_size=5,
)


def packed(members: list[tuple[str, bytes, int, dict[str, str]]], manifest: Any = None) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_json(MANIFEST, manifest or {"format": FORMAT, "has_objects": True})
    for name, content, mtime_ns, headers in members:
        assert writer.add(Member(name, len(content), mtime_ns, headers), io.BytesIO(content))
    writer.finish()
    return file.getvalue()


def unpacked(data: bytes) -> list[tuple[str, bytes, int, dict[str, str]]]:
    reader = ArchiveReader(io.BytesIO(data))
    return [(m.name, b"".join(chunks), m.mtime_ns, dict(m.headers)) for m, chunks in reader.members()]


@given(MEMBERS)
def test_what_goes_in_comes_out(members: list[tuple[str, bytes, int, dict[str, str]]]) -> None:
    assert unpacked(packed(members)) == members


SAMPLE = [("objects/demo/a", b"first" * 100, 7, {"content_type": "text/plain"}), ("objects/demo/b", b"", 8, {})]


@given(st.data())
@settings(max_examples=300)
def test_a_changed_byte_is_noticed_or_means_nothing(data: st.DataObject) -> None:
    whole = packed(SAMPLE)
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UpkeepError):
        assert unpacked(bytes(changed)) == SAMPLE


@given(st.integers(0, len(packed(SAMPLE)) - 1))
def test_a_part_of_a_backup_is_none(length: int) -> None:
    whole = packed(SAMPLE)
    try:
        assert unpacked(whole[:length]) == SAMPLE  # the padding of tar may be missing
        assert not whole[length:].strip(b"\0")
    except UpkeepError:
        pass


def test_members_of_another_backup_are_noticed() -> None:
    """Two archives with the same contents under other names do not make a third."""
    one = packed([("objects/demo/ab", b"c", 0, {})])
    two = packed([("objects/demo/a", b"bc", 0, {})])
    end_of_two = two[two.index(b'{"files"') :].partition(b"}")[0]
    start = one.index(b'{"files"')
    mixed = one[:start] + end_of_two + one[start + len(end_of_two) :]
    with pytest.raises(UpkeepError, match="checksum"):
        unpacked(mixed)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not a backup"),
        (b"garbage" * 1000, "not a backup"),
        (packed([], {"format": 2}), "format 2"),
        (packed([], {"format": "x", "filler": "x" * 70_000}), "too long"),
    ],
)
def test_what_is_no_backup(data: bytes, text: str) -> None:
    with pytest.raises(UpkeepError, match=text):
        ArchiveReader(io.BytesIO(data))


def test_a_tar_of_something_else() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("etc/passwd"), io.BytesIO())
    with pytest.raises(UpkeepError, match="first member"):
        ArchiveReader(io.BytesIO(file.getvalue()))


def test_a_link_is_refused() -> None:
    file = io.BytesIO(packed([]))
    with tarfile.open(fileobj=file, mode="r") as tar:
        manifest = tar.extractfile(MANIFEST)
        assert manifest is not None
        content = manifest.read()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("minwebhook.db")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(UpkeepError, match="not a plain file"):
        unpacked(file.getvalue())


def test_a_file_that_shrinks_while_it_is_read_is_filled_up() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_json(MANIFEST, {"format": FORMAT})
    assert not writer.add(Member("objects/demo/a", 10), io.BytesIO(b"abc"))
    writer.finish()
    assert unpacked(file.getvalue()) == [("objects/demo/a", b"abc" + bytes(7), 0, {})]
