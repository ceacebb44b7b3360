"""The limits that a script sets for its own jobs: the object ``limits`` of its settings. Pure.

``{"cpu_s": 2.5, "memory_bytes": 268435456, "processes": 8, "open_files": 64, "file_bytes": 0, "tmp_bytes": 1048576,
"log_bytes": 65536, "result_bytes": 65536}``, each of them optional. Whether a job gets what its script asks for is up to
the instance (jobs/limits.py).
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from minwebhook.errors import BadRequest

KIB: Final = 1024
MIB: Final = 1024 * KIB
_MOST: Final = 2**53

#: The least that each may be; all but cpu_s are whole numbers.
LEAST: Final[dict[str, float]] = {
    "cpu_s": 0.01,
    "memory_bytes": 64 * MIB,
    "processes": 1,
    "open_files": 16,
    "file_bytes": 0,
    "tmp_bytes": MIB,
    "log_bytes": KIB,
    "result_bytes": KIB,
}


class Limits(NamedTuple):
    """What a script asks for; None where it says nothing."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_bytes: int | None = None
    tmp_bytes: int | None = None
    log_bytes: int | None = None
    result_bytes: int | None = None


def limits(name: str, value: Any) -> dict[str, Any]:
    """A check for the object (scripts/fields.py); members that are null are left out."""
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object with members out of {', '.join(LEAST)}")
    checked = {}
    for member, number in value.items():
        least = LEAST.get(member)
        if least is None:
            raise BadRequest(f"{name}.{member} is no limit; there are {', '.join(LEAST)}")
        if number is None:
            continue
        is_number = isinstance(number, int | float if member == "cpu_s" else int) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number) or not least <= number <= _MOST:
            kind = "number" if member == "cpu_s" else "whole number"
            raise BadRequest(f"{name}.{member} must be a {kind} of at least {least:g}")
        checked[member] = number
    return checked
