"""An HTTP server in the test's own loop, on a unix socket: with the autojump clock, hours of waiting pass at once."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

from minwebhook.http.messages import Handler


@dataclass
class Client:
    """One connection to the server under test."""

    stream: trio.SocketStream

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self.stream.send_all(data)

    async def receive(self, until: bytes) -> bytes:
        """Everything up to and with ``until``, or to the end of the connection."""
        seen = b""
        while not seen.endswith(until) and (data := await self.stream.receive_some(1 if until else 65536)):
            seen += data
        return seen

    async def receive_all(self) -> bytes:
        """Everything to the end of the connection."""
        seen = b""
        while data := await self.stream.receive_some(65536):
            seen += data
        return seen


@dataclass
class ServerUnderTest:
    """A running server; ``errors`` are those it reported."""

    path: Path
    shutdown: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    errors: list[Exception] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        """A new connection."""
        client = Client(await trio.open_unix_socket(str(self.path)))
        self.clients.append(client)
        return client


class StartServer(Protocol):
    """Starts a server with ``handler``; ``limits`` are fields of :class:`HttpSettings`."""

    def __call__(self, handler: Handler, *, grace_s: float = 5, **limits: Any) -> Awaitable[ServerUnderTest]: ...
