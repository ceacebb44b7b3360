"""Programs that were built of scripts, on disk."""

from __future__ import annotations

import os
from pathlib import Path

from minwebhook.jobs.built import BuiltPrograms
from minwebhook.jobs.model import JobSpec


def spec_of(number: int, source: bytes = b"package inner") -> JobSpec:
    return JobSpec(
        workspace="demo",
        kind="script",
        language="go",
        source=source,
        arguments=b"{}",
        created_by="me",
        username="me",
        email="me@localhost",
        permissioned_as="u/me",
        script_hash=number,
    )


def test_what_was_kept_is_found_by_its_version_and_code_only(tmp_path: Path) -> None:
    built = BuiltPrograms(tmp_path / "built")
    assert built.find(spec_of(1)) == b""
    built.keep(spec_of(1), b"program")
    assert BuiltPrograms(tmp_path / "built").find(spec_of(1)) == b"program"
    assert built.find(spec_of(2)) == built.find(spec_of(1, b"other")) == b""


def test_a_damaged_or_half_written_one_is_as_good_as_none(tmp_path: Path) -> None:
    built = BuiltPrograms(tmp_path)
    built.keep(spec_of(1), b"program")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert built.find(spec_of(1)) == b""
    file.write_bytes(b"short")
    assert built.find(spec_of(1)) == b""
    (tmp_path / ".half").write_bytes(b"x")
    built.keep(spec_of(1), b"program")
    assert built.find(spec_of(1)) == b"program"
    assert list(tmp_path.iterdir()) == [file]


def test_those_unused_for_longest_go(tmp_path: Path) -> None:
    built = BuiltPrograms(tmp_path, max_bytes=300)
    for number in range(3):
        built.keep(spec_of(number), bytes(60))
        for file in tmp_path.iterdir():
            about = file.stat()
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns - 10**9))
    assert built.find(spec_of(0))  # used again
    built.keep(spec_of(3), bytes(60))
    assert [bool(built.find(spec_of(number))) for number in range(4)] == [True, False, True, True]


def test_a_disk_that_refuses_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    built = BuiltPrograms(tmp_path / "file")
    built.keep(spec_of(1), b"program")
    assert built.find(spec_of(1)) == b""
