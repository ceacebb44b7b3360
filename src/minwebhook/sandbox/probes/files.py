"""Probes: files and mounts that a script must not reach or change."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from functools import partial

from minwebhook.sandbox.probes.inside import (
    BROKEN,
    ENGINES,
    Facts,
    Outcome,
    apart,
    by_rights,
    function,
    held,
    holds_canary,
    is_without_namespaces,
    judged,
    not_applicable,
    opened,
    probe,
    process_ids,
    read,
    scratch,
    syscall,
    through,
    tried,
)

_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MNT_DETACH = 1, 32, 4096, 2
_AT_FDCWD = -100


def _reading(paths: list[str]) -> dict[str, Callable[[], object]]:
    return {path: partial(read, path, 16) for path in paths}


def _opening(paths: list[str]) -> dict[str, Callable[[], object]]:
    """Opened and not read: devices may keep a reader waiting."""
    return {path: partial(opened, path, os.O_RDONLY) for path in paths}


def _node(path: str, mode: int, number: tuple[int, int]) -> None:
    os.mknod(path, mode, os.makedev(*number))
    os.unlink(path)  # noqa: PTH108


def _linked(path: str, link: str) -> None:
    os.link(path, link)
    os.unlink(link)  # noqa: PTH108


@probe()
def password_hashes(facts: Facts) -> Outcome:
    """reads the machine's password hashes"""
    return tried(_reading(["/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/../etc/shadow", "/proc/1/root/etc/shadow"]))


@probe()
def home_directories(facts: Facts) -> Outcome:
    """lists home directories and reads keys in them"""
    found = []
    for home in ("/root", "/home"):
        with contextlib.suppress(OSError):
            for name in os.listdir(home):  # noqa: PTH208
                # The interpreter may be installed below a home directory: the way to it is shown.
                if not f"{facts.python_prefix}/".startswith(f"{home}/{name}/"):
                    found.append(f"{home}/{name}")
    return judged(found, "nothing is there")


@probe()
def server_data(facts: Facts) -> Outcome:
    """reads the server's data directory, its database and other files outside"""
    seen = [path for path in facts.hidden if os.path.isdir(path) and _lists(path)]  # noqa: PTH112
    return through(", ".join(seen)) if seen else tried(_reading(facts.hidden))


def _lists(path: str) -> bool:
    try:
        return bool(os.listdir(path))  # noqa: PTH208
    except OSError:
        return False


@probe()
def only_what_all_may_read(facts: Facts) -> Outcome:
    """reads configuration that on the host only root may read (private keys)"""
    found, looked = [], 0
    for folder, folders, names in os.walk("/etc"):
        for name in [*names, *folders]:
            path = f"{folder}/{name}"
            with contextlib.suppress(OSError):
                mode = os.stat(path).st_mode  # noqa: PTH116
                looked += 1
                needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
                if mode & needed != needed and os.access(path, os.R_OK):
                    found.append(path)
    return judged(found, f"{looked} files and folders in /etc, all public")


@probe()
def files_of_a_running_job(facts: Facts) -> Outcome:
    """reads the /tmp of a job that runs at the same time"""
    places = ["/tmp", "/dev/shm", "/var/tmp", "/run"]
    places += [f"/proc/{pid}/{link}" for pid in process_ids() for link in ("root/tmp", "cwd")]
    found = []
    for place in places:
        with contextlib.suppress(OSError):
            found += [f"{place}/{name}" for name in os.listdir(place) if facts.neighbor in name]  # noqa: PTH208
    return judged(found, "nothing of it is in sight")


def leave_files(facts: Facts) -> list[str]:
    """Files, hidden, locked and linked, all over /tmp."""
    for name in ("left", ".left"):
        with open(f"{scratch()}/{name}-{facts.mark}", "w") as file:  # noqa: PTH123
            file.write("left")
    os.mkdir(f"{scratch()}/left-{facts.mark}-folder", 0o700)  # noqa: PTH102
    os.symlink("/etc", f"{scratch()}/left-{facts.mark}-link")  # noqa: PTH211
    with contextlib.suppress(PermissionError):  # without namespaces
        os.chmod(f"{scratch()}/left-{facts.mark}-folder", 0)  # noqa: PTH101
    return os.listdir(scratch())  # noqa: PTH208


@probe(first="leave_files")
def files_of_an_earlier_job(facts: Facts) -> Outcome:
    """finds files that an earlier job left in /tmp or /dev/shm"""
    if not facts.earlier:
        return BROKEN, "the earlier job could leave nothing"
    found = [
        f"{place}/{name}"
        for place in {"/tmp", "/dev/shm", "/var/tmp", scratch()}
        for name in _names(place)
        if facts.mark in name
    ]
    for path in found:
        with contextlib.suppress(OSError):
            os.rmdir(path) if path.endswith("-folder") else os.unlink(path)  # noqa: PTH106, PTH108
    return judged(found, f"all of {len(facts.earlier)} files are gone")


def _names(place: str) -> list[str]:
    try:
        return os.listdir(place)  # noqa: PTH208
    except OSError:
        return []


@probe()
def environments_in_proc(facts: Facts) -> Outcome:
    """reads the environment of other processes: /proc/1, the server, the fork server, all"""
    found = []
    for pid in {1, facts.server_pid, facts.zygote_pid, *process_ids()}:
        with contextlib.suppress(OSError):
            data = read(f"/proc/{pid}/environ")
            if holds_canary(facts, data) or (pid == 1 and data.strip(b"\0") and facts.language not in ENGINES):
                found.append(f"/proc/{pid}/environ")
    return judged(found, "none holds anything")


@probe()
def kernel_memory(facts: Facts) -> Outcome:
    """opens the memory of the kernel and of the machine"""
    return tried(_opening(["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kmsg"]))


@probe()
def block_devices(facts: Facts) -> Outcome:
    """opens or makes a disk"""
    steps = _opening([f"/dev/{name}" for name in ("sda", "vda", "nvme0n1", "xvda", "loop0", "dm-0", "disk")])
    for number in ((8, 0), (254, 0), (259, 0), (7, 0)):
        steps[f"mknod {number}"] = partial(_node, f"/tmp/disk-{facts.mark}", 0o60600, number)
    return tried(steps)


@probe()
def other_devices(facts: Facts) -> Outcome:
    """opens devices of the machine or makes some: terminals, tun, kvm, fuse, loop"""
    names = ("tty", "ptmx", "console", "kvm", "fuse", "net/tun", "loop-control", "vhost-net", "vsock", "uinput", "hpet")
    steps = _opening([f"/dev/{name}" for name in names])
    steps["mknod kmem"] = partial(_node, f"/tmp/kmem-{facts.mark}", 0o20600, (1, 2))
    return tried(steps)


@probe()
def write_programs(facts: Facts) -> Outcome:
    """writes where programs and configuration are"""
    steps: dict[str, Callable[[], object]] = {}
    for place in ("/", "/usr", "/usr/bin", "/bin", "/etc", "/lib", "/dev", "/var", facts.python_prefix):
        # A file without a name, gone when closed: nothing is left if it gets through.
        steps[f"make in {place}"] = partial(opened, place, os.O_TMPFILE | os.O_WRONLY)
    for path in ("/usr/bin/env", "/bin/sh", "/etc/hosts", "/etc/resolv.conf", "/etc/ld.so.cache", os.__file__):
        steps[f"open {path}"] = partial(opened, path, os.O_WRONLY)
        steps[f"chmod {path}"] = partial(_same_mode, path)
    return tried(steps, also=(errno.EOPNOTSUPP, errno.EISDIR))


def _same_mode(path: str) -> None:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))  # noqa: PTH101, PTH116


@probe()
def writable_mounts(facts: Facts) -> Outcome:
    """finds a file system besides /tmp that is not mounted read-only"""
    if is_without_namespaces(facts):
        return not_applicable("the mounts are those of the machine; writing is tried by others")
    found = []
    for place in ("/", "/usr", "/etc", "/etc/ssl", "/dev", "/proc", "/var", facts.python_prefix):
        with contextlib.suppress(FileNotFoundError):
            if not os.statvfs(place).f_flag & os.ST_RDONLY:
                found.append(place)
    return judged(found, "all are read-only")


@probe()
def own_program(facts: Facts) -> Outcome:
    """overwrites the interpreter through /proc/self/exe"""
    paths = [f"/proc/{pid}/exe" for pid in ("self", "1")] + [facts.python]
    steps = {path: partial(opened, path, os.O_WRONLY) for path in paths}
    return tried(steps, also=(errno.ETXTBSY,))


@probe()
def links_out(facts: Facts) -> Outcome:
    """reaches files outside by symbolic links, hard links and /proc links"""
    steps: dict[str, Callable[[], object]] = {}
    for index, path in enumerate(["/etc/shadow", *facts.hidden]):
        link = f"{scratch()}/link-{facts.mark}-{index}"
        os.symlink(path, link)  # noqa: PTH211
        steps[f"symlink to {path}"] = partial(opened, link, os.O_RDONLY)
        steps[f"hard link to {path}"] = partial(_linked, path, f"{link}-hard")
        for way in ("self/root", "self/cwd/..", "1/root", "self/fd/0/.."):
            there = f"/proc/{way}{path}"
            steps[there] = partial(opened, there, os.O_RDONLY)
    steps["hard link to a program"] = partial(_linked, "/usr/bin/env", f"{scratch()}/link-{facts.mark}")
    outcome = tried(steps, also=(errno.EXDEV, errno.ENOTDIR))
    for name in _names(scratch()):
        if name.startswith(f"link-{facts.mark}"):
            os.unlink(f"{scratch()}/{name}")  # noqa: PTH108
    return outcome


@contextlib.contextmanager
def _folder(facts: Facts) -> Iterator[bytes]:
    """A folder that is no mount, and so good for nothing once rights do not stop a call."""
    path = f"{scratch()}/mount-{facts.mark}"
    os.mkdir(path)  # noqa: PTH102
    try:
        yield path.encode()
    finally:
        os.rmdir(path)  # noqa: PTH106


@probe()
def mount(facts: Facts) -> Outcome:
    """mounts, binds, remounts and unmounts"""

    def mounted(source: bytes, kind: bytes | None, flags: int) -> None:
        function("mount", source, folder, kind, flags, None)
        function("umount2", folder, _MNT_DETACH)

    with _folder(facts) as folder:
        return by_rights(
            {
                "mount tmpfs": partial(mounted, b"none", b"tmpfs", 0),
                "mount proc": partial(mounted, b"none", b"proc", 0),
                "bind /usr": partial(mounted, b"/usr", None, _MS_BIND),
                "remount": partial(function, "mount", b"none", folder, None, _MS_REMOUNT | _MS_BIND, None),
                "umount": partial(function, "umount2", folder, _MNT_DETACH),
            }
        )


@probe()
def change_root(facts: Facts) -> Outcome:
    """changes its root directory, the first step of the usual way out"""
    with _folder(facts) as folder:
        return by_rights(
            {
                "pivot_root": partial(syscall, "pivot_root", folder, folder),
                "chroot": partial(apart, partial(function, "chroot", b"/tmp")),
            }
        )


@probe()
def file_handles(facts: Facts) -> Outcome:
    """opens files by handle, past every path"""
    # struct file_handle: 8 bytes of a handle of type 1 (inode, generation) for inode 2, the root of most file systems.
    handle = ctypes.create_string_buffer(struct.pack("=IiII", 8, 1, 2, 0), 136)
    mount_id = ctypes.c_int()
    asked = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)

    def by_handle() -> None:
        directory = os.open("/usr", os.O_RDONLY)
        os.close(syscall("open_by_handle_at", directory, handle, os.O_RDONLY))

    return tried(
        {
            "open_by_handle_at": by_handle,
            "name_to_handle_at": lambda: syscall(
                "name_to_handle_at", _AT_FDCWD, b"/usr", asked, ctypes.byref(mount_id), 0
            ),
        },
        also=(errno.ESTALE, errno.EOPNOTSUPP),
    )


@probe()
def mount_descriptors(facts: Facts) -> Outcome:
    """makes and moves mounts by the newer calls (fsopen, open_tree, move_mount, mount_setattr)"""
    attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", 0, _MS_RDONLY, 0, 0), 32)  # writable again
    with _folder(facts) as folder:
        return by_rights(
            {
                "fsopen": lambda: os.close(syscall("fsopen", b"tmpfs", 0)),
                "fspick": lambda: os.close(syscall("fspick", _AT_FDCWD, folder, 0)),
                "open_tree": lambda: os.close(syscall("open_tree", _AT_FDCWD, b"/", 1)),
                "open_tree_attr": lambda: os.close(syscall("open_tree_attr", _AT_FDCWD, b"/", 1, attributes, 32)),
                "move_mount": partial(syscall, "move_mount", _AT_FDCWD, folder, _AT_FDCWD, folder, 0),
                "mount_setattr": partial(syscall, "mount_setattr", _AT_FDCWD, folder, 0, attributes, 32),
            }
        )


@probe()
def kernel_settings(facts: Facts) -> Outcome:
    """opens for writing what configures the kernel (/proc/sys, /proc/sysrq-trigger, /sys)"""
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
    ]
    return tried({path: partial(opened, path, os.O_WRONLY) for path in paths})


@probe()
def looks_up(facts: Facts) -> Outcome:
    """climbs out of its root by .. from an open directory"""
    try:
        top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return held("/ cannot be opened")
    try:
        above = os.open("../../../..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=top)
        same = os.path.samestat(os.fstat(top), os.fstat(above))
        names = sorted(set(os.listdir(above)) & {"boot", "home", "mnt", "srv", "opt", "media"})  # noqa: PTH208
        os.close(above)
    finally:
        os.close(top)
    # Where the interpreter is installed below one of them, the way to it is shown.
    names = [name for name in names if not facts.python_prefix.startswith(f"/{name}/")]
    if not same:
        return through("there is a directory above /")
    return (
        through(f"/ is the machine's: {', '.join(names)}") if len(names) > 1 else held("/ is the top of a small root")
    )
