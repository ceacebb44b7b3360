"""A store that fails, hangs, breaks off and lies: what callers get, and that nothing stays pending."""

from __future__ import annotations

import os
import random
import ssl
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trustme

from minwebhook.errors import BadGateway, BadRequest, NotFound, SettingsError
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.model import ByteRange, ObjectHeaders
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.s3_location import S3Location
from tests.fake_s3 import BUCKET, Answer, Call, FakeS3, Fault, error
from tests.integration.storage.conftest import SIGNER

MIB = 1024 * 1024
KEY = ObjectKey("folder/a b.bin")
NOISE = random.Random(8).randbytes(17 * MIB)


@pytest.fixture
async def fake(nursery: trio.Nursery) -> FakeS3:
    """A server that works until it is told otherwise."""
    fake = FakeS3()
    await nursery.start(fake.run)
    return fake


@pytest.fixture
def location(fake: FakeS3) -> S3Location:
    """Its bucket; answers are waited for a short time."""
    return S3Location(BUCKET, fake.endpoint, "key", "secret", timeout_s=2)


@pytest.fixture
def storage(location: S3Location) -> ObjectStorage:
    """The bucket as a storage."""
    return ObjectStorage(S3Backend(location), SIGNER)


def on(step: str, answer: Answer, *, after: int = 0, times: int = 10**9) -> Fault:
    """Answers requests of one step, but for the first ``after``, at most ``times``."""
    seen = 0

    def fault(call: Call) -> Answer | None:
        nonlocal seen
        if call.step != step:
            return None
        seen += 1
        return answer if after < seen <= after + times else None

    return fault


async def put(storage: ObjectStorage, size: int) -> None:
    """Store an object of this size."""
    async with storage.put(KEY, ObjectHeaders("text/x")) as upload:
        for start in range(0, size, 256 * 1024):
            await upload.write(NOISE[start : min(start + 256 * 1024, size)])
        await upload.commit()


async def get(storage: ObjectStorage, wanted: ByteRange | None = None) -> bytes:
    """Read it."""
    pieces = []
    async with storage.get(KEY, wanted) as download:
        while piece := await download.read_chunk():
            pieces.append(piece)
    return b"".join(pieces)


REFUSED = {
    "403": (error(403, "AccessDenied"), "refuses the request: AccessDenied"),
    "404 of the bucket": (error(404, "NoSuchBucket"), "refuses the request: NoSuchBucket"),
    "401": (error(401, "InvalidToken"), "refuses the request: InvalidToken"),
    "400": (error(400, "XAmzContentSHA256Mismatch"), "refuses the request: XAmzContentSHA256Mismatch"),
    "no XML": (Answer(418, b"I am a teapot"), "refuses the request: status 418"),
    "no line end": (Answer(403, b"<Code>Evil\r\nHeader: x</Code>"), "refuses the request: status 403"),
}


@pytest.mark.parametrize("size", [10, 12 * MIB], ids=["one request", "parts"])
@pytest.mark.parametrize(("answer", "text"), REFUSED.values(), ids=REFUSED)
async def test_a_store_that_refuses_is_502_and_nothing_stays(
    storage: ObjectStorage, fake: FakeS3, size: int, answer: Answer, text: str
) -> None:
    for step in ("put",) if size == 10 else ("begin", "part", "complete"):
        fake.fault = on(step, answer)
        with pytest.raises(BadGateway) as refused:
            await put(storage, size)
        assert refused.value.text == f"Bad gateway: the object storage {text}"
        assert refused.value.status == 502
        assert (fake.objects, fake.uploads) == ({}, {})


async def test_a_store_that_refuses_midway_ends_the_upload(storage: ObjectStorage, fake: FakeS3) -> None:
    fake.fault = on("part", error(403, "AccessDenied"), after=2)
    with pytest.raises(BadGateway, match="AccessDenied"):
        await put(storage, 17 * MIB)
    assert (fake.objects, fake.uploads) == ({}, {})
    assert fake.steps.count("abort") == 1


@pytest.mark.parametrize("step", ["put", "begin", "part", "complete"])
async def test_errors_of_the_server_are_ridden_out(storage: ObjectStorage, fake: FakeS3, step: str) -> None:
    fake.fault = on(step, error(503, "SlowDown"), times=2)
    size = 10 if step == "put" else 12 * MIB
    await put(storage, size)
    fake.fault = on("get", error(500, "InternalError"), times=2)
    assert await get(storage) == NOISE[:size]
    assert fake.uploads == {}


@pytest.mark.parametrize("step", ["put", "begin", "part", "complete"])
async def test_errors_that_last_are_502_and_nothing_stays(storage: ObjectStorage, fake: FakeS3, step: str) -> None:
    fake.fault = on(step, error(500, "InternalError"))
    with pytest.raises(BadGateway, match="InternalError"):
        await put(storage, 10 if step == "put" else 12 * MIB)
    assert (fake.objects, fake.uploads) == ({}, {})


async def test_success_with_an_error_inside_is_an_error(storage: ObjectStorage, fake: FakeS3) -> None:
    """S3 begins its answer to a completion before it knows how that ends."""
    fake.fault = on("complete", Answer(200, error(500, "InternalError").body))
    with pytest.raises(BadGateway, match="InternalError"):
        await put(storage, 12 * MIB)
    assert (fake.objects, fake.uploads) == ({}, {})


async def test_a_wrong_body_is_refused_by_a_strict_store(storage: ObjectStorage, fake: FakeS3) -> None:
    """The fake compares bodies with what was signed, which shows that we sign them."""

    def damage(call: Call) -> Answer | None:
        if call.step in ("put", "part") and call.body:
            call.body = b"\0" + call.body[1:]
        return None

    fake.fault = damage
    for size in (10, 12 * MIB):
        with pytest.raises(BadGateway, match="XAmzContentSHA256Mismatch"):
            await put(storage, size)
    assert (fake.objects, fake.uploads) == ({}, {})


@pytest.mark.parametrize("step", ["put", "part"])
async def test_a_store_that_hangs_is_given_up(location: S3Location, fake: FakeS3, step: str) -> None:
    storage = ObjectStorage(S3Backend(replace(location, timeout_s=0.3)), SIGNER)
    fake.fault = on(step, Answer(delay_s=3600))
    with trio.fail_after(20), pytest.raises(BadGateway, match="does not answer"):
        await put(storage, 10 if step == "put" else 12 * MIB)
    assert (fake.objects, fake.uploads) == ({}, {})


async def test_nobody_listens(fake: FakeS3, location: S3Location) -> None:
    storage = ObjectStorage(S3Backend(replace(location, endpoint="http://127.0.0.1:1")), SIGNER)
    calls: list[Callable[[], Any]] = [
        lambda: put(storage, 10),
        lambda: get(storage),
        lambda: storage.head(KEY),
        lambda: storage.delete(KEY),
        storage.list,
        lambda: storage.copy(KEY, ObjectKey("b")),
        lambda: storage.sweep(0),
    ]
    for call in calls:
        with trio.fail_after(20), pytest.raises(BadGateway, match="the object storage does not answer"):
            await call()


async def test_a_download_goes_on_after_the_line_broke(storage: ObjectStorage, fake: FakeS3) -> None:
    fake.objects[KEY] = (NOISE, {"etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    whole = Answer(200, NOISE, {**fake.objects[KEY][1]}, cut_after=3 * MIB)
    fake.fault = on("get", whole, times=1)
    assert await get(storage) == NOISE
    assert fake.calls[-1].headers["range"].startswith("bytes=")


async def test_a_download_that_breaks_for_good_is_an_error_and_no_short_object(
    storage: ObjectStorage, fake: FakeS3
) -> None:
    fake.objects[KEY] = (NOISE, {"etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"})

    def cut(call: Call) -> Answer | None:
        if call.step != "get":
            return None
        first = int(call.headers.get("range", "bytes=0-")[6:].split("-")[0])
        headers = {**fake.objects[KEY][1]}
        if first:
            headers["content-range"] = f"bytes {first}-{len(NOISE) - 1}/{len(NOISE)}"
        return Answer(206 if first else 200, NOISE[first:], headers, cut_after=2 * MIB if first == 0 else 0)

    fake.fault = cut
    with pytest.raises(BadGateway, match="does not answer"):
        await get(storage)


async def test_a_slow_download_is_no_error_but_one_that_stops_is(location: S3Location, fake: FakeS3) -> None:
    """The limit is for the time without a byte."""
    storage = ObjectStorage(S3Backend(replace(location, timeout_s=0.5)), SIGNER)
    headers = {"etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    fake.fault = on("get", Answer(200, NOISE[: 640 * 1024], headers, pause_s=0.1))
    assert await get(storage) == NOISE[: 640 * 1024]
    fake.fault = on("get", Answer(200, NOISE[: 640 * 1024], headers, pause_s=3600))
    with trio.fail_after(20), pytest.raises(BadGateway, match="does not answer"):
        await get(storage)


async def test_odd_keys_of_others_do_not_break_the_list(storage: ObjectStorage, fake: FakeS3) -> None:
    odd = ["/abs", "a//b", "a/../b", "back\\slash", "dir/", "tab\t", "x/./y", ".minwebhook/x"]
    fake.listed_keys = sorted([*odd, "a", "b c+d%"])
    page = await storage.list()
    assert [entry.key for entry in page.objects] == ["a", "b c+d%"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not XML",
        b"<ListBucketResult>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>',
        b"<x>" + b" " * 9 * MIB + b"</x>",
    ],
    ids=["nothing", "text", "half", "entities", "endless"],
)
async def test_lists_that_are_none(storage: ObjectStorage, fake: FakeS3, body: bytes) -> None:
    fake.fault = on("list", Answer(200, body))
    with pytest.raises(BadGateway):
        await storage.list()


async def test_a_redirected_list_is_not_followed(storage: ObjectStorage, fake: FakeS3) -> None:
    fake.fault = on("list", Answer(307, b"", {"location": f"{fake.endpoint}/{BUCKET}/elsewhere"}))
    with pytest.raises(BadGateway, match="refuses the request: status 307"):
        await storage.list()
    assert fake.steps == ["list"]


async def test_a_cancelled_upload_is_aborted_although_the_store_is_slow(storage: ObjectStorage, fake: FakeS3) -> None:
    fake.fault = on("part", Answer(headers={"etag": '"x"'}, delay_s=0.3))
    with trio.CancelScope() as scope:
        async with storage.put(KEY) as upload:
            await upload.write(NOISE[: 6 * MIB])
            scope.cancel()
            await upload.write(NOISE[: 6 * MIB])
    assert scope.cancelled_caught
    assert (fake.objects, fake.uploads) == ({}, {})


async def test_the_environment_steers_nothing(
    monkeypatch: pytest.MonkeyPatch, location: S3Location, fake: FakeS3
) -> None:
    elsewhere = {
        **dict.fromkeys(("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), "http://127.0.0.1:1"),
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1"),
        "AWS_SESSION_TOKEN": "of-somebody-else",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_BUCKET": "other",
    }
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    storage = ObjectStorage(S3Backend(location), SIGNER)
    await put(storage, 10)
    await storage.list()
    assert {call.key for call in fake.calls} == {KEY, ""}
    for call in fake.calls:
        assert call.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
        assert "x-amz-security-token" not in call.headers
    assert {name: os.environ[name] for name in elsewhere} == elsewhere


async def test_a_session_token_goes_with_every_request(location: S3Location, fake: FakeS3) -> None:
    storage = ObjectStorage(S3Backend(replace(location, session_token="temporary")), SIGNER)
    await put(storage, 10)
    await storage.list()
    assert [call.headers.get("x-amz-security-token") for call in fake.calls] == ["temporary"] * 3


async def test_headers_of_others_that_cannot_be_sent_are_left_out(storage: ObjectStorage, fake: FakeS3) -> None:
    kept = {"content-type": "text/é", "etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    fake.objects[KEY] = (b"x", {**kept, "content-type": "x" * 2000})
    assert (await storage.head(KEY)).headers == ObjectHeaders()


async def test_missing_is_404_also_when_the_store_says_little(storage: ObjectStorage, fake: FakeS3) -> None:
    fake.fault = on("get", Answer(404, b""))
    with pytest.raises(NotFound):
        await get(storage)


async def test_a_private_ca_is_trusted_when_it_is_named(nursery: trio.Nursery) -> None:
    ca = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    fake = FakeS3(tls)
    await nursery.start(fake.run)
    unknown = S3Location(BUCKET, fake.endpoint, "key", "secret", timeout_s=2)
    known = ObjectStorage(S3Backend(replace(unknown, ca_pem=ca.cert_pem.bytes().decode())), SIGNER)
    await put(known, 6 * MIB)
    assert await get(known) == NOISE[: 6 * MIB]
    assert [entry.key for entry in (await known.list()).objects] == [KEY]
    for call in (ObjectStorage(S3Backend(unknown), SIGNER).head, ObjectStorage(S3Backend(unknown), SIGNER).delete):
        with pytest.raises(BadGateway, match="does not answer"):
            await call(KEY)
    with pytest.raises(BadGateway, match="does not answer"):
        await ObjectStorage(S3Backend(unknown), SIGNER).list()

    # Whoever answers over TLS cannot send us on to what listens without, such as a metadata service.
    other = FakeS3()
    await nursery.start(other.run)
    fake.fault = on("get", Answer(307, b"", {"location": f"{other.endpoint}/{BUCKET}/elsewhere"}))
    with pytest.raises(BadGateway):
        await get(known)
    assert other.calls == []


def test_a_ca_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest, match="certificates"):
        S3Backend(S3Location(BUCKET, "https://s3.example", "key", "secret", ca_pem="not PEM"))


def test_without_obstore_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(SettingsError, match=r"pip install 'minwebhook\[s3\]'"):
        S3Backend(S3Location(BUCKET, "https://s3.example", "key", "secret"))
