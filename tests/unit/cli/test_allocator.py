"""Pieces of a large body are received into memory that the process has already."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import missing

_PROGRAM = """
import platform, resource, sys
from minwebhook.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def receive():
    before = faults()
    for _ in range(200):
        piece = bytes(bytearray(512 * 1024))
    return faults() - before

if platform.libc_ver()[0] != "glibc":
    sys.exit(77)
if "keep" in sys.argv:
    keep_freed_memory()
    keep_freed_memory()
receive()
print(receive())
"""


def page_faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        missing("the GNU C library")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_kept() -> None:
    assert page_faults("keep") < 200  # one for each piece at most; each has 128 pages
