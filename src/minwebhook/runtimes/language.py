"""The runtimes as a table: what differs between them on the server's side, and which of them runs a script. Pure."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from minwebhook.child.programs import PROGRAMS
from minwebhook.child.programs.program import Program

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to run scripts."""

    #: Most languages are run by the runtime of the same name.
    name: str
    #: How error texts call the program, as in ``exit code for "python run": 1``.
    program: str
    #: First line of every log of this language; ``{version}`` is the interpreter's.
    banner: str
    #: Whether a process may stay for further jobs of the same script (``dedicated_worker``).
    reusable: bool
    #: Whether its processes are large: none waits before the first is needed, and none for long when none is.
    heavy: bool = False
    #: Whether it builds a program of a script, which takes long.
    builds: bool = False
    #: Whether it takes the code of imported scripts.
    imports_scripts: bool = False
    #: Whether a process sets the limits of its job itself; otherwise the fork server does.
    limits_itself: bool = True
    #: Processes that wait for a job as long as nobody has used the language.
    idle: int = 1
    #: What one that waits takes of memory: proportional set size, with what it shares with others of its kind.
    waiting_bytes: int = 3 * _MIB


#: Measured, of those that take more than a process that Python alone was forked for.
_WAITING_MIB: Final = {"bun": 20, "deno": 34, "nodejs": 60, "ruby": 11, "perl": 7, "php": 8}


def _of_program(program: Program) -> Runtime:
    name, banner = program.language, f"--- {program.title.upper()} CODE EXECUTION ---\n"
    waiting_bytes = _WAITING_MIB.get(name, 3) * _MIB
    builds = bool(program.build)
    return Runtime(name, f"{name} run", banner, reusable=False, idle=0, waiting_bytes=waiting_bytes, builds=builds)


def _engine(name: str, program: str) -> Runtime:
    """One of JavaScript."""
    return Runtime(
        name,
        f"{program} run",
        f"--- {program.upper()} CODE EXECUTION ---\n",
        reusable=True,
        heavy=True,
        imports_scripts=True,
        limits_itself=False,
        waiting_bytes=_WAITING_MIB[name] * _MIB,
    )


#: Those that are always there, and then those whose program has to be installed (programs.py).
RUNTIMES: Final = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "python3",
            "python run",
            "--- PYTHON ({version}) CODE EXECUTION ---\n",
            reusable=True,
            imports_scripts=True,
            idle=4,  # the first calls find one each: one that is started after a pause takes 20 ms
        ),
        Runtime("bash", "bash run", "--- BASH CODE EXECUTION ---\n", reusable=False),
        _engine("bun", "bun"),
        _engine("deno", "deno"),
        _engine("nodejs", "node"),
        *map(_of_program, PROGRAMS.values()),
    )
}
#: Languages with another name than their runtime, the best one first: they need none of what only one of them has.
_RUN_BY: Final = {"bunnative": ("bun", "deno", "nodejs"), "nativets": ("bun", "deno", "nodejs")}
#: Annotation of a script of bun that wants to be run by node.
_NODE: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*//[ \t]*nodejs\b")


def runtime_of(language: str, source: bytes, installed: Container[str]) -> Runtime:
    """What runs a script of this language with this code, of the ``installed`` runtimes if it can choose."""
    if language in RUNTIMES:
        return RUNTIMES["nodejs" if language == "bun" and _NODE.match(source) else language]
    names = _RUN_BY[language]
    return RUNTIMES[next((name for name in names if name in installed), names[0])]
