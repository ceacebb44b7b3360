"""Runs a bash script: the interpreter is started beforehand and waits, so that a job pays only for its own commands.

This process is the first of its PID namespace: it reaps what scripts leave behind, and its end ends them. Arguments,
result and exit code follow Windmill's rules (spec: scripts, Bash): positional arguments in the order of the lines
``name="$1"``; the result is ``result.json``, else ``result.out``, else the last line of output.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any, Final, NamedTuple

from minwebhook.child import limits, values, wire
from minwebhook.child.programs.running import BYTE_ORDER_MARK, report, wait_for
from minwebhook.child.transfer import read_frame, wait, write_all
from minwebhook.child.usage import used
from minwebhook.child.variables import USUAL

_ARGUMENT: Final = re.compile(
    r"""^(?P<name>\w+)="\$(?:(?P<plain>\d{1,3})|\{(?P<braced>\d{1,3})(?::-(?P<default>[^}]*))?\})"\s*(?:\#.*)?$""",
    re.MULTILINE,
)
_MAX_ARGUMENTS: Final = 19
_GO_FD: Final = 9
#: Waits for a line on descriptor 9, then becomes the script. Files are read whole; a pipe would be read byte by byte.
_WAITING: Final = f". /dev/null; read -r -u {_GO_FD} go || exit 0; exec {_GO_FD}<&-; unset go; . ./.job.sh"


class Argument(NamedTuple):
    """One positional argument."""

    name: str
    #: None without one.
    default: str | None


def arguments(source: str) -> list[Argument]:
    """The positional arguments, in order, as the script's own lines declare them."""
    found: dict[int, Argument] = {}
    for match in _ARGUMENT.finditer(source.removeprefix("\ufeff")):
        found.setdefault(int(match["plain"] or match["braced"]), Argument(match["name"], match["default"]))
    declared = []
    for position in range(1, _MAX_ARGUMENTS + 1):
        if position not in found:
            break
        declared.append(found[position])
    return declared


def argument_text(value: Any) -> str:
    """An argument as the text that the script sees: strings as they are, others as JSON, missing ones empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("\0", "")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def serve(fd: int, interpreter: str, home: str) -> None:
    """Starts bash, says ready, and runs the one job from socket ``fd`` in the directory ``home``."""
    go_read, go_write = os.pipe()
    pid = os.posix_spawn(
        interpreter,
        ["bash", "--noprofile", "--norc", "-c", _WAITING],
        {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.cwd())},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, go_read, _GO_FD),
            (os.POSIX_SPAWN_CLOSE, go_read),
            (os.POSIX_SPAWN_CLOSE, go_write),
        ],
        setsigdef=[signal.SIGPIPE],
    )
    os.close(go_read)
    write_all(fd, wire.frame(wire.READY))
    job, payload = read_frame(fd)
    header, source, _, arguments_json, *_ = wire.unpack_job(payload)
    _write_job(wire.unpack_header(header), source.removeprefix(BYTE_ORDER_MARK), arguments_json, home)
    before, _ = used()
    os.write(go_write, b"go\n")
    os.close(go_write)
    ending = report(wait_for(pid))
    cpu_s, peak_kib = used()
    usage = wire.frame(wire.USAGE, wire.pack_usage(cpu_s - before, peak_kib), job)
    write_all(fd, usage + wire.frame(wire.EXIT, json.dumps(ending).encode(), job))
    wait(fd)  # the server ends this process after the answer is out


def _write_job(header: wire.JobHeader, source: bytes, arguments_json: bytes, home: str) -> None:
    given = values.loads(arguments_json)
    texts = [argument_text(given.get(each.name)) for each in arguments(source.decode("utf-8", "replace"))]
    lines = [f"export {shlex.quote(variable.decode())}" for variable in header.variables]
    if home != USUAL["HOME"]:
        lines.append(f"export HOME={shlex.quote(home)} TMPDIR={shlex.quote(home)}")
    lines += limits.shell_lines(header.limits)
    lines.append("set -- " + " ".join(shlex.quote(text) for text in texts))
    lines.append("set -e\n. ./main.sh\n")
    Path("args.json").write_bytes(arguments_json)
    Path("result.json").touch()
    Path("main.sh").write_bytes(source)
    Path(".job.sh").write_text("\n".join(lines), encoding="utf-8", errors="replace")
