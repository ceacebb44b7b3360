"""Limits that a job has of its own, set by its process when the job comes: ``AS=268435456,NOFILE=64``.

The names are those of getrlimit(2). The process was forked with the instance's maximum as its hard limit, so that a limit
may be higher than usual; once set, it cannot be raised again. Pure but for :func:`apply`.
"""

from __future__ import annotations

import resource
from typing import Final

#: Letter and unit of each in the shell's ulimit.
_ULIMIT: Final = {"AS": ("v", 1024), "CPU": ("t", 1), "FSIZE": ("f", 1024), "NOFILE": ("n", 1), "NPROC": ("u", 1)}

#: Room in the data segment that such programs reserve and do not use.
RESERVED_BYTES: Final = 512 * 1024 * 1024


def parse(text: str) -> dict[str, int]:
    """The limits by name."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: int(value) for name, _, value in pairs}


def of_memory_itself(text: str) -> str:
    """The limits with the one on addresses as one on data, for programs that reserve more addresses than they use."""
    return ",".join(
        f"DATA={value + RESERVED_BYTES}" if name == "AS" else f"{name}={value}" for name, value in parse(text).items()
    )


def apply(text: str, *, stays: bool) -> None:
    """Sets the limits of this process. One that stays for further jobs counts its time on, so that has no limit."""
    for name, value in parse(text).items():
        if not (stays and name == "CPU"):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def shell_lines(text: str) -> list[str]:
    """Commands that set the limits of the shell which runs them."""
    lines = []
    for name, value in parse(text).items():
        letter, unit = _ULIMIT[name]
        lines.append(f"ulimit -SH{letter} {value // unit}")
    return lines
