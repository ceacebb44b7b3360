"""What a server takes from its machine before it serves: its directory, sockets, descriptors, memory."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import resource
from pathlib import Path
from typing import Final

from minwebhook.configuration import Supervision
from minwebhook.errors import SettingsError
from minwebhook.http.listeners import Listener, adopt_listeners, open_listeners
from minwebhook.http.tls import ServerTls, make_context
from minwebhook.runtimes.descriptors import connection_room
from minwebhook.runtimes.ladder import Reached
from minwebhook.settings import HttpSettings, Settings
from minwebhook.supervision import METRICS_NAME, passed_sockets

logger = logging.getLogger(__name__)

#: Objects made for each collection of the young ones, and so on. With CPython's own numbers each job pays for a collection.
_COLLECTOR_THRESHOLDS: Final = (10_000, 20, 20)


@dataclasses.dataclass(frozen=True, slots=True)
class Sockets:
    """What is listened on."""

    api: list[Listener]
    #: Of ``metrics_listen``.
    probes: list[Listener]
    tls: ServerTls | None

    def close(self) -> None:
        """Nobody is listened to any more."""
        for listener in [*self.api, *self.probes]:
            listener.close()


def open_sockets(settings: Settings, supervision: Supervision) -> Sockets:
    """Those that a service manager has opened for us; what it has not, by the settings."""
    server = settings.server
    tls = ServerTls(make_context(server.tls_cert, server.tls_key)) if server.tls_cert else None
    passed = passed_sockets(supervision)
    sockets = Sockets([], adopt_listeners(passed.pop(METRICS_NAME, [])), tls)
    try:
        sockets.api.extend(adopt_listeners([sock for group in passed.values() for sock in group], tls))
        if sockets.api:
            logger.info("sockets were passed: listen does not count")
        else:
            sockets.api.extend(open_listeners(server.listen, tls))
        if server.proxy_listen:
            sockets.api.extend(open_listeners(server.proxy_listen, tls, setting="proxy_listen", is_proxied=True))
        if server.metrics_listen and not sockets.probes:
            sockets.probes.extend(open_listeners(server.metrics_listen, setting="metrics_listen"))
    except BaseException:
        sockets.close()
        raise
    return sockets


def relax_collector() -> None:
    """What was made until now stays; what jobs and requests make is mostly freed by its counts, without the collector.

    Nothing is collected first: modules and a full queue have next to no cycles, and looking takes a tenth of a second.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def open_files_for(settings: Settings) -> HttpSettings:
    """The limits of the HTTP server, with as many connections as this process may have files for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = connection_room(settings, hard)
    if settings.http.max_connections <= room:
        return settings.http
    logger.warning("only %d files may be open: %d connections at once instead of max_connections", hard, max(room, 1))
    return dataclasses.replace(settings.http, max_connections=max(room, 1))


def prepare_data_directory(path: Path) -> Path:
    """Creates it for the owner alone. Raises :class:`SettingsError`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve()
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "it cannot be written")
    except OSError as error:
        raise SettingsError(f"data: cannot use the directory {path}: {error.strerror}") from error
    return path


def log_rung(reached: Reached) -> None:
    """Tells which sandbox there is, and what is missing to a better one."""
    for each in reached.missing:
        logger.warning("sandbox: %s does not work here: %s; %s", each.name, each.reason, each.cure)
    level = logging.WARNING if reached.rung == "none" else logging.INFO
    logger.log(level, "sandbox %s: %s", reached.rung, reached.description)
