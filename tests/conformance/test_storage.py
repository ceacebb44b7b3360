"""What every storage does alike, whatever it is made of."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence

import httpx
import pytest
import trio

from minwebhook.errors import BadRequest, NotFound, PermissionDenied, RangeNotSatisfiable
from minwebhook.storage.keys import ObjectKey, parse_key
from minwebhook.storage.model import ByteRange, ObjectHeaders, ObjectInfo
from minwebhook.storage.objects import ObjectStorage
from tests.conformance.conftest import Subject

MIB = 1024 * 1024
KEY = ObjectKey("folder/object.bin")
CSV = ObjectHeaders("text/csv; charset=utf-8", "inline; filename=\"a_.csv\"; filename*=UTF-8''a%C3%A9.csv")
NOISE = random.Random(7).randbytes(13 * MIB)


async def put(
    storage: ObjectStorage, key: str, data: bytes, headers: ObjectHeaders | None = None, *, step: int = 64 * 1024
) -> ObjectInfo:
    """Store an object in pieces of ``step`` bytes."""
    async with storage.put(parse_key(key), headers) as upload:
        for start in range(0, len(data), step):
            await upload.write(data[start : start + step])
        return await upload.commit()


async def get(storage: ObjectStorage, key: str, wanted: ByteRange | None = None) -> bytes:
    """Read an object, or a part of it."""
    pieces = []
    async with storage.get(parse_key(key), wanted) as download:
        while piece := await download.read_chunk():
            pieces.append(piece)
        assert await download.read_chunk() == b"", "the end stays the end"
        start, stop = download.span
    data = b"".join(pieces)
    assert len(data) == stop - start
    return data


async def keys(storage: ObjectStorage, **query: str) -> list[str]:
    """All keys, page by page."""
    found: list[str] = []
    marker = query.pop("marker", "")
    while True:
        page = await storage.list(marker=marker, max_keys=3, **query)
        found += [entry.key for entry in page.objects]
        if page.next_marker is None:
            return found
        marker = page.next_marker


async def assert_nothing_is_there(subject: Subject) -> None:
    """No object, and nothing half done."""
    with pytest.raises(NotFound):
        await subject.storage.head(KEY)
    assert await keys(subject.storage) == []
    assert subject.leftovers() == []


# Storing and reading


@pytest.mark.parametrize(
    "size", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB, 13 * MIB - 7]
)
async def test_what_is_read_is_what_was_stored(storage: ObjectStorage, size: int) -> None:
    data = NOISE[:size]
    before_ms = time.time_ns() // 1_000_000
    info = await put(storage, KEY, data, CSV)
    assert (info.key, info.size, info.headers) == (KEY, size, CSV)
    assert before_ms - 2000 <= info.last_modified_ms <= time.time_ns() // 1_000_000 + 2000
    assert await get(storage, KEY) == data
    assert await storage.head(KEY) == info
    async with storage.get(KEY) as download:
        assert download.info == info


@pytest.mark.parametrize("step", [1, 7, 1000, 9 * MIB])
async def test_the_pieces_do_not_matter(storage: ObjectStorage, step: int) -> None:
    data = NOISE[: 20_000 if step < 1000 else 10 * MIB]
    await put(storage, KEY, data, step=step)
    assert await get(storage, KEY) == data


async def test_a_piece_may_be_reused_by_its_owner(storage: ObjectStorage) -> None:
    """As a buffer that a socket reads into again and again."""
    buffer = bytearray(3 * MIB)
    expected = hashlib.sha256()
    async with storage.put(KEY) as upload:
        for number in range(4):
            buffer[:] = bytes([number]) * len(buffer)
            expected.update(buffer)
            await upload.write(memoryview(buffer))
            buffer[:] = b"\xff" * len(buffer)
        await upload.commit()
    assert hashlib.sha256(await get(storage, KEY)).digest() == expected.digest()


async def test_the_tag_changes_with_the_content(storage: ObjectStorage) -> None:
    tags = []
    for data in (b"one", b"two", b""):
        tags.append((await put(storage, KEY, data)).etag)
        assert (await storage.head(KEY)).etag == tags[-1]
    assert len(set(tags)) == 3
    for tag in tags:
        assert tag[0] == tag[-1] == '"'
        assert len(tag) > 10


async def test_headers_have_a_default(storage: ObjectStorage) -> None:
    await put(storage, KEY, b"x")
    assert (await storage.head(KEY)).headers == ObjectHeaders("application/octet-stream", None)


@pytest.mark.parametrize("key", ["missing", "folder", "folder/object.bin/x", "folder/objec", "folder/object.bin2"])
async def test_what_is_not_there_is_not_found(storage: ObjectStorage, key: str) -> None:
    await put(storage, KEY, b"x")
    with pytest.raises(NotFound, match=key):
        await storage.head(parse_key(key))
    with pytest.raises(NotFound, match=key):
        await get(storage, key)
    with pytest.raises(NotFound, match=key):
        await get(storage, key, ByteRange(last=1))
    with pytest.raises(NotFound, match=key):
        await storage.copy(parse_key(key), ObjectKey("copy"))
    with pytest.raises(NotFound, match=key):
        await storage.move(parse_key(key), ObjectKey("moved"))
    await storage.delete(parse_key(key))
    assert await keys(storage) == [KEY]


# Ranges


@pytest.mark.parametrize(
    ("first", "last", "part"),
    [
        (0, 0, slice(0, 1)),
        (0, None, slice(0, None)),
        (3, 9, slice(3, 10)),
        (6 * MIB - 3, 6 * MIB + 3, slice(6 * MIB - 3, 6 * MIB + 4)),
        (6 * MIB, 10**15, slice(6 * MIB, None)),
        (None, 5, slice(-5, None)),
        (None, 10**15, slice(0, None)),
        (7 * MIB - 1, None, slice(7 * MIB - 1, None)),
    ],
)
async def test_a_range_is_a_part(storage: ObjectStorage, first: int | None, last: int | None, part: slice) -> None:
    data = NOISE[: 7 * MIB]
    await put(storage, KEY, data)
    assert await get(storage, KEY, ByteRange(first, last)) == data[part]
    async with storage.get(KEY, ByteRange(first, last)) as download:
        assert download.info.size == len(data)
        assert download.span == part.indices(len(data))[:2]


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("wanted", [ByteRange(3), ByteRange(3, 5), ByteRange(10**15), ByteRange(last=0)])
async def test_a_range_outside_is_416(storage: ObjectStorage, size: int, wanted: ByteRange) -> None:
    await put(storage, KEY, NOISE[:size])
    with pytest.raises(RangeNotSatisfiable) as refused:
        async with storage.get(KEY, wanted):
            pass
    assert refused.value.headers == (("Content-Range", f"bytes */{size}"),)


# Keys

ODD_KEYS = [
    *("a b", "a+b", "100%", "%20", "%2F..%2F", "a%2fb", "ünï/cödé", "日本語/キー", "emoji 🎉", "a&b=c;d?e#f", "~!()*'"),
    *("..a", "a..", "...", "-", "_", "a:b|c<d>e\"f'", "x" * 255, "$res:x", "@", "{}", "[1]", "`^", "e\u0301", "é"),
    *(f"{'d/' * 30}deep", "trailing ", " leading", "a/ /b", "s p/a c/e", "\u200bzero", "\u2028line", "a=b,c"),
]


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
async def test_keys_are_taken_as_they_are(storage: ObjectStorage, key: str) -> None:
    await put(storage, key, key.encode(), CSV)
    await put(storage, "neighbor", b"")
    assert await get(storage, key) == key.encode()
    assert sorted(await keys(storage)) == sorted([key, "neighbor"])
    assert await keys(storage, prefix=key) == [key]
    copy = ObjectKey(f"copies/{key[:200]}")
    await storage.copy(parse_key(key), copy)
    assert await get(storage, copy) == key.encode()
    assert (await storage.head(copy)).headers == CSV
    await storage.delete(parse_key(key))
    await storage.delete(copy)
    assert await keys(storage) == ["neighbor"]


async def test_similar_keys_are_different_objects(storage: ObjectStorage) -> None:
    similar = ["a", "A", "a ", "a%20", "a+", "á", "a\u0301", "a.", "a;"]
    for key in similar:
        await put(storage, key, key.encode())
    for key in similar:
        assert await get(storage, key) == key.encode()
    assert await keys(storage) == sorted(similar)


# Lists

LISTED = ["a", "a-b/c", "a.b", "a0", "aa/b", "b/1", "b/10", "b/2", "b/c/d", "b0", "c d/e", "é/x", "日"]


async def fill(storage: ObjectStorage, names: Sequence[str]) -> None:
    """Objects whose size is their place in the list."""
    for number, key in enumerate(names):
        await put(storage, key, b"x" * number)


@pytest.mark.parametrize(
    "prefix", ["", "a", "a-", "a/", "b", "b/", "b/1", "b/c/", "b/c/d", "c d", "é", "é/", "zzz", "0"]
)
async def test_a_prefix_is_a_prefix_of_the_text(storage: ObjectStorage, prefix: str) -> None:
    await fill(storage, LISTED)
    assert await keys(storage, prefix=prefix) == [key for key in LISTED if key.startswith(prefix)]


@pytest.mark.parametrize("marker", ["", "a", "a-b", "a.b", "b", "b/", "b/1", "b/1/x", "b/zzz", "c", "日", "zzz", "日x"])
async def test_a_marker_is_where_the_list_goes_on(subject: Subject, marker: str) -> None:
    await fill(subject.storage, LISTED)
    if subject.kind == "s3" and marker in ("a-b", "b"):
        return  # SeaweedFS passes over a folder of exactly this name; markers that we give are keys
    assert await keys(subject.storage, marker=marker) == [key for key in LISTED if key.encode() > marker.encode()]


async def test_pages_say_what_is_known_and_whether_there_is_more(storage: ObjectStorage) -> None:
    await fill(storage, LISTED)
    page = await storage.list(max_keys=4)
    assert [entry.key for entry in page.objects] == LISTED[:4]
    assert page.next_marker == LISTED[3]
    for entry in page.objects:
        info = await storage.head(entry.key)
        assert (entry.size, entry.last_modified_ms // 1000) == (info.size, info.last_modified_ms // 1000)
    assert (await storage.list(max_keys=len(LISTED))).next_marker is None
    assert (await storage.list(max_keys=1000)).next_marker is None
    for max_keys in (0, -1, 1001):
        with pytest.raises(BadRequest, match="max_keys"):
            await storage.list(max_keys=max_keys)
    with pytest.raises(BadRequest, match="prefix"):
        await storage.list(prefix="\ud800")


async def test_an_empty_storage_has_an_empty_list(storage: ObjectStorage) -> None:
    assert (await storage.list()).objects == ()
    assert (await storage.list(prefix="a/b", marker="x")).next_marker is None


# Replacing, copying, moving, deleting


async def test_replacing_changes_everything_at_once(storage: ObjectStorage) -> None:
    old = await put(storage, KEY, NOISE[: 6 * MIB], CSV)
    new = await put(storage, KEY, b"new", ObjectHeaders("text/plain"))
    assert await storage.head(KEY) == new
    assert new.etag != old.etag
    assert await get(storage, KEY) == b"new"
    assert await keys(storage) == [KEY]


async def test_readers_see_the_old_object_until_the_commit(storage: ObjectStorage) -> None:
    await put(storage, KEY, b"old", CSV)
    async with storage.put(KEY) as upload:
        await upload.write(NOISE[: 11 * MIB])
        assert await get(storage, KEY) == b"old"
        await upload.commit()
        assert len(await get(storage, KEY)) == 11 * MIB


async def test_a_reader_never_sees_a_mixture(storage: ObjectStorage) -> None:
    versions = {bytes([65 + number]) * (200_000 + number): f"text/{number}" for number in range(4)}
    is_over = trio.Event()
    seen = 0

    async def read() -> None:
        nonlocal seen
        while not is_over.is_set():
            data = await get(storage, KEY)
            assert data in versions
            seen += 1

    await put(storage, KEY, next(iter(versions)), ObjectHeaders("text/0"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        for data, content_type in list(versions.items()) * 5:
            await put(storage, KEY, data, ObjectHeaders(content_type))
        is_over.set()
    assert seen


async def test_copies_have_content_and_headers(storage: ObjectStorage) -> None:
    info = await put(storage, KEY, NOISE[: 6 * MIB], CSV)
    await put(storage, "copy", b"replaced")
    copied = await storage.copy(KEY, ObjectKey("copy"))
    assert (copied.size, copied.headers) == (info.size, CSV)
    assert await storage.head(ObjectKey("copy")) == copied
    assert await get(storage, "copy") == await get(storage, KEY) == NOISE[: 6 * MIB]
    assert await storage.copy(KEY, KEY) == await storage.head(KEY)


async def test_a_moved_object_is_at_its_new_place_only(storage: ObjectStorage) -> None:
    await put(storage, KEY, b"moving", CSV)
    await put(storage, "target", b"replaced")
    moved = await storage.move(KEY, ObjectKey("target"))
    assert (moved.size, moved.headers) == (6, CSV)
    assert await get(storage, "target") == b"moving"
    assert await keys(storage) == ["target"]
    assert await storage.move(moved.key, moved.key) == await storage.head(moved.key)
    assert await get(storage, "target") == b"moving"


async def test_deleting_is_done_once_and_may_be_repeated(storage: ObjectStorage) -> None:
    await put(storage, KEY, b"x")
    for _ in range(2):
        await storage.delete(KEY)
        with pytest.raises(NotFound):
            await get(storage, KEY)
    assert await keys(storage) == []


# Uploads that do not end well


@pytest.mark.parametrize("size", [0, 10, 6 * MIB, 12 * MIB])
async def test_an_upload_that_is_left_leaves_nothing(subject: Subject, size: int) -> None:
    async with subject.storage.put(KEY) as upload:
        await upload.write(NOISE[:size])
    await assert_nothing_is_there(subject)


@pytest.mark.parametrize("size", [10, 12 * MIB])
async def test_an_error_of_the_sender_leaves_nothing_and_comes_out(subject: Subject, size: int) -> None:
    with pytest.raises(ConnectionError, match="the sender is gone"):
        async with subject.storage.put(KEY) as upload:
            await upload.write(NOISE[:size])
            raise ConnectionError("the sender is gone")
    await assert_nothing_is_there(subject)


@pytest.mark.parametrize("size", [0, 10, 12 * MIB])
async def test_a_cancelled_upload_leaves_nothing(subject: Subject, size: int) -> None:
    with trio.CancelScope() as scope:
        async with subject.storage.put(KEY) as upload:
            await upload.write(NOISE[:size])
            scope.cancel()
            await upload.commit()
    assert scope.cancelled_caught
    await assert_nothing_is_there(subject)


async def test_an_upload_that_is_cancelled_while_it_writes_leaves_nothing(subject: Subject) -> None:
    async def upload(task_status: trio.TaskStatus[None]) -> None:
        async with subject.storage.put(KEY) as upload:
            while True:
                await upload.write(NOISE[: 5 * MIB])
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED

    async with trio.open_nursery() as nursery:
        await nursery.start(upload)
        nursery.cancel_scope.cancel()
    await assert_nothing_is_there(subject)


async def test_an_upload_that_fails_keeps_the_old_object(subject: Subject) -> None:
    old = await put(subject.storage, KEY, b"old", CSV)
    async with subject.storage.put(KEY) as upload:
        await upload.write(NOISE[: 12 * MIB])
    assert await subject.storage.head(KEY) == old
    assert await get(subject.storage, KEY) == b"old"
    assert subject.leftovers() == []


async def test_a_download_may_be_left_early(subject: Subject) -> None:
    await put(subject.storage, KEY, NOISE)
    for _ in range(20):  # threads or connections that are not given back would run out
        async with subject.storage.get(KEY) as download:
            first = await download.read_chunk()
            assert first == NOISE[: len(first)] != b""
    await subject.storage.delete(KEY)
    await assert_nothing_is_there(subject)


async def test_uploads_and_downloads_are_used_while_they_are_entered(storage: ObjectStorage) -> None:
    upload = storage.put(KEY)
    with pytest.raises(RuntimeError):
        await upload.write(b"x")
    async with upload:
        await upload.write(b"x")
        await upload.commit()
        with pytest.raises(RuntimeError):
            await upload.write(b"y")
        with pytest.raises(RuntimeError):
            await upload.commit()
    download = storage.get(KEY)
    with pytest.raises(RuntimeError):
        await download.read_chunk()


async def test_many_at_once(storage: ObjectStorage) -> None:
    async def one(number: int) -> None:
        data = NOISE[number : number + 100_000]
        await put(storage, f"{number % 4}/{number}", data)
        assert await get(storage, f"{number % 4}/{number}") == data

    async with trio.open_nursery() as nursery:
        for number in range(24):
            nursery.start_soon(one, number)
    assert len(await keys(storage)) == 24


# Signatures and sweeping


async def test_a_signature_opens_the_object(subject: Subject) -> None:
    await put(subject.storage, "a b/é%.csv", b"signed", CSV)
    signed = await subject.storage.sign(ObjectKey("a b/é%.csv"), time.time(), 60)
    if subject.kind == "local":
        exp, sig = (field.partition("=")[2] for field in signed.split("&"))
        subject.storage.signer.check(ObjectKey("a b/é%.csv"), exp, sig, time.time())
        with pytest.raises(PermissionDenied):
            subject.storage.signer.check(ObjectKey("a b/other"), exp, sig, time.time())
        return
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(signed)
        assert (answer.status_code, answer.content) == (200, b"signed")
        assert answer.headers["content-type"] == CSV.content_type
        assert answer.headers["content-disposition"] == CSV.content_disposition
        assert (await client.get(signed.replace("csv?", "txt?"))).status_code == 403
        assert (await client.put(signed, content=b"changed")).status_code == 403


@pytest.mark.parametrize("seconds", [0, -1, 8 * 24 * 3600])
async def test_a_signature_has_an_end(storage: ObjectStorage, seconds: int) -> None:
    with pytest.raises(BadRequest, match="valid for"):
        await storage.sign(KEY, time.time(), seconds)


async def test_a_sweep_touches_no_object(storage: ObjectStorage) -> None:
    info = await put(storage, KEY, NOISE[: 6 * MIB], CSV)
    assert await storage.sweep(time.time_ns() // 1_000_000 + 10_000) == 0
    assert await storage.head(KEY) == info
    assert await get(storage, KEY) == NOISE[: 6 * MIB]
