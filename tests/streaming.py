"""Clients of event streams: httpx-sse, and a proxy that cuts connections."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import httpx_sse

from tests.server import Client

#: What clients see of a connection that breaks.
CUT: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError, httpx.WriteError)
_TIMEOUT_S: Final = 30.0
#: What httpx makes for each client takes it longer than a whole stream.
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def connected(
    client: Client,
    path: str,
    *,
    method: str = "GET",
    data: Any = None,
    last_id: str = "",
    headers: Mapping[str, str] | None = None,
    **query: Any,
) -> Iterator[httpx_sse.EventSource]:
    """A stream at a path below the workspace."""
    fields = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    fields |= {"Last-Event-ID": last_id} if last_id else {}
    url = f"{client.address}/api/w/{client.workspace}{path}"
    with (
        httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=_NO_TLS) as http,
        httpx_sse.connect_sse(
            http, method, url, params=query, json=data, headers={**fields, **(headers or {})}
        ) as source,
    ):
        assert source.response.status_code == 200, source.response.read()
        yield source


def follow(client: Client, path: str, **more: Any) -> list[dict[str, Any]]:
    """All updates of a stream, which the server ends."""
    with connected(client, path, **more) as source:
        return [json.loads(event.data) for event in source.iter_sse()]


@dataclass
class Record:
    """What a client has put together of a stream, over any number of connections."""

    client: Client
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    last_id: str = ""
    logs: str = ""
    stream: str = ""
    updates: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    @property
    def last(self) -> dict[str, Any]:
        """The last update."""
        return self.updates[-1]

    @property
    def has_ended(self) -> bool:
        """Whether the job has."""
        return bool(self.updates) and self.last.get("completed") is True

    def read(self, *, events: int = 1 << 30, client: Client | None = None) -> bool:
        """Reads one connection, at most so many events of it; False if it was cut."""
        self.connections += 1
        try:
            with connected(client or self.client, self.path, last_id=self.last_id, **self.query) as source:
                for event in source.iter_sse():
                    self.take(event)
                    events -= 1
                    if events == 0:
                        return True
        except CUT:
            return False
        return True

    def read_to_end(self, *, connections: int = 1000) -> None:
        """Connects again and again until the job has ended."""
        while not self.has_ended:
            connections -= 1
            assert connections >= 0, "it does not get any further"
            self.read()

    def take(self, event: httpx_sse.ServerSentEvent) -> None:
        """One more event."""
        update = json.loads(event.data)
        if update["type"] == "timeout":  # it says nothing of the job
            return
        assert event.id
        assert not self.has_ended, "nothing comes after the end"
        self.last_id = event.id
        self.logs += update.get("new_logs", "")
        self.stream += update.get("new_result_stream", "")
        self.updates.append(update)


class CuttingProxy:
    """Passes TCP connections on to ``target``, and cuts each after so many bytes of the answer."""

    def __init__(self, target: str, cut_after: int) -> None:
        url = httpx.URL(target)
        self._target = (url.host, url.port or 80)
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Ends it and its connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            with suppress(OSError):  # it has ended
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                thread = threading.Thread(target=self._pass_on, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, suppress(OSError):
            for each in (client, server):
                each.settimeout(_TIMEOUT_S)
            request = b""
            while b"\r\n\r\n" not in request:  # requests here have no body
                piece = client.recv(65536)
                if not piece:
                    return
                request += piece
            server.sendall(request)
            left = self._cut_after
            while left:
                ready, _, _ = select.select([client, server], [], [], _TIMEOUT_S)
                data = server.recv(min(left, 65536)) if server in ready else b""
                if not data:  # one of them has gone: clients here send nothing but their request
                    return
                client.sendall(data)
                left -= len(data)
