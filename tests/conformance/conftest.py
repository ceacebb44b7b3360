"""Every storage that must behave alike, empty, each test with its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from minwebhook.storage.local import LocalBackend
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.s3 import S3Backend
from minwebhook.storage.s3_location import S3Location
from minwebhook.storage.signing import Signer
from tests import seaweed

SIGNER = Signer(b"s" * 32)


@dataclass
class Subject:
    """A storage under test."""

    kind: str
    storage: ObjectStorage
    #: What is left of uploads that did not end: files, or uploads pending on the server.
    leftovers: Callable[[], list[str]]


@pytest.fixture
def location(s3_server: seaweed.Seaweed) -> S3Location:
    """A part of the server's bucket that nobody else uses."""
    return S3Location(
        bucket=seaweed.BUCKET,
        endpoint=s3_server.endpoint,
        access_key=seaweed.ACCESS_KEY,
        secret_key=seaweed.SECRET_KEY,
        prefix=f"{secrets.token_hex(8)}/",
        timeout_s=20,
    )


@pytest.fixture(params=["local", "s3"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Each kind of storage in turn."""
    if request.param == "local":
        local = LocalBackend.open(tmp_path / "objects")
        new = tmp_path / "objects" / ".minwebhook" / "new"
        yield Subject("local", ObjectStorage(local, SIGNER), lambda: [path.name for path in new.iterdir()])
        local.close()
        return
    where: S3Location = request.getfixturevalue("location")
    client = request.getfixturevalue("s3_server").client()

    def pending() -> list[str]:
        answer = client.list_multipart_uploads(Bucket=where.bucket, Prefix=where.prefix)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    yield Subject("s3", ObjectStorage(S3Backend(where), SIGNER), pending)


@pytest.fixture
def storage(subject: Subject) -> ObjectStorage:
    """The storage of the subject."""
    return subject.storage
