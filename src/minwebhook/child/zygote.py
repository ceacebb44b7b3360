"""The fork server: one small single-threaded process that is confined once and forks children that are ready for a job.

Started by the server as ``python -I -S -u -c START DIR FD`` with an empty environment (runtimes/zygote.py).
``FD`` is a SOCK_SEQPACKET socket; every message is JSON. What the fork server says, once it is ready, comes in arrays of such
messages, with all their descriptors: each packet wakes the server.

::

    server -> zygote   the sandbox plan, once, without namespaces with a descriptor that ends all jobs by ``1``, if there are
                       control groups; then {"spawn": ID, "language": NAME} for each child wanted, with the
                       descriptors by which it enters its control group, if there is one, and
                       {"adjust": ID, "tmp_bytes": N or null, "limits": TEXT} for one that needs another size of /tmp than
                       usual, or limits (child/limits.py) that it cannot set itself; and
                       {"share": ID, "most_bytes": N or null} with the descriptor of an archive, which is unpacked in the
                       place of a child, or written with at most so many bytes (child/sharing.py)
    zygote -> server   {"ready": true, "host_rights": bool, "own_uids": bool, "python": "3.11.7"} or {"failed": TEXT}, once
                       {"spawned": ID, "pid": PID} with three descriptors: job socket, log pipe, pidfd
                       {"listening": true} with a descriptor, where scripts have no network: a socket that listens on
                       the loopback interface of one of the places where they run
                       {"refused": ID, "reason": TEXT} when the system has no room for another process
                       {"adjusted": ID, "reason": TEXT}; no text: it was done
                       {"shared": ID, "code": N}, one of child/sharing.py
                       {"exited": ID, "code": N} or {"exited": ID, "signal": N}, with "cpu_s" and "peak_kib" (getrusage(2)
                       of the process and those that it waited for)

Processes: the outer process makes the namespaces and waits; the inner one, first process of the new PID namespace, is the
fork server. When the server dies the kernel kills the outer process, then the inner one, and with it, as the end of a PID
namespace, every child and descendant: nothing has to cooperate. Without namespaces the outer process stays to do that
(child/descendants.py).

No code of a script ever runs here, nor is it parsed here: children do that. Packages that scripts import are imported here
if the fork server has no rights on the machine (preload.py).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal makes enums of what it gives back: 60 pages for each child
import array
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from minwebhook.child import bash, confine, descendants, engines, kernel, preload, python, randomness, sharing
from minwebhook.child.programs import PROGRAMS, running

_MAX_MESSAGE = 1 << 16
#: So many of the longest that there are fit into a packet.
_MAX_TOLD = 64
_encode = json.JSONEncoder(separators=(",", ":")).encode
#: Trees of control groups: memory, processes, processor time, and the one of version 2.
_MAX_ENTRANCES = 4
#: More would let the first of them wait too long.
_FORKS_AT_ONCE = 4
#: The fork server is the first process of its PID namespace, or the second.
_LAST_PLACE = 2


def main(module_path: str, control_fd: int) -> None:
    """Runs the fork server until the server goes away."""
    control = socket.socket(fileno=control_fd)
    message, received, _, _ = socket.recv_fds(control, _MAX_MESSAGE, 1)
    plan: dict[str, Any] = json.loads(message)
    kill_fd = received[0] if received else None
    confine.die_with_parent()
    if os.getppid() != plan["server_pid"]:
        return  # the server died before the line above
    confine.hide_module_path(module_path)
    plan["own_uids"] = confine.has_own_uids(plan)
    # Whoever takes over this process is then an ordinary user, who sees nothing of the machine.
    plan["host_rights"] = not (confine.gives_up_root(plan) or (plan["rung"] == "userns" and os.geteuid() != 0))
    try:
        if not plan["namespaces"]:
            confine.prepare_without_namespaces(plan)
            descendants.guard(plan["server_pid"], kill_fd)
            fork_server = ForkServer(control, plan, namespace=None, proc=None, has_proc=False)
        else:
            host_proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            has_proc = confine.enter_namespaces(plan, host_proc)
            confine.die_with_parent()  # new credentials undid the first
            if os.getppid() != plan["server_pid"]:
                return
            # A collection writes to every page of objects: before the fork, they stay shared with the process that waits.
            gc.collect()
            gc.freeze()
            if pid := os.fork():
                control.close()
                os.close(host_proc)
                _, status = os.waitpid(pid, 0)
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
            confine.die_with_parent()
            proc = confine.open_own_proc() if has_proc else host_proc
            namespace = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
            if has_proc:
                os.close(host_proc)
            confine.lock_down(plan)
            if plan["packages"]:
                _leave_first_place()
            fork_server = ForkServer(control, plan, namespace=namespace, proc=proc, has_proc=has_proc)
    except OSError as error:
        control.send(json.dumps({"failed": str(error)}).encode())
        return
    if plan["packages"]:
        sys.path.append(confine.packages_of(plan))
    fork_server.run()


def _leave_first_place() -> None:
    """From the first process of the PID namespace to its second one, which the first one waits for.

    Libraries for cryptography find out by the process id whether they were forked and must draw new random numbers. Jobs
    have the id 1; with packages loaded, the fork server must have another.
    """
    if pid := os.fork():
        os.closerange(3, 1 << 20)
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    confine.die_with_parent()


class _Order:
    """A child that was asked for, and what is opened for it."""

    def __init__(self, child_id: int, language: str, entrances: list[int]) -> None:
        self.child_id = child_id
        self.language = language
        self.entrances = entrances
        self.opened = list(entrances)
        self.job_here = self.job_there = self.log_read = self.log_write = -1
        self.slot = self.pid = -1
        self.is_announced = self.is_refused = False

    def open(self) -> None:
        """Its job socket and its log pipe."""
        self.job_here, self.job_there = (end.detach() for end in socket.socketpair())
        self.opened += [self.job_here, self.job_there]
        self.log_read, self.log_write = os.pipe2(os.O_CLOEXEC)
        self.opened += [self.log_read, self.log_write]

    def close(self) -> None:
        """The child has its own, the server what was sent."""
        for fd in self.opened:
            os.close(fd)


class ForkServer:
    """Forks children on request and reports their ends."""

    def __init__(
        self, control: socket.socket, plan: dict[str, Any], *, namespace: int | None, proc: int | None, has_proc: bool
    ) -> None:
        self._control = control
        self._requests = select.poll()
        self._requests.register(control.fileno(), select.POLLIN)
        self._plan = plan
        self._namespace = namespace
        self._limits = confine.resource_limits(plan)
        self._limits_without_addresses = confine.resource_limits(plan, bounds_addresses=False)
        self._slots = confine.Slots(plan, proc, self._hand_over)
        self._has_proc = has_proc
        self._proc = proc
        #: Modules that each child imports, and whether others are imported here.
        self._modules: list[str] = plan["modules"]
        self._is_loaded = False
        self._children: dict[int, tuple[int, int]] = {}  # pid -> (id given by the server, slot)
        self._sharers: dict[int, int] = {}  # pid -> id of the child
        self._told: list[dict[str, Any]] = []  # not yet sent
        self._told_fds: list[int] = []

    def run(self) -> None:
        """Serves until the control socket closes."""
        wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        python.prepare()
        self._import_modules()
        # A collection would touch, and so copy, every page the children share; nothing here makes cycles.
        gc.collect()
        gc.disable()
        gc.freeze()
        version = ".".join(str(part) for part in sys.version_info[:3])
        ready = {
            "ready": True,
            "host_rights": self._plan["host_rights"],
            "own_uids": self._plan["own_uids"],
            "python": version,
        }
        self._control.send(_encode(ready).encode())
        poller = select.poll()
        poller.register(self._control.fileno(), select.POLLIN)
        poller.register(wakeup_read, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == wakeup_read:
                    os.read(wakeup_read, 512)
                else:
                    self._serve_requests()
            self._reap()
            self._flush()

    def _serve_requests(self) -> None:
        """At least one that has come, and if more have, as many as children are forked in one go."""
        orders: list[_Order] = []
        while not orders or (len(orders) < _FORKS_AT_ONCE and self._requests.poll(0)):
            message, entrances, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE, _MAX_ENTRANCES)
            if not message:
                self._end_all()
            request = json.loads(message)
            if "share" in request:
                self._share(request["share"], request["most_bytes"], entrances)
                break
            if "spawn" not in request:
                self._adjust(request["adjust"], request["tmp_bytes"], request["limits"])
                break
            orders.append(_Order(request["spawn"], request["language"], entrances))
        self._spawn(orders)

    def _end_all(self) -> NoReturn:
        """The server is gone: so is everything here, at once. The kernel would do it, one parent after the other."""
        if self._plan["namespaces"] and os.getpid() <= _LAST_PLACE:  # surely not in the machine's own PID namespace
            with contextlib.suppress(ProcessLookupError):  # there is nobody else
                os.kill(-1, signal.SIGKILL)
        os._exit(0)  # without namespaces the process that guards this one does it

    def _import_modules(self) -> None:
        """Imports what scripts will import, if code of others may run here: if there is nothing to be had by it."""
        if self._modules and self._proc is not None and not self._plan["host_rights"]:
            self._modules = preload.import_forkable(self._modules, self._proc)
            self._is_loaded = True

    def _spawn(self, orders: list[_Order]) -> None:
        """Forks the children that were asked for.

        A fork makes every page shared again, and each that is written afterwards is copied. So what must be done for all
        children is done before the first fork, and after the last one.
        """
        for step in (self._prepare, self._fork, self._announce):
            for order in orders:
                if order.is_refused:
                    continue
                try:
                    step(order)
                except OSError as error:  # no memory, processes or descriptors left
                    self._refuse(order, str(error))
        try:
            self._reap()
            self._flush()
        except OSError as error:  # too many descriptors are on their way
            self._take_back(orders, str(error))
        for order in orders:
            order.close()

    def _take_back(self, orders: list[_Order], reason: str) -> None:
        """What was to be told did not go out: ends the children that are among it."""
        for order in orders:
            if order.is_refused:
                continue
            if self._children.pop(order.pid, None) is not None:  # it has not ended by itself
                order.is_announced = False
            self._refuse(order, reason)
        self._told = [message for message in self._told if "spawned" not in message]
        self._told_fds.clear()
        self._flush()

    def _prepare(self, order: _Order) -> None:
        order.open()
        order.slot = self._slots.take()

    def _fork(self, order: _Order) -> None:
        self._slots.enter(order.slot)
        pid = self._fork_process()
        if pid == 0:
            self._become_child(order)
        order.pid = pid

    def _announce(self, order: _Order) -> None:
        pidfd = os.pidfd_open(order.pid)
        order.opened.append(pidfd)
        self._children[order.pid] = (order.child_id, order.slot)
        order.is_announced = True
        self._tell({"spawned": order.child_id, "pid": order.pid}, order.job_here, order.log_read, pidfd)

    def _refuse(self, order: _Order, reason: str) -> None:
        order.is_refused = True
        if not order.is_announced:
            if order.pid > 0:
                os.kill(order.pid, signal.SIGKILL)
                os.waitpid(order.pid, 0)
            if order.slot >= 0:
                self._slots.give_back(order.slot)
        self._tell({"refused": order.child_id, "reason": reason})

    def _hand_over(self, listening: socket.socket) -> None:
        """Gives the server a socket on which it is to answer."""
        with listening:
            self._send([{"listening": True}], [listening.fileno()])

    def _adjust(self, child_id: int, tmp_bytes: int | None, limits: str) -> None:
        reason = ""
        children = [(pid, slot) for pid, (known, slot) in self._children.items() if known == child_id]
        try:
            for pid, slot in children:  # none: it has just ended, which is told elsewhere
                if tmp_bytes is not None:
                    self._slots.resize(slot, tmp_bytes)
                engines.limit(pid, limits)
        except OSError as error:
            reason = str(error)
        self._tell({"adjusted": child_id, "reason": reason})

    def _share(self, child_id: int, most_bytes: int | None, opened: list[int]) -> None:
        """Starts a process that hands on files, with the rights of a child and in its place."""
        slot = next((slot for known, slot in self._children.values() if known == child_id), None)
        pid = -1
        try:
            if slot is not None and opened:
                self._slots.enter(slot)
                pid = os.fork()
                if pid == 0:
                    self._become_sharer(slot, most_bytes, opened[0])
                self._sharers[pid] = child_id
        except OSError:
            pass
        finally:
            for fd in opened:
                os.close(fd)
        if pid < 0:  # it has just ended, or there is no room for a process
            self._tell({"shared": child_id, "code": sharing.FAILED})

    def _become_sharer(self, slot: int, most_bytes: int | None, opened: int) -> NoReturn:
        code = sharing.FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(opened, 3, inheritable=False)
            confine.close_all_but(3)
            home = self._slots.scratch(slot)
            if self._plan["namespaces"]:
                confine.confine_child(self._plan, slot, home, self._limits, own_proc=False)
            else:
                confine.confine_without_namespaces(self._plan, slot, home, self._limits)
            code = sharing.unpack(3) if most_bytes is None else sharing.pack(3, most_bytes)
        finally:
            os._exit(code)

    def _fork_process(self) -> int:
        """Forks; the child is the first process of a PID namespace of its own."""
        if self._namespace is None:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:  # a second unshare is only allowed from the own namespace
                kernel.setns(self._namespace, kernel.CLONE_NEWPID)
        return pid

    def _become_child(self, order: _Order) -> NoReturn:
        language, slot = order.language, order.slot
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            _signal.signal(signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(signal.SIGTERM, _signal.SIG_DFL)
            os.dup2(order.log_write, 1)
            os.dup2(order.log_write, 2)
            confine.enter_group(order.entrances)
            os.dup2(order.job_there, 3, inheritable=False)
            confine.close_all_but(3)
            own_proc = self._has_proc and language != "python3"
            reserves = language in PROGRAMS and PROGRAMS[language].reserves_addresses
            bounds_addresses = language not in engines.ENGINES and not reserves
            limits = self._limits if bounds_addresses else self._limits_without_addresses
            home = self._slots.scratch(slot)
            if self._plan["namespaces"]:
                confine.confine_child(self._plan, slot, home, limits, own_proc=own_proc)
            else:
                confine.confine_without_namespaces(self._plan, slot, home, limits)
            if language == "bash":
                bash.serve(3, self._plan["bash"], home)
            elif language in engines.ENGINES:
                engines.become(language, self._plan, home)
            elif language in PROGRAMS:
                if reserves:
                    engines.limit_data(self._plan)
                running.serve(3, PROGRAMS[language], self._plan["programs"].get(language, ""), home)
            else:
                if self._is_loaded:
                    preload.diverge()
                    randomness.renew()
                if self._modules:
                    preload.import_here(self._modules)
                python.serve(3, home)
            code = 0
        except BaseException as error:
            os.write(2, f"child cannot start: {error!r}\n".encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (shares := self._sharers.pop(pid, None)) is not None:
                code = os.waitstatus_to_exitcode(status)
                self._tell({"shared": shares, "code": code if code >= 0 else sharing.FAILED})
                continue
            child_id, slot = self._children.pop(pid, (None, None))
            if child_id is None or slot is None:
                continue
            if not self._plan["namespaces"]:
                # What it left behind is ours now; those of the others are still theirs.
                descendants.end_all(keep=self._children.keys() | self._sharers.keys())
            self._slots.give_back(slot)
            message = {"exited": child_id, "cpu_s": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss}
            if os.WIFSIGNALED(status):
                self._tell({**message, "signal": os.WTERMSIG(status)})
            else:
                self._tell({**message, "code": os.waitstatus_to_exitcode(status)})
            if len(self._told) >= _MAX_TOLD:  # behind it: what does not go out now goes out with the next packet
                self._flush()

    def _tell(self, message: dict[str, Any], *fds: int) -> None:
        """The server is to know, with the next packet."""
        self._told.append(message)
        self._told_fds += fds

    def _flush(self) -> None:
        """Sends what is to be told. Raises OSError, having sent nothing."""
        if self._told:
            self._send(self._told, self._told_fds)
            self._told.clear()
            self._told_fds.clear()

    def _send(self, messages: list[dict[str, Any]], fds: list[int]) -> None:
        data = _encode(messages).encode()
        if fds:
            self._control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            self._control.send(data)
