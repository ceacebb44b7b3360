"""Runs a program of the server's own, to its end or to its deadline, and gives what it said on stderr.

It gets an environment made from nothing, no input, and the rights of ``child/errand.py``. Whatever way this is left,
the program and all processes of its session are gone then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

import minwebhook
from minwebhook.errors import PackageError

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minwebhook.child.errand import main; "
    "main(int(sys.argv[2]), sys.argv[3:])"
)
_MODULE_PATH: Final = str(Path(minwebhook.__file__).resolve().parent.parent)
_READ_BYTES: Final = 64 * 1024
#: What is kept of the output: its end.
_MAX_OUTPUT_BYTES: Final = 64 * 1024


async def run_program(
    argv: Sequence[str], *, environment: Mapping[str, str], directory: Path, timeout_s: float
) -> tuple[int, str]:
    """The exit code (negative: a signal) and the end of stderr. Raises :class:`PackageError` at the deadline.

    Started in the loop's own thread: what the kernel does when a parent dies, it does when the starting thread ends.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec: a few hundred microseconds
            [sys.executable, "-I", "-S", "-c", _START, _MODULE_PATH, str(os.getpid()), *argv],
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            start_new_session=True,
        )
    except OSError as error:
        os.close(ours)
        raise PackageError(f"cannot start {argv[0]}: {error.strerror}") from error
    finally:
        os.close(theirs)
    try:
        with trio.fail_after(timeout_s):
            output = await _read(ours)
            code = await _wait(process)
    except trio.TooSlowError:
        raise PackageError(f"not done within {timeout_s:g} s (package_timeout_s)") from None
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()  # returns at once after SIGKILL
    return code, output.decode("utf-8", "replace")


async def _read(fd: int) -> bytes:
    """Until all who may write are gone."""
    os.set_blocking(fd, False)
    output = b""
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            continue
        if not data:
            return output
        output = (output + data)[-_MAX_OUTPUT_BYTES:]


async def _wait(process: subprocess.Popen[bytes]) -> int:
    pidfd = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
    return process.wait()
