"""Applies a sandbox plan: once for the fork server, and the little that is left per child.

What is dear is done once and inherited: namespaces, the read-only root, resource limits, no_new_privs, the system call
filter. Per child the fork server only enters a prepared mount namespace (a *slot*, with a private ``/tmp``) and makes a
PID namespace; the child itself only changes its uid, or, where there is only one uid (rung userns of an ordinary user),
empties its capabilities.

A plan is the JSON object of ``sandbox/plan.py``.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
import resource
import shutil
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from minwebhook.child import descendants, kernel, landlock

#: The one uid in the user namespace of an ordinary user; a name for "not root".
_USERNS_ID: Final = 1000
_OLD_ROOT: Final = "/.old"
#: Where scripts see the packages that were installed for them. The server's own path is nothing for them.
PACKAGES: Final = "/packages"
# linux/sockios.h, linux/if.h
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_BACKLOG: Final = 1024
#: Between the limit on processes of a control group and that of the user id behind it.
_SPARE_PROCESSES: Final = 16


def packages_of(plan: dict[str, Any]) -> str:
    """Where scripts find their packages; "" if they have none."""
    return PACKAGES if plan["packages"] and plan["namespaces"] else str(plan["packages"])


def enter_namespaces(plan: dict[str, Any], host_proc: int) -> bool:
    """Moves this process into its own namespaces and root; the next child forked is the first of a PID namespace.

    ``host_proc`` is an open descriptor of the /proc of the machine. True if children may mount a /proc.
    Started by root, the root is built with the rights of root, which may look for its parts anywhere, and then left to a
    user namespace that has no rights outside of it, if the plan wants one: all that is mounted is locked there.
    """
    gives_up_host = gives_up_root(plan)
    flags = kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID
    if plan["network"] == "none":
        flags |= kernel.CLONE_NEWNET
    if plan["rung"] == "userns":
        if gives_up_host:
            first, count = plan["first_uid"], plan["uids"]
            _unshare_with_ids(kernel.CLONE_NEWUSER, f"0 0 1\n{first} {first} {count}", host_proc)
        else:
            uid, gid = os.geteuid(), os.getegid()
            kernel.unshare(kernel.CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{_USERNS_ID} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{_USERNS_ID} {gid} 1")
    kernel.unshare(kernel.CLONE_NEWNS)
    has_proc = _build_root(plan)
    _seal_root()
    if gives_up_host:
        _give_up_host(plan, flags | kernel.CLONE_NEWNS, host_proc)
    else:
        kernel.unshare(flags)
    return has_proc


def has_own_uids(plan: dict[str, Any]) -> bool:
    """Whether each job has a uid of its own."""
    if plan["rung"] == "landlock":
        return os.geteuid() == 0 and _has_uid(plan["first_uid"])
    return plan["rung"] == "root" or gives_up_root(plan)


def prepare_without_namespaces(plan: dict[str, Any]) -> None:
    """Checks what the rungs without namespaces need of the kernel. Raises OSError."""
    if not descendants.can_be_seen():
        raise OSError(errno.ENOSYS, "the kernel does not tell the children of a process (CONFIG_PROC_CHILDREN)")
    if plan["rung"] != "landlock":
        return
    abi = landlock.version()
    if not abi:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock, or it is switched off")
    if abi < landlock.SCOPE_VERSION and not plan["own_uids"]:
        raise OSError(errno.ENOSYS, "jobs could signal the server: Landlock can prevent that from Linux 6.12 on")
    if os.geteuid() == 0 and not plan["own_uids"]:
        raise OSError(errno.EPERM, f"jobs would be root: the user id {plan['first_uid']} is not there")


def gives_up_root(plan: dict[str, Any]) -> bool:
    """Whether the fork server, now root, will be an ordinary user of the machine, and each job another one.

    On rung userns a job that were root outside, even without capabilities, could read what only root may read, would be
    root for services with local sockets, and its limit on processes would not count. Root of a container that lacks the
    uids is an ordinary user outside already.
    """
    if plan["rung"] == "userns":
        return os.geteuid() == 0 and _has_uid(plan["first_uid"])
    return bool(plan["user_namespace"])


def _has_uid(uid: int) -> bool:
    """Whether the user namespace of this process has this uid."""
    spans = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(int(start) <= uid < int(start) + int(count) for start, _, count in spans)


def listen_inside(port: int) -> socket.socket:
    """A listening socket on the loopback interface of this network namespace, which is switched on for it.

    It is for the server, which answers there whoever may reach nothing else.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    loopback = struct.pack("16sh22x", b"lo", _IFF_UP)
    fcntl.ioctl(listening.fileno(), _SIOCSIFFLAGS, loopback)
    listening.bind(("127.0.0.1", port))
    listening.listen(_BACKLOG)
    return listening


def _give_up_host(plan: dict[str, Any], flags: int, host_proc: int) -> None:
    """From root of the machine to root of a new user namespace, which is an ordinary user outside of it."""
    first, count = plan["first_uid"], plan["uids"]
    _unshare_with_ids(kernel.CLONE_NEWUSER | flags, f"0 {first} 1\n{first + 1} {first + 1} {count - 1}", host_proc)
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _unshare_with_ids(flags: int, ids: str, host_proc: int) -> None:
    """Moves this process into new namespaces, one of users with this map among them.

    Only who still has rights outside may write a map of several ids: a helper, forked before.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            os.close(write_end)
            if os.read(read_end, 1):
                for name in ("uid_map", "gid_map"):
                    fd = os.open(f"{parent}/{name}", os.O_WRONLY, dir_fd=host_proc)
                    os.write(fd, ids.encode())
                status = 0
        except OSError as error:
            status = error.errno or status
        finally:
            os._exit(status)
    os.close(read_end)
    try:
        kernel.unshare(flags)
        os.write(write_end, b"!")
    finally:
        os.close(write_end)
        _, ended = os.waitpid(helper, 0)
    if failed := os.waitstatus_to_exitcode(ended):
        raise OSError(failed, f"user ids cannot be mapped ({ids!r}): {os.strerror(failed)}")


def _build_root(plan: dict[str, Any]) -> bool:
    """Replaces the root by one that holds only what the plan names. True if its children may mount a /proc."""
    root = plan["root_directory"]
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("root", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for path in plan["read_only"]:
        _bind(path, root)
    for path in plan["devices"]:
        _bind(path, root, device=True)
    if plan["packages"]:
        _bind(plan["packages"], root, at=PACKAGES)
    for path, place in plan["bound"]:
        _bind(path, root, at=place)
    for path, target in plan["symlinks"]:
        Path(root + path).parent.mkdir(parents=True, exist_ok=True)
        Path(root + path).symlink_to(target)
    for path in ("/tmp", "/proc", _OLD_ROOT):
        Path(root + path).mkdir()
    has_proc = _mount_lifeless_proc(root + "/proc")
    kernel.pivot_root(root, root + _OLD_ROOT)
    os.chdir("/")
    kernel.unmount(_OLD_ROOT)
    Path(_OLD_ROOT).rmdir()
    return has_proc


def _mount_lifeless_proc(target: str) -> bool:
    """Mounts the /proc of a PID namespace that has ended: no process will ever be seen in it. False if it is refused.

    In a user namespace the kernel mounts a /proc only where a complete one is visible already, so there must be one
    when the old root is gone, and it must not be one that shows anything.
    """
    helper = os.fork()
    if helper == 0:
        status = 1
        try:
            kernel.unshare(kernel.CLONE_NEWPID)
            first = os.fork()
            if first == 0:
                mount_proc(target)
                os._exit(0)
            _, ended = os.waitpid(first, 0)
            status = int(ended != 0)
        finally:
            os._exit(status)
    return os.waitpid(helper, 0)[1] == 0


def _seal_root() -> None:
    """Makes the root itself read-only; the last change of the file system."""
    attributes_only_here = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", "/", None, attributes_only_here)


def _bind(path: str, root: str, *, at: str = "", device: bool = False) -> None:
    """Binds a host path at the same place, or ``at`` another, below ``root``; links are copied as links; what is missing is
    left out."""
    source, target = Path(path), Path(root + (at or path))
    try:
        mode = source.lstat().st_mode
    except OSError:
        return
    if target.exists() or target.is_symlink():
        return  # already inside something bound before
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode) and not device:
        target.symlink_to(source.readlink())
        return
    if stat.S_ISDIR(mode):
        target.mkdir()
    else:
        target.touch()
    kernel.mount(path, str(target), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount_read_only(str(target), devices=device)


def mount_proc(target: str) -> None:
    """Mounts the /proc of this process's PID namespace."""
    # Read-only: whoever is uid 0 outside of its user namespace might write what the kernel can be told there (sysctl).
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", target, "proc", flags)


def open_own_proc() -> int:
    """A descriptor of the /proc of this PID namespace, which nobody else can find."""
    mount_proc("/proc")
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    kernel.unmount("/proc")
    return fd


def resource_limits(plan: dict[str, Any], *, bounds_addresses: bool = True) -> list[tuple[int, tuple[int, int]]]:
    """Resource limits of a child and its descendants, for :func:`limit_resources`: made once, for all children."""
    # The second of each pair is what a job may have if its script asks for it (child/limits.py).
    limits = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: plan["open_files"],
        resource.RLIMIT_FSIZE: plan["file_bytes"],
        resource.RLIMIT_MEMLOCK: (64 * 1024, 64 * 1024),
    }
    if bounds_addresses:
        limits[resource.RLIMIT_AS] = plan["memory_bytes"]
    if plan["own_uids"] and "processes" in plan["groups"]:
        # The control group comes first, and counts how often it refuses; this is a second line.
        spare = plan["processes"][1] + _SPARE_PROCESSES
        limits[resource.RLIMIT_NPROC] = (spare, spare)
    elif plan["own_uids"]:
        limits[resource.RLIMIT_NPROC] = plan["processes"]
    elif plan["rung"] == "userns" and "processes" not in plan["groups"]:
        # All jobs share one uid, and so the count: leave room for the waiting children.
        shared = 4 * plan["processes"][0]
        limits[resource.RLIMIT_NPROC] = (shared, shared)
    # On rung none, and on landlock without uids for jobs, the uid is the server's own, whose other processes count too: no
    # limit would be fair.
    found = []
    for limit, pair in limits.items():
        _, most = resource.getrlimit(limit)
        soft, hard = (wanted if most == resource.RLIM_INFINITY else min(wanted, most) for wanted in pair)
        found.append((limit, (soft, hard)))
    return found


def limit_resources(limits: list[tuple[int, tuple[int, int]]]) -> None:
    """Gives this process its limits."""
    for limit, pair in limits:
        resource.setrlimit(limit, pair)


def lock_down(plan: dict[str, Any]) -> None:
    """No new privileges, no sockets of others, and the system call filter.

    The fork server still mounts for its children, which Landlock forbids to whom it restricts in files: it is not.
    """
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if plan["namespaces"]:
        landlock.restrict(scoped=landlock.SCOPE_ABSTRACT_UNIX)
    if plan["seccomp"]:
        kernel.install_filter(base64.b64decode(plan["seccomp"]))


class Slots:
    """Places where jobs run, reused one after the other: a mount namespace with a private ``/tmp`` each.

    Without a network a slot has a network namespace, too, in which only the server listens: jobs that shared one could
    reach each other, by TCP or by abstract unix sockets. On rung none a slot is a scratch directory. A slot is taken by
    one child at a time and cleaned before the next.
    """

    def __init__(
        self, plan: dict[str, Any], proc: int | None, on_listening: Callable[[socket.socket], None] = lambda _: None
    ) -> None:
        """``proc`` is an open descriptor of a /proc of this PID namespace (None on rung none).

        ``on_listening`` gets, once for each place without a network, where the server is to answer.
        """
        self._on_listening = on_listening
        self._plan = plan
        self._proc = proc
        self._kinds = {"mnt": kernel.CLONE_NEWNS}
        if plan["network"] == "none":
            self._kinds["net"] = kernel.CLONE_NEWNET
        self._namespaces: list[list[tuple[int, int]]] = []  # descriptors and their kinds
        self._free: list[int] = []
        self._current = -1  # where this process is
        self._resized: set[int] = set()

    def take(self) -> int:
        """Enters a free slot (a new one if all are taken) with a clean /tmp, and gives its number."""
        if self._free:
            slot = self._free.pop()
            if self._proc is not None:
                self.enter(slot)
                # With the one uid of all jobs a job owns /tmp, and may have left it empty but closed.
                is_used = not self._plan["own_uids"] or slot in self._resized or os.listdir("/tmp")  # noqa: PTH208
                if is_used:
                    kernel.unmount("/tmp")
                    self._mount_tmp()
                    self._resized.discard(slot)
            return slot
        slot = len(self._namespaces)
        if self._proc is None:
            self._namespaces.append([])
            return slot
        self._current = -1
        for kind in self._kinds.values():
            kernel.unshare(kind)
        if self._namespaces:  # what this namespace copies is the slot we stood in: its /tmp must go
            kernel.unmount("/tmp")
        self._mount_tmp()
        if "net" in self._kinds:
            self._on_listening(listen_inside(self._plan["api_port"]))
        self._namespaces.append(
            [
                (os.open(f"self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc), kind)
                for name, kind in self._kinds.items()
            ]
        )
        self._current = slot
        return slot

    def enter(self, slot: int) -> None:
        """Goes into a taken slot."""
        if slot != self._current:
            self._current = -1  # it may end half-way
            for fd, kind in self._namespaces[slot]:
                kernel.setns(fd, kind)
            self._current = slot

    def give_back(self, slot: int) -> None:
        """The child of ``slot`` and all its descendants are gone."""
        if self._proc is None:
            shutil.rmtree(self.scratch(slot), ignore_errors=True)
        self._free.append(slot)

    def scratch(self, slot: int) -> str:
        """The working directory of jobs in this slot."""
        return f"{self._plan['scratch_directory']}/{slot}" if self._proc is None else "/tmp"

    def resize(self, slot: int, size: int) -> None:
        """Gives /tmp of a taken slot another size, until it is given back."""
        self.enter(slot)
        kernel.mount("tmp", "/tmp", None, kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV, f"size={size}")
        self._resized.add(slot)

    def _mount_tmp(self) -> None:
        size = self._plan["tmp_bytes"]
        kernel.mount(
            "tmp",
            "/tmp",
            "tmpfs",
            kernel.MS_NOSUID | kernel.MS_NODEV,
            f"size={size},nr_inodes=16384,mode=1777",
        )


def enter_group(entrances: list[int]) -> None:
    """Moves this process into its control group (sandbox/cgroups.py), through descriptors that the server has opened."""
    for fd in entrances:
        os.write(fd, b"0")


def confine_child(
    plan: dict[str, Any], slot: int, directory: str, limits: list[tuple[int, tuple[int, int]]], *, own_proc: bool
) -> None:
    """The child's part, after the fork: its own /proc if wanted, its own uid, no capabilities, its directory, limits."""
    rung = plan["rung"]
    if own_proc:
        # In a mount namespace that ends with this process: the slot's own must not keep a view of other jobs.
        kernel.unshare(kernel.CLONE_NEWNS)
        mount_proc("/proc")
    if plan["own_uids"]:
        uid = plan["first_uid"] + 1 + slot  # the first one is the fork server's
        os.setgroups(())
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)  # from 0 to another uid: the kernel drops every capability
    elif rung == "userns":
        kernel.drop_capabilities()
    os.chdir(directory)
    limit_resources(limits)


def confine_without_namespaces(
    plan: dict[str, Any], slot: int, directory: str, limits: list[tuple[int, tuple[int, int]]]
) -> None:
    """The child's part where there are no namespaces: a session, and on rung landlock a uid if root, files, calls.

    Every job has a Landlock domain of its own, out of which it cannot signal, and its directory is all that it may write.
    """
    os.setsid()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent stays below this process
    Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    if plan["own_uids"]:
        uid = plan["first_uid"] + 1 + slot
        os.chown(directory, uid, uid)
        os.setgroups(())
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        library = str(Path(os.__file__).parent)
        if not os.access(library, os.R_OK | os.X_OK):
            raise OSError(
                errno.EACCES, f"only root may read {library}: the setting python can name another interpreter"
            )
    die_with_parent()
    os.chdir(directory)
    limit_resources(limits)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if plan["rung"] == "landlock":
        landlock.restrict(
            read_only=[*plan["read_only"], *filter(None, [plan["packages"]])],
            writable=[directory, *plan["devices"]],
            has_files=True,
            connect_ports=() if plan["network"] == "none" else None,
            scoped=landlock.SCOPE_ABSTRACT_UNIX | landlock.SCOPE_SIGNAL,
        )
        kernel.install_filter(base64.b64decode(plan["seccomp"]))


def die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends. Changing credentials undoes it."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def close_all_but(keep: int) -> None:
    """Closes every descriptor above 2 except ``keep``."""
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 20)


def hide_module_path(path: str) -> None:
    """Takes the server's packages off the import path: scripts see the standard library only."""
    with contextlib.suppress(ValueError):
        sys.path.remove(path)
