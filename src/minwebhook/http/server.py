"""Accepting connections, and letting them go: :func:`serve` runs a server until it is told to stop.

Three nurseries, one in the other, make the order of shutdown: the innermost accepts, the middle one holds connections,
the outermost the two deadline queues and the disconnect watcher that connections rely on.
"""

from __future__ import annotations

import errno
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import trio

from minwebhook.addresses import UNIX, client_name, parse_address
from minwebhook.http import proxy_protocol, tls
from minwebhook.http.connection import Connection, ReportError, Service
from minwebhook.http.deadlines import DeadlineQueue, HttpDate
from minwebhook.http.disconnects import DisconnectWatcher
from minwebhook.http.forwarded import TrustedProxies
from minwebhook.http.listeners import Listener
from minwebhook.http.messages import Handler
from minwebhook.http.transport import Disconnected, SocketTransport, Transport
from minwebhook.observability.figures import TrafficFigures
from minwebhook.settings import HttpSettings

logger = logging.getLogger(__name__)

#: Pause after the process or the system ran out of descriptors or memory, in seconds (as trio.serve_listeners).
ACCEPT_PAUSE_S: Final = 0.1
#: How long a drain waits for the first request of a connection that was accepted just before.
FIRST_REQUEST_S: Final = 0.5
#: Clients accepted in one turn of the loop.
ACCEPT_BURST: Final = 64
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def serve(
    listeners: Sequence[Listener],
    handler: Handler,
    limits: HttpSettings,
    *,
    shutdown: trio.Event,
    grace_s: Callable[[], float],
    report_error: ReportError,
    figures: TrafficFigures | None = None,
    later: trio.MemoryReceiveChannel[Listener] | None = None,
    proxies: TrustedProxies | None = None,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests with ``handler`` until ``shutdown`` is set, then drain; closes ``listeners`` in any case.

    ``later`` brings further listeners, which may be closed at any time by whoever sent them. ``proxies`` are those whose
    word on who the client is counts. Started with the printable addresses. Draining: no more accepts, idle connections leave
    at once, requests under way, and the first one of a new connection, finish and close their connection, and whoever is left
    after ``grace_s`` seconds (asked for when the drain begins) is cancelled. What a handler raises goes to ``report_error``
    with the request's id, and nothing of it ends the server. Connections are counted in ``figures``.
    """
    server = _Server(handler, limits, report_error, figures or TrafficFigures(), proxies)
    try:
        async with trio.open_nursery() as services:
            service = server.service
            for run in (service.idle.run, service.heads.run, service.disconnects.run, service.turnstile.run):
                services.start_soon(run)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(server.accept_from, listener, connections, name=listener.address)
                    if later is not None:
                        accepting.start_soon(server.accept_later, later, accepting, connections)
                    task_status.started(tuple(listener.address for listener in listeners))
                    await shutdown.wait()
                    accepting.cancel_scope.cancel(reason="shutdown")
                _close(listeners)
                connections.cancel_scope.deadline = trio.current_time() + grace_s()
                server.drain()
                services.start_soon(server.give_up_on_silent_ones)
            services.cancel_scope.cancel(reason="shutdown")
    finally:
        _close(listeners)


def _close(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.close()


class _Server:
    """The connections of one :func:`serve`."""

    def __init__(
        self,
        handler: Handler,
        limits: HttpSettings,
        report_error: ReportError,
        figures: TrafficFigures,
        proxies: TrustedProxies | None,
    ) -> None:
        self._figures = figures
        self._limits = limits
        self._report_error = report_error
        self._slots = trio.Semaphore(limits.max_connections)
        self._connections: set[Connection] = set()
        self._is_draining = False
        # Request ids must not repeat in the logs of a restarted server.
        self._ids = (f"{secrets.token_hex(4)}-{number:x}" for number in count(1))
        self.service = Service(
            handler=handler,
            limits=limits,
            report_error=report_error,
            date=HttpDate(),
            idle=DeadlineQueue(limits.idle_timeout_s),
            heads=DeadlineQueue(limits.head_timeout_s),
            disconnects=DisconnectWatcher(lambda error: report_error(error, "")),
            proxies=proxies,
        )

    def drain(self) -> None:
        """Let idle connections go; the others close after their answer."""
        self._is_draining = True
        for connection in self._connections:
            connection.drain()

    async def accept_later(
        self, later: trio.MemoryReceiveChannel[Listener], accepting: trio.Nursery, connections: trio.Nursery
    ) -> None:
        """Accept from listeners that come while the server runs."""
        async for listener in later:
            accepting.start_soon(self.accept_from, listener, connections, name=listener.address)

    async def give_up_on_silent_ones(self) -> None:
        """Connections that have not sent a request yet have a moment left for the first one."""
        await trio.sleep(FIRST_REQUEST_S)
        for connection in list(self._connections):
            connection.give_up()

    async def accept_from(self, listener: Listener, connections: trio.Nursery) -> None:
        """Accept until cancelled, or the listener is closed.

        A client waits in the kernel's backlog while all connection slots are taken."""
        while True:
            if listener.socket.fileno() < 0:
                return
            try:
                await trio.lowlevel.wait_readable(listener.socket)
            except trio.ClosedResourceError:
                return
            # One client per turn of a busy loop would keep a crowd waiting for seconds.
            for _ in range(ACCEPT_BURST):
                if not await self._accept_one(listener, connections):
                    break

    async def _accept_one(self, listener: Listener, connections: trio.Nursery) -> bool:
        """False if no client was there, or there is no room for one."""
        # Only while a client is there is a slot taken, so listeners without clients hold none.
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            sock, address = listener.socket.accept()
        except OSError as error:
            self._slots.release()
            if error.errno in _EXHAUSTED:
                self._report_error(error, "")
                await trio.sleep(ACCEPT_PAUSE_S)
            # Anything else is the trouble of a client that has left already (man 2 accept, "Error handling").
            return False
        connections.start_soon(self._serve_socket, sock, _peer_name(address), listener)
        return True

    async def _serve_socket(self, sock: socket.socket, peer: str, listener: Listener) -> None:
        self._figures.accepted += 1
        self._figures.connections += 1
        try:
            scheme = "http" if listener.tls is None else "https"
            sock.setblocking(False)
            if listener.is_proxied:
                peer, scheme = await self._read_proxy_header(sock, peer, scheme)
            transport = await self._open_transport(sock, listener)
            connection = Connection(
                self.service,
                transport,
                connection_id=next(self._ids),
                peer=peer,
                scheme=scheme,
                is_inner=listener.is_inner,
            )
            if self._is_draining:
                connection.drain()
            self._connections.add(connection)
            try:
                await connection.serve()
            finally:
                self._connections.discard(connection)
        except Disconnected:
            pass
        except Exception as error:
            # A fault of ours in one connection must not take the others along.
            self._report_error(error, "")
        finally:
            sock.close()
            self._slots.release()
            self._figures.connections -= 1

    async def _read_proxy_header(self, sock: socket.socket, peer: str, scheme: str) -> tuple[str, str]:
        """Who the client is and how it came, by the word of ``peer``. Raises :class:`Disconnected` for anyone else."""
        proxies = self.service.proxies
        if proxies is None or not proxies.trusts(peer):
            raise Disconnected
        try:
            with trio.fail_after(self._limits.head_timeout_s):
                proxied = proxy_protocol.parse(await _receive_proxy_header(sock))
        except (proxy_protocol.BadProxyHeader, trio.TooSlowError, OSError) as error:
            logger.debug("no PROXY header from %s: %r", peer, error)
            raise Disconnected from error
        return proxied.client or peer, "https" if proxied.is_tls else scheme

    async def _open_transport(self, sock: socket.socket, listener: Listener) -> Transport:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listener.tls is not None:
            return await tls.accept(sock, listener.tls.context, self._limits)
        return SocketTransport(sock, write_timeout_s=self._limits.write_timeout_s)


async def _receive_proxy_header(sock: socket.socket) -> bytes:
    """The header and no byte more. Raises :class:`BadProxyHeader` and :class:`OSError`."""
    header = b""
    while wanted := proxy_protocol.missing(header):
        await trio.lowlevel.wait_readable(sock)
        try:
            received = sock.recv(wanted)
        except BlockingIOError:
            continue
        if not received:
            raise proxy_protocol.BadProxyHeader("the connection ended")
        header += received
    return header


def _peer_name(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return client_name(parse_address(host.partition("%")[0]), port)
        case _:
            return UNIX
