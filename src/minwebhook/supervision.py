"""What a service manager and this process tell each other: systemd's protocols, which others speak, too.

Sockets that were opened for us (``LISTEN_FDS``, man 3 sd_listen_fds), and messages about our state (``NOTIFY_SOCKET``, man 3
sd_notify). Both are environment variables (read in ``settings.py``) and a few lines; nothing is installed for them.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final

import trio

from minwebhook.configuration import Supervision
from minwebhook.errors import SettingsError

logger = logging.getLogger(__name__)

#: The first descriptor that a service manager passes (SD_LISTEN_FDS_START).
_FIRST_FD: Final = 3
#: Names of sockets that are for ``/metrics`` and ``/readyz``.
METRICS_NAME: Final = "metrics"


class Notifier:
    """Tells the service manager about us; says nothing if there is none, or none that listens."""

    def __init__(self, supervision: Supervision) -> None:
        self._address: str | bytes = ""
        self.watchdog_s = supervision.watchdog_s
        address = supervision.notify_socket
        if address.startswith("@"):
            self._address = b"\0" + address[1:].encode()
        elif address.startswith("/"):
            self._address = address
        elif address:
            logger.warning("NOTIFY_SOCKET %r is no unix socket: nobody is told when the server is ready", address)

    def ready(self, status: str) -> None:
        """We serve; also after :meth:`reloading`."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """We read our settings again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_s: float) -> None:
        """We end, within a time that may be longer than the manager would wait."""
        self._send(f"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={int(within_s * 1_000_000)}")

    async def run_watchdog(self) -> None:
        """Says that the loop still turns, twice as often as it must. Returns if nobody wants to know."""
        if not (self._address and self.watchdog_s):
            return
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)  # a manager that does not read must not stop us
            try:
                sock.sendto(message.encode(), self._address)
            except OSError as error:
                logger.warning("the service manager cannot be told %r: %s", message.partition("\n")[0], error)


def passed_sockets(supervision: Supervision) -> dict[str, list[socket.socket]]:
    """Listening sockets that were passed to us, by name; a name that systemd was not given is ``unknown``.

    Raises :class:`SettingsError` for what is no listening stream socket.
    """
    found: dict[str, list[socket.socket]] = {}
    names = supervision.listen_names
    for number in range(supervision.listen_count):
        name = names[number] if number < len(names) else "unknown"
        try:
            sock = socket.socket(fileno=_FIRST_FD + number)
            is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        except OSError as error:
            raise SettingsError(
                f"LISTEN_FDS: descriptor {_FIRST_FD + number} is no socket: {error.strerror}"
            ) from error
        if not is_listening or sock.type != socket.SOCK_STREAM:
            raise SettingsError(
                f"LISTEN_FDS: socket {name!r} does not listen for connections (Accept=no, ListenStream=)"
            )
        sock.set_inheritable(False)
        sock.setblocking(False)
        found.setdefault(name, []).append(sock)
    return found
