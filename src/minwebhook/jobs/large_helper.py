"""Reads large values in a process of its own, which can do nothing else.

::

    server -> helper   for each three parts: what to do, words as JSON, bytes (the frames: ``child/computing.py``)
    helper -> server   ``v`` u32 length (big-endian) and words as JSON, then bytes; ``s`` the same, and the bytes are those
                       that were sent; ``m``: there is not enough memory for it
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
from typing import TYPE_CHECKING, Final

from minwebhook.child import confine
from minwebhook.child.computing import Channel, give_up_everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from minwebhook.jobs.large_work import Words

_LENGTH: Final = struct.Struct("!I")
#: Bytes that leave the process so large that another one takes its place.
_HUGE_BYTES: Final = 8 << 20


def main(server_pid: int, fd: int) -> None:
    """Answers until the socket closes."""
    channel = Channel(fd)
    confine.die_with_parent()
    if os.getppid() != server_pid:
        return  # the server died before the line above
    settings = json.loads(channel.read_part())
    try:
        sys.path += settings["packages"]
        from minwebhook.jobs.large_work import work  # noqa: PLC0415 - its packages are found now only

        give_up_everything(int(settings["memory_bytes"]), settings["filter"])
    except (ImportError, OSError, ValueError) as error:
        channel.answer(b"f" + str(error).encode())
        return
    gc.disable()  # values have no cycles, and looking for some takes seven times as long as reading
    channel.answer(b"r")
    while True:
        try:
            name, words, data = channel.read_part(), channel.read_part(), channel.read_part()
        except EOFError:
            return
        except MemoryError:
            channel.answer(b"M")
            return
        is_huge = len(data) > _HUGE_BYTES
        answer = _answer(work, name.decode(), json.loads(words), data)
        is_last = is_huge or answer[:1] == b"m"
        channel.answer(answer[:1].upper() + answer[1:] if is_last else answer)
        if is_last:
            os._exit(0)  # without giving back what it holds, piece by piece


def _answer(work: Callable[[str, Words, bytes], tuple[Words, bytes]], name: str, words: Words, data: bytes) -> bytes:
    try:
        said, made = work(name, words, data)
        told = json.dumps(said).encode()
        head = _LENGTH.pack(len(told)) + told
        return b"s" + head if made is data else b"v" + head + made
    except (MemoryError, RecursionError, SystemError):  # the last one is orjson's, for the first
        return b"m"
