"""Languages that the machine lacks, and executables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server import Server, StartFailed


def test_a_missing_program_is_told_when_a_script_is_deployed(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = make_server(environment={"PATH": str(tmp_path)})
    server.start()
    client = server.client()
    new = {"path": "u/admin/x", "summary": "", "description": "", "content": "def main\nend", "language": "ruby"}
    for answer in (client.post("/scripts/create", new), client.preview("def main\nend", language="ruby")):
        assert answer.status == 400
        assert "language ruby: Ruby is not installed on this server; apt-get install ruby" in answer.text


def test_a_missing_program_ends_the_start(make_server: Callable[..., Server], tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    (scripts / "u/admin").mkdir(parents=True)
    (scripts / "u/admin/hello.rb").write_text("def main\nend")
    server = make_server("--scripts", str(scripts), environment={"PATH": str(tmp_path)})
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert "cannot deploy u/admin/hello.rb: language ruby: Ruby is not installed" in failed.value.errors


def test_an_executable_file_is_a_script(make_server: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "scripts/u/admin/hook"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\ncat\n")
    file.chmod(0o755)
    server = make_server("--scripts", str(tmp_path / "scripts"))
    server.start()
    client = server.client()
    assert client.run("u/admin/hook", {"a": 1}).json() == '{"a": 1}'
    assert client.get("/scripts/get/p/u/admin/hook").json()["language"] == "exec"
    answer = client.preview("echo", language="exec")
    assert (answer.status, "begins with #!" in answer.text) == (400, True)
