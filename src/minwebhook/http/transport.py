"""Bytes to and from one peer, behind one small interface: plain sockets without detours, trio streams for the rest.

:class:`SocketTransport` works on the bare non-blocking socket: a receive costs one wait and one call, a send that the
kernel takes at once costs one call and no scheduling. :class:`StreamTransport` serves TLS, and in-memory streams in
tests.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, Protocol

import trio

from minwebhook.errors import MinwebhookError

#: Most bytes taken from the kernel at once.
RECEIVE_BYTES: Final = 512 * 1024
#: A send that has to wait gets a fresh deadline for each piece of this size.
SEND_PIECE_BYTES: Final = 64 * 1024


class Disconnected(MinwebhookError):
    """The peer is gone, or takes our bytes too slowly to be waited for. There is nobody left to answer."""


class Interrupted(MinwebhookError):
    """:meth:`Transport.interrupt` ended a receive. The connection itself is unharmed."""


class Transport(Protocol):
    """One connection to a peer. One task at a time receives and one sends; then neither is interrupted.

    :meth:`interrupt` may be called from any task while one task does both.
    """

    async def receive(self) -> bytes:
        """The next bytes, at most 512 KiB; ``b""`` when the peer closed its side. Always a checkpoint.

        Raises :class:`Disconnected` or :class:`Interrupted`.
        """

    def interrupt(self) -> None:
        """Make the receive that is waiting right now raise :class:`Interrupted`; nothing happens if none is."""

    async def send(self, data: bytes) -> bool:
        """Send all of ``data``. True if it had to wait, and thus passed a checkpoint.

        Raises :class:`Disconnected`, also when ``write_timeout_s`` passed without 64 KiB of progress. When cancelled,
        part of ``data`` may be out: the connection is only good for closing.
        """

    def send_now(self, data: bytes) -> bool:
        """Send what can be sent without waiting. False if something is left: it goes out with the next :meth:`send`.

        Raises nothing: if the peer is gone, the next send says so. For any task, while the one that sends does not.
        """

    async def half_close(self) -> None:
        """Tell the peer that nothing more will come, if this kind of connection can."""

    async def close(self) -> None:
        """Close, in bounded time. Legal at any moment and more than once."""

    def fileno(self) -> int:
        """The socket's descriptor, or -1 if there is none."""


class SocketTransport:
    """A non-blocking TCP or unix socket, which this object owns from now on."""

    __slots__ = ("_is_receiving", "_rest", "_socket", "_write_timeout_s")

    def __init__(self, sock: socket.socket, *, write_timeout_s: float) -> None:
        self._socket = sock
        self._write_timeout_s = write_timeout_s
        self._is_receiving = False
        self._rest = b""

    async def receive(self) -> bytes:
        """See :meth:`Transport.receive`."""
        sock = self._socket
        self._is_receiving = True
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    return sock.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
        except trio.ClosedResourceError as error:
            raise Interrupted from error
        except OSError as error:
            raise Disconnected from error
        finally:
            self._is_receiving = False

    def interrupt(self) -> None:
        """See :meth:`Transport.interrupt`."""
        if self._is_receiving:
            # Wakes the waiter and does nothing else: the socket stays open. A receive that was woken by data already
            # keeps its data.
            trio.lowlevel.notify_closing(self._socket)

    async def send(self, data: bytes) -> bool:
        """See :meth:`Transport.send`."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Disconnected from error
        if sent == len(data):
            return False
        await self._send_slowly(memoryview(data)[sent:])
        return True

    def send_now(self, data: bytes) -> bool:
        """See :meth:`Transport.send_now`."""
        if not self._rest:
            try:
                sent = self._socket.send(data)
            except OSError:  # full, or broken
                sent = 0
            if sent == len(data):
                return True
            data = data[sent:]
        self._rest += data
        return False

    async def _send_slowly(self, rest: memoryview) -> None:
        sock = self._socket
        try:
            while rest:
                piece = rest[:SEND_PIECE_BYTES]
                with trio.fail_after(self._write_timeout_s):
                    while piece:
                        await trio.lowlevel.wait_writable(sock)
                        try:
                            sent = sock.send(piece)
                        except BlockingIOError:
                            continue
                        piece = piece[sent:]
                rest = rest[SEND_PIECE_BYTES:]
        except (OSError, trio.TooSlowError) as error:
            raise Disconnected from error

    async def half_close(self) -> None:
        """See :meth:`Transport.half_close`."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Disconnected from error

    async def close(self) -> None:
        """See :meth:`Transport.close`."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def fileno(self) -> int:
        """See :meth:`Transport.fileno`."""
        return self._socket.fileno()


class StreamTransport:
    """Any trio stream. ``fileno`` is the descriptor of the socket below it, if there is one."""

    __slots__ = ("_fileno", "_receiving", "_rest", "_stream", "_write_timeout_s")

    def __init__(self, stream: trio.abc.Stream, *, write_timeout_s: float, fileno: int = -1) -> None:
        self._stream = stream
        self._write_timeout_s = write_timeout_s
        self._fileno = fileno
        self._receiving: trio.CancelScope | None = None
        self._rest = b""

    async def receive(self) -> bytes:
        """See :meth:`Transport.receive`."""
        try:
            with trio.CancelScope() as self._receiving:
                return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Disconnected from error
        finally:
            self._receiving = None
        raise Interrupted

    def interrupt(self) -> None:
        """See :meth:`Transport.interrupt`."""
        if self._receiving is not None:
            self._receiving.cancel()

    async def send(self, data: bytes) -> bool:
        """See :meth:`Transport.send`."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        rest = memoryview(data)
        try:
            while rest:
                with trio.fail_after(self._write_timeout_s):
                    await self._stream.send_all(rest[:SEND_PIECE_BYTES])
                rest = rest[SEND_PIECE_BYTES:]
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise Disconnected from error
        return True

    def send_now(self, data: bytes) -> bool:
        """See :meth:`Transport.send_now`. Never at once: such a stream cannot send without waiting."""
        self._rest += data
        return False

    async def half_close(self) -> None:
        """See :meth:`Transport.half_close`. TLS cannot: there it does nothing, and the peer goes by Content-Length."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            try:
                with trio.fail_after(self._write_timeout_s):
                    await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                raise Disconnected from error

    async def close(self) -> None:
        """See :meth:`Transport.close`. A TLS peer gets its close_notify if it takes it in time."""
        # aclose closes by force when it is cancelled, so the deadline cannot leak the socket.
        with trio.move_on_after(self._write_timeout_s):
            with contextlib.suppress(trio.BrokenResourceError):
                await self._stream.aclose()

    def fileno(self) -> int:
        """See :meth:`Transport.fileno`."""
        return self._fileno
