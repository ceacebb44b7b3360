"""From an HTTP request to a WebSocket: the opening handshake (RFC 6455 §4.2). Pure.

The endpoint calls :func:`accept_websocket` once it knows that the caller may do what it wants; a request that is no
handshake, or asks for what we do not speak, gets an ordinary error that says what to send. No extension is ever agreed on.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from minwebhook.errors import BadRequest, MethodNotAllowed, UpgradeRequired
from minwebhook.http.messages import Headers, Request, Response, ServeWebSocket, Upgrade

VERSION: Final = "13"

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Sixteen bytes in base64.
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def accept_websocket(request: Request, serve: ServeWebSocket, *, subprotocols: Sequence[str] = ()) -> Response:
    """The 101 after which ``serve`` is called with the WebSocket; the connection closes when it returns.

    The subprotocol is the first of those the client offers that is in ``subprotocols``, the ones ``serve`` speaks. If
    there are any, the client must offer one of them. Raises :class:`BadRequest`, :class:`UpgradeRequired` and
    :class:`MethodNotAllowed`.
    """
    _check_request(request)
    key = _key(request.headers)
    subprotocol = _choose(_members(request.headers, "sec-websocket-protocol"), subprotocols)
    fields = [("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode())]  # noqa: S324
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    return Response(101, headers=tuple(fields), upgrade=Upgrade(serve, subprotocol))


def _check_request(request: Request) -> None:
    if request.method != "GET":
        raise MethodNotAllowed(("GET",))
    headers = request.headers
    if request.is_http_1_0:
        raise BadRequest("a WebSocket needs HTTP/1.1")
    wants_websocket = "websocket" in _lowered(headers, "upgrade")
    if not wants_websocket or "upgrade" not in _lowered(headers, "connection"):
        raise UpgradeRequired("this is a WebSocket: send Upgrade: websocket and Connection: Upgrade")
    if headers.get_all("sec-websocket-version") != [VERSION]:
        raise UpgradeRequired(
            f"send Sec-WebSocket-Version: {VERSION}, once", headers=(("Sec-WebSocket-Version", VERSION),)
        )
    if headers.get("transfer-encoding") is not None or headers.get("content-length") not in (None, "0"):
        raise BadRequest("a WebSocket handshake has no body: send neither Content-Length nor Transfer-Encoding")


def _key(headers: Headers) -> bytes:
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("send one Sec-WebSocket-Key, 16 random bytes in base64")
    return keys[0].encode()


def _choose(offered: list[str], supported: Sequence[str]) -> str | None:
    if not all(_TOKEN.fullmatch(name) for name in offered):
        raise BadRequest("Sec-WebSocket-Protocol must be a list of names, separated by commas")
    if not supported:
        return None
    for name in offered:
        if name in supported:
            return name
    raise BadRequest(f"offer a subprotocol in Sec-WebSocket-Protocol; this server speaks {', '.join(supported)}")


def _members(headers: Headers, name: str) -> list[str]:
    """The members of a comma-separated list, over all its fields; empty ones are ignored (RFC 9110 §5.6.1.2)."""
    members = (member.strip("\t ") for value in headers.get_all(name) for member in value.split(","))
    return [member for member in members if member]


def _lowered(headers: Headers, name: str) -> list[str]:
    return [member.lower() for member in _members(headers, name)]
