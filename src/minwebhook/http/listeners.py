"""Listening sockets from addresses as people write them: ``host:port``, ``[::1]:port``, ``unix:PATH``."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from minwebhook.errors import SettingsError
from minwebhook.http.tls import ServerTls

#: Connections the kernel holds ready for us; it lowers this to its own limit (net.core.somaxconn).
BACKLOG: Final = 1024
#: New unix sockets get mode 0660: the owner and its group may connect.
_UNIX_UMASK: Final = 0o117
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening, non-blocking socket."""

    socket: socket.socket
    #: As a client would write it: ``http://127.0.0.1:43121``, ``https://[::1]:8443``, ``unix:/run/x.sock``.
    address: str
    tls: ServerTls | None = None
    #: File of a unix socket with its device and inode, which tell whether the file is still ours.
    path: Path | None = None
    inode: tuple[int, int] = (0, 0)
    #: Whether connections begin with a PROXY header.
    is_proxied: bool = False
    #: Whether scripts of ours connect here, and nobody else.
    is_inner: bool = False

    def close(self) -> None:
        """Stop listening, and remove the file of a unix socket unless another server has replaced it."""
        if self.socket.fileno() >= 0:
            with suppress(RuntimeError):  # no loop is running: nobody waits
                trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        if self.path is not None:
            with suppress(OSError):
                if _inode(self.path) == self.inode:
                    self.path.unlink()


def open_listeners(
    addresses: Sequence[str], tls: ServerTls | None = None, *, setting: str = "listen", is_proxied: bool = False
) -> list[Listener]:
    """Listen on every address, all or none. TCP addresses speak https if ``tls`` is given; unix sockets never do.

    ``host:port`` listens on each address the name stands for; port 0 takes any free one. The socket file of a server
    that died is replaced. Blocks for name lookups: for the start only. Raises :class:`SettingsError` naming ``setting``.
    """
    listeners: list[Listener] = []
    try:
        for address in addresses:
            if address.startswith("unix:"):
                listeners.append(_listen_unix(address, setting))
            else:
                listeners.extend(_listen_tcp(address, tls, setting))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise SettingsError(f"{setting}: give at least one address, host:port or unix:PATH")
    return [replace(listener, is_proxied=True) for listener in listeners] if is_proxied else listeners


def adopt_listeners(sockets: Sequence[socket.socket], tls: ServerTls | None = None) -> list[Listener]:
    """Listeners of sockets that somebody else has opened and goes on to hold; their files are not ours to remove."""
    return [
        Listener(sock, f"unix:{_unix_name(sock)}")
        if sock.family == socket.AF_UNIX
        else Listener(sock, _printable(sock, tls), tls)
        for sock in sockets
    ]


def _unix_name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return name if isinstance(name, str) else "@" + os.fsdecode(name[1:])


def _listen_tcp(address: str, tls: ServerTls | None, setting: str) -> list[Listener]:
    host, port = _split(address, setting)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{setting}: {address!r} is not a known host: {error}") from error
    listeners: list[Listener] = []
    unavailable: OSError | None = None
    try:
        for family, _, _, _, name in dict.fromkeys(found):
            # With port 0, further addresses of the same name share the port that the first one got.
            wanted = port or (listeners[0].socket.getsockname()[1] if listeners else 0)
            try:
                sock = _bind_tcp(family, (name[0], wanted, *name[2:]))
            except OSError as error:
                # A name like localhost may stand for a family this machine has switched off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
                continue
            listeners.append(Listener(sock, _printable(sock, tls), tls))
        if not listeners and unavailable is not None:
            raise unavailable
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise SettingsError(f"{setting}: cannot listen on {address!r}: {error.strerror}") from error
    return listeners


def _split(address: str, setting: str) -> tuple[str, int]:
    host, colon, digits = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError(f"{setting}: write an IPv6 address in brackets, like [::1]:8000, not {address!r}")
    is_port = digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= _MAX_PORT
    if not (host and colon and is_port):
        raise SettingsError(f"{setting}: {address!r} is neither host:port nor unix:PATH")
    return host, int(digits)


def _bind_tcp(family: int, name: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _printable(sock: socket.socket, tls: ServerTls | None) -> str:
    host, port = sock.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _listen_unix(address: str, setting: str) -> Listener:
    path = Path(address.removeprefix("unix:"))
    if path == Path():
        raise SettingsError(f"{setting}: {address!r} names no file")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _remove_stale(path, setting)
        # The mode must be right from the first moment; chmod after bind would leave a gap.
        before = os.umask(_UNIX_UMASK)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        return Listener(sock, f"unix:{path}", path=path, inode=_inode(path))
    except OSError as error:
        sock.close()
        raise SettingsError(f"{setting}: cannot listen on {address!r}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: Path, setting: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{setting}: {str(path)!r} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody is there
    raise SettingsError(f"{setting}: another server is listening on {str(path)!r}")


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
