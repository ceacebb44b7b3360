"""One server for all tests that leave nothing behind but their own flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import Client, Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with three workers."""
    with serving(tmp_path_factory.mktemp("flows") / "data", "--workers", "3") as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()
