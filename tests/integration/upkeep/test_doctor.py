"""``minwebhook doctor`` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minwebhook.runtimes.language import RUNTIMES
from minwebhook.sandbox.probes.corpus import CORE, PROBES
from minwebhook.sandbox.probes.inside import ENGINES
from minwebhook.upkeep.examination import cgroup_limit
from tests.conftest import missing
from tests.server import Server

#: The program with a small corpus.
WITH_ONE_PROBE = """
import sys
from minwebhook.cli import doctor
from minwebhook.cli.main import main

doctor.PROBES = tuple(probe for probe in doctor.PROBES if probe.name == "mount")
sys.exit(main())
"""


def doctor(*flags: str, **environment: str) -> tuple[int, Any, str]:
    """Exit status, what was printed as JSON, and stderr."""
    return told_by(("-m", "minwebhook"), *flags, **environment)


def told_by(program: tuple[str, str], *flags: str, **environment: str) -> tuple[int, Any, str]:
    """The same, of a program that is given to the interpreter."""
    run = subprocess.run(
        [sys.executable, *program, "doctor", "--json", *flags],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": os.environ.get("PATH", os.defpath), **environment},
    )
    return run.returncode, json.loads(run.stdout or "null"), run.stderr


def items(told: Any, topic: str) -> list[dict[str, str]]:
    return [item for item in told["items"] if item["topic"] == topic]


def test_on_a_good_machine(tmp_path: Path) -> None:
    data = tmp_path / "data"
    status, told, errors = doctor("--data", str(data), "--listen", "127.0.0.1:0")
    if items(told, "sandbox")[0]["status"] == "problem":
        missing(f"a sandbox: {items(told, 'sandbox')}")
    assert (status, told["problems"], errors) == (0, 0, "")
    topics = {item["topic"] for item in told["items"]}
    assert topics >= {"kernel", "python", "sandbox", "open files", "memory", "processes", "data", "listen", *RUNTIMES}
    assert any("fsync takes" in item["found"] for item in items(told, "data"))
    assert all(item["cure"] for item in told["items"] if item["status"] != "ok")
    assert not data.exists()


def test_for_people(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "minwebhook", "doctor", "--data", str(tmp_path), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "ok       kernel        Linux" in run.stdout
    assert "→ sandbox_network = none" in run.stdout


@pytest.mark.parametrize(
    ("topic", "flags"),
    [
        ("sandbox", ("--bash", "/bin/bash", "--python", "/no/such/python")),
        ("bash", ("--bash", "/no/such/bash")),
        ("tls", ("--tls-cert", "/no/such/file", "--tls-key", "/no/such/file")),
        ("hook_secrets", ("--hook-secrets", "/no/such/file")),
        ("scripts", ("--scripts", "/no/such/directory")),
        ("data", ("--data", "/proc/data")),
        ("listen", ("--listen", "192.0.2.1:80")),
    ],
)
def test_problems_come_with_a_cure(tmp_path: Path, topic: str, flags: tuple[str, ...]) -> None:
    status, told, _ = doctor("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", *flags)
    assert status == 1
    found = [item for item in items(told, topic) if item["status"] == "problem"]
    assert found, told
    assert all(item["cure"] for item in found)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        status, told, _ = doctor("--data", str(tmp_path / "data"), "--listen", address)
    assert status == 1
    assert "Address already in use" in items(told, "listen")[0]["found"]


def test_no_isolation_is_a_problem(tmp_path: Path) -> None:
    """Named by the environment: the flag --sandbox means something else here."""
    more = {"MINWEBHOOK_SANDBOX": "none", "MINWEBHOOK_DATA": str(tmp_path / "data")}
    status, told, _ = doctor("--listen", "127.0.0.1:0", **more)
    assert status == 1
    assert "--insecure" in items(told, "sandbox")[0]["found"]
    status, told, _ = doctor("--listen", "127.0.0.1:0", "--insecure", **more)
    assert status == 1
    assert "NO ISOLATION" in items(told, "sandbox")[0]["found"]


def test_a_running_server_is_left_alone(make_server: Callable[..., Server]) -> None:
    server = make_server()
    client = server.start()
    address = server.addresses[0].removeprefix("http://")
    _, told, _ = doctor("--data", str(server.data), "--listen", address)
    assert items(told, "listen")[0]["status"] == "ok"
    assert client.preview("def main():\n    return 1").json() == 1
    assert not [name for name in os.listdir(server.data) if "doctor" in name]  # noqa: PTH208


@pytest.mark.timeout(120)
def test_breaking_out(tmp_path: Path) -> None:
    # Three of the programs and the engines of the packages: the tests of the sandbox try the corpus in all languages.
    found = tmp_path / "bin"
    found.mkdir()
    for name in ("python3", "bash", "perl"):
        (found / name).symlink_to(shutil.which(name) or missing(f"the program {name} is not installed"))
    flags = ("--sandbox", "--sandbox-network", "none", "--data", str(tmp_path / "data"))
    status, told, errors = doctor(*flags, PATH=str(found))
    if told is None:
        missing(f"a sandbox: {errors}")
    assert (status, told["network"]) == (0, "none"), told
    assert {row["probe"] for row in told["probes"]} == {probe.name for probe in PROBES}
    assert {row["outcome"] for row in told["probes"]} == {"held", "not applicable"}
    assert all(row["evidence"] and row["tries"] for row in told["probes"])
    held = {(row["language"], row["probe"]) for row in told["probes"] if row["outcome"] == "held"}
    for language, _ in held:  # those that are here: the essentials are tried in each
        assert language in ENGINES or {(language, name) for name in CORE} <= held, language
    assert {"python3", "bash", "exec"} <= {language for language, _ in held}


def test_a_rung_that_cannot_be_had(tmp_path: Path) -> None:
    status, told, errors = doctor("--sandbox", "none", "--data", str(tmp_path))
    assert (status, told) == (1, None)
    assert errors.startswith("minwebhook: scripts cannot be isolated here")


def test_a_language_that_cannot_be_had_is_no_proof(tmp_path: Path) -> None:
    """By one probe, which is enough to see it; the whole corpus is run above."""
    flags = ("--sandbox", "--bash", "/no/such/bash", "--data", str(tmp_path))
    status, told, errors = told_by(("-c", WITH_ONE_PROBE), *flags)
    if told is None:
        missing(f"a sandbox: {errors}")
    assert status == 1
    words = {row["language"]: row["outcome"] for row in told["probes"] if row["probe"] == "mount"}
    assert (words["python3"], words["bash"]) == ("held", "broken")


@pytest.mark.parametrize(
    ("own", "files", "controller", "limit"),
    [
        ("0::/a/b\n", {"a/memory.max": "1000\n", "a/b/memory.max": "max\n"}, "memory", 1000),
        ("0::/a/b\n", {"a/memory.max": "1000\n", "a/b/memory.max": "500\n"}, "memory", 500),
        ("0::/a\n", {"a/pids.max": "64\n"}, "pids", 64),
        ("0::/\n", {"memory.max": "7"}, "memory", 7),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "123"}, "memory", 123),
        ("4:cpu,memory:/x\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, "memory", None),
        ("3:pids:/x/y\n", {"pids/x/pids.max": "8", "pids.max": "1"}, "pids", 8),
        ("0::/a\n", {}, "memory", None),
        ("", {}, "pids", None),
    ],
)
def test_limits_of_cgroups(tmp_path: Path, own: str, files: dict[str, str], controller: str, limit: int | None) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert cgroup_limit(controller, tmp_path / "cgroup", tmp_path / "own") == limit
