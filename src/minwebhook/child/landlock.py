"""Landlock: what a process and its descendants may still do with files, TCP and sockets of others (landlock(7)).

The version (ABI) of the kernel says what there is: 1 files, 4 TCP ports, 6 abstract unix sockets and signals. What the
kernel does not know is left out; callers ask :func:`version` whether that is good enough for them.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from typing import Final

from minwebhook.child import kernel

NET_VERSION: Final = 4
SCOPE_VERSION: Final = 6

SCOPE_ABSTRACT_UNIX: Final = 1
SCOPE_SIGNAL: Final = 2

# fs rights, linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_ALL_FS: Final = (1 << 13) - 1
_REFER: Final = 1 << 13  # version 2
_TRUNCATE: Final = 1 << 14  # version 3
_IOCTL_DEV: Final = 1 << 15  # version 5
READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_BIND_TCP: Final = 1
_CONNECT_TCP: Final = 2

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every machine
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH, _RULE_PORT = 1, 2


def version() -> int:
    """The ABI of this kernel; 0 if it has none, or it is switched off."""
    try:
        return kernel.system_call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def fs_rights(abi: int) -> int:
    """All rights on files that this version can take away."""
    return _ALL_FS | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)


def restrict(
    *,
    read_only: Iterable[str] = (),
    writable: Iterable[str] = (),
    has_files: bool = False,
    connect_ports: Iterable[int] | None = None,
    scoped: int = 0,
) -> None:
    """Restricts this process for good, and all that descends from it. It must have no_new_privs.

    With ``has_files`` only what ``read_only`` and ``writable`` name is left of the file system; without it files and mounts
    stay as they are. With ``connect_ports`` TCP connections go to these ports only, and none is listened on.
    ``scoped``: what is out of reach outside of this process's own domain.
    """
    abi = version()
    fs = fs_rights(abi) if has_files else 0
    net = _BIND_TCP | _CONNECT_TCP if connect_ports is not None and abi >= NET_VERSION else 0
    scope = scoped if abi >= SCOPE_VERSION else 0
    if not (fs or net or scope):
        return
    attributes = struct.pack("=QQQ", fs, net, scope)
    size = 24 if abi >= SCOPE_VERSION else 16 if abi >= NET_VERSION else 8
    ruleset = kernel.system_call(_CREATE_RULESET, attributes[:size], size, 0)
    try:
        for paths, rights in ((read_only, READ), (writable, fs)):
            for path in paths:
                _allow_path(ruleset, path, rights & fs)
        for port in (connect_ports or ()) if net else ():
            kernel.system_call(_ADD_RULE, ruleset, _RULE_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        kernel.system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    """What is missing is left out."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILE_RIGHTS
        kernel.system_call(_ADD_RULE, ruleset, _RULE_PATH, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)
