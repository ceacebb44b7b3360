"""Reads signatures in a process of its own, which can do nothing else: parsers of code of strangers, some of them in C.

::

    server -> helper   for each script two parts: its language, its source (the frames: ``child/computing.py``)
    helper -> server   ``v`` the schema as JSON; ``e`` TEXT, why it cannot be read

Imports nothing of the server but the packages ``child`` and ``schemas``, and tree-sitter, if it is installed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final

from minwebhook.child import confine
from minwebhook.child.computing import Channel, give_up_everything
from minwebhook.schemas import tree, typescript  # noqa: F401 - now: behind the filter nothing can be imported
from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.reading import read_schema

#: A source of more than this leaves the process so large that another one takes its place.
_LARGE_BYTES: Final = 128 << 10


def main(server_pid: int, fd: int) -> None:
    """Answers until the socket closes."""
    channel = Channel(fd)
    confine.die_with_parent()
    if os.getppid() != server_pid:
        return  # the server died before the line above
    settings = json.loads(channel.read_part())
    try:
        sys.path += settings["packages"]
        tree.load()
        give_up_everything(int(settings["memory_bytes"]), settings["filter"])
    except (OSError, ValueError) as error:
        channel.answer(b"f" + str(error).encode())
        return
    channel.answer(b"r")
    while True:
        try:
            language, source = channel.read_part(), channel.read_part()
        except EOFError:
            return
        answer = _answer(language.decode(), source.decode("utf-8", "replace"))
        is_large = len(source) > _LARGE_BYTES
        channel.answer(answer[:1].upper() + answer[1:] if is_large else answer)
        if is_large:
            return


def _answer(language: str, source: str) -> bytes:
    try:
        return b"v" + json.dumps(read_schema(language, source)).encode()
    except SchemaError as error:
        return b"e" + str(error).encode("utf-8", "replace")
