"""Processes that can do nothing but compute, and are killed when they take too long: pools of them.

Each pool has processes of one kind (a module with a ``main``, ``child/computing.py`` says what they speak). They are started
when they are needed, do one thing at a time each, and end when they have had nothing to do for a while. Whatever
they are given, it is the only thing that fails by it. Where all are busy the next one waits; its time begins when it has
one.
"""

from __future__ import annotations

import base64
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import trio

import minwebhook
from minwebhook.sandbox import seccomp

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from {} import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_MODULE_PATH: Final = str(Path(minwebhook.__file__).resolve().parent.parent)
_START_TIMEOUT_S: Final = 20.0
_IDLE_S: Final = 60.0
_LENGTH: Final = struct.Struct("!I")
_READ_BYTES: Final = 256 * 1024
#: Of what it says instead of "ready".
_MAX_FIRST_ANSWER: Final = 64 * 1024

#: Answers what a process asks while it computes. Raises :class:`Lost` for what it must not ask.
OnQuestion = Callable[[bytes], Awaitable[bytes]]


class Lost(Exception):
    """The process ended, or says what it must not."""


class NotStarted(Exception):
    """No process can be had, and why."""


class Computers:
    """The processes of one kind."""

    def __init__(self, module: str, settings: Mapping[str, Any], *, count: int, max_answer_bytes: int) -> None:
        """``settings`` are sent to each process, as JSON; at most ``count`` are there at a time."""
        self._module = module
        self._settings = settings
        self._max_answer = max_answer_bytes
        self._places = trio.Semaphore(count)
        self._idle: list[_Computer] = []  # the one used last at the end
        self._running: set[_Computer] = set()
        self._nursery: trio.Nursery | None = None

    @property
    def process_count(self) -> int:
        """Processes that run now."""
        return len(self._running)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ends processes that have nothing to do, until cancelled; then all."""
        async with trio.open_nursery() as self._nursery:
            try:
                task_status.started()
                while True:
                    await trio.sleep(_IDLE_S / 2)
                    while self._idle and self._idle[0].idle_since < trio.current_time() - _IDLE_S:
                        self._end(self._idle.pop(0))
            finally:
                for computer in list(self._running):
                    self._end(computer)
                self._idle.clear()

    async def ask(self, request: Sequence[bytes], *, timeout_s: float, on_question: OnQuestion | None = None) -> bytes:
        """The answer of one process, its letter first, in lower case. Cancelling ends the process.

        Raises trio.TooSlowError after ``timeout_s``, :class:`Lost`, :class:`NotStarted`.
        """
        async with self._places:
            computer = await self._take()
            try:
                with trio.fail_after(timeout_s):
                    answer = await computer.ask(request, self._max_answer, on_question)
            except BaseException:
                self._end(computer)
                raise
            if answer[:1].isupper():
                self._end(computer)
            else:
                computer.idle_since = trio.current_time()
                self._idle.append(computer)
        return answer[:1].lower() + answer[1:]

    async def _take(self) -> _Computer:
        while self._idle:
            computer = self._idle.pop()
            if computer.is_there():
                return computer
            self._end(computer)
        try:
            computer = _Computer(self._module)
        except OSError as error:
            raise NotStarted(str(error)) from error
        self._running.add(computer)
        try:
            with trio.fail_after(_START_TIMEOUT_S):
                await computer.start(self._settings)
        except BaseException as error:
            self._end(computer)
            if isinstance(error, Lost | trio.TooSlowError):
                raise NotStarted(str(error) or f"not ready within {_START_TIMEOUT_S:g} s") from error
            raise
        return computer

    def _end(self, computer: _Computer) -> None:
        if computer in self._running:
            self._running.discard(computer)
            computer.kill()
            if self._nursery is not None:
                self._nursery.start_soon(computer.wait)


class _Computer:
    """The server's end of one process."""

    def __init__(self, module: str) -> None:
        self._socket, theirs = socket.socketpair()
        self.idle_since = 0.0
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        "-c",
                        _START.format(module),
                        _MODULE_PATH,
                        str(os.getpid()),
                        str(theirs.fileno()),
                    ],
                    pass_fds=[theirs.fileno()],
                    env={"TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
            except OSError:
                self._socket.close()
                raise
        self._socket.setblocking(False)

    def is_there(self) -> bool:
        """Whether it can be asked: it neither ended nor said anything unasked."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def start(self, settings: Mapping[str, Any]) -> None:
        """Waits until it is ready. Raises :class:`Lost` with the reason why it will not be."""
        await self._send([orjson.dumps(settings)])
        answer = await self._receive(_MAX_FIRST_ANSWER)
        if answer != b"r":
            raise Lost(answer[1:].decode("utf-8", "replace"))

    async def ask(self, request: Sequence[bytes], most: int, on_question: OnQuestion | None) -> bytes:
        """Its answer, of at most so many bytes. Raises :class:`Lost`."""
        await self._send(request)
        while True:
            answer = await self._receive(most)
            if answer[:1] != b"?" or on_question is None:
                return answer
            await self._send([await on_question(answer[1:])])

    async def _send(self, parts: Sequence[bytes]) -> None:
        data = memoryview(b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part)))
        try:
            while data:
                try:
                    data = data[self._socket.send(data) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError):
            raise Lost("the process ended") from None

    async def _receive(self, most: int) -> bytes:
        received = bytearray()
        size = _LENGTH.size
        length = 0
        while len(received) < size:
            try:
                piece = self._socket.recv(min(_READ_BYTES, size - len(received)))
            except BlockingIOError:
                await _wait_readable(self._socket)
                continue
            except OSError:
                piece = b""
            if not piece:
                raise Lost("the process ended")
            received += piece
            if not length and len(received) == _LENGTH.size:
                (length,) = _LENGTH.unpack(received)
                if not 1 <= length <= most:
                    raise Lost("the process does not keep to its protocol")
                size += length
        return bytes(received[_LENGTH.size :])

    def kill(self) -> None:
        """Ends it, once."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        self._process.kill()

    async def wait(self) -> None:
        """Until it is gone: the kernel takes some time to free much memory."""
        if self._process.poll() is not None:
            return
        ended = os.pidfd_open(self._process.pid)
        try:
            await trio.lowlevel.wait_readable(ended)
        finally:
            os.close(ended)
            self._process.wait()


async def _wait_readable(channel: socket.socket) -> None:
    try:
        await trio.lowlevel.wait_readable(channel)
    except trio.ClosedResourceError:
        raise Lost("the process was ended") from None


def packed_filter(*, insecure: bool) -> str:
    """The system call filter of such processes, in base64; empty where the kernel has none and ``insecure`` is set."""
    try:
        return base64.b64encode(seccomp.assemble_computing(platform.machine())).decode()
    except ValueError:
        if insecure:
            return ""
        raise
