"""Who the client is behind proxies: ``X-Forwarded-For``, ``-Proto``, ``-Host``, or ``Forwarded`` (RFC 7239). Pure.

Every proxy writes down whom it got the request from, to the right of what was there before. What is there was written by
anybody, so it is read from the right, and only as long as the writer is one of the proxies that are trusted: the client is the
first one from the right that is no such proxy. What stands to the left of it, the client itself may have made up.

One of the two kinds counts, as the setting ``forwarded_field`` says: a proxy that writes one passes the other on as it came.
Nothing of them goes anywhere as it is: addresses are parsed and written anew, other names of a client and hosts must look like
such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from minwebhook.addresses import (
    UNIX,
    UNKNOWN,
    Address,
    Network,
    client_name,
    is_within,
    parse_address,
    parse_network,
)
from minwebhook.http.messages import Headers

X_FORWARDED: Final = "x-forwarded-for"
FORWARDED: Final = "forwarded"
#: Proxies in a row that are looked at.
MAX_HOPS: Final = 64

_NODE_V4: Final = re.compile(r"([0-9.]{7,15})(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_NODE_V6: Final = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_OBFUSCATED: Final = re.compile(r"(?:unknown|_[A-Za-z0-9._-]{1,63})(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,63}))?")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~-]{1,253})(?::[0-9]{0,5})?")
#: A parameter; many write addresses without the quotes that they want.
_PAIR: Final = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([^\s",;\\]+)|"((?:[^"\\]|\\.)*)")[ \t]*(?=[;,]|$)""")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Client:
    """Who a request is from, and how they asked for it."""

    #: As :mod:`minwebhook.addresses` names clients.
    name: str
    scheme: str
    #: The host they asked for, if a proxy says another than the field ``Host``.
    host: str | None = None


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy says: whom it got the request from, and how. Raw texts."""

    node: str
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    """Whose word counts: proxies in these networks, and with ``has_unix`` those that come by a unix socket."""

    def __init__(self, networks: Iterable[Network], *, has_unix: bool = False, field: str = X_FORWARDED) -> None:
        self._networks = tuple(networks)
        self._has_unix = has_unix
        self._read = _x_forwarded if field == X_FORWARDED else _forwarded

    @classmethod
    def of(cls, texts: Iterable[str], field: str = X_FORWARDED) -> TrustedProxies | None:
        """Of networks and the word ``unix``; None for none. Raises :class:`ValueError`."""
        words = tuple(texts)
        networks = [parse_network(word) for word in words if word != UNIX]
        return cls(networks, has_unix=UNIX in words, field=field) if words else None

    def trusts(self, name: str) -> bool:
        """Whether a client is one of the proxies."""
        return (name == UNIX and self._has_unix) or is_within(name, self._networks)

    def client(self, peer: str, scheme: str, headers: Headers) -> Client:
        """Who a request is from that came from ``peer``, which is trusted."""
        client = Client(peer, scheme)
        for number, hop in enumerate(self._read(headers)):
            # Who the scheme and the host are told of is the one that this proxy got the request from.
            client = Client(_name(hop.node), _scheme(hop.scheme) or client.scheme, _host(hop.host) or client.host)
            if number >= MAX_HOPS or not self.trusts(client.name):
                break
        return client


def _x_forwarded(headers: Headers) -> Iterator[_Hop]:
    """From the right. Schemes and hosts belong to the hop in the same place; there may be fewer: the leftmost goes on then."""
    schemes, hosts = _members(headers, "x-forwarded-proto"), _members(headers, "x-forwarded-host")
    nodes = _members(headers, X_FORWARDED)
    for number, node in enumerate(reversed(nodes)):
        yield _Hop(node, _from_right(schemes, number), _from_right(hosts, number))


def _from_right(values: Sequence[str], number: int) -> str | None:
    return values[max(len(values) - 1 - number, 0)] if values else None


def _members(headers: Headers, name: str) -> list[str]:
    """Of a list over all its fields; empty members do not count (RFC 9110 §5.6.1.2)."""
    members = (member.strip(" \t") for value in headers.get_all(name) for member in value.split(","))
    return [member for member in members if member]


def _forwarded(headers: Headers) -> Iterator[_Hop]:
    """From the right, field by field: what is wrong in one that a client sent leaves those of the proxies alone."""
    for value in reversed(headers.get_all(FORWARDED)):
        elements = parse_forwarded(value)
        if elements is None:
            yield _Hop("")
            return
        for element in reversed(elements):
            yield _Hop(element.get("for", ""), element.get("proto"), element.get("host"))


def parse_forwarded(value: str) -> list[dict[str, str]] | None:
    """The elements of one field ``Forwarded``, parameters by their lower-case names; None if it is not well-formed."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        if value[at] == ",":
            elements.append({})
        if value[at] in ",; \t":
            at += 1
            continue
        match = _PAIR.match(value, at)
        if match is None or match[1].lower() in elements[-1]:
            return None
        elements[-1][match[1].lower()] = match[2] or _ESCAPED.sub(r"\1", match[3] or "")
        at = match.end()
    return [element for element in elements if element]


def _name(node: str) -> str:
    """Who a proxy says that it got the request from, in our words; ``unknown`` for what is no name of a client."""
    match = _NODE_V4.fullmatch(node) or _NODE_V6.fullmatch(node)
    address = _address(node if match is None else match[1])
    if address is not None:
        port = match[2] if match is not None else None
        is_port = port is not None and port.isdigit() and int(port) <= 0xFFFF
        return client_name(address, int(port) if is_port and port else None)
    return node if _OBFUSCATED.fullmatch(node) else UNKNOWN


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


def _scheme(text: str | None) -> str | None:
    lowered = (text or "").lower()
    return lowered if lowered in ("http", "https") else None


def _host(text: str | None) -> str | None:
    return text if text is not None and _HOST.fullmatch(text) else None
