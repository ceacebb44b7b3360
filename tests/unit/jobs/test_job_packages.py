"""The packages of jobs: what a lock may not make a server do, wherever it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minwebhook.errors import PackageError
from minwebhook.jobs.model import JobSpec
from minwebhook.jobs.packages import JobPackages
from minwebhook.packages.sets import PackageSets
from minwebhook.packages.uv import Interpreter
from minwebhook.settings import PackageSettings

HOSTILE = [
    ("python3", "--index-url=http://127.0.0.1/\ninner", "addresses, paths and options are not allowed"),
    ("bun", '{"dependencies": {"a": "file:/etc"}}\n//bun.lock\n{"packages": {}}', "and no address"),
    (
        "deno",
        '{"imports": ["npm:a@1"]}\n//deno.lock\n{"npm": {"../../a@1.0.0": {}}}',
        "'../../a@1.0.0' in npm is no package with its version",
    ),
]


@pytest.mark.parametrize(("language", "lock", "reason"), HOSTILE)
async def test_a_lock_that_was_kept_is_not_trusted(tmp_path: Path, language: str, lock: str, reason: str) -> None:
    """It is checked when it is deployed; what an older server let in is refused when it is to be installed."""
    sets = PackageSets(PackageSettings(), tmp_path, Interpreter("python3", "3.11"), set)
    unused: Any = None
    packages = JobPackages(sets, unused, unused, unused, "host", "3.11.7")
    spec = JobSpec("w", "script", language, b"", b"{}", "a", "a", "a@x.test", "u/a", lock=lock)
    assert packages.find(spec) is None
    with pytest.raises(PackageError, match=reason):
        await packages.prepare(spec)
