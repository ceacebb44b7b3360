"""What a script gets, as data. Pure: the fork server applies it (child/confine.py).

Rungs, best first (docs/sandbox.md): ``root`` uses namespaces made by root and gives every job a uid of its own;
``userns`` makes the same namespaces inside an unprivileged user namespace; ``landlock`` makes none, and keeps scripts off by
Landlock and the system call filter; ``none`` has only resource limits and a session, and must be asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from minwebhook.sandbox import seccomp
from minwebhook.settings import SandboxSettings

Rung = Literal["root", "userns", "landlock", "none"]
RUNGS: Final[tuple[Rung, ...]] = ("root", "userns", "landlock", "none")
#: Those on which scripts are in namespaces of their own.
NAMESPACED: Final = frozenset({"root", "userns"})
Network = Literal["host", "none"]

#: What each rung means for a user, for logs and errors.
DESCRIPTIONS: Final[dict[Rung, str]] = {
    "root": "namespaces, read-only root, own uid per job, no capabilities, system call filter, resource limits",
    "userns": "namespaces in a user namespace, read-only root, no capabilities, system call filter, resource limits",
    "landlock": "no namespaces: Landlock (files, signals), system call filter, no new privileges, resource limits",
    "none": "NO ISOLATION: resource limits and a session only",
}

#: A layer of rung root: the fork server has no rights on the machine itself.
USER_NAMESPACE: Final = "user namespace of the fork server"

#: What control groups limit (sandbox/cgroups.py), of all processes of a job together.
LIMITS_OF_GROUPS: Final = {
    "memory": "limit of memory of all processes of a job",
    "processes": "limit of processes of a job",
}
#: What Landlock can do from a later version on.
LANDLOCK_SCOPE: Final = "Landlock scope: abstract unix sockets and signals"
_DELEGATE: Final = (
    "give the server a control group of its own, in which it starts alone: Delegate=yes of systemd, or in a container"
    " a /sys/fs/cgroup that can be written"
)

#: What to do about a rung or layer that cannot be had, for logs, health and ``minwebhook doctor``.
CURES: Final = {
    "root": "run the server as root with CAP_SYS_ADMIN; in a container also allow mount, unshare, setns and pivot_root",
    USER_NAMESPACE: "allow user namespaces (sysctl user.max_user_namespaces)",
    "userns": "allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone,"
    " kernel.apparmor_restrict_unprivileged_userns); in a container also allow mount, unshare, setns and pivot_root",
    "landlock": "a kernel with Landlock: Linux 6.12, or 5.13 if the server is root; with the landlock module switched on (lsm=)",
    LANDLOCK_SCOPE: "Linux 6.12 or newer, with the landlock module switched on (lsm=)",
    LIMITS_OF_GROUPS["memory"]: _DELEGATE,
    LIMITS_OF_GROUPS["processes"]: f"{_DELEGATE}; or start it as root, then each job has a user id of its own",
    "none": "--insecure accepts running scripts without isolation",
}

#: Host paths that scripts see, read-only, where they exist: programs and libraries, and what name and certificate
#: look-ups need. Nothing of /home, /root, /var, /run or the server's own directories.
PROGRAM_PATHS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
LOOKUP_PATHS: Final = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
)
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Shared memory and temporary files live in the job's own /tmp; /dev/fd serves shells.
SYMLINKS: Final = (
    ("/dev/shm", "/tmp"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/var/tmp", "/tmp"),
)
#: First uid of jobs on the root rung; each job at a time has its own, so that process limits count per job.
FIRST_UID: Final = 1_879_000_000
#: Where scripts without a network reach the server: on a loopback interface of their own.
API_PORT: Final = 8000
#: Where scripts see the programs of their languages that are elsewhere on the machine.
RUNTIMES_PLACE: Final = "/runtimes"
#: Uids that each fork server has to itself.
UIDS_PER_ZYGOTE: Final = 10_000


class Missing(NamedTuple):
    """A rung, or a layer of the rung that was reached, that cannot be had here."""

    #: A rung, or the name of a layer.
    name: str
    reason: str

    @property
    def cure(self) -> str:
        """What to do about it."""
        return CURES[self.name]


class Surroundings(NamedTuple):
    """What the scripts of one fork server share: these differ only between fork servers."""

    network: Network
    #: Directory of installed packages, which scripts import; empty = the standard library only.
    packages: str = ""
    #: Modules of the packages that scripts import, which are imported before jobs come.
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rlimits:
    """Limits of each process of a job (getrlimit(2)); ``processes`` counts per uid.

    Each is what jobs have, and what they may have at most if their script asks for it.
    """

    memory_bytes: tuple[int, int]
    processes: tuple[int, int]
    open_files: tuple[int, int]
    file_bytes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """Everything the fork server needs to know to confine its children."""

    rung: Rung
    surroundings: Surroundings
    #: Paths bound read-only at the same place, if they exist.
    read_only: tuple[str, ...]
    #: An existing empty directory of the server's, over which the root of jobs is mounted.
    root_directory: str
    #: Where jobs keep files when there is no private /tmp (rungs landlock and none).
    scratch_directory: str
    rlimits: Rlimits
    tmp_bytes: int
    #: The system call filter (sandbox/seccomp.py); empty on rung none.
    seccomp: bytes
    first_uid: int = FIRST_UID
    #: Whether the fork server of rung root lives in a user namespace, and so has no rights outside of it.
    user_namespace: bool = False
    bash: str = "/bin/bash"
    #: Programs that run JavaScript, by runtime, as scripts see them; and what they run (child/engines.py).
    engines: Mapping[str, str] = field(default_factory=dict)
    #: Host paths that are bound read-only at another place, if they exist.
    bound: tuple[tuple[str, str], ...] = ()
    #: What is limited by control groups, of all processes of a job together: ``memory``, ``processes``.
    groups: frozenset[str] = frozenset()
    #: Programs that run scripts, by language.
    programs: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_memory_bytes(self) -> int:
        """Memory of all processes of a usual job together, and of its files in memory."""
        return self.rlimits.memory_bytes[0] + (self.tmp_bytes if self.rung in NAMESPACED else 0)

    @property
    def is_cut_off(self) -> bool:
        """Whether scripts reach nothing but the server."""
        return self.surroundings.network == "none" and self.rung in NAMESPACED

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, as ``child/confine.py`` reads it."""
        return {
            "rung": self.rung,
            "namespaces": self.rung in NAMESPACED,
            "network": self.surroundings.network,
            "api_port": API_PORT,
            "packages": self.surroundings.packages,
            "modules": list(self.surroundings.modules),
            "read_only": list(self.read_only),
            "devices": list(DEVICES),
            "symlinks": [list(pair) for pair in SYMLINKS],
            "root_directory": self.root_directory,
            "scratch_directory": self.scratch_directory,
            "memory_bytes": list(self.rlimits.memory_bytes),
            "processes": list(self.rlimits.processes),
            "open_files": list(self.rlimits.open_files),
            "file_bytes": list(self.rlimits.file_bytes),
            "tmp_bytes": self.tmp_bytes,
            "first_uid": self.first_uid,
            "uids": UIDS_PER_ZYGOTE,
            "user_namespace": self.user_namespace,
            "seccomp": base64.b64encode(self.seccomp).decode(),
            "bash": self.bash,
            "engines": dict(self.engines),
            "bound": [list(pair) for pair in self.bound],
            "groups": sorted(self.groups),
            "programs": dict(self.programs),
        }


def make_plan(
    settings: SandboxSettings,
    rung: Rung,
    surroundings: Surroundings,
    *,
    machine: str,
    python_prefix: str,
    root_directory: str,
    scratch_directory: str,
    engines: Mapping[str, str] | None = None,
    number: int = 0,
    user_namespace: bool = True,
    groups: frozenset[str] = frozenset(),
    programs: Mapping[str, str] | None = None,
    visible: Sequence[str] = (),
) -> SandboxPlan:
    """The plan of ``rung`` from the settings. ``python_prefix`` is where the interpreter of scripts is installed.

    ``engines``: runtime to host path of its program. ``number`` is a small one that no other running fork server has.
    ``groups``: what is limited by control groups. ``programs`` run the scripts of other languages; ``visible`` is what
    they need to see of the machine.
    """
    read_only = [*PROGRAM_PATHS, *LOOKUP_PATHS, *visible]
    if not f"{python_prefix}/".startswith("/usr/"):
        read_only.append(python_prefix)
    seen, bound = _place(engines or {}, read_only, rung)
    if rung not in NAMESPACED:
        read_only += seen.values()
    return SandboxPlan(
        rung=rung,
        surroundings=surroundings,
        read_only=tuple(read_only),
        root_directory=root_directory,
        scratch_directory=scratch_directory,
        rlimits=Rlimits(
            _range(settings.job_memory_bytes, settings.job_max_memory_bytes),
            _range(settings.job_processes, settings.job_max_processes),
            _range(settings.job_open_files, settings.job_max_open_files),
            _range(settings.job_file_bytes, settings.job_max_file_bytes),
        ),
        tmp_bytes=settings.job_tmp_bytes,
        seccomp=_filter(rung, machine, surroundings.network, memfd="memory" in groups),
        first_uid=FIRST_UID + number * UIDS_PER_ZYGOTE,
        user_namespace=user_namespace and rung == "root",
        bash=settings.bash,
        engines=seen,
        bound=bound,
        groups=groups,
        programs=programs or {},
    )


def _place(
    engines: Mapping[str, str], read_only: Iterable[str], rung: Rung
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Where scripts see each program, and what is bound for that: those that are not in what they see anyway.

    Without namespaces everything stays where it is.
    """
    seen = dict(engines)
    bound = []
    for name, path in engines.items() if rung in NAMESPACED else ():
        if not any(f"{path}/".startswith(f"{place.rstrip('/')}/") for place in read_only):
            seen[name] = f"{RUNTIMES_PLACE}/{name}"
            bound.append((path, seen[name]))
    return seen, tuple(bound)


def _filter(rung: Rung, machine: str, network: Network, *, memfd: bool) -> bytes:
    if rung == "none":
        return b""
    return seccomp.assemble(machine, network=network == "host", namespaces=rung in NAMESPACED, memfd=memfd)


def _range(usual: int, most: int) -> tuple[int, int]:
    return usual, max(usual, most)
