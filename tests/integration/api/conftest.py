"""One real server for each module, with a few scripts deployed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Client, Server, serving

ECHO = "def main(**arguments):\n    return arguments\n"
ADD = "def main(a: int, b: int = 10):\n    return a + b\n"
SLEEPER = "import time\n\ndef main(seconds=60):\n    print('started')\n    time.sleep(seconds)\n    return 'slept'\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers."""
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (server, client):
        client.deploy("u/admin/echo", ECHO)
        client.deploy("u/admin/add", ADD)
        client.deploy("u/admin/sleep", SLEEPER)
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()
