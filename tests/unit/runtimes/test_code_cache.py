"""What deno has compiled of its own modules: made once, by a process that runs no script."""
# ruff: noqa: ASYNC240 - looking at files while nothing else has to run

from __future__ import annotations

from pathlib import Path

import pytest

from minwebhook.runtimes.code_cache import CodeCache
from minwebhook.runtimes.engines import find_engines
from minwebhook.runtimes.ladder import JAVASCRIPT
from minwebhook.settings import SandboxSettings
from tests.conftest import missing


def test_a_cache_belongs_to_one_file_of_deno(tmp_path: Path) -> None:
    program = tmp_path / "deno"
    program.write_text("one")
    before = CodeCache(str(program), JAVASCRIPT, tmp_path / "engines")
    before.lay_out()
    before.lay_out()
    program.write_text("another")
    after = CodeCache(str(program), JAVASCRIPT, tmp_path / "engines")
    after.lay_out()
    assert list((tmp_path / "engines").iterdir()) == [after.place]
    assert after.place != before.place


async def test_it_is_made_once(tmp_path: Path) -> None:
    program = find_engines(SandboxSettings()).paths.get("deno") or missing("deno")
    cache = CodeCache(str(program), JAVASCRIPT, tmp_path, pause_s=0)
    cache.lay_out()
    await cache.make()
    (file,) = cache.place.iterdir()
    assert file.stat().st_size > 100_000
    assert b"run.mjs" in file.read_bytes()
    assert list(tmp_path.iterdir()) == [cache.place]
    file.write_text("kept")
    await cache.make()
    assert file.read_text() == "kept"


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true"])
async def test_a_deno_that_makes_none_is_no_error(tmp_path: Path, program: str) -> None:
    cache = CodeCache(program, JAVASCRIPT, tmp_path, pause_s=0)
    cache.lay_out()
    await cache.make()
    assert list(cache.place.iterdir()) == []
