"""Whole frames on a blocking descriptor."""

from __future__ import annotations

import os
import select

from minwebhook.child import wire

#: Most frames come in one read.
_READ_BYTES = 1 << 16


def read_frame(fd: int) -> tuple[bytes, bytes]:
    """The job number and the payload of the next frame, whatever its kind. The other side sends one at a time."""
    wait(fd)
    data = os.read(fd, _READ_BYTES)
    if len(data) < wire.HEAD_BYTES:
        data += read_exactly(fd, wire.HEAD_BYTES - len(data))
    missing = wire.HEAD_BYTES + wire.payload_length(data) - len(data)
    payload = data[wire.HEAD_BYTES :]
    return wire.job_number(data), payload + read_exactly(fd, missing) if missing else payload


def wait(fd: int) -> None:
    """Until there is something to read, or the other side is gone.

    A read that blocks is woken by the other side's reads, too (of unix sockets, by the room that they make), for nothing.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()


def read_exactly(fd: int, count: int) -> bytes:
    """``count`` bytes. When the other side is gone the process ends: a child without a server has no purpose."""
    whole = bytearray()
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
