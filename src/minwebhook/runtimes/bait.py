"""What probes look for outside of the sandbox: secrets in files, memory and queues, and services that listen."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from minwebhook.runtimes.ladder import Interpreter
from minwebhook.sandbox.probes.inside import Facts
from minwebhook.settings import SandboxSettings

_ENVIRONMENT: Final = "MINWEBHOOK_PROBE_CANARY"
_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0


def make_canary() -> str:
    """A text that is found nowhere by chance."""
    return f"canary-{secrets.token_hex(12)}"


@contextlib.contextmanager
def laid_out(
    directory: Path,
    settings: SandboxSettings,
    interpreter: Interpreter,
    *,
    rung: str,
    server_pid: int,
    zygote_pid: int,
    hidden: Sequence[str] = (),
    canary: str = "",
    group_limits: Collection[str] = (),
) -> Iterator[Facts]:
    """The facts for probes, while the bait lies there. ``hidden`` are further paths that must not be reached.

    ``group_limits``: what control groups limit.

    ``directory`` exists and is readable by its owner alone. ``canary`` is the secret; without one it is made.
    """
    canary = canary or make_canary()
    file = directory / "secret"
    file.write_text(canary)
    file.chmod(0o600)
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        abstract, local = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        abstract_name = f"bait-{secrets.token_hex(6)}"
        abstract.bind(f"\0{abstract_name}")
        local.bind(str(directory / "bait.sock"))
        for listener in (abstract, local):
            listener.listen()
        neighbor = f"neighbor-{secrets.token_hex(6)}"
        # Without a /tmp of its own the neighbor's file lies in everybody's.
        stack.callback(Path(tempfile.gettempdir(), neighbor).unlink, missing_ok=True)
        os.environ[_ENVIRONMENT] = canary
        stack.callback(os.environ.pop, _ENVIRONMENT, None)
        yield Facts(
            rung=rung,
            network=settings.sandbox_network,
            language="",
            server_pid=server_pid,
            zygote_pid=zygote_pid,
            # The user namespace of the machine itself has all ids, each its own.
            root_is_root=Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)],
            hidden=[str(directory), str(file), str(directory / "bait.sock"), *hidden],
            canary=canary[::-1],
            tcp_port=tcp.getsockname()[1],
            udp_port=udp.getsockname()[1],
            abstract=abstract_name,
            neighbor=neighbor,
            queue_id=stack.enter_context(_queue(canary.encode())),
            # A process name is 15 bytes at most, and the prober appends a number.
            mark=f"left{secrets.token_hex(4)}",
            python=interpreter.binary,
            python_prefix=interpreter.prefix,
            memory_bytes=settings.job_memory_bytes,
            processes=settings.job_processes,
            open_files=settings.job_open_files,
            file_bytes=settings.job_file_bytes,
            tmp_bytes=settings.job_tmp_bytes,
            counts_memory="memory" in group_limits,
            counts_processes="processes" in group_limits,
        )


@contextlib.contextmanager
def _queue(text: bytes) -> Iterator[int]:
    """A System V message queue that everybody may read and that holds ``text``; -1 where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.msgget(_IPC_PRIVATE, _IPC_CREAT | 0o644)
    if queue < 0:
        yield -1
        return
    try:
        message = (1).to_bytes(8, "little") + text
        libc.msgsnd(queue, message, ctypes.c_size_t(len(text)), 0)
        yield queue
    finally:
        libc.msgctl(queue, _IPC_RMID, None)


def processes_named(name: str) -> list[int]:
    """Living processes of this name (at most 15 bytes of it), or with it as their first argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            comm, _, rest = entry.joinpath("stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            first_argument = entry.joinpath("cmdline").read_bytes().partition(b"\0")[0]
            if (comm == name[:15] or first_argument == name.encode()) and rest.split()[0] not in "ZX":
                found.append(int(entry.name))
    return found
