"""A fork server with one layer of the sandbox left out: to show that the layer is what holds, and that probes notice.

The product has no way to leave a layer out. Here the system calls that make one are made to do nothing, in the fork server
only, before it starts: this file is executed there, where only the standard library and ``minwebhook.child`` exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from minwebhook.child import confine, kernel, landlock

_NO_NEW_PRIVS, _SECUREBITS, _KEEP_CAPABILITIES = 38, 28, 4
#: The fork server itself, on its way to a user namespace, becomes root of that.
_setresuid, _setresgid = os.setresuid, os.setresgid


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _without_namespace(left_out: int) -> None:
    unshare, setns = kernel.unshare, kernel.setns
    kernel.unshare = lambda flags: unshare(flags & ~left_out) if flags & ~left_out else None
    kernel.setns = lambda fd, kind: setns(fd, kind) if kind != left_out else None


def _without_network_namespace() -> None:
    """Each place would listen on the one loopback interface: on any port, then."""
    _without_namespace(kernel.CLONE_NEWNET)
    listen = confine.listen_inside
    confine.listen_inside = lambda port: listen(0)


def _without_pid_namespace() -> None:
    """That of each job; the fork server's own, which ends everything with it, stays."""
    unshare = kernel.unshare
    # Only the fork server asks for this one alone, for each child.
    kernel.unshare = lambda flags: unshare(flags) if flags != kernel.CLONE_NEWPID else None


def _with_uid(change: Callable[[int], None]) -> None:
    os.setresuid = lambda uid, *rest: change(uid) if uid else _setresuid(uid, *rest)


def _without_uid() -> None:
    os.setresgid = lambda gid, *rest: _setresgid(gid, *rest) if not gid else None
    _with_uid(lambda uid: kernel.drop_capabilities())


def _without_dropping() -> None:
    def keep(uid: int) -> None:
        kernel.prctl(_SECUREBITS, _KEEP_CAPABILITIES)
        _setresuid(uid, uid, uid)

    _with_uid(keep)
    kernel.drop_capabilities = _nothing


def _without_no_new_privs() -> None:
    prctl = kernel.prctl
    kernel.prctl = lambda option, value=0: prctl(option, value) if option != _NO_NEW_PRIVS else None


def _with_mounts(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    mount = kernel.mount

    def changed(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
        asked = change({"source": source, "target": target, "kind": kind, "flags": flags, "data": data})
        if asked is not None:
            mount(**asked)

    kernel.mount = changed


def _without_read_only() -> None:
    kernel.mount_read_only = _nothing
    _with_mounts(lambda asked: asked if asked["target"] != "/" or not asked["flags"] & kernel.MS_RDONLY else None)


def _without_tmp_size() -> None:
    def widen(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["source"] == "tmp":
            asked["data"] = "size=1g,mode=1777"
        return asked

    _with_mounts(widen)


def _without_clean_tmp() -> None:
    """Neither emptied nor made anew."""
    unmount = kernel.unmount
    kernel.unmount = lambda target: unmount(target) if target != "/tmp" else None
    made: list[str] = []

    def once(asked: dict[str, Any]) -> dict[str, Any] | None:
        if asked["source"] == "tmp":
            made.append(asked["target"])
            return asked if len(made) == 1 else None
        return asked

    _with_mounts(once)


def _without_root() -> None:
    def build(plan: dict[str, Any]) -> bool:
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        return confine._mount_lifeless_proc("/proc")

    confine._build_root = build
    confine._seal_root = _nothing


LAYERS: Final[dict[str, Callable[[], None]]] = {
    "nothing": _nothing,
    "root directory": _without_root,
    "read-only mounts": _without_read_only,
    "PID namespace": _without_pid_namespace,
    "IPC namespace": lambda: _without_namespace(kernel.CLONE_NEWIPC),
    "network namespace": _without_network_namespace,
    "Landlock scope": lambda: setattr(landlock, "restrict", _nothing),
    "uid": _without_uid,
    "dropping capabilities": _without_dropping,
    "no_new_privs": _without_no_new_privs,
    "system call filter": lambda: setattr(kernel, "install_filter", _nothing),
    "resource limits": lambda: setattr(confine, "limit_resources", _nothing),
    "control group": lambda: setattr(confine, "enter_group", _nothing),
    "size of /tmp": _without_tmp_size,
    "clean /tmp": _without_clean_tmp,
    "closing descriptors": lambda: setattr(confine, "close_all_but", _nothing),
}
