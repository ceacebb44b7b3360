"""How the C library manages this process's memory.

glibc gives freed memory back to the kernel as soon as 128 KiB lie free at the end of the heap, and gets every larger piece
by a system call of its own. A server that receives pieces of 512 KiB pays for that with page faults: a third of the
processor's time of a large upload (man 3 mallopt).
"""

from __future__ import annotations

import ctypes
from typing import Final

#: Memory that may lie free, and the size from which pieces are got and given back one by one.
KEPT_BYTES: Final = 4 * 1024 * 1024

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """Lets up to ``KEPT_BYTES`` lie free. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)


def give_back_freed_memory() -> None:
    """What lies free now, for instance behind the start, goes back to the kernel. Takes a millisecond."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
