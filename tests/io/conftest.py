"""What the tests of connections share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from minwebhook.http.listeners import open_listeners
from minwebhook.http.messages import Handler
from minwebhook.http.server import serve
from minwebhook.settings import HttpSettings
from tests.in_process import ServerUnderTest


@pytest.fixture
async def start(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Callable[..., Awaitable[ServerUnderTest]]]:
    servers: list[ServerUnderTest] = []

    async def start_server(handler: Handler, *, grace_s: float = 5, **limits: Any) -> ServerUnderTest:
        server = ServerUnderTest(tmp_path / f"{len(servers)}.sock")
        servers.append(server)

        async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
            await serve(
                open_listeners([f"unix:{server.path}"]),
                handler,
                HttpSettings(**limits),
                shutdown=server.shutdown,
                grace_s=lambda: grace_s,
                report_error=lambda error, request_id: server.errors.append(error),
                task_status=task_status,
            )
            server.done.set()

        await nursery.start(run)
        return server

    yield start_server
    for server in servers:
        for client in server.clients:
            await trio.aclose_forcefully(client.stream)
        server.shutdown.set()
        with trio.fail_after(60):
            await server.done.wait()
