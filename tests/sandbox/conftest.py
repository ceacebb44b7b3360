"""The real sandbox, through the real server, on every rung that must hold: ``root`` and ``userns``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def start(rung: str, data: Path, *flags: str) -> Server:
    """A started server; skips (in CI: fails) naming the reason if the kernel refuses the rung."""
    server = Server(data, ("--sandbox", rung, "--workers", "2", *flags))
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
