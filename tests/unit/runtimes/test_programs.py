"""Programs that run scripts: what is found, and what is said about those that are not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from minwebhook.child.programs import PROGRAMS
from minwebhook.child.programs.executable import program_of
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.programs import Found, Programs, find_programs
from minwebhook.scripts.model import EXTENSIONS, Language


def program(path: Path, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_tables_agree() -> None:
    assert set(PROGRAMS) <= {language.value for language in Language} & set(RUNTIMES)
    assert {each.extension for each in PROGRAMS.values()} - {""} <= set(EXTENSIONS)


def test_what_is_not_there_says_what_to_install(tmp_path: Path) -> None:
    programs = find_programs(str(tmp_path))
    assert programs.paths == {}
    assert programs.missing("ruby") == (
        "language ruby: Ruby is not installed on this server; apt-get install ruby, and start it again"
    )
    for language in ("python3", "bash", "exec"):
        assert programs.missing(language) == ""


def test_a_program_of_its_own_directory_is_shown_to_scripts() -> None:
    if not os.access("/opt", os.W_OK):
        pytest.skip("/opt cannot be written to")
    with tempfile.TemporaryDirectory(dir="/opt") as folder:
        where = program(Path(folder) / "opt/ruby/bin/ruby")
        programs = find_programs(str(where.parent))
        assert programs.paths == {"ruby": str(where)}
        assert f"{folder}/opt/ruby" in programs.visible


def test_a_program_where_jobs_have_their_own_files_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = program(tmp_path / "ruby/bin/ruby")
    if not str(tmp_path).startswith("/tmp/"):
        return
    assert find_programs(str(where.parent)).paths == {}
    assert "jobs have a /tmp of their own" in caplog.text


def test_a_program_of_the_system_needs_nothing_more() -> None:
    found = find_programs("/usr/bin:/bin")
    assert not [path for path in found.visible if path.startswith("/usr")]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#! /bin/sh -e x", "/bin/sh"),
        ("#!/usr/bin/env perl", "perl"),
        ("#!/usr/bin/env -S -i A=1 perl -w", "perl"),
        ("#!/usr/bin/env -S", "/usr/bin/env"),
        ("#!bin/sh", ""),
        ("echo", ""),
    ],
)
def test_the_program_that_a_first_line_names(line: str, name: str) -> None:
    assert program_of(line) == name


@pytest.mark.parametrize("code", [0, 1])
async def test_a_program_is_tried_once(tmp_path: Path, code: int) -> None:
    where = program(tmp_path / "ruby", code)
    programs = Programs({"ruby": Found(str(where), ())})
    assert programs.missing("ruby") == ""
    reason = await programs.missing_after_check("ruby")
    assert bool(reason) == bool(code)
    where.unlink()
    assert await programs.missing_after_check("ruby") == programs.missing("ruby") == reason


async def test_a_program_that_cannot_be_started_is_missing(tmp_path: Path) -> None:
    programs = Programs({"ruby": Found(str(tmp_path / "ruby"), ())})
    assert "lacks what is needed" in await programs.missing_after_check("ruby")
