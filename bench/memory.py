"""Memory of a process tree, from ``/proc/PID/smaps_rollup``.

PSS divides each shared page by the number of processes that map it, so the sum over a tree is what the tree takes.
Pages shared with processes outside the tree (another Python of the same binary) make it come out a little low;
``private`` is the part that nobody shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.processes import tree


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of one process in KiB; ``None`` when the kernel did not let us read it."""

    pid: int
    command: str
    pss_kib: int | None
    private_kib: int | None
    rss_kib: int | None


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Memory of a process and all its descendants."""

    processes: tuple[ProcessMemory, ...]

    @property
    def pss_kib(self) -> int:
        """What the tree takes together."""
        return sum(process.pss_kib or 0 for process in self.processes)

    @property
    def private_kib(self) -> int:
        """The part that no other process maps."""
        return sum(process.private_kib or 0 for process in self.processes)

    @property
    def unreadable(self) -> int:
        """Processes whose memory is missing in the sums."""
        return sum(process.pss_kib is None for process in self.processes)


def parse_rollup(text: str) -> dict[str, int]:
    """The fields of smaps_rollup in KiB; the first line, an address range, is skipped."""
    fields: dict[str, int] = {}
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0])
    return fields


def _command(pid: int) -> str:
    """The command line without the program's directory, or the name for a process that has none."""
    try:
        program, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        line = " ".join([program.rpartition("/")[2], *arguments]).strip()
        return line or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "(gone)"


def _process_memory(pid: int) -> ProcessMemory:
    try:
        fields = parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return ProcessMemory(pid, _command(pid), None, None, None)
    private = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
    return ProcessMemory(pid, _command(pid), fields.get("Pss"), private, fields.get("Rss"))


def tree_memory(root: int) -> TreeMemory:
    """Memory of the process and its descendants now."""
    return TreeMemory(tuple(_process_memory(process.pid) for process in tree(root)))
