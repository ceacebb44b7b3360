"""Runs probes against a weakened fork server, in a container of its own: what gets through there reaches only a copy.

    python outer.py '{"layer": …, "rung": …, "network": …, "probes": […], "user": null}'

Prints the findings and what they changed as JSON; without names all probes are run. Needs root. The container: PID, mount,
network, IPC and UTS namespaces, and an overlay of the machine's files whose changes are in memory, bounded, and gone at the
end. The memory and the processes of the machine are not guarded here: probes that take them are only run where they see
limits.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import resource
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import trio

from minwebhook.child import kernel
from minwebhook.child.programs import PROGRAMS
from minwebhook.runtimes import bait
from minwebhook.runtimes import zygote as starting
from minwebhook.runtimes.engines import find_engines
from minwebhook.runtimes.ladder import find_interpreter, start_best
from minwebhook.runtimes.probing import Prober, languages_to_probe
from minwebhook.sandbox.probes.corpus import PROBES, Finding
from minwebhook.settings import JobSettings, SandboxSettings

_NAMESPACES: Final = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
)
_SIOCSIFFLAGS, _UP = 0x8914, 1
_FILE_BYTES = 256 << 20
#: Little, for what is filled to be filled soon.
_MEMORY_BYTES = 256 << 20


def enter(place: Path) -> None:
    """Moves this process, the first of its PID namespace, into the copy of the machine, made at ``place``."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("changes", str(place), "tmpfs", 0, "size=128m")
    upper, work, root = (place / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    kernel.mount("copy", str(root), "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    kernel.mount("/dev", str(root / "dev"), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("proc", str(root / "proc"), "proc")
    for groups in Path("/proc/self/mounts").read_text().splitlines():  # jobs are in control groups of the machine's
        target = groups.split()[1]
        if groups.split()[2] in ("cgroup", "cgroup2"):
            (root / target[1:]).mkdir(parents=True, exist_ok=True)
            kernel.mount(target, str(root / target[1:]), None, kernel.MS_BIND)
    kernel.mount("tmp", str(root / "tmp"), "tmpfs", 0, "size=128m,mode=1777")
    for part in {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).resolve().parents[2]}:
        if str(part).startswith("/tmp/"):  # the program may be installed or checked out there
            there = root / part.relative_to("/")
            there.mkdir(parents=True, exist_ok=True)
            kernel.mount(str(part), str(there), None, kernel.MS_BIND)
            continue
        # It, its interpreter and its engines may be below /root; in the copy ordinary users may go there.
        for folder in (*part.parents, part):
            there = root / folder.relative_to("/")
            there.chmod(there.stat().st_mode | 0o555)
    (root / "old").mkdir(exist_ok=True)
    kernel.pivot_root(str(root), str(root / "old"))
    os.chdir("/")
    kernel.unmount("/old")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))


def become(user: int) -> None:
    """Goes on as an ordinary user."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # /proc/self/uid_map is to be its own


def state() -> dict[str, Any]:
    """What probes could change and must not, also where nothing holds them."""
    folders = ("/", "/etc", "/usr", "/usr/bin", "/dev", "/dev/shm", "/dev/mqueue", "/tmp", "/var", "/var/tmp", "/root")
    return {
        "files": {
            folder: sorted(entry.name for entry in Path(folder).iterdir() if "minwebhook" not in entry.name)
            for folder in folders
            if Path(folder).is_dir()
        },
        "contents": {
            name: [(found := Path(name).stat()).st_mtime_ns, found.st_mode, found.st_size]
            for name in ("/etc/hosts", "/etc/resolv.conf", "/usr/bin/env", "/bin/sh", str(os.__file__))
        },
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "ipc": {name: Path(f"/proc/sysvipc/{name}").read_text() for name in ("shm", "sem", "msg")},
        "names": [os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()],
        "interfaces": [
            [name, Path(f"/sys/class/net/{name}/mtu").read_text() if Path("/sys/class/net").exists() else ""]
            for _, name in socket.if_nameindex()
        ],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


async def probe(task: dict[str, Any]) -> list[Finding]:
    """The findings."""
    findings: list[Finding] = []
    is_none = task["rung"] == "none"
    settings = SandboxSettings(
        sandbox=task["rung"], sandbox_network=task["network"], insecure=is_none, job_memory_bytes=_MEMORY_BYTES
    )
    directory = Path(tempfile.mkdtemp(prefix="minwebhook-"))
    wanted = [each for each in PROBES if each.name in task["probes"] or not task["probes"]]
    async with trio.open_nursery() as nursery:
        engines = find_engines(settings)
        zygote, reached = await start_best(nursery, settings, directory / "sandbox", engines=engines)
        with bait.laid_out(
            directory,
            settings,
            find_interpreter(""),
            rung=reached.rung,
            server_pid=os.getpid(),
            zygote_pid=zygote.pid or 0,
            group_limits=reached.workshop.group_limits,
        ) as facts:
            found = await languages_to_probe(engines.on(reached.rung), reached.workshop.programs)
            languages = task.get("languages") or [language for language in found if language not in PROGRAMS]
            await Prober(zygote, facts, JobSettings()).run(wanted, languages, findings.append)
        zygote.stop()
        nursery.cancel_scope.cancel()
    return findings


def main() -> None:
    """Reads the task from the command line."""
    task = json.loads(sys.argv[1])
    place = Path(tempfile.mkdtemp(prefix="minwebhook-outer-"))
    if pid := os.fork():
        status = os.waitpid(pid, 0)[1]
        place.rmdir()
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    # Each ends with its parent, and the last one ends everything.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    kernel.unshare(_NAMESPACES)
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    enter(place)
    if task["user"] is not None:
        become(task["user"])
    weakened = Path(__file__).with_name("weakened.py")
    begin, _, end = starting._START.partition("from minwebhook.child.zygote")
    weaken = f"exec(compile(open({str(weakened)!r}).read(), 'weakened.py', 'exec')); LAYERS[{task['layer']!r}](); "
    starting._START = f"{begin}{weaken}from minwebhook.child.zygote{end}"  # type: ignore[misc]
    before = state()
    findings = trio.run(probe, task)
    after = state()
    changed = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    print(json.dumps({"changed": changed, "findings": [dataclasses.asdict(found) for found in findings]}))


if __name__ == "__main__":
    main()
