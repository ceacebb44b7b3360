"""The opening handshake as rows, and the bytes of its answers."""

from __future__ import annotations

import base64

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.utilities import generate_accept_token

from minwebhook.errors import ApiError
from minwebhook.http.handshake import accept_websocket
from minwebhook.http.messages import Headers, Request, Response
from minwebhook.http.protocol import ServerProtocol
from minwebhook.http.websocket import WebSocket
from tests.frames import ACCEPT, HANDSHAKE, KEY

GOOD = {
    "host": "a",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": KEY,
}


async def serve(websocket: WebSocket) -> None:
    """Not called here."""
    raise AssertionError


def request(
    *more: tuple[str, str], without: str = "", method: str = "GET", is_http_1_0: bool = False, **fields: str
) -> Request:
    """A handshake with some fields replaced, one left out, others added."""
    named = {**GOOD, **{name.replace("_", "-"): value for name, value in fields.items()}}
    named.pop(without, None)
    return Request(method, "/", "", Headers([*named.items(), *more]), "id", is_http_1_0=is_http_1_0)


def accept(request: Request, *subprotocols: str) -> Response:
    """The answer for an endpoint that speaks ``subprotocols``."""
    return accept_websocket(request, serve, subprotocols=subprotocols)


def test_the_answer() -> None:
    response = accept(request())
    assert response.status == 101
    assert response.headers == (("Sec-WebSocket-Accept", ACCEPT),)
    assert response.upgrade is not None
    assert (response.upgrade.serve, response.upgrade.subprotocol) == (serve, None)


@pytest.mark.parametrize(
    "handshake",
    [
        request(upgrade="WebSocket"),
        request(upgrade="foo, websocket"),
        request(("upgrade", "websocket"), upgrade="foo"),
        request(connection="keep-alive, upgrade"),
        request(("connection", "UPGRADE"), connection="keep-alive"),
        request(content_length="0"),
        request(sec_websocket_extensions="permessage-deflate; client_max_window_bits"),
        request(sec_websocket_protocol="chat"),
    ],
)
def test_what_else_is_a_handshake(handshake: Request) -> None:
    response = accept(handshake)
    assert response.status == 101
    assert [name for name, _ in response.headers] == ["Sec-WebSocket-Accept"]  # no extension, no subprotocol


@pytest.mark.parametrize(
    ("handshake", "status", "says"),
    [
        (request(method="POST"), 405, "GET"),
        (request(method="HEAD"), 405, "GET"),
        (request(is_http_1_0=True), 400, "HTTP/1.1"),
        (request(without="upgrade"), 426, "Upgrade: websocket"),
        (request(upgrade="h2c"), 426, "Upgrade: websocket"),
        (request(upgrade="websockets"), 426, "Upgrade: websocket"),
        (request(without="connection"), 426, "Connection: Upgrade"),
        (request(connection="keep-alive"), 426, "Connection: Upgrade"),
        (request(without="sec-websocket-version"), 426, "Sec-WebSocket-Version: 13"),
        (request(sec_websocket_version="8"), 426, "Sec-WebSocket-Version: 13"),
        (request(sec_websocket_version="13, 8"), 426, "Sec-WebSocket-Version: 13"),
        (request(("sec-websocket-version", "13")), 426, "once"),
        (request(without="sec-websocket-key"), 400, "Sec-WebSocket-Key"),
        (request(("sec-websocket-key", KEY)), 400, "Sec-WebSocket-Key"),
        (request(sec_websocket_key=""), 400, "Sec-WebSocket-Key"),
        (request(sec_websocket_key="c2hvcnQ="), 400, "16 random bytes"),
        (request(sec_websocket_key=base64.b64encode(bytes(17)).decode()), 400, "16 random bytes"),
        (request(sec_websocket_key="\xff" * 22 + "=="), 400, "16 random bytes"),
        (request(content_length="5"), 400, "no body"),
        (request(transfer_encoding="chunked"), 400, "no body"),
        (request(sec_websocket_protocol="a b"), 400, "Sec-WebSocket-Protocol"),
        (request(sec_websocket_protocol='"a"'), 400, "Sec-WebSocket-Protocol"),
    ],
)
def test_what_is_none(handshake: Request, status: int, says: str) -> None:
    with pytest.raises(ApiError) as refused:
        accept(handshake)
    assert refused.value.status == status
    assert says in refused.value.text


def test_another_version_is_told_ours() -> None:
    with pytest.raises(ApiError) as refused:
        accept(request(sec_websocket_version="7"))
    assert refused.value.headers == (("Sec-WebSocket-Version", "13"),)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["x.json"], "x.json"),
        (["x.cbor, x.json"], "x.cbor"),  # the client's order counts
        (["y, ,x.json"], "x.json"),
        (["y", "x.json"], "x.json"),
        ([], None),
        ([""], None),
        (["y"], None),
        (["X.JSON"], None),  # names are case-sensitive
    ],
)
def test_subprotocols(offered: list[str], chosen: str | None) -> None:
    handshake = request(*(("sec-websocket-protocol", value) for value in offered))
    if chosen is None:
        with pytest.raises(ApiError) as refused:
            accept(handshake, "x.json", "x.cbor")
        assert refused.value.status == 400
        assert "x.json, x.cbor" in refused.value.text
        return
    response = accept(handshake, "x.json", "x.cbor")
    assert ("Sec-WebSocket-Protocol", chosen) in response.headers
    assert response.upgrade is not None
    assert response.upgrade.subprotocol == chosen


@given(st.binary(min_size=16, max_size=16))
def test_any_key_is_answered_as_wsproto_answers_it(raw: bytes) -> None:
    key = base64.b64encode(raw)
    (accepted,) = accept(request(sec_websocket_key=key.decode())).headers
    assert accepted == ("Sec-WebSocket-Accept", generate_accept_token(key).decode())


# On the wire


def protocol_after(raw: bytes, *, use_recognizer: bool = True) -> ServerProtocol:
    """A connection that has received ``raw`` and taken one head."""
    protocol = ServerProtocol(
        max_head_bytes=8000, max_header_fields=50, date=lambda: b"now", use_recognizer=use_recognizer
    )
    protocol.receive_data(raw)
    assert protocol.next_head() is not None
    return protocol


@pytest.mark.parametrize("use_recognizer", [True, False])
def test_the_switch(use_recognizer: bool) -> None:
    protocol = protocol_after(HANDSHAKE + b"\x81\x00GET / HTTP/1.1\r\n\r\n", use_recognizer=use_recognizer)
    head = protocol.head
    assert head is not None
    raw = protocol.respond(accept(Request(head.method, head.path, head.query, head.headers, "id")))
    assert raw.endswith(b"\r\n\r\n")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Upgrade", "websocket")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    event = client.next_event()
    assert type(event) is h11.InformationalResponse
    assert event.status_code == 101
    assert dict(event.headers) == {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-accept": ACCEPT.encode(),
    }
    # No byte behind the head is lost, and none of it is HTTP.
    assert protocol.trailing_data() == b"\x81\x00GET / HTTP/1.1\r\n\r\n"
    assert not protocol.has_bytes
    assert not protocol.reusable()


@pytest.mark.parametrize(
    ("start", "connection"),
    [(b"GET / HTTP/1.1\r\nHost: a\r\n", b"Upgrade"), (b"GET / HTTP/1.0\r\n", b"Upgrade, close")],
)
def test_426_says_what_to_upgrade_to(start: bytes, connection: bytes) -> None:
    raw = protocol_after(start + b"\r\n").respond(Response.text("upgrade", 426))
    assert b"\r\nUpgrade: websocket\r\nConnection: %b\r\n" % connection in raw
    assert raw.count(b"Connection: ") == 1
    assert raw.endswith(b"\r\n\r\nupgrade")


def test_101_without_an_upgrade_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="101"):
        protocol_after(HANDSHAKE).respond(Response(101))
