"""S3 on a real server: what other programs see, what crashes leave, what is refused, what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from minwebhook.errors import BadGateway
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.model import ObjectHeaders
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.s3_location import S3Location
from minwebhook.storage.s3_requests import S3Requests
from tests.conformance.conftest import SIGNER
from tests.seaweed import Seaweed

MIB = 1024 * 1024
KEY = ObjectKey("folder/a b é%.bin")
HEADERS = ObjectHeaders("text/csv", 'inline; filename="a.csv"')


@pytest.fixture
def boto(s3_server: Seaweed) -> Any:
    """A second opinion."""
    return s3_server.client()


@pytest.fixture
def storage(location: S3Location) -> ObjectStorage:
    """The bucket as a storage."""
    return ObjectStorage(S3Backend(location), SIGNER)


@pytest.mark.parametrize("size", [0, 1000, 11 * MIB])
async def test_boto3_reads_what_we_wrote(storage: ObjectStorage, location: S3Location, boto: Any, size: int) -> None:
    data = os.urandom(size)
    async with storage.put(KEY, HEADERS) as upload:
        await upload.write(data)
        info = await upload.commit()
    answer = boto.get_object(Bucket=location.bucket, Key=f"{location.prefix}{KEY}")
    assert answer["Body"].read() == data
    assert (answer["ContentType"], answer["ContentDisposition"]) == (HEADERS.content_type, HEADERS.content_disposition)
    assert answer["ETag"] == info.etag
    listed = boto.list_objects_v2(Bucket=location.bucket, Prefix=location.prefix)["Contents"]
    assert [entry["Key"] for entry in listed] == [f"{location.prefix}{KEY}"]


async def test_we_read_what_boto3_wrote(storage: ObjectStorage, location: S3Location, boto: Any) -> None:
    boto.put_object(
        Bucket=location.bucket,
        Key=f"{location.prefix}{KEY}",
        Body=b"from boto3",
        ContentType="text/x",
        Metadata={"own": "1"},
    )
    async with storage.get(KEY) as download:
        assert await download.read_chunk() == b"from boto3"
        assert download.info.headers == ObjectHeaders("text/x")
    assert [entry.key for entry in (await storage.list()).objects] == [KEY]


async def test_a_prefix_is_a_room_of_its_own(storage: ObjectStorage, location: S3Location) -> None:
    other = ObjectStorage(S3Backend(replace(location, prefix=f"{location.prefix}deeper/")), SIGNER)
    async with storage.put(KEY) as upload:
        await upload.commit()
    assert (await other.list()).objects == ()
    async with other.put(KEY) as upload:
        await upload.commit()
    assert [entry.key for entry in (await other.list()).objects] == [KEY]
    assert [entry.key for entry in (await storage.list()).objects] == [f"deeper/{KEY}", KEY]


async def test_uploads_of_a_crash_are_swept(storage: ObjectStorage, location: S3Location, boto: Any) -> None:
    """Old ones only, and only below our prefix."""

    def begin(key: str) -> None:
        upload = boto.create_multipart_upload(Bucket=location.bucket, Key=key)["UploadId"]
        boto.upload_part(Bucket=location.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 5 * MIB)

    def pending(prefix: str) -> list[str]:
        answer = boto.list_multipart_uploads(Bucket=location.bucket, Prefix=prefix)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    for name in ("a", "b c/é+%", "b c/é+%"):
        begin(f"{location.prefix}{name}")
    begin(f"other-{location.prefix}a")
    assert await storage.sweep(time.time_ns() // 1_000_000 - 3_600_000) == 0
    assert len(pending(location.prefix)) == 3
    assert await storage.sweep(time.time_ns() // 1_000_000 + 10_000) == 3
    assert pending(location.prefix) == []
    assert pending("other-") == [f"other-{location.prefix}a"]


def test_uploads_are_listed_page_by_page(location: S3Location, boto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        boto.create_multipart_upload(Bucket=location.bucket, Key=f"{location.prefix}{number}")
    requests = S3Requests(location)
    inner = requests._get
    monkeypatch.setattr(requests, "_get", lambda query: inner({**query, "max-uploads": "2"}))
    pages = list(requests.list_uploads(location.prefix))
    assert sorted(upload.key.removeprefix(location.prefix) for page in pages for upload in page) == list("01234")
    assert len(pages) == 3


@pytest.mark.parametrize("wrong", [{"secret_key": "other"}, {"access_key": "unknown"}, {"bucket": "no-such-bucket"}])
async def test_what_the_server_refuses_is_502(location: S3Location, wrong: dict[str, str]) -> None:
    storage = ObjectStorage(S3Backend(replace(location, **wrong)), SIGNER)  # type: ignore[arg-type]
    with pytest.raises(BadGateway, match="the object storage refuses the request: "):
        async with storage.put(KEY) as upload:
            await upload.commit()
    with pytest.raises(BadGateway, match="refuses"):
        async with storage.put(KEY) as upload:
            await upload.write(b"x" * 12 * MIB)
            await upload.commit()
    with pytest.raises(BadGateway, match="refuses"):
        async with storage.get(KEY):
            pass
    with pytest.raises(BadGateway, match="refuses"):
        await storage.list()
    with pytest.raises(BadGateway, match="refuses"):
        await storage.sweep(0)


#: Stores 96 MiB of fresh bytes and prints by how many MiB the peak of the memory has grown.
UPLOADER = """
import os, sys, trio
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.s3_location import S3Location
from minwebhook.storage.signing import Signer

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

async def put(storage, pieces):
    async with storage.put(ObjectKey("big")) as upload:
        for _ in range(pieces):
            await upload.write(os.urandom(64 * 1024))
        await upload.commit()

async def main():
    bucket, endpoint, access_key, secret_key, prefix = sys.argv[1:]
    location = S3Location(bucket, endpoint, access_key, secret_key, prefix=prefix)
    storage = ObjectStorage(S3Backend(location), Signer(b"s" * 32))
    await put(storage, 1)
    before = peak()
    await put(storage, 96 * 16)
    print(peak() - before)

trio.run(main)
"""


def test_an_upload_takes_bounded_memory(location: S3Location) -> None:
    arguments = (location.bucket, location.endpoint, location.access_key, location.secret_key, location.prefix)
    done = subprocess.run([sys.executable, "-c", UPLOADER, *arguments], capture_output=True, text=True, check=True)
    assert 4 < float(done.stdout) < 48
