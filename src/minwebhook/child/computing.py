"""A process that can do nothing but compute: what flows' expressions and the signatures of scripts are given to.

The server starts it (``sandbox/computing.py``) and speaks over one socket::

    server -> process   parts: u32 length (big-endian) and bytes, each
                        once: the settings as JSON; then the parts of one request after the other
    process -> server   u32 length and bytes, the first of which says what it is:
                        ``r`` it is ready; ``f`` TEXT, it cannot be; other letters are answers, and questions
                        a capital: the answer of that letter, and this process ends now

Before the first request comes, it gives up all that it might do but compute: the system call filter leaves it reading and
writing what is open (its socket), memory without execution, clocks, and its end.
"""

from __future__ import annotations

import base64
import os
import resource
import struct
from typing import Final

from minwebhook.child import kernel, landlock

_LENGTH: Final = struct.Struct("!I")


def give_up_everything(memory_bytes: int, packed_filter: str) -> None:
    """From here on this process computes, and talks over what is open. Raises OSError where the kernel has no filter.

    ``memory_bytes`` is what it may use beside what it has; ``packed_filter`` the system call filter in base64, empty for
    none.
    """
    os.chdir("/")
    memory = Size().virtual_bytes() + memory_bytes
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_capabilities()
    landlock.restrict(has_files=True, connect_ports=(), scoped=landlock.SCOPE_ABSTRACT_UNIX | landlock.SCOPE_SIGNAL)
    if packed_filter:
        kernel.install_filter(base64.b64decode(packed_filter))


class Size:
    """How much memory this process has, read from a file that stays open (proc_pid_statm(5))."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def _pages(self) -> list[bytes]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.read(self._fd, 256).split()

    def virtual_bytes(self) -> int:
        """Address space."""
        return int(self._pages()[0]) * self._page_bytes

    def resident_bytes(self) -> int:
        """Memory."""
        return int(self._pages()[1]) * self._page_bytes


class Channel:
    """The socket to the server."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_part(self) -> bytes:
        """The next part. Raises EOFError when the server is gone."""
        return self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0])

    def _read(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.read(self._fd, size)
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def answer(self, data: bytes) -> None:
        """Sends one answer."""
        for piece in (_LENGTH.pack(len(data)), data) if len(data) > 1 << 16 else (_LENGTH.pack(len(data)) + data,):
            left = memoryview(piece)
            while left:
                left = left[os.write(self._fd, left) :]
