"""A storage in a local directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minwebhook.storage.local import LocalBackend
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.signing import Signer

SIGNER = Signer(b"s" * 32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the objects."""
    return tmp_path / "objects"


@pytest.fixture
def backend(root: Path) -> Iterator[LocalBackend]:
    """The blocking side."""
    backend = LocalBackend.open(root)
    yield backend
    backend.close()


@pytest.fixture
def storage(backend: LocalBackend) -> ObjectStorage:
    """The async side."""
    return ObjectStorage(backend, SIGNER)
