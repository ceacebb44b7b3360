"""Applies a sandbox plan: once for the fork server, and the little that is left per child.

What is dear is done once and inherited: namespaces, the read-only root, resource limits, no_new_privs, the system call
filter. Per child the fork server only enters a prepared mount namespace (a *slot*, with a private ``/tmp``) and makes a
PID namespace; the child itself only changes its uid (rung root) or empties its capabilities (rung userns).

A plan is the JSON object of ``sandbox/plan.py``.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any, Final

from minwebhook.child import kernel

#: Inside a user namespace one uid exists; a name for "not root".
_USERNS_ID: Final = 1000
_OLD_ROOT: Final = "/.old"


def enter_namespaces(plan: dict[str, Any]) -> None:
    """Moves this process into its own namespaces; the next child forked is the first process of a PID namespace."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID
    if plan["network"] == "none":
        flags |= kernel.CLONE_NEWNET
    if plan["rung"] == "userns":
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(kernel.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{_USERNS_ID} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{_USERNS_ID} {gid} 1")
    kernel.unshare(flags)


def build_root(plan: dict[str, Any]) -> bool:
    """Replaces the root by a read-only one that holds only what the plan names. True if children may mount a /proc.

    Must run as the first process of the new PID namespace: its /proc is the one that is mounted.
    """
    root = plan["root_directory"]
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("root", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for path in plan["read_only"]:
        _bind(path, root)
    for path in plan["devices"]:
        _bind(path, root, device=True)
    for path, target in plan["symlinks"]:
        Path(root + path).parent.mkdir(parents=True, exist_ok=True)
        Path(root + path).symlink_to(target)
    for path in ("/tmp", "/proc", _OLD_ROOT):
        Path(root + path).mkdir()
    has_proc = True
    if plan["rung"] == "userns":
        # There the kernel gives a child its own /proc only while a complete one is visible; ask before the pivot.
        try:
            _mount_proc(root + "/proc")
        except OSError:
            has_proc = False
    kernel.pivot_root(root, root + _OLD_ROOT)
    os.chdir("/")
    kernel.unmount(_OLD_ROOT)
    Path(_OLD_ROOT).rmdir()
    return has_proc


def seal_root() -> None:
    """Makes the root itself read-only; the last change of the file system."""
    attributes_only_here = kernel.MS_BIND | 32 | 1 | kernel.MS_NOSUID | kernel.MS_NODEV  # MS_REMOUNT, MS_RDONLY
    kernel.mount("none", "/", None, attributes_only_here)


def _bind(path: str, root: str, *, device: bool = False) -> None:
    """Binds a host path at the same place below ``root``; links are copied as links; what is missing is left out."""
    source, target = Path(path), Path(root + path)
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


def _mount_proc(target: str) -> None:
    kernel.mount("proc", target, "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def limit_resources(plan: dict[str, Any]) -> None:
    """Resource limits of this child and its descendants."""
    processes = plan["processes"]
    if plan["rung"] == "userns":
        # All jobs share one uid, and so the count: leave room for the waiting children.
        processes *= 4
    # On rung none the uid is the server's own, whose other processes count too: no limit would be fair.
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: plan["memory_bytes"],
        resource.RLIMIT_NOFILE: plan["open_files"],
        resource.RLIMIT_FSIZE: plan["file_bytes"],
        resource.RLIMIT_MEMLOCK: 64 * 1024,
    }
    if plan["rung"] != "none":
        limits[resource.RLIMIT_NPROC] = processes
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (wanted, wanted))


def lock_down(plan: dict[str, Any]) -> None:
    """No new privileges, and the system call filter."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if plan["seccomp"]:
        kernel.install_filter(base64.b64decode(plan["seccomp"]))


class Slots:
    """Places where jobs run, reused one after the other: a mount namespace with a private ``/tmp`` each.

    On rung none a slot is a scratch directory. A slot is taken by one child at a time and cleaned before the next.
    """

    def __init__(self, plan: dict[str, Any], proc: int | None) -> None:
        """``proc`` is an open descriptor of a /proc of this PID namespace (None on rung none)."""
        self._plan = plan
        self._proc = proc
        self._namespaces: list[int] = []
        self._free: list[int] = []

    def take(self) -> int:
        """Enters a free slot (a new one if all are taken) with a clean /tmp, and gives its number."""
        if self._free:
            slot = self._free.pop()
            if self._proc is not None:
                kernel.setns(self._namespaces[slot], kernel.CLONE_NEWNS)
                # In a user namespace a job owns /tmp, and may have left it empty but closed.
                if self._plan["rung"] == "userns" or os.listdir("/tmp"):  # noqa: PTH208 - a plain list is cheapest
                    kernel.unmount("/tmp")
                    self._mount_tmp()
            return slot
        slot = len(self._namespaces)
        if self._proc is None:
            self._namespaces.append(-1)
            return slot
        if self._namespaces:  # what this namespace copies is the slot we stand in: its /tmp must go
            kernel.unshare(kernel.CLONE_NEWNS)
            kernel.unmount("/tmp")
        else:
            kernel.unshare(kernel.CLONE_NEWNS)
        self._mount_tmp()
        self._namespaces.append(os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc))
        return slot

    def give_back(self, slot: int) -> None:
        """The child of ``slot`` and all its descendants are gone."""
        if self._proc is None:
            shutil.rmtree(self.scratch(slot), ignore_errors=True)
        self._free.append(slot)

    def scratch(self, slot: int) -> str:
        """The working directory of jobs in this slot."""
        return f"{self._plan['scratch_directory']}/{slot}" if self._proc is None else "/tmp"

    def _mount_tmp(self) -> None:
        size = self._plan["tmp_bytes"]
        kernel.mount(
            "tmp",
            "/tmp",
            "tmpfs",
            kernel.MS_NOSUID | kernel.MS_NODEV,
            f"size={size},nr_inodes=16384,mode=1777",
        )


def confine_child(plan: dict[str, Any], slot: int, directory: str, *, own_proc: bool) -> None:
    """The child's part, after the fork: its own /proc if wanted, its own uid, no capabilities, its directory."""
    rung = plan["rung"]
    if own_proc:
        # In a mount namespace that ends with this process: the slot's own must not keep a view of other jobs.
        kernel.unshare(kernel.CLONE_NEWNS)
        _mount_proc("/proc")
    if rung == "root":
        uid = plan["first_uid"] + slot
        os.setgroups(())
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)  # from 0 to another uid: the kernel drops every capability
    elif rung == "userns":
        kernel.drop_capabilities()
    else:
        os.setpgid(0, 0)
        die_with_parent()
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(directory)
    limit_resources(plan)


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
