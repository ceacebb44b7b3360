"""The real sandbox, through the real server, on every rung that must hold: ``root`` and ``userns``."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import minwebhook
from tests.conftest import missing
from tests.server import Client, Server, StartFailed

#: In front of every probe that could hurt the machine if the sandbox were missing: it must be the first process of a
#: PID namespace, see nothing of the server's files and not be root.
CONTAINED = """
import os

def assert_contained():
    assert os.getpid() == 1, "not in a PID namespace"
    assert not os.path.exists("/etc/shadow"), "sees the files of the machine"
    assert os.geteuid() != 0, "is root"

assert_contained()
"""


@pytest.fixture(scope="module", params=["root", "userns"])
def rung(request: pytest.FixtureRequest) -> str:
    """The rung of the sandbox; tests run once for each."""
    name: str = request.param
    if name == "root" and os.geteuid() != 0:
        missing("the sandbox rung root: not running as root")
    return name


@pytest.fixture(scope="module")
def server(rung: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on this rung with two workers."""
    server = start(rung, tmp_path_factory.mktemp(rung) / "data")
    yield server
    server.close()


def start(rung: str, data: Path, *flags: str, **more: Any) -> Server:
    """A started server; skips (in CI: fails) naming the reason if the kernel refuses the rung."""
    server = Server(data, ("--sandbox", rung, "--workers", "2", *flags), **more)
    try:
        server.start()
    except StartFailed as failed:
        if "cannot be isolated" not in failed.errors:
            raise
        missing(f"the sandbox rung {rung}: {failed.errors.strip()}")
    return server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client; behind every test the server must still run jobs of both languages."""
    client = server.client()
    yield client
    assert client.preview("def main():\n    return 'well'").json() == "well"
    assert client.preview("echo well", language="bash").json() == "well"
    assert server.running.poll() is None


#: A user that owns nothing; what it can do, any ordinary user can.
ORDINARY_USER = 47_110


@functools.cache
def ordinary_interpreter() -> str:
    """An interpreter that an ordinary user may run, with what the server needs; empty if there is none."""
    name = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (str(Path(sys.executable).resolve()), name):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [candidate, "-c", "import minwebhook, trio, orjson, cbor2, h11"],
                user=ORDINARY_USER,
                group=ORDINARY_USER,
                extra_groups=[],
                env=ordinary_environment(),
                cwd="/",
                capture_output=True,
                check=True,
                timeout=20,
            )
            return candidate
    return ""


def ordinary_environment() -> dict[str, str]:
    """Where an interpreter other than the test's finds the program and its dependencies, and deno, which is beside it."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")))
    places = os.pathsep.join(str(Path(module.__path__[0]).parent) for module in (minwebhook, trio))
    return {"PYTHONPATH": places, "PATH": path}


@contextlib.contextmanager
def folder_of(user: int | None) -> Iterator[Path]:
    """A new directory that only ``user`` may enter, outside of pytest's, which only its own user may."""
    with tempfile.TemporaryDirectory(prefix="minwebhook-test-") as name:
        if user is not None:
            os.chown(name, user, user)
        yield Path(name)
