"""Control groups of jobs: their memory and processes are limited, their processor time is counted, and they are ended at once.

A *group* is where one process of a job and all that descends from it are: a directory in each tree of control groups that
is needed, of version 1, of version 2 or of both (sandbox/hierarchies.py). Groups are made by the server, below its own one
if it may, and used again. A process enters its group by itself, before it waits for a job, through descriptors that the
server has opened: the kernel asks for the rights of who opened them. What it has cost is known when the job comes.

All is synchronous, and takes microseconds, but for :meth:`Groups.open` and the removal of groups.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from minwebhook.child.wire import Usage
from minwebhook.errors import SandboxError
from minwebhook.sandbox import hierarchies

Feature = Literal["memory", "processes", "cpu", "kill"]
#: Controllers of limits, and what they are called here.
_CONTROLLERS: Final[Mapping[str, Feature]] = {"memory": "memory", "pids": "processes"}
#: What counts processor time in a tree of version 1. One of version 2 does without a controller.
_COUNTER: Final[tuple[str, Feature]] = ("cpuacct", "cpu")

#: What groups are called; the server's own one, where the kernel wants no processes beside them, is the second.
_PREFIX: Final = "minwebhook-"
_LEAF: Final = "minwebhook.server"
#: Memory that an earlier job may leave charged to a group (files that the kernel keeps) for it to be used again.
_MAX_LEFT_BYTES: Final = 4 << 20
#: Where a peak cannot be set back: up to this one a group is used again, and the next job's may be shown so much too high.
_MAX_OLD_PEAK_BYTES: Final = 16 << 20
#: By so much the kernel may count memory that nobody uses: it charges ahead, in pieces.
_PEAK_SLACK_BYTES: Final = 256 << 10
_READ_BYTES: Final = 4096
_REMOVE_TIMEOUT_S: Final = 2.0
_REMOVE_PAUSE_S: Final = 0.005
#: More than anybody has: no limit.
UNLIMITED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree of control groups: our directory there, and what it is for."""

    version: int
    folder: Path
    features: frozenset[Feature]

    @property
    def controllers(self) -> list[str]:
        """Those that groups here must have, of version 2."""
        return [name for name, feature in _CONTROLLERS.items() if self.version == 2 and feature in self.features]

    def make(self, *names: str) -> _Tree:
        """A directory below ours, with all those on the way, for groups to be made in."""
        folder = self.folder
        for name in names:
            folder = folder / name
            folder.mkdir(exist_ok=True)
            if self.controllers:
                _enable(folder, self.controllers)
        return _Tree(self.version, folder, self.features)


class _Figure:
    """A file that is read at the end of every job, open from its first reading on."""

    __slots__ = ("_fd", "_flags", "path")

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.path = path
        self._flags = flags
        self._fd = -1

    def descriptor(self) -> int:
        """It is open. Raises OSError."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, self._flags | os.O_CLOEXEC)
            except PermissionError:  # a peak that cannot be set back
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._fd

    def read(self) -> bytes:
        """What it says now. Raises OSError."""
        return os.pread(self._fd if self._fd >= 0 else self.descriptor(), _READ_BYTES, 0)

    def close(self) -> None:
        """Until it is read again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Group:
    """Where one process of a job, and all that descends from it, is limited and counted.

    The files that are used for each job are kept open, nine at most: to open one takes as long as to read it five times.
    """

    __slots__ = (
        "_cpu",
        "_doors",
        "_entrances",
        "_folders",
        "_limits",
        "_memory",
        "_oom",
        "_peak",
        "_pids",
        "_places",
        "_population",
        "_read_cpu_us",
        "_read_peak",
        "_seen",
        "_seen_texts",
        "_start_cpu_us",
        "_start_peak",
        "counts",
    )

    def __init__(self, trees: list[_Tree], name: str) -> None:
        """Makes it. Raises OSError."""
        self._folders = [tree.folder / name for tree in trees]
        is_unified = trees[-1].version == 2  # a tree of version 2 is the last one
        self._population = _Figure(self._folders[-1] / "cgroup.events") if is_unified else None
        self._limits = (UNLIMITED, UNLIMITED)
        #: Version and directory by feature.
        self._places: dict[Feature, tuple[int, Path]] = {
            feature: (tree.version, folder)
            for tree, folder in zip(trees, self._folders, strict=True)
            for feature in tree.features
        }
        # A process that moves itself thread by thread waits for nobody. A whole one does, after a pause for 8 to 20 ms, until all
        # processors have taken note; of version 2 only that may change its memory's group.
        self._doors = [
            folder / ("tasks" if tree.version == 1 else "cgroup.procs")
            for tree, folder in zip(trees, self._folders, strict=True)
        ]
        self._entrances: list[int] = []
        # To make a path takes longer than to read the file.
        self._cpu = self._find("cpu", "cpu.stat", "cpuacct.usage")
        # Of version 2 the peak is only set back for whoever reads through this very descriptor.
        self._peak = self._find("memory", "memory.peak", "memory.max_usage_in_bytes", os.O_RDWR)
        self._memory = self._find("memory", "memory.current", "memory.usage_in_bytes")
        self._oom = self._find("memory", "memory.events", "memory.oom_control")
        self._pids = self._find("processes", "pids.events", "pids.events")
        #: What is limited and counted here.
        self.counts = frozenset(self._places)
        #: What the counts were at the last mark, and when they were read last.
        self._start_cpu_us = self._read_cpu_us = 0
        self._start_peak = self._read_peak = 0
        self._seen: dict[str, int] = {}
        self._seen_texts: tuple[bytes, bytes] | None = None
        try:
            for folder in self._folders:
                folder.mkdir()
            if (memory := self._places.get("memory")) is not None and memory[0] == 2:
                _write(memory[1] / "memory.oom.group", "1")
                if (memory[1] / "memory.swap.max").exists():
                    _write(memory[1] / "memory.swap.max", "0")
            self.mark()
        except BaseException:
            self.remove()
            raise

    def entrances(self) -> list[int]:
        """Descriptors of the group, which it keeps; a process of one thread enters by writing ``0`` to each. Raises OSError."""
        for door in self._doors[len(self._entrances) :]:
            self._entrances.append(os.open(door, os.O_WRONLY | os.O_CLOEXEC))
        return self._entrances

    def limit(self, memory_bytes: int, processes: int) -> None:
        """How much memory all processes may have together, files in memory among it, and how many there may be."""
        old_memory, old_processes = self._limits
        if "memory" in self._places and memory_bytes != old_memory:
            version, folder = self._places["memory"]
            if version == 2:
                _write(folder / "memory.max", "max" if memory_bytes == UNLIMITED else str(memory_bytes))
            else:
                # Memory with swap may never be the lesser one.
                names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
                for name in names if memory_bytes < old_memory else reversed(names):
                    if (folder / name).exists():
                        _write(folder / name, "-1" if memory_bytes == UNLIMITED else str(memory_bytes))
        if "processes" in self._places and processes != old_processes:
            folder = self._places["processes"][1]
            _write(folder / "pids.max", "max" if processes == UNLIMITED else str(processes))
        self._limits = (memory_bytes, processes)

    def mark(self) -> None:
        """From here on is counted what :meth:`used` and :meth:`limits_hit` tell."""
        self._start_cpu_us = self._read_cpu_us = self._cpu_us()
        self._seen, self._seen_texts = self._events(), None
        self.restart_peak()
        self._start_peak = self._read_peak = self._peak_bytes()

    def go_on(self) -> None:
        """A job has ended whose use was just told, and the process stays: from there on is counted what the next one uses.

        Reads, and sets back, only what may have changed: jobs may take less time than to look at everything.
        """
        self._start_cpu_us = self._read_cpu_us
        oom, pids = self._oom, self._pids
        texts = (b"" if oom is None else oom.read(), b"" if pids is None else pids.read())
        if texts != self._seen_texts:
            self._seen_texts, self._seen = texts, self._counted(*texts)
        if self._read_peak > self._start_peak + _PEAK_SLACK_BYTES:
            self.restart_peak()
            self._start_peak = self._peak_bytes()

    def cpu_s(self) -> float:
        """Seconds of processor time since the last mark, those of processes that have ended among them."""
        return max(self._cpu_us() - self._start_cpu_us, 0) / 1e6

    def used(self) -> Usage:
        """What was used since the last mark."""
        self._read_cpu_us, self._read_peak = self._cpu_us(), self._peak_bytes()
        return Usage(max(self._read_cpu_us - self._start_cpu_us, 0) // 1000, self._read_peak >> 10)

    def limits_hit(self) -> set[str]:
        """``oom`` if the kernel ended a process because memory was used up since the last mark, ``pids`` if it refused one."""
        now = self._events()
        return {name for name, count in now.items() if count > self._seen.get(name, 0)}

    def kill(self) -> None:
        """Ends all processes at once, where the kernel can (version 2, Linux 5.14)."""
        if "kill" in self._places:
            with contextlib.suppress(OSError):
                _write(self._places["kill"][1] / "cgroup.kill", "1")

    @property
    def is_empty(self) -> bool:
        """Whether no process lives in it."""
        with contextlib.suppress(OSError):
            if self._population is not None:
                return b"populated 0" in self._population.read()
            return not _content(self._folders[-1] / "tasks")  # one that stays open may show what was
        return False

    def restart_peak(self) -> bool:
        """The peak is that of now. False where the kernel cannot do that (version 2 before Linux 6.12)."""
        if self._peak is None:
            return True
        try:
            os.pwrite(self._peak.descriptor(), b"0", 0)
        except OSError:
            return False
        return True

    def is_reusable(self) -> bool:
        """Whether the next job finds it as if it were new."""
        try:
            if not self.is_empty:
                return False
            if not self.restart_peak() and self.used().peak_kib > _MAX_OLD_PEAK_BYTES >> 10:
                return False
            if self._memory is not None:
                return int(self._memory.read()) <= _MAX_LEFT_BYTES
        except OSError:
            return False
        return True

    def close_files(self) -> None:
        """Closes what is open of it."""
        for figure in (self._cpu, self._peak, self._memory, self._oom, self._pids, self._population):
            if figure is not None:
                figure.close()
        close_all(self._entrances)
        self._entrances = []

    def remove(self) -> bool:
        """Removes it if no process lives in it; whether it is gone."""
        self.close_files()
        return sum(_remove(folder) for folder in self._folders) == len(self._folders)

    def _cpu_us(self) -> int:
        if self._cpu is None:
            return 0
        if self._places["cpu"][0] == 2:  # usage_usec is the first line
            return int(self._cpu.read().split(maxsplit=2)[1])
        return int(self._cpu.read()) // 1000

    def _peak_bytes(self) -> int:
        return 0 if self._peak is None else int(self._peak.read())

    def _events(self) -> dict[str, int]:
        oom, pids = self._oom, self._pids
        return self._counted(b"" if oom is None else oom.read(), b"" if pids is None else pids.read())

    @staticmethod
    def _counted(oom: bytes, pids: bytes) -> dict[str, int]:
        return {"oom": _field(oom, b"oom_kill"), "pids": _field(pids, b"max")}

    def _find(self, feature: Feature, second: str, first: str, flags: int = os.O_RDONLY) -> _Figure | None:
        """The file of a feature by its name in version 2 and in version 1; None where there is no such feature."""
        place = self._places.get(feature)
        return None if place is None else _Figure(place[1] / (second if place[0] == 2 else first), flags)


class Branch:
    """The groups of the processes of one fork server."""

    def __init__(self, groups: Groups, trees: list[_Tree]) -> None:
        self._groups = groups
        self._trees = trees
        self._all: set[Group] = set()
        self._free: list[Group] = []
        self._left: list[Group] = []  # not empty when they were given back
        self._made = 0

    def take(self, memory_bytes: int, processes: int) -> Group:
        """A group in which nobody is, with these limits. Raises OSError."""
        if self._free:
            group = self._free.pop()
        else:
            self._made += 1
            group = Group(self._trees, str(self._made))
            self._all.add(group)
        group.limit(memory_bytes, processes)
        return group

    def give_back(self, group: Group) -> None:
        """The processes that were in it have ended; some may just be on their way."""
        self._left = [each for each in self._left if not self._drop(each)]
        if group.is_reusable():
            self._free.append(group)
        elif not self._drop(group):
            group.kill()
            self._left.append(group)

    def _drop(self, group: Group) -> bool:
        if not group.remove():
            return False
        self._all.discard(group)
        return True

    def open_kill(self) -> int | None:
        """A descriptor for ending all of them at once, by writing ``1``; None where the kernel cannot do that."""
        for tree in self._trees:
            if "kill" in tree.features:
                return os.open(tree.folder / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        return None

    def close(self) -> bool:
        """Removes all that no process lives in; whether all are gone. To be called again if not."""
        for group in list(self._all):
            self._drop(group)
        self._free.clear()
        self._left.clear()
        if sum(_remove_tree(tree.folder) for tree in self._trees) < len(self._trees):
            return False
        self._groups.forget(self)
        return True


class Groups:
    """What this server may do with control groups. Its directories are there as long as it has branches."""

    def __init__(self, trees: list[_Tree], missing: Mapping[str, str]) -> None:
        self._bases = trees
        self._name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._locks: list[int] = []
        self._branches: set[Branch] = set()
        #: Why which limit cannot be had.
        self.missing: Final = missing
        #: What can be had.
        self.features: Final = frozenset(feature for tree in trees for feature in tree.features)

    @classmethod
    def open(cls) -> Groups:
        """Finds out by trying. Raises :class:`SandboxError` with the reason if neither limit can be had."""
        places, missing = _find_places()
        if not {"memory", "processes"} & {feature for tree in places for feature in tree.features}:
            raise SandboxError("; ".join(dict.fromkeys(missing.values())) or "there are no control groups")
        groups = cls(places, missing)
        for tree in places:
            _sweep(tree.folder)
        try:
            groups._try()
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"control groups do not work: {error}") from error
        return groups

    def branch(self, *, kills: bool = True) -> Branch:
        """A new place for the groups of a fork server, also in a tree that is only good for killing if it ``kills`` by groups.

        Raises OSError.
        """
        if not self._locks:
            for tree in self._bases:
                tree.make(self._name)
                fd = os.open(tree.folder / self._name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._locks.append(fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody takes them for those of a dead server
        name = secrets.token_hex(4)
        trees = [tree for tree in self._bases if kills or tree.features != {"kill"}]
        branch = Branch(self, [tree.make(self._name, name) for tree in trees])
        self._branches.add(branch)
        return branch

    def forget(self, branch: Branch) -> None:
        """``branch`` is gone."""
        self._branches.discard(branch)
        if not self._branches:
            for tree in self._bases:
                _remove(tree.folder / self._name)
            while self._locks:
                os.close(self._locks.pop())

    def _try(self) -> None:
        """Puts a process into a group, as jobs will be."""
        branch = self.branch()
        try:
            group = branch.take(64 << 20, 16)
            with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, env={}) as process:
                try:
                    for fd in group.entrances():
                        os.write(fd, str(process.pid).encode())
                    if group.is_empty:
                        raise OSError(errno.EINVAL, "a process does not get into its group")
                    group.used(), group.limits_hit()
                finally:
                    process.kill()
                    process.wait()
            branch.give_back(group)
        finally:
            _insist(branch.close)


def close_all(fds: Sequence[int]) -> None:
    """Closes them."""
    for fd in fds:
        os.close(fd)


def _insist(attempt: Callable[[], bool]) -> None:
    """Tries until it is done, or for so long as killed processes may take."""
    end = time.monotonic() + _REMOVE_TIMEOUT_S
    while not attempt() and time.monotonic() < end:
        time.sleep(_REMOVE_PAUSE_S)


def _find_places() -> tuple[list[_Tree], dict[str, str]]:
    """Where groups can be made, and for what; and why something cannot."""
    found = _hierarchies()
    trees: list[_Tree] = []
    reasons: dict[str, str] = {}
    # Of version 1 first: its groups are entered without waiting.
    for controller, feature in (*_CONTROLLERS.items(), _COUNTER):
        for each in found:
            if controller in each.controllers and (reason := _why_not(Path(each.folder))):
                reasons[feature] = reason
            elif controller in each.controllers:
                trees.append(_Tree(1, Path(each.folder), frozenset({feature})))
    held = {feature for tree in trees for feature in tree.features}
    for each in found:
        if each.version == 2:
            tree, reason = _unified(Path(each.folder), {"memory", "pids"} - _names(found))
            reasons.update({feature: reason for feature in _CONTROLLERS.values() if reason and feature not in held})
            if tree is not None and (more := tree.features - held):
                trees.append(_Tree(2, tree.folder, more))
    features = {feature for tree in trees for feature in tree.features}
    missing: dict[str, str] = {
        feature: reasons.get(feature, f"no tree of control groups has the controller {controller}")
        for controller, feature in _CONTROLLERS.items()
        if feature not in features
    }
    return _joined(trees), missing


def _hierarchies() -> list[hierarchies.Hierarchy]:
    return hierarchies.find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())


def _joined(trees: list[_Tree]) -> list[_Tree]:
    """One for each directory: of version 1 several controllers may share a tree."""
    by_folder: dict[tuple[int, Path], frozenset[Feature]] = {}
    for tree in trees:
        place = (tree.version, tree.folder)
        by_folder[place] = by_folder.get(place, frozenset()) | tree.features
    joined = [_Tree(version, folder, features) for (version, folder), features in by_folder.items()]
    return sorted(joined, key=lambda tree: tree.version)


def _names(found: list[hierarchies.Hierarchy]) -> set[str]:
    return {name for each in found for name in each.controllers}


def _unified(own: Path, wanted: set[str]) -> tuple[_Tree | None, str]:
    """The tree of version 2, with as many of the wanted controllers as can be had; and why not all.

    The kernel gives controllers only to groups whose parent holds no processes (but for the root of all). So this process
    moves into a group of its own, if it is alone in the one where it is.
    """
    reason = ""
    base = own
    with contextlib.suppress(OSError):
        # Moved there before; or put there by a service manager that leaves us the group above (systemd: DelegateSubgroup).
        if own.name == _LEAF or os.getxattr(own.parent, "user.delegate") == b"1":
            base = own.parent
    available = wanted & set(_words(base / "cgroup.controllers"))
    try:
        if not available <= set(_words(base / "cgroup.subtree_control")):
            _free_from_processes(base)
            _enable(base, sorted(available))
    except OSError as error:
        reason, available = f"{base}: {error.strerror or error}", set()
        with contextlib.suppress(OSError):  # back to where it was
            _write(own / "cgroup.procs", str(os.getpid()))
            (base / _LEAF).rmdir()
    if why := _why_not(base):
        return None, why
    features: set[Feature] = {_CONTROLLERS[name] for name in available} | {"cpu"}
    if (own / "cgroup.kill").exists() or not (own / "cgroup.events").exists():  # the root has neither
        features.add("kill")
    return _Tree(2, base, frozenset(features)), reason


def _free_from_processes(base: Path) -> None:
    """Moves this process out of the way. Raises OSError, having changed nothing, if it is not alone."""
    if not (base / "cgroup.events").exists():  # the root of all may have processes
        return
    others = [pid for pid in _words(base / "cgroup.procs") if int(pid) != os.getpid()]
    if others:
        raise OSError(errno.EBUSY, f"other processes are in this group, too ({', '.join(others[:3])})")
    if str(os.getpid()) in _words(base / "cgroup.procs"):
        leaf = base / _LEAF
        leaf.mkdir(exist_ok=True)
        _write(leaf / "cgroup.procs", str(os.getpid()))


def _enable(folder: Path, controllers: list[str]) -> None:
    _write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))


def _why_not(folder: Path) -> str:
    """Why no group can be made there; empty if one can."""
    trial = folder / f"{_PREFIX}trial-{secrets.token_hex(4)}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        return f"no group can be made in {folder}: {error.strerror}"
    return ""


def sweep() -> None:
    """Removes what servers left that were killed, in every place where this one would make groups."""
    for each in _hierarchies():
        folder = Path(each.folder)
        _sweep(folder.parent if folder.name == _LEAF else folder)


def _sweep(base: Path) -> None:
    with contextlib.suppress(OSError):
        for folder in base.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove_tree(folder)
                finally:
                    os.close(fd)


def _remove_tree(folder: Path) -> bool:
    for below in _folders(folder):
        _remove_tree(below)
    return _remove(folder)


def _folders(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from [each for each in folder.iterdir() if each.is_dir()]


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _content(path: Path) -> bytes:
    """What a small file says: three system calls, where ``Path`` makes eight. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _READ_BYTES)
    finally:
        os.close(fd)


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def _field(text: bytes, name: bytes) -> int:
    """The number behind ``name`` at the begin of a line; 0 if there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0
