"""Addresses of clients and networks that hold them, as people and HTTP write them. Pure.

A client is named by one text everywhere: ``203.0.113.7:51234``, ``[2001:db8::7]:51234``, both also without a port, ``unix``, or
what a proxy calls it that does not tell the address (``unknown``, ``_x1``). IPv4 addresses in IPv6 clothes
(``::ffff:203.0.113.7``) count as what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from minwebhook.errors import BadRequest

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: The client of a unix socket, and the word for all of them in lists of networks where they may be.
UNIX: Final = "unix"
#: A client whose address a proxy has not told.
UNKNOWN: Final = "unknown"

#: Networks of one list.
MAX_NETWORKS: Final = 256

_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?")
_IPV4: Final = re.compile(r"([0-9.]{7,15})(?::[0-9]{1,5})?")
_MAPPED_BITS: Final = 96


def parse_address(text: str) -> Address:
    """An address without a port. Raises :class:`ValueError`, also for IPv6 zones, which mean nothing on another machine."""
    if "%" in text:
        raise ValueError(text)
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def parse_network(text: str) -> Network:
    """``10.0.0.0/8``, ``2001:db8::/32``, or one address. Raises :class:`ValueError` that says what is wrong."""
    try:
        if "%" in text:
            raise ValueError("a zone means nothing on another machine")
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is neither an address nor a network such as 10.0.0.0/8: {error}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def parse_networks(name: str, value: Any) -> tuple[str, ...] | None:
    """A list of addresses and networks, in their usual form; null is None. Raises :class:`BadRequest`."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadRequest(f'{name} must be an array of networks such as ["192.0.2.0/24", "2001:db8::1"], or null')
    if not 0 < len(value) <= MAX_NETWORKS:
        raise BadRequest(f"{name}: send 1 to {MAX_NETWORKS} networks, or null for no limit")
    try:
        return tuple(str(parse_network(each)) for each in value)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


@lru_cache(maxsize=1024)  # the same few clients come again and again
def address_of(client: str) -> Address | None:
    """The address of a client; None if it has none, or nobody told it."""
    match = _IPV4.fullmatch(client) or _BRACKETED.fullmatch(client)
    try:
        return None if match is None else parse_address(match[1])
    except ValueError:
        return None


def client_name(address: Address, port: int | None = None) -> str:
    """How a client is named."""
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return host if port is None else f"{host}:{port}"


def address_key(client: str) -> str:
    """What limits count by: the address without its port; of IPv6 the network of 64 bits that one caller may have."""
    address = address_of(client)
    if address is None:
        return client
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def is_within(client: str, networks: Iterable[Network]) -> bool:
    """Whether one of the networks holds the client. One whose address nobody knows is in none."""
    address = address_of(client)
    return address is not None and any(address in network for network in networks)


def covers(networks: Iterable[Network], others: Iterable[Network]) -> bool:
    """Whether each of the ``others`` lies within one of the networks."""
    held = tuple(networks)
    return all(
        any(type(other) is type(network) and other.subnet_of(network) for network in held)  # type: ignore[arg-type]
        for other in others
    )
