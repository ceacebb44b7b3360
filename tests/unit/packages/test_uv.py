"""What is said to uv and about it, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwebhook.errors import PackageError
from minwebhook.packages.maker import redacted
from minwebhook.packages.uv import find_uv, missing_wheels


def test_credentials_of_indexes_are_not_shown() -> None:
    urls = ["https://me:s3cr%40t@pypi.example/simple", "http://token-123@other.example", "https://open.example/simple"]
    text = "Failed to fetch https://me:s3cr%40t@pypi.example/simple/x (s3cr@t), http://token-123@other.example, https://open.example"
    shown = redacted(text, urls)
    assert shown == (
        "Failed to fetch https://****@pypi.example/simple/x (****), http://****@other.example, https://open.example"
    )


def test_wheels_that_are_missing() -> None:
    wheels = ["Foo_Bar-1.0-py3-none-any.whl", "b-2.0-1-cp311-cp311-linux_x86_64.whl", "README.txt"]
    assert missing_wheels(("foo-bar==1.0", "b[x]==2.0", "b==3", "c>=1"), wheels) == ["b==3", "c>=1"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="setting uv"):
        find_uv(str(tmp_path / "uv"))


def test_the_program_of_the_package() -> None:
    assert Path(find_uv("")).name == "uv"
