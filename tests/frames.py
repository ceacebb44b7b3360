"""WebSocket frames by hand: what clients send, right or wrong, and what came back. Shares no code with the server."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
#: The answer to :data:`KEY` (both are RFC 6455's example).
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
) % KEY.encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    length_bytes: int | None = None,
    announced: int | None = None,
) -> bytes:
    """A client's frame. ``length_bytes`` (0, 2 or 8) may be more than needed, ``announced`` another length than it has."""
    length = len(payload) if announced is None else announced
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short])
    if length_bytes:
        head += length.to_bytes(length_bytes, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def text(message: str) -> bytes:
    """A text message in one frame."""
    return frame(TEXT, message.encode())


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True


def parse(data: bytes) -> Iterator[Frame]:
    """The frames of a server; asserts that they are whole, unmasked, without reserved bits, of minimal length fields."""
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        at += 2
        assert first & 0x70 == 0
        assert second < 128
        length = second
        if second >= 126:
            size = 2 if second == 126 else 8
            length = int.from_bytes(data[at : at + size], "big")
            assert length >= (126 if size == 2 else 65536)
            at += size
        payload = data[at : at + length]
        assert len(payload) == length
        at += length
        yield Frame(first & 15, payload, bool(first & 128))


def closing(data: bytes) -> tuple[int | None, str]:
    """Code and reason of ``data``, which must be one close frame."""
    (found,) = parse(data)
    assert found.opcode == CLOSE
    assert found.fin
    if not found.payload:
        return None, ""
    return struct.unpack("!H", found.payload[:2])[0], found.payload[2:].decode()
