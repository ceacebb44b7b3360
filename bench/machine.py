"""What a result must name to mean anything: the machine, its load, and the versions of everything that took part."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.paths import PEER_VENV

QUERY_TIMEOUT_S: Final = 20.0

OWN_PACKAGES: Final = ("minwebhook", "trio", "h11", "orjson")
PEER_PACKAGES: Final = ("fastapi", "starlette", "pydantic", "uvicorn", "functions-framework", "flask", "gunicorn")

_VERSIONS_PROGRAM: Final = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine; constant during a run."""

    cpu: str
    cores: int
    is_virtual: bool
    memory_gib: float
    kernel: str
    distribution: str
    python: str


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks of all cores since the machine's start (man 5 proc_stat)."""

    total: int
    stolen: int


def cpu_model(cpuinfo: str) -> str:
    """The model of the first core in ``/proc/cpuinfo``."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def describe() -> Machine:
    """The machine we run on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=cpu_model(cpuinfo),
        cores=len(os.sched_getaffinity(0)),
        is_virtual=any("hypervisor" in line.split() for line in cpuinfo.splitlines() if line.startswith("flags")),
        memory_gib=round(memory_bytes / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        distribution=platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def filesystem(path: Path, mounts: str) -> str:
    """The kind of file system that holds ``path``, from ``/proc/self/mounts``; on tmpfs a commit costs nothing."""
    kinds = {Path(point): kind for _, point, kind, *_ in map(str.split, mounts.splitlines())}
    return next((kinds[parent] for parent in (path, *path.parents) if parent in kinds), "unknown")


def load_average() -> tuple[float, float, float]:
    """Processes that ran or waited for the CPU over 1, 5 and 15 minutes."""
    return os.getloadavg()


def parse_cpu_times(stat: str) -> CpuTimes:
    """The first line of ``/proc/stat``: user nice system idle iowait irq softirq steal ..."""
    ticks = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    return CpuTimes(total=sum(ticks), stolen=ticks[7])


def cpu_times() -> CpuTimes:
    """Ticks until now; two of these tell how much of the time between them the host gave to others."""
    return parse_cpu_times(Path("/proc/stat").read_text())


def stolen_percent(before: CpuTimes, after: CpuTimes) -> float:
    """Share of the time between two readings in which the host let others run on our cores."""
    elapsed = after.total - before.total
    return 100 * (after.stolen - before.stolen) / elapsed if elapsed else 0.0


def own_versions(names: Iterable[str] = OWN_PACKAGES) -> dict[str, str]:
    """Versions of the packages in this interpreter; missing ones are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peer_versions() -> dict[str, str]:
    """Versions of the peers: those in their environment, and Debian's ``webhook``."""
    found: dict[str, str] = {}
    python = PEER_VENV / "bin" / "python"
    if python.exists():
        output = _output([str(python), "-c", _VERSIONS_PROGRAM, *PEER_PACKAGES])
        found.update(json.loads(output or "{}"))
    if version := _output(["webhook", "-version"]):
        found["webhook"] = version.removeprefix("webhook version").strip()
    return found


def _output(command: list[str]) -> str:
    """What a program prints, or nothing when it is missing or fails."""
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
