"""Sync runs on one connection with several in flight: a WebSocket against HTTP keep-alive, which answers in order.

Part of ``make bench-streams``. Both clients are as small as can be: what they send is made before, and what they get is
only counted.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Final

SUBPROTOCOL: Final = "minwebhook.json"
_TEXT_FRAME: Final = 0x81
_MASKED: Final = 0x80
_LONG: Final = 126


def measure_http(port: int, token: str, path: str, *, count: int, in_flight: int) -> float:
    """Runs per second of ``count`` pipelined requests."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: 2\r\n\r\n{{}}".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        return _measure(connection, lambda _: request, b"HTTP/1.1 200", count, in_flight)


def measure_websocket(port: int, token: str, workspace: str, script: str, *, count: int, in_flight: int) -> float:
    """Runs per second of ``count`` messages."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {workspace}/jobs/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        answer = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(answer.decode(errors="replace"))

        def message(number: int) -> bytes:
            return _frame(json.dumps({"op": "run", "id": number, "path": script, "args": {}}).encode())

        return _measure(connection, message, b'"success":true', count, in_flight)


def _frame(text: bytes) -> bytes:
    """A masked frame; a mask of zeros leaves the text as it is."""
    if len(text) < _LONG:
        return bytes((_TEXT_FRAME, _MASKED | len(text))) + bytes(4) + text
    return bytes((_TEXT_FRAME, _MASKED | _LONG)) + len(text).to_bytes(2) + bytes(4) + text


def _measure(connection: socket.socket, make: Callable[[int], bytes], mark: bytes, count: int, in_flight: int) -> float:
    """Keeps so many in flight until ``mark`` has come ``count`` times; the number per second."""
    started = time.perf_counter()
    sent = min(in_flight, count)
    connection.sendall(b"".join(map(make, range(sent))))
    done = 0
    rest = b""
    while done < count:
        data = rest + (connection.recv(65536) or _gone())
        found = data.count(mark)
        rest = data[-(len(mark) - 1) :]  # half a mark may be at the end
        done += found
        more = min(found, count - sent)
        if more:
            connection.sendall(b"".join(map(make, range(sent, sent + more))))
            sent += more
    return count / (time.perf_counter() - started)


def _gone() -> bytes:
    raise RuntimeError("the server has closed the connection")
