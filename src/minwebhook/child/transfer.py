"""Whole frames on a blocking descriptor."""

from __future__ import annotations

import os

from minwebhook.child import wire


def read_frame(fd: int) -> bytes:
    """The payload of the next frame, whatever its kind."""
    return read_exactly(fd, wire.payload_length(read_exactly(fd, wire.HEAD_BYTES)))


def read_exactly(fd: int, count: int) -> bytes:
    """``count`` bytes. When the other side is gone the process ends: a child without a server has no purpose."""
    data = os.read(fd, count)
    if len(data) == count:
        return data
    whole = bytearray(data)
    while len(whole) < count:
        piece = os.read(fd, min(count - len(whole), 1 << 20))
        if not piece:
            os._exit(0)
        whole += piece
    return bytes(whole)


def write_all(fd: int, data: bytes) -> None:
    """All of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
