"""Becomes another program with as few rights as it needs: ``python -I -S -c START DIR SERVER_PID PROGRAM ARGUMENTS...``.

For programs of the server's own that it does not trust with all it may do itself. The program gains no privileges, has no
capabilities, writes no core dumps and no file above 4 GiB, and gives way to jobs. When the server dies the kernel kills
it and, where PID namespaces can be had, all that it started.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

from minwebhook.child import confine, kernel

_MAX_FILE_BYTES: Final = 4 << 30
_NICENESS: Final = 10


def main(server_pid: int, argv: list[str]) -> None:
    """Never returns."""
    confine.die_with_parent()
    if os.getppid() != server_pid:
        sys.exit("the server died")
    if _enter_namespaces():
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        confine.die_with_parent()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_capabilities()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = _MAX_FILE_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_FILE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.nice(_NICENESS)
    os.umask(0o022)
    try:
        os.execve(argv[0], argv, dict(os.environ))  # noqa: S606
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


def _enter_namespaces() -> bool:
    """Whether the next child forked is the first process of a PID namespace, with whose end all in it ends."""
    flags = kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid == 0:
            kernel.unshare(flags)
        else:  # files that it writes shall be the server's
            kernel.unshare(kernel.CLONE_NEWUSER | flags)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
            confine.die_with_parent()  # which a change of credentials undoes
    except OSError:
        return False
    return True
