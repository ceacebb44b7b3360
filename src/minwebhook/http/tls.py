"""TLS for listeners: the context from certificate files, and the handshake under its own deadline."""

from __future__ import annotations

import socket
import ssl

import trio

from minwebhook.errors import SettingsError
from minwebhook.http.transport import Disconnected, StreamTransport
from minwebhook.settings import HttpSettings


class ServerTls:
    """The context of new connections; those that are open keep theirs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def reload(self, certificate: str, key: str) -> None:
        """Use these files from now on. Raises what :func:`make_context` raises, and goes on with the old ones then.

        In a context of their own: OpenSSL keeps a certificate for each kind of key, so an old one could stay in use.
        """
        self.context = make_context(certificate, key)


def make_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server context from the PEM files of settings ``tls_cert`` and ``tls_key``: TLS 1.2 or later, HTTP/1.1 only.

    Raises :class:`SettingsError` if a file is missing, unreadable or does not fit the other.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"tls_cert {certificate!r} with tls_key {key!r} cannot be used: {error}") from error
    return context


def _no_password() -> str:
    # Without this, an encrypted key makes OpenSSL ask at the terminal.
    return ""


async def accept(sock: socket.socket, context: ssl.SSLContext, limits: HttpSettings) -> StreamTransport:
    """Do the server's handshake on a connected non-blocking socket, which belongs to the result or is closed.

    Raises :class:`Disconnected` for a peer that does not finish it within ``tls_handshake_timeout_s``.
    """
    tcp = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    # https_compatible: web clients close without waiting for our close_notify, and many send none.
    stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
    try:
        with trio.fail_after(limits.tls_handshake_timeout_s):
            await stream.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        await trio.aclose_forcefully(stream)
        raise Disconnected from error
    except BaseException:
        sock.close()
        raise
    return StreamTransport(stream, write_timeout_s=limits.write_timeout_s, fileno=sock.fileno())
