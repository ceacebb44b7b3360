"""The server's end of a fork server: starts it, asks it for children, learns of their ends, starts it again when it dies.

One task reads the control socket, the sockets of children that are not ready yet and the logs of all children, through
one epoll.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import trio

import minwebhook
from minwebhook.child.sharing import FAILED
from minwebhook.child.wire import Usage
from minwebhook.errors import SandboxError
from minwebhook.http.listeners import Listener
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.reports import Vanished
from minwebhook.sandbox.cgroups import Branch, Group, Groups, close_all
from minwebhook.sandbox.plan import API_PORT, NAMESPACED, SandboxPlan

_MAX_MESSAGE: Final = 1 << 16
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from minwebhook.child.zygote import main; "
    "main(sys.argv[1], int(sys.argv[2]))"
)
#: Where the child package is imported from.
_MODULE_PATH: Final = str(Path(minwebhook.__file__).resolve().parent.parent)
_START_TIMEOUT_S: Final = 20.0
_RESTART_PAUSE_S: Final = 0.5
#: For the end of all processes of a fork server, which takes milliseconds.
_END_TIMEOUT_S: Final = 2.0
#: Between two looks whether they have ended.
_LOOK_S: Final = 0.005
#: Descriptors that come with a child: job socket, log pipe, pidfd.
_CHILD_FDS: Final = 3
#: The socket of a child is listened to until it is ready; closing it takes it out.
_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT
#: More than come at once: those of four children, each with a listener where there is no network.
_MAX_FDS: Final = 32
#: Addresses of the API that it may make, one for each place where a job runs.
_MAX_LISTENERS: Final = 10_000
#: Messages that are handled before others get their turn.
_MESSAGES_AT_ONCE: Final = 64
#: What a fork server says when it is ready.
_WORDS_OF_READY: Final = {"ready", "host_rights", "own_uids", "python"}
#: Why a child cannot be had just now: the next fork server will make it.
LOST: Final = "the fork server ended"

logger = logging.getLogger(__name__)

#: Gets a child that is ready, or None with the reason why there is none.
Deliver = Callable[[Child | None, str], None]


class _Adjusting:
    """A wish that waits for its answer."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reason = ""
        self.code = FAILED

    def finish(self, reason: str) -> None:
        self.reason = reason
        self.done.set()


class Zygote:
    """One fork server for one sandbox plan."""

    def __init__(
        self,
        plan: SandboxPlan,
        interpreter: str,
        *,
        groups: Groups | None = None,
        on_listening: Callable[[Listener], None] = lambda _: None,
    ) -> None:
        """``interpreter`` is the real Python binary, not a launcher script: starting one costs 100 ms and more.

        With ``groups`` each child is in a control group, with the limits of the plan.

        ``on_listening`` gets, for each place where scripts without a network run, where they call the server.
        """
        self._on_listening = on_listening
        self._listeners: list[Listener] = []
        #: How scripts that have no network reach the server; empty if they reach it as everybody does.
        self.api_url = f"http://127.0.0.1:{API_PORT}" if plan.is_cut_off else ""
        self._plan = plan
        self._interpreter = interpreter
        self._ids = itertools.count(1)
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, tuple[str, Deliver, Group | None]] = {}
        self._groups = groups
        self._branch: Branch | None = None
        self._starting: dict[int, tuple[Child, Deliver]] = {}  # by job socket descriptor
        self._logs: dict[int, Child] = {}  # by log pipe descriptor
        self._children: dict[int, Child] = {}
        self._adjusting: dict[int, _Adjusting] = {}
        self._sharing: dict[int, _Adjusting] = {}
        self._unsent: list[tuple[bytes, list[int], bool]] = []
        self._stopping = False
        #: The interpreter's version, known after the start.
        self.version = ""
        #: Whether whoever takes over the fork server has rights on the machine, known after the start. Only without them
        #: may code of others run in it.
        self.has_host_rights = True
        #: Whether each running job has a user id of its own, known after the start.
        self.has_own_uids = False

    @property
    def pid(self) -> int | None:
        """Process id of the running fork server's outer process."""
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether it can be asked for children; not for a moment after it died."""
        return self._control is not None

    def spawn(self, language: str, deliver: Deliver) -> None:
        """Asks for a child; ``deliver`` is called from the loop when it is ready or cannot be had."""
        child_id = next(self._ids)
        group: Group | None = None
        entrances: list[int] = []
        if self._groups is not None and not self._stopping:
            try:
                group = self._own_branch(self._groups).take(
                    self._plan.group_memory_bytes, self._plan.rlimits.processes[0]
                )
                entrances = group.entrances()
            except OSError as error:
                self._give_back(group)
                deliver(None, f"no control group: {error}")
                return
        self._asked[child_id] = (language, deliver, group)
        self._send(orjson.dumps({"spawn": child_id, "language": language}), entrances)

    async def adjust(self, child: Child, *, tmp_bytes: int | None = None, limits: str = "") -> None:
        """Gives the private /tmp of a waiting child another size, and the child other limits (child/limits.py).

        Raises :class:`SandboxError`.
        """
        adjusting = self._adjusting[child.id] = _Adjusting()
        self._send(orjson.dumps({"adjust": child.id, "tmp_bytes": tmp_bytes, "limits": limits}))
        try:
            await adjusting.done.wait()
        finally:
            self._adjusting.pop(child.id, None)
        if adjusting.reason:
            raise SandboxError(f"cannot change the limits of a job: {adjusting.reason}")

    async def share(self, child: Child, fd: int, *, most_bytes: int | None = None) -> int:
        """Unpacks the archive behind a descriptor in the place of a child, or writes it there, with at most so many bytes.

        The exit code, one of child/sharing.py.
        """
        sharing = self._sharing[child.id] = _Adjusting()
        self._send(orjson.dumps({"share": child.id, "most_bytes": most_bytes}), [os.dup(fd)], closes=True)
        try:
            await sharing.done.wait()
        finally:
            self._sharing.pop(child.id, None)
        return sharing.code

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the fork server running until cancelled. Raises :class:`SandboxError` if the first start fails."""
        started = False
        try:
            while not self._stopping:
                try:
                    control = await self._start()
                except SandboxError as error:
                    if not started:
                        raise
                    logger.error("zygote cannot start again: %s", error)
                else:
                    if not started:
                        started = True
                        task_status.started()
                    self._send_again()
                    await self._serve(control)
                    self._end_process()
                    self._lose_children()
                if not self._stopping:
                    logger.error("the fork server ended unexpectedly, starting another one")
                    await trio.sleep(_RESTART_PAUSE_S)
        finally:
            self._end_process()
            self._lose_children()
            with trio.move_on_after(_END_TIMEOUT_S, shield=True):
                await self._close_groups()

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec: a few hundred microseconds
                    [self._interpreter, "-I", "-S", "-u", "-c", _START, _MODULE_PATH, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={},  # a process keeps its first environment readable for ever: there must be nothing in it
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the server, which then drains
                    cwd="/",
                )
            except OSError as error:
                ours.close()
                raise SandboxError(f"cannot start the interpreter {self._interpreter}: {error.strerror}") from error
        ours.setblocking(False)
        reply: dict[str, Any] = {"failed": "the process ended without a word"}
        with trio.move_on_after(_START_TIMEOUT_S) as waiting:
            try:
                with self._kill_descriptor() as fds:
                    plan = orjson.dumps({**self._plan.to_json(), "server_pid": os.getpid()})
                    socket.send_fds(ours, [plan], fds)
                await trio.lowlevel.wait_readable(ours)
                if data := ours.recv(_MAX_MESSAGE):
                    reply = dict(orjson.loads(data))
            except (OSError, ValueError, TypeError):
                pass  # it is gone already, or says nothing that can be read
        if waiting.cancelled_caught:
            reply = {"failed": f"no answer within {_START_TIMEOUT_S:g} s"}
        if "failed" in reply or not reply.keys() >= _WORDS_OF_READY:
            ours.close()
            self._end_process()
            raise SandboxError(str(reply.get("failed", "the fork server does not keep to its protocol")))
        self.version, self.has_host_rights = reply["python"], reply["host_rights"]
        self.has_own_uids = reply["own_uids"]
        self._control = ours
        return ours

    @contextlib.contextmanager
    def _kill_descriptor(self) -> Iterator[list[int]]:
        """What ends all jobs at once, for the process that does so where no PID namespace does; nothing if there is none."""
        fds: list[int] = []
        if self._groups is not None and self._plan.rung not in NAMESPACED:
            fds = [fd for fd in [self._own_branch(self._groups).open_kill()] if fd is not None]
        try:
            yield fds
        finally:
            close_all(fds)

    async def _serve(self, control: socket.socket) -> None:
        """Reads messages until the fork server dies."""
        with select.epoll() as epoll:
            epoll.register(control.fileno(), select.EPOLLIN)
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                for fd, _ in epoll.poll(0):
                    if fd in self._logs:
                        if not self._logs[fd].read_log():
                            epoll.unregister(fd)
                            del self._logs[fd]
                    elif fd in self._starting:
                        self._hear_starting(epoll, fd)
                    elif fd != control.fileno():
                        continue
                    elif not self._read_messages(control, epoll):
                        trio.lowlevel.notify_closing(epoll.fileno())
                        return

    def _read_messages(self, control: socket.socket, epoll: select.epoll) -> bool:
        """Handles waiting messages. False when the other side is gone, or says what it must not.

        Packages of scripts may have been imported there: what comes is checked like anything else from outside.
        """
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                data, fds, _, _ = socket.recv_fds(control, _MAX_MESSAGE, _MAX_FDS)
            except BlockingIOError:
                self._send_again()
                return True
            except OSError:
                return False
            if not data:
                return False
            try:
                for message in orjson.loads(data):
                    self._hear(message, fds, epoll)
            except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
                logger.error("the fork server does not keep to its protocol: %r", error)
                return False
            finally:
                for fd in fds:  # those that no child has taken
                    os.close(fd)
        return True

    def _hear(self, message: Any, fds: list[int], epoll: select.epoll) -> None:
        """Handles one message, and takes the descriptors that it needs. Raises whatever a wrong one leads to."""
        if "spawned" in message:
            language, deliver, group = self._asked.pop(message["spawned"])
            given, fds[:_CHILD_FDS] = fds[:_CHILD_FDS], []
            if len(given) < _CHILD_FDS:
                close_all(given)
                self._give_back(group)
                # Out of descriptors: the kernel dropped the rest. The child sees its socket close and goes.
                deliver(None, "the server has no file descriptors left")
                return
            try:
                _check_descriptors(given)
            except (ValueError, OSError):
                close_all(given)
                raise
            has_group = self._plan.rung not in NAMESPACED
            child = Child(message["spawned"], language, int(message["pid"]), given, has_group=has_group, group=group)
            self._children[child.id] = child
            self._starting[child.socket_fd] = (child, deliver)
            epoll.register(child.socket_fd, _ONCE)
        elif "listening" in message:
            if self._plan.surroundings.network != "none" or len(self._listeners) >= _MAX_LISTENERS:
                raise ValueError("a listener that nobody needs")
            if not stat.S_ISSOCK(os.fstat(fds[0]).st_mode):
                raise ValueError("not the descriptor of a listener")
            listening = socket.socket(fileno=fds.pop(0))
            listening.setblocking(False)
            self._listeners.append(Listener(listening, self.api_url, is_inner=True))
            self._on_listening(self._listeners[-1])
        elif "exited" in message:
            if (gone := self._children.pop(message["exited"], None)) is not None:
                usage = Usage(round(1000 * message["cpu_s"]), int(message["peak_kib"]))
                gone.exited(Vanished(message.get("code"), message.get("signal"), usage))
                self._give_back(gone.group)
        elif "adjusted" in message:
            if (adjusting := self._adjusting.pop(message["adjusted"], None)) is not None:
                adjusting.finish(str(message["reason"]))
        elif "shared" in message:
            if (sharing := self._sharing.pop(message["shared"], None)) is not None:
                sharing.code = int(message["code"])
                sharing.done.set()
        else:
            _, deliver, group = self._asked.pop(message["refused"])
            self._give_back(group)
            deliver(None, str(message["reason"]))

    def _hear_starting(self, epoll: select.epoll, fd: int) -> None:
        child, deliver = self._starting[fd]
        ready = child.read_ready()
        if ready is None:
            epoll.modify(fd, _ONCE)
            return
        del self._starting[fd]
        if ready:
            if child.group is not None:
                child.group.mark()
            epoll.register(child.log_fd, select.EPOLLIN)
            self._logs[child.log_fd] = child
            child.on_end = lambda: self._forget_log(epoll, child)
            deliver(child, "")
            return
        reason = "the process ended while it was starting"
        with contextlib.suppress(OSError):
            reason = os.read(child.log_fd, 4096).decode("utf-8", "replace").strip() or reason
        child.end()
        deliver(None, reason)

    def _forget_log(self, epoll: select.epoll, child: Child) -> None:
        """The child's descriptors are about to be closed, and their numbers used again."""
        if self._logs.pop(child.log_fd, None) is not None and not epoll.closed:
            epoll.unregister(child.log_fd)

    def _send(self, message: bytes, fds: Sequence[int] = (), *, closes: bool = False) -> None:
        """Takes ownership of the descriptors if it ``closes`` them."""
        try:
            if self._control is not None:
                socket.send_fds(self._control, [message], fds)
                if closes:
                    close_all(fds)
                return
        except OSError:
            # Busy forking, with hundreds of unread requests: kept until it answers, so that nothing waits here. Or it died;
            # the task of run() starts another one.
            pass
        self._unsent.append((message, [*fds], closes))

    def _send_again(self) -> None:
        """Sends what did not fit into the control socket before: the other side has made progress."""
        waiting, self._unsent = self._unsent, []
        for message, fds, closes in waiting:
            self._send(message, fds, closes=closes)

    def _lose_children(self) -> None:
        """The fork server died, and with it, by the kernel, every child."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        children, self._children = self._children, {}
        for child in children.values():
            child.exited(Vanished())
            self._give_back(child.group)
        for waiting in (*self._adjusting.values(), *self._sharing.values()):
            waiting.finish(LOST)
        starting, self._starting = self._starting, {}
        asked, self._asked = self._asked, {}
        for _, fds, closes in self._unsent:
            if closes:
                close_all(fds)
        self._unsent.clear()
        self._logs.clear()
        for child, deliver in starting.values():
            child.end()
            deliver(None, LOST)
        for _, deliver, group in asked.values():
            self._give_back(group)
            deliver(None, LOST)

    def _own_branch(self, groups: Groups) -> Branch:
        """Where its groups are made; a PID namespace ends jobs without them. Raises OSError."""
        if self._branch is None:
            self._branch = groups.branch(kills=self._plan.rung not in NAMESPACED)
        return self._branch

    def _give_back(self, group: Group | None) -> None:
        """The processes that were in it are gone, or just about to be."""
        if group is not None and self._branch is not None:
            self._branch.give_back(group)

    async def _close_groups(self) -> None:
        """Removes the groups, which is possible once the processes are gone: a matter of milliseconds."""
        while self._branch is not None and not self._branch.close():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(_LOOK_S)
        self._branch = None

    def stop(self) -> None:
        """Ends the fork server, and with it every child, for good: :meth:`run` returns."""
        self._stopping = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                # Without a PID namespace the outer process ends the others, and then itself.
                os.kill(self._process.pid, signal.SIGKILL if self._plan.rung in NAMESPACED else signal.SIGTERM)

    def _end_process(self) -> None:
        self._kill()
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()  # returns at once after SIGKILL
            self._process = None


def _check_descriptors(fds: list[int]) -> None:
    """Raises :class:`ValueError` or :class:`OSError` if they are not a socket, a pipe and a process."""
    job, log, process = fds
    if not (stat.S_ISSOCK(os.fstat(job).st_mode) and stat.S_ISFIFO(os.fstat(log).st_mode)):
        raise ValueError("not the descriptors of a child")
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, 0)
