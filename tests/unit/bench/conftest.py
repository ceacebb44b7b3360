"""Makes ``bench`` importable, which is not part of the installed package, and builds the load client."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from bench import loadclient


@pytest.fixture(scope="session")
def load_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load client, compiled for this session."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    binary = tmp_path_factory.mktemp("load") / "load"
    loadclient.build(binary)
    return binary
