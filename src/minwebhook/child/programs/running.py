"""Runs a script of a language that a program of the machine runs (program.py says how one is described).

This process is the first of its PID namespace: it reaps what scripts leave behind, and its end ends them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

from minwebhook.child import limits, values, wire
from minwebhook.child.programs.program import BUILD, BUILT, Program
from minwebhook.child.transfer import read_frame, write_all
from minwebhook.child.usage import used
from minwebhook.child.variables import USUAL

#: Exit code of a program that cannot be started, as shells give it.
_CANNOT_START: Final = 127
_ARGUMENTS: Final = "args.json"
#: What some editors put in front of UTF-8; of these languages most take it for a part of the code.
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def serve(fd: int, program: Program, path: str, home: str) -> None:
    """Says ready, and runs the one job from socket ``fd`` in the directory ``home``. ``path`` is where the program is."""
    started = _start_waiting(program, path, home) if program.waits else None
    write_all(fd, wire.frame(wire.READY))
    job, payload = read_frame(fd)
    packed_header, source, compiled, arguments_json, *_ = wire.unpack_job(payload)
    source = source.removeprefix(BYTE_ORDER_MARK)
    header = wire.unpack_header(packed_header)
    own_limits = limits.of_memory_itself(header.limits) if program.reserves_addresses else header.limits
    variables = _variables(program, header, home)
    before, _ = used()
    Path(_ARGUMENTS).write_bytes(arguments_json)
    Path("result.json").touch()
    script = "main" + program.extension
    _write(program.files(source) if program.files else {script: source}, BUILD if program.build else ".")
    what = ""
    if started is not None:
        status = _hand_over(program, *started, source, variables, own_limits, arguments_json)
    elif not program.build:
        argv = [path, *program.arguments] if program.arguments else [f"./{script}"]
        status = _run(argv, variables, own_limits)
    elif compiled:
        _write({BUILT: compiled}, ".")
        status = _run([f"./{BUILT}"], variables, own_limits)
    elif status := _build(program, path, variables, own_limits):
        what = f"{program.language} build"
    else:
        write_all(fd, wire.frame(wire.CODE, Path(BUILT).read_bytes(), job))
        status = _run([f"./{BUILT}"], variables, own_limits)
    ending = report(status)
    if what:
        ending["program"] = what
    if program.waits and ending["code"] == 0:
        ending.setdefault("result_json", "null")  # it left main by exit: its last line was not meant as a result
    cpu_s, peak_kib = used()
    usage = wire.frame(wire.USAGE, wire.pack_usage(cpu_s - before, peak_kib), job)
    write_all(fd, usage + wire.frame(wire.EXIT, json.dumps(ending).encode(), job))
    os.read(fd, 1)  # the server ends this process after the answer is out


def _hand_over(
    program: Program,
    pid: int,
    stdin: int,
    source: bytes,
    variables: dict[str, str],
    own_limits: str,
    arguments_json: bytes,
) -> int:
    """Gives the job to the program that waits. Its wait status."""
    for name, value in limits.parse(own_limits).items():
        resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))
    parameters = [each._asdict() for each in program.parameters(source.decode("utf-8", "replace"))]
    line = {"variables": variables, "parameters": parameters, "arguments": values.loads(arguments_json)}
    with contextlib.suppress(BrokenPipeError):  # it has ended, and its status says how
        write_all(stdin, values.dumps(line).encode("utf-8", "replace") + b"\n")
    os.close(stdin)
    return wait_for(pid)


def _run(argv: list[str], variables: dict[str, str], own_limits: str) -> int:
    """Runs the script, or what was built of it, with the job's arguments as its input. Its wait status."""
    with Path(_ARGUMENTS).open("rb") as stdin:
        return wait_for(_start(argv, stdin.fileno(), variables, own_limits))


def _write(files: dict[str, bytes], directory: str) -> None:
    for name, content in files.items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # With the mode from the beginning: where there are no namespaces, chmod is out of reach.
        with open(path, "wb", opener=partial(os.open, mode=0o700)) as file:
            file.write(content)


def _build(program: Program, path: str, variables: dict[str, str], own_limits: str) -> int:
    """The wait status of the compiler. Nothing of the script runs meanwhile; what the compiler says is the job's log."""
    with Path(os.devnull).open("rb") as stdin:
        return wait_for(_start([path, *program.build], stdin.fileno(), variables, own_limits, BUILD))


def _variables(program: Program, header: wire.JobHeader, home: str) -> dict[str, str]:
    """The environment of the job."""
    own = {} if home == USUAL["HOME"] else {"HOME": home, "TMPDIR": home}
    given = dict(variable.decode().partition("=")[::2] for variable in header.variables)
    return {**USUAL, **dict(program.variables), **given, **own}


def _start_waiting(program: Program, path: str, home: str) -> tuple[int, int]:
    """The process, and the descriptor that is its input."""
    first = {**USUAL, **dict(program.variables), "HOME": home}
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = _start([path, *program.arguments], read_end, first, "")
    os.close(read_end)
    return pid, write_end


def _start(argv: list[str], stdin: int, variables: dict[str, str], own_limits: str, directory: str = ".") -> int:
    """A process of ``argv`` with these limits in ``directory``."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            os.dup2(stdin, 0)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the interpreter we are ignores it
            limits.apply(own_limits, stays=False)
            os.execve(argv[0], argv, variables)  # noqa: S606 - no shell is wanted
        except OSError as error:
            os.write(2, f"{argv[0]} cannot be started: {_reason(argv[0], error)}\n".encode())
        finally:
            os._exit(_CANNOT_START)
    return pid


def _reason(file: str, error: OSError) -> str:
    """Why; the kernel's word for a first line with a program that is not there is that the script itself is not."""
    if isinstance(error, FileNotFoundError) and os.path.exists(file):  # noqa: PTH110 - nothing may be raised here
        return "scripts do not see the program that its first line names"
    return str(error.strerror)


def wait_for(pid: int) -> int:
    """The wait status of ``pid``, reaping the orphans of this PID namespace meanwhile."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def report(status: int) -> dict[str, Any]:
    """How the script ended, for an EXIT frame: its exit code, and what it left as its result."""
    code = os.waitstatus_to_exitcode(status)
    ending: dict[str, Any] = {"code": code} if code >= 0 else {"code": 128 - code, "signal": -code}
    result = _read_file("result.json")
    if result.strip():
        ending["result_json"] = result
    elif code == 0 and (text := _read_file("result.out")):
        ending["result_text"] = text
    return ending


def _read_file(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
