"""The local directory: what is on the disk, what others put there, full disks, links, and names it cannot have."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from minwebhook.errors import BadGateway, BadRequest, InsufficientStorage, NotFound, SettingsError
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.local import CACHED_BYTES, PIECE_BYTES, LocalBackend
from minwebhook.storage.model import ByteRange, ObjectHeaders
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.sidecars import Version
from tests.conftest import missing
from tests.integration.storage.conftest import SIGNER

A = ObjectKey("a")
CSV = ObjectHeaders("text/csv", 'inline; filename="x.csv"')


def put(backend: LocalBackend, key: str, data: bytes, headers: ObjectHeaders | None = None) -> None:
    """Store an object."""
    backend.open_sink(ObjectKey(key), headers or ObjectHeaders()).commit(data)


def get(backend: LocalBackend, key: str) -> bytes:
    """Read an object whole."""
    source = backend.open_source(ObjectKey(key), None)
    try:
        return b"".join(iter(source.read, b""))
    finally:
        source.close()


def keys(backend: LocalBackend, prefix: str = "") -> list[str]:
    """The keys there are."""
    return [found.key for found in backend.list(prefix, "", 1000).objects]


def files(root: Path) -> set[str]:
    """Every file below the root but the lock."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    return found - {".minwebhook/lock"}


# What is on the disk


def test_an_object_is_a_plain_file_of_the_owner(backend: LocalBackend, root: Path) -> None:
    put(backend, "a b/é%.txt", b"data")
    file = root / "a b" / "é%.txt"
    assert file.read_bytes() == b"data"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == root.stat().st_mode & 0o777 == 0o700


def test_a_deleted_object_leaves_nothing_not_even_folders(backend: LocalBackend, root: Path) -> None:
    put(backend, "x/y/z/a", b"1")
    put(backend, "x/b", b"2")
    backend.delete(ObjectKey("x/y/z/a"))
    assert [path.name for path in (root / "x").iterdir()] == ["b"]
    backend.delete(ObjectKey("x/b"))
    assert files(root) == set()
    assert not (root / "x").exists()


def test_the_sidecar_of_a_moved_object_moves(backend: LocalBackend, root: Path) -> None:
    put(backend, "x/a", b"1", CSV)
    before = backend.head(ObjectKey("x/a"))
    moved = backend.move(ObjectKey("x/a"), ObjectKey("b"))
    assert (moved.etag, moved.headers, moved.last_modified_ms) == (before.etag, CSV, before.last_modified_ms)
    assert backend.head(ObjectKey("b")) == moved
    assert not (root / "x").exists()
    assert len(files(root)) == 2


def test_one_server_at_a_time_uses_a_directory(backend: LocalBackend, root: Path) -> None:
    with pytest.raises(SettingsError, match="in use by another server"):
        LocalBackend.open(root)


def test_a_directory_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot use the directory of objects"):
        LocalBackend.open(tmp_path / "file")


# Versions and their sidecars


def test_between_sidecar_and_rename_the_old_object_keeps_its_entry(backend: LocalBackend) -> None:
    """The state that a crash at this point leaves."""
    put(backend, "a", b"old", CSV)
    (old,) = backend.sidecars.read(A)
    new = Version(3, backend.stamp_ns(), ObjectHeaders("text/html"))
    backend.sidecars.write(A, [old, new], backend.temporary())
    assert backend.head(A).headers == CSV
    put(backend, "a", b"newer", ObjectHeaders("text/plain"))
    assert backend.head(A).headers.content_type == "text/plain"
    assert [version.size for version in backend.sidecars.read(A)] == [3, 5], "the lost version is forgotten"


def test_a_failed_first_commit_leaves_no_sidecar(backend: LocalBackend, root: Path) -> None:
    sink = backend.open_sink(ObjectKey("x/y/a"), ObjectHeaders())
    put(backend, "x/y/a/b", b"now a folder")
    with pytest.raises(BadRequest, match="the folder of another"):
        sink.commit(b"late")
    sink.discard()
    backend.delete(ObjectKey("x/y/a/b"))
    assert files(root) == set()


def test_the_sweep_removes_sidecars_of_nothing(backend: LocalBackend, root: Path) -> None:
    put(backend, "kept", b"1", CSV)
    put(backend, "gone/by/hand", b"2")
    (root / "gone/by/hand").unlink()
    damaged = root / ".minwebhook" / "info" / "7f" / ("0" * 62)
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"{")
    assert sum(backend.sweep(0)) == 2
    assert sum(backend.sweep(0)) == 0
    assert backend.head(ObjectKey("kept")).headers == CSV
    assert len(files(root)) == 2


def test_a_restored_object_keeps_its_type_although_times_were_rounded(backend: LocalBackend, root: Path) -> None:
    put(backend, "a", b"data", CSV)
    os.utime(root / "a", (1_700_000_000, 1_700_000_000))
    info = backend.head(A)
    assert info.headers == CSV
    assert info.last_modified_ms == 1_700_000_000_000


def test_an_object_does_not_lose_its_type_when_the_sidecar_cannot_be_read(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(backend, "a", b"1", CSV)
    inner = backend.tree.open_file

    def failing(segments: Sequence[str]) -> tuple[int, os.stat_result]:
        if segments[0] == ".minwebhook":
            raise OSError(errno.EIO, "input/output error")
        return inner(segments)

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    sink = backend.open_sink(A, ObjectHeaders())
    with monkeypatch.context() as patched:
        patched.setattr(backend.tree, "open_file", failing)
        for call in (backend.head, lambda key: backend.open_source(key, None), lambda key: sink.commit(b"2")):
            with pytest.raises(BadGateway, match="reports an error"):
                call(A)
    sink.discard()
    assert open_files() == before
    assert backend.head(A).headers == CSV
    assert get(backend, "a") == b"1"


# Past the page cache


@pytest.fixture(scope="module")
def large() -> bytes:
    """More than is kept in the page cache, with a piece and a bit behind it."""
    return os.urandom(CACHED_BYTES + PIECE_BYTES) + b"rest"


def is_cached(file: Path, at: int) -> bool:
    """Whether the page cache has the byte at this place."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def knows_direct_writes(folder: Path) -> bool:
    """Whether what is written past the page cache is not in it, and can be told from what is."""
    file = folder / "probe"
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        with mmap.mmap(-1, PIECE_BYTES) as memory:
            os.write(fd, memory)
        os.close(fd)
        return not is_cached(file, 0)
    except OSError:
        return False


async def test_the_end_of_a_large_file_is_on_the_disk_and_not_in_memory(
    storage: ObjectStorage, root: Path, tmp_path: Path, large: bytes
) -> None:
    async with storage.put(A) as upload:
        await upload.write(large)
        info = await upload.commit()
    file = root / "a"
    if knows_direct_writes(tmp_path):
        ends = (0, CACHED_BYTES - 1, CACHED_BYTES, CACHED_BYTES + PIECE_BYTES - 1)
        assert [is_cached(file, at) for at in ends] == [True, True, False, False]
    assert info.size == len(large)
    assert file.read_bytes() == large


def test_memory_that_cannot_be_written_directly_is_written_all_the_same(backend: LocalBackend, large: bytes) -> None:
    sink = backend.open_sink(A, ObjectHeaders())
    for at in range(0, CACHED_BYTES, PIECE_BYTES):
        sink.write(large[at : at + PIECE_BYTES])
    with mmap.mmap(-1, PIECE_BYTES + 1) as memory:
        memory[1:] = large[CACHED_BYTES : CACHED_BYTES + PIECE_BYTES]
        with memoryview(memory)[1:] as crooked:
            sink.write(crooked)
    sink.commit(large[CACHED_BYTES + PIECE_BYTES :])
    assert get(backend, "a") == large


def test_a_copy_of_a_large_file_is_that_file(backend: LocalBackend, large: bytes) -> None:
    put(backend, "b", large)
    backend.copy(ObjectKey("b"), A)
    assert get(backend, "a") == large


# What others put there


def test_files_of_others_are_objects(backend: LocalBackend, root: Path) -> None:
    (root / "docs").mkdir()
    (root / "docs" / "a.txt").write_bytes(b"by hand")
    info = backend.head(ObjectKey("docs/a.txt"))
    assert (info.size, info.headers) == (7, ObjectHeaders())
    assert get(backend, "docs/a.txt") == b"by hand"
    assert keys(backend) == ["docs/a.txt"]
    moved = backend.move(ObjectKey("docs/a.txt"), ObjectKey("b.txt"))
    assert get(backend, "b.txt") == b"by hand"
    assert backend.head(ObjectKey("b.txt")) == moved
    put(backend, "b.txt", b"ours", CSV)
    assert backend.head(ObjectKey("b.txt")).headers == CSV


def test_names_that_are_no_keys_are_not_listed(backend: LocalBackend, root: Path) -> None:
    for name in (b"back\\slash", b"new\nline", b"latin-\xe9"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"")
    put(backend, "good", b"")
    assert keys(backend) == ["good"]


def test_a_file_that_another_program_cuts_is_an_error_and_no_short_answer(backend: LocalBackend, root: Path) -> None:
    put(backend, "a", b"x" * (PIECE_BYTES + 10))
    source = backend.open_source(A, None)
    assert len(source.read()) == PIECE_BYTES
    os.truncate(root / "a", PIECE_BYTES)
    with pytest.raises(BadGateway, match="became shorter"):
        source.read()
    source.close()


# Links


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that no object may touch."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return outside


def test_planted_links_are_never_followed(backend: LocalBackend, root: Path, outside: Path) -> None:
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "up").symlink_to("..")
    for key in ("folder/secret", "file", "up/outside/secret"):
        with pytest.raises(NotFound):
            backend.open_source(ObjectKey(key), None)
        with pytest.raises(NotFound):
            backend.head(ObjectKey(key))
        with pytest.raises(NotFound):
            backend.copy(ObjectKey(key), ObjectKey("copy"))
        with pytest.raises(NotFound):
            backend.move(ObjectKey(key), ObjectKey("moved"))
    for key in ("folder/new", "up/outside/new"):
        with pytest.raises(BadRequest):
            put(backend, key, b"planted")
    backend.delete(ObjectKey("folder/secret"))
    assert keys(backend) == []
    put(backend, "file", b"mine")  # the link is replaced, not followed
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    assert get(backend, "file") == b"mine"


def test_links_planted_among_our_own_files_are_not_followed_either(
    backend: LocalBackend, root: Path, outside: Path
) -> None:
    put(backend, "a", b"1")
    for shard in (root / ".minwebhook" / "info").iterdir():
        for sidecar in shard.iterdir():
            sidecar.unlink()
            sidecar.symlink_to(outside / "secret")
    assert backend.head(A).headers == ObjectHeaders(), "as if there were no sidecar"
    put(backend, "a", b"3", CSV)
    assert backend.head(A).headers == CSV
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}


def test_a_folder_that_turns_into_a_link_while_an_upload_runs(backend: LocalBackend, root: Path, outside: Path) -> None:
    put(backend, "x/old", b"")
    sink = backend.open_sink(ObjectKey("x/new"), ObjectHeaders())
    (root / "x").rename(root / "moved away")
    (root / "x").symlink_to(outside)
    with pytest.raises(BadRequest):
        sink.commit(b"data")
    sink.discard()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_planted_pipe_does_not_hang(backend: LocalBackend, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(NotFound):
        backend.open_source(ObjectKey("pipe"), None)
    assert keys(backend) == []


# Names that a file system cannot have


def test_an_object_below_an_object_is_refused_before_its_bytes_come(backend: LocalBackend) -> None:
    put(backend, "a/b", b"1")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(BadRequest, match=f"^{key} cannot be stored: in a local directory, no object can be"):
            backend.open_sink(ObjectKey(key), ObjectHeaders())
        with pytest.raises(NotFound):
            backend.head(ObjectKey(key))
        backend.delete(ObjectKey(key))
    put(backend, "c", b"2")
    for move in (backend.move, backend.copy):
        with pytest.raises(BadRequest):
            move(ObjectKey("c"), ObjectKey("a"))
    assert keys(backend) == ["a/b", "c"]


def test_long_names_are_refused(backend: LocalBackend) -> None:
    put(backend, "é" * 127 + "x/" + "y" * 255, b"just fits")
    for key in ("x" * 256, "é" * 128 + "/x"):
        with pytest.raises(BadRequest, match="at most 255 bytes"):
            put(backend, key, b"")
        with pytest.raises(NotFound):
            backend.head(ObjectKey(key))
        backend.delete(ObjectKey(key))


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        missing("mounting a small file system needs root")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=400", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_is_507_and_nothing_is_left(small_disk: Path) -> None:
    backend = LocalBackend.open(small_disk / "objects")
    storage = ObjectStorage(backend, SIGNER)
    key = ObjectKey("x/a")
    async with storage.put(key, CSV) as upload:
        await upload.write(b"old")
        await upload.commit()
    before = files(small_disk / "objects")
    for _ in range(3):  # what one try left would be missing for the next
        with pytest.raises(InsufficientStorage) as full:
            async with storage.put(key) as upload:
                for _ in range(16):
                    await upload.write(b"x" * 1024 * 1024)
                await upload.commit()
        assert full.value.status == 507
        assert full.value.text == "Insufficient storage: the disk of the object storage is full"
    assert files(small_disk / "objects") == before
    assert (get(backend, "x/a"), backend.head(key).headers) == (b"old", CSV)
    storage.close()


def test_a_disk_without_room_for_more_names(small_disk: Path) -> None:
    """Files run out before bytes do: it is the sidecar or a folder that finds no room."""
    backend = LocalBackend.open(small_disk / "objects")
    stored = []
    with pytest.raises(InsufficientStorage):
        for number in range(400):
            key = ObjectKey(f"folder{number}/x/a")
            sink = backend.open_sink(key, ObjectHeaders())
            try:
                sink.commit(b"1")
            finally:
                sink.discard()
            stored.append(key)
    assert stored
    assert keys(backend) == sorted(stored)
    folders = {path.name for path in (small_disk / "objects").iterdir()} - {".minwebhook"}
    assert folders == {key.split("/")[0] for key in stored}, "no folder is left of the one that failed"
    assert sum(backend.sweep(0)) == 0
    backend.close()


# Many at once


async def test_readers_see_one_version_whole_while_it_is_replaced(storage: ObjectStorage) -> None:
    """Bytes, size, tag and type always belong together."""
    versions = {bytes([65 + number]) * (1000 + number): f"text/{number}" for number in range(5)}
    contents: dict[str, bytes] = {}
    is_over = False

    async def write() -> None:
        nonlocal is_over
        for data, content_type in list(versions.items()) * 6:
            async with storage.put(A, ObjectHeaders(content_type)) as upload:
                await upload.write(data)
                contents[(await upload.commit()).etag] = data
        is_over = True

    async def read() -> None:
        while not is_over:
            async with storage.get(A, ByteRange(0)) as download:
                data = await download.read_chunk()
                assert len(data) == download.info.size
                assert versions[data] == download.info.headers.content_type
                seen.append((data, download.info.etag))

    seen: list[tuple[bytes, str]] = []
    async with storage.put(A, ObjectHeaders("text/0")) as upload:
        await upload.write(b"A" * 1000)
        contents[(await upload.commit()).etag] = b"A" * 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for _ in range(3):
            nursery.start_soon(read)
    assert seen
    assert all(contents[etag] == data for data, etag in seen)
    assert len(contents) == 31, "every version has a tag of its own"


async def test_folders_come_and_go_under_many_writers(storage: ObjectStorage, root: Path) -> None:
    """A folder that one removes because it is empty is needed by another at this moment."""

    async def put_and_delete(number: int) -> None:
        for _ in range(20):
            key = ObjectKey(f"x/y/{number}")
            async with storage.put(key) as upload:
                await upload.write(b"1")
                await upload.commit()
            await storage.delete(key)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(put_and_delete, number)
    assert files(root) == set()
    assert not (root / "x").exists()
