"""The server's end of one sandboxed process: its job socket, its log pipe, its pidfd.

A child is owned by exactly one of: its zygote (until it said READY), a pool (while it waits), a job (while it runs one).
Whoever owns it last calls :meth:`Child.end`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from minwebhook.child import wire
from minwebhook.runtimes import accounting
from minwebhook.runtimes.reports import Broken, Report, Vanished
from minwebhook.sandbox.cgroups import Group

#: What a pipe holds: so much takes all that was written before.
_LOG_READ_BYTES: Final = 64 * 1024
#: Larger reads cost tenfold: the memory for each comes from the kernel and goes back to it.
_SOCKET_READ_BYTES: Final = 64 * 1024
#: Kinds of frames that a job may send.
_FROM_CHILD: Final = wire.CODE + wire.MASK + wire.ARGUMENTS + wire.RESULT + wire.ERROR + wire.EXIT + wire.USAGE
#: A killed process that does not disappear in this time is stuck in the kernel; its job is not kept waiting longer.
_EXIT_WAIT_S: Final = 10.0


@dataclass(slots=True)
class Served:
    """What a process that stays for further jobs has behind it. Times as ``reuse.py`` measures them."""

    since_s: float
    #: When its memory is looked at next.
    look_s: float
    jobs: int = 0


class Exchange:
    """What a child says of one job: its frames, up to the report."""

    __slots__ = ("_mask", "_on_arguments", "_on_code", "_reader", "_usage", "on_log")

    def __init__(
        self,
        number: bytes,
        *,
        max_payload: int,
        on_log: Callable[[bytes], bool],
        on_code: Callable[[bytes], None] | None,
        on_arguments: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        """For the job with this ``number``.

        ``on_log`` gets pieces of the log as they come and says whether there may be more; ``on_code`` gets the compiled
        script, which an honest child sends before anything of the script runs: only as its first frame, and only if it
        was not given one (then ``on_code`` is None). ``on_arguments`` gets what the preprocessor made, and its mask; it is
        None if none was to be called.
        """
        self._reader = wire.FrameReader(_FROM_CHILD, max_payload, number)
        self.on_log = on_log
        self._on_code = on_code
        self._on_arguments = on_arguments
        self._mask = b""
        self._usage: wire.Usage | None = None

    def feed(self, data: bytes) -> Report | Broken | None:
        """Takes bytes as they came; the end of the job, if this is it."""
        try:
            frames = self._reader.feed(data)
        except wire.FrameTooLarge as error:
            return Broken(str(error), "result")
        except wire.FrameError as error:
            return Broken(str(error))
        for kind, payload in frames:
            if kind == wire.CODE:
                if self._on_code is None:
                    return Broken("compiled code that nobody asked for")
                self._on_code(payload)
                self._on_code = None
            elif kind == wire.MASK:
                self._mask = payload
            elif kind == wire.USAGE:
                try:
                    self._usage = wire.unpack_usage(payload)
                except wire.FrameError as error:
                    return Broken(str(error))
            elif kind == wire.ARGUMENTS:
                if self._on_arguments is None:
                    return Broken("arguments that nobody asked for")
                self._on_arguments(payload, self._mask)
                self._on_arguments, self._mask = None, b""
            else:
                return Report(kind, payload, self._mask, self._usage)
        return None


class Child:
    """One process. All descriptors are non-blocking."""

    __slots__ = (
        "_answers",
        "_counted",
        "_host_pid",
        "_is_log_full",
        "_log",
        "_on_log",
        "_pidfd",
        "_socket",
        "ended",
        "exit",
        "given",
        "group",
        "has_group",
        "id",
        "language",
        "log_fd",
        "on_end",
        "on_exit",
        "pid",
        "served",
    )

    def __init__(
        self, child_id: int, language: str, pid: int, fds: list[int], *, has_group: bool, group: Group | None = None
    ) -> None:
        """Takes ownership of ``fds``: job socket, log pipe, pidfd. ``has_group``: it leads a process group (no namespaces).

        ``group`` is its control group, which the zygote takes back when the process is gone.
        """
        self.id = child_id
        self.language = language
        self.pid = pid
        self.has_group = has_group
        self.group = group
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fds[0])  # told, it does not ask the kernel
        self._socket.setblocking(False)
        self.log_fd = fds[1]
        os.set_blocking(self.log_fd, False)
        self._pidfd = fds[2]
        self._host_pid: int | None = None
        self._on_log: Callable[[bytes], bool] | None = None
        self._is_log_full = False
        # To look whether there is something costs less than to fail at reading: an exception costs several system calls.
        self._answers = select.poll()
        self._answers.register(self._socket, select.POLLIN)
        self._log = select.poll()
        self._log.register(self.log_fd, select.POLLIN)
        #: What its group counted, if the process ended before the job did.
        self._counted: tuple[wire.Usage, set[str]] | None = None
        self.ended = False
        #: The lasting part of the header (jobs/environment.py) that it keeps, and its script, for further jobs.
        self.given: bytes | None = None
        #: Of one that stays for further jobs (reuse.py).
        self.served: Served | None = None
        #: How it exited, once the zygote said so.
        self.exit: Vanished | None = None
        #: Told once when the process is gone.
        self.on_exit: Callable[[], None] | None = None
        #: Told once before the descriptors are closed.
        self.on_end: Callable[[], None] | None = None

    @property
    def socket_fd(self) -> int:
        """The job socket's descriptor."""
        return self._socket.fileno()

    def exited(self, how: Vanished) -> None:
        """The zygote reaped the process: all of its descendants are gone too, and its group is about to be another's."""
        self.exit = how
        if self.group is not None and not self.ended:
            self._counted = self.group.used(), self.group.limits_hit()
        if self.on_exit is not None:
            self.on_exit()

    def kill(self) -> None:
        """Ends the process and everything it started. The job, if any, sees its socket close."""
        if self.ended or self.exit is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        if self.has_group:
            if self.group is not None:
                self.group.kill()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kills the process and closes the descriptors. May be called again."""
        if self.ended:
            return
        self.kill()
        self.ended = True
        if self.on_end is not None:
            self.on_end()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        os.close(self.log_fd)
        os.close(self._pidfd)

    def limit(self, memory_bytes: int, processes: int) -> None:
        """Gives the job other limits of memory and processes than usual, where control groups do that."""
        if self.group is not None and self.exit is None:
            with contextlib.suppress(OSError):  # of a process that is just gone
                self.group.limit(memory_bytes, processes)

    def used(self) -> wire.Usage | None:
        """What all processes of the job used; None where nobody counts that."""
        if self._counted is not None:
            return self._counted[0]
        return self.group.used() if self.group is not None and self.exit is None else None

    def limits_hit(self) -> set[str]:
        """``oom`` and ``pids``, if the kernel said so during the job."""
        if self._counted is not None:
            return self._counted[1]
        return self.group.limits_hit() if self.group is not None and self.exit is None else set()

    @property
    def counts(self) -> frozenset[str]:
        """What is limited and counted of all its processes together."""
        return self.group.counts if self.group is not None else frozenset()

    def stay(self) -> None:
        """The job has ended, and the process stays for others: what they use is counted from here on."""
        if self.group is not None and self.exit is None:
            self.group.go_on()

    def cpu_s(self) -> float:
        """Seconds of processor time that the process and its descendants used since some moment before the job."""
        if self.group is not None and "cpu" in self.group.counts and self.exit is None:
            return self.group.cpu_s()
        return accounting.tree_cpu_s(self._process_id())

    def memory_bytes(self) -> int:
        """Memory that the process itself has now, with what it shares."""
        return accounting.resident_bytes(self._process_id())

    def _process_id(self) -> int:
        if self._host_pid is None:
            self._host_pid = accounting.process_id(self._pidfd)
        return self._host_pid

    def read_ready(self) -> bool | None:
        """Whether the child said READY; None while nothing came. Used by the zygote before the child is handed out."""
        try:
            data = self._socket.recv(wire.HEAD_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return False
        return data == wire.frame(wire.READY)

    async def run(self, job: bytes, exchange: Exchange, *, spin_s: float = 0.0) -> Report | Vanished | Broken:
        """Sends the JOB frame of a job and reads until the report.

        ``spin_s`` is how long to look for the first answer before waiting for it, holding up the loop meanwhile. On
        cancellation the child must be ended by the caller.
        """
        self._on_log = exchange.on_log
        await self._send(job)
        if spin_s and (first := self._spin(spin_s)) and (end := self.feed(exchange, first)) is not None:
            return end
        return await self.finish(exchange)

    def start(self, job: bytes, exchange: Exchange) -> bool:
        """Sends the JOB frame of a job to a process that has read all that came before; reading is up to the caller.

        False if the socket did not take all of it: the process is not in order, and only good for being ended.
        """
        self._on_log = exchange.on_log
        try:
            return self._socket.send(job) == len(job)
        except OSError:
            return False

    def receive(self) -> bytes | None:
        """What the process has sent, b"" at its end, and None if there is nothing."""
        try:
            return self._socket.recv(_SOCKET_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def feed(self, exchange: Exchange, data: bytes) -> Report | Broken | None:
        """Takes what the process has sent about its job; the end of the job, if this is it."""
        end = exchange.feed(data)
        if isinstance(end, Report):
            self.read_log()  # everything the script wrote before its report
            self._on_log = None
            if self._is_log_full:
                return Broken("log", "log")
        return end

    async def finish(self, exchange: Exchange) -> Report | Vanished | Broken:
        """Reads until the report of a job that was sent."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            data = self.receive()
            if data is None:
                continue
            if not data:
                self.read_log()
                return Broken("log", "log") if self._is_log_full else await self._vanish()
            if (end := self.feed(exchange, data)) is not None:
                return end

    def _spin(self, seconds: float) -> bytes | None:
        """Looks for an answer without giving up the processor, for at most ``seconds``; None if there is none.

        To sleep and be woken costs more than most short jobs take, above all on virtual machines.
        """
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if self._answers.poll(0):
                with contextlib.suppress(OSError):
                    return self._socket.recv(_SOCKET_READ_BYTES) or None
                return None
        return None

    async def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is gone; reading says how
        view = memoryview(data)[sent:]
        while view:
            await trio.lowlevel.wait_writable(self._socket)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except OSError:
                return

    def read_log(self) -> bool:
        """Takes what the log pipe holds now, at most a whole pipe: a script that writes without end must not keep the loop.

        False at its end. A job that writes more than it may is killed.
        """
        taken = 0
        while taken < _LOG_READ_BYTES and self._log.poll(0):
            try:
                data = os.read(self.log_fd, _LOG_READ_BYTES - taken)
            except BlockingIOError:
                return True
            if not data:
                return False
            taken += len(data)
            if self._on_log is not None and not self._is_log_full and not self._on_log(data):
                self._is_log_full = True
                self.kill()
        return True

    async def _vanish(self) -> Vanished:
        """Waits for the exit status. A process that only closed its socket is killed."""
        if self.exit is None:
            gone = trio.Event()
            self.on_exit = gone.set
            self.kill()
            with trio.move_on_after(_EXIT_WAIT_S):
                await gone.wait()
        return self.exit or Vanished()
