"""The runnable languages as a table: what differs between them on the server's side. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Runtime:
    """One language."""

    language: str
    #: How error texts call the program, as in ``exit code for "python run": 1``.
    program: str
    #: First line of every log of this language; ``{version}`` is the interpreter's.
    banner: str
    #: Whether a process may stay for further jobs of the same script (``dedicated_worker``).
    reusable: bool


RUNTIMES: Final = {
    runtime.language: runtime
    for runtime in (
        Runtime("python3", "python run", "--- PYTHON ({version}) CODE EXECUTION ---\n", reusable=True),
        Runtime("bash", "bash run", "--- BASH CODE EXECUTION ---\n", reusable=False),
    )
}
