"""The PROXY protocol, versions 1 and 2: who a connection is from, said by a proxy before the first byte of it. Pure.

The source is "The PROXY protocol, versions 1 & 2" of HAProxy. What comes after the header is somebody else's (TLS, HTTP), so
the reader must not take a byte of it: :func:`missing` says how many are sure to belong to the header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from minwebhook.addresses import UNKNOWN, client_name, parse_address

#: Bytes of a header that are taken: longer ones carry what nobody here wants to know.
MAX_HEADER_BYTES: Final = 4096

_V1_MAX_BYTES: Final = 107
#: No header is shorter than this one.
_V1_MIN_BYTES: Final = len(b"PROXY UNKNOWN\r\n")
_V1: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
#: Bytes of an address with its port, source and destination, by the family and kind of socket (TCP only).
_V2_IPV4, _V2_IPV6 = 0x11, 0x21
_TLV_TLS, _CLIENT_TLS = 0x20, 0x01


class BadProxyHeader(ValueError):
    """What a connection begins with is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """What a header says."""

    #: As :mod:`minwebhook.addresses` names clients; None: the connection is the proxy's own, a health check for example.
    client: str | None
    #: Whether the client speaks TLS with the proxy.
    is_tls: bool = False


def missing(received: bytes) -> int:
    """How many bytes more belong to the header for sure; 0 when it is complete. Raises :class:`BadProxyHeader`."""
    if not _begins(received):
        raise BadProxyHeader("this is no PROXY header")
    if len(received) < _V1_MIN_BYTES:
        return _V1_MIN_BYTES - len(received)
    if received.startswith(b"PROXY "):
        if received.endswith(b"\r\n"):
            return 0
        if len(received) >= _V1_MAX_BYTES:
            raise BadProxyHeader("the line does not end")
        return 1
    if len(received) < _V2_FIXED_BYTES:
        return _V2_FIXED_BYTES - len(received)
    total = _V2_FIXED_BYTES + int.from_bytes(received[14:16])
    if total > MAX_HEADER_BYTES:
        raise BadProxyHeader("the header is too long")
    return total - len(received)


def _begins(received: bytes) -> bool:
    return any(start.startswith(received) or received.startswith(start) for start in (b"PROXY ", _V2_SIGNATURE))


def parse(header: bytes) -> Proxied:
    """What a complete header says. Raises :class:`BadProxyHeader`."""
    return _parse_v1(header) if header.startswith(b"PROXY ") else _parse_v2(header)


def _parse_v1(line: bytes) -> Proxied:
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r"):
        return Proxied(UNKNOWN)
    match = _V1.fullmatch(line)
    if match is None:
        raise BadProxyHeader("the line is no address of a client")
    family, source, target, port, target_port = (part.decode() for part in match.groups())
    wanted = IPv4Address if family == "TCP4" else IPv6Address
    try:
        wanted(source), wanted(target)
    except ValueError:
        raise BadProxyHeader("the line is no address of a client") from None
    if int(port) > 0xFFFF or int(target_port) > 0xFFFF:
        raise BadProxyHeader("the line is no port of a client")
    return Proxied(client_name(parse_address(source), int(port)))


def _parse_v2(header: bytes) -> Proxied:
    command, family, rest = header[12], header[13], header[_V2_FIXED_BYTES:]
    if command == _LOCAL:
        return Proxied(None)
    if command != _PROXY:
        raise BadProxyHeader("neither a client nor the proxy itself")
    if family not in (_V2_IPV4, _V2_IPV6):  # a unix socket, or unspecified
        return Proxied(UNKNOWN)
    size = 4 if family == _V2_IPV4 else 16
    if len(rest) < 2 * size + 4:
        raise BadProxyHeader("the addresses are cut off")
    packed = rest[:size]
    address = parse_address(str(IPv4Address(packed) if size == 4 else IPv6Address(packed)))
    port = int.from_bytes(rest[2 * size : 2 * size + 2])
    return Proxied(client_name(address, port), _is_tls(rest[2 * size + 4 :]))


def _is_tls(values: bytes) -> bool:
    """Of what else the header tells: type, length in two bytes, value. Raises :class:`BadProxyHeader`."""
    at, found = 0, False
    while at < len(values):
        end = at + 3 + int.from_bytes(values[at + 1 : at + 3])
        if at + 3 > len(values) or end > len(values):
            raise BadProxyHeader("what follows the addresses is cut off")
        if values[at] == _TLV_TLS and end > at + 3:
            found = bool(values[at + 3] & _CLIENT_TLS)
        at = end
    return found
