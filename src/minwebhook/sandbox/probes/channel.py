"""Probes: the channel on which a job reports, and those of other jobs."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from functools import partial

from minwebhook.sandbox.probes.inside import (
    BROKEN,
    Facts,
    Outcome,
    held,
    opened,
    probe,
    process_ids,
    read,
    through,
    tried,
)


def _number() -> bytes:
    """The number of this job: the runner keeps it, and it is no secret to its own script."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "run_one":
            number: bytes = frame.f_locals["self"]._job
            return number
    raise LookupError("the runner's frame is not there")


def _frame(kind: bytes, payload: bytes, number: bytes, length: int | None = None) -> bytes:
    return kind + (len(payload) if length is None else length).to_bytes(4, "little") + number + payload


@probe(ending="cut", languages=("python3",))
def garbage(facts: Facts) -> Outcome:
    """writes garbage into its job's socket"""
    os.write(3, b"garbage" * 1000)
    return through("the server went on reading")


@probe(ending="cut", languages=("python3",))
def result_of_another_job(facts: Facts) -> Outcome:
    """answers in the name of another job"""
    os.write(3, _frame(b"R", b'["got through", "the answer to another job was taken"]', bytes(8)))
    return through("a frame of another job was passed over")


@probe(ending="cut", languages=("python3",))
def endless_frame(facts: Facts) -> Outcome:
    """announces a result of four gigabytes"""
    os.write(3, _frame(b"R", b"x" * 4096, _number(), length=2**32 - 1))
    return through("the server waits for it")


@probe(ending="cut", languages=("python3",))
def compiled_code(facts: Facts) -> Outcome:
    """sends compiled code that later jobs would run"""
    code = _frame(b"C", b"\x00" * 64, _number())
    os.write(3, code + code)
    return through("it was taken")


@probe(ending="cut", languages=("python3",))
def arguments(facts: Facts) -> Outcome:
    """replaces the arguments that the server recorded"""
    os.write(3, _frame(b"A", b"{}", _number()))
    return through("they were taken")


@probe()
def result_in_the_log(facts: Facts) -> Outcome:
    """prints something that looks like a result"""
    os.write(1, b"R" + (30).to_bytes(4, "little") + bytes(8) + b'["got through", "by the log"]\n')
    return held("a log is only a log")


@probe()
def sockets_of_other_jobs(facts: Facts) -> Outcome:
    """writes into the job socket of another process (/proc/PID/fd, names of unix sockets)"""
    steps: dict[str, Callable[[], object]] = {}
    for pid in process_ids():
        if pid != os.getpid() and not _is_no_socket(f"/proc/{pid}/fd/3"):
            steps[f"/proc/{pid}/fd/3"] = partial(opened, f"/proc/{pid}/fd/3", os.O_RDWR)
    with contextlib.suppress(OSError):
        for line in read("/proc/net/unix").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 7 and facts.network == "none" and facts.neighbor.encode() not in fields[7]:
                name = fields[7].decode(errors="replace")
                steps[name] = partial(_connect, name)
    return tried(steps) if steps else held("none is in sight")


def _is_no_socket(path: str) -> bool:
    """Whether it can be seen to be something else: interpreters keep the files of scripts open."""
    try:
        return not os.readlink(path).startswith("socket:")  # noqa: PTH115 - standard library only, and as plain as can be
    except OSError:
        return False


def _connect(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0" + name[1:] if name.startswith("@") else name)


def keep_socket(facts: Facts) -> str:
    """A process that outlives the job's report and goes on writing into its socket."""
    if os.fork() == 0:
        frame = _frame(b"R", b'["got through", "from the grave"]', _number())
        for _ in range(1 << 30):
            try:
                os.write(3, frame)
            except OSError:
                break
        os._exit(0)
    return "left"


@probe(first="keep_socket", languages=("python3",))
def socket_of_an_earlier_job(facts: Facts) -> Outcome:
    """is answered for by a process that an earlier job left"""
    # What the earlier one said about itself is its own business.
    return held("its own answer counts") if facts.earlier is not None else (BROKEN, "the earlier job gave nothing")
