"""The bytes of a request head → a :class:`RequestHead`: the one place where h11 parses.

A recognizer for plain heads may be put in front of :func:`parse_head` if it makes the same checks; the tests compare by
this function. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import h11

from minwebhook.http import strict
from minwebhook.http.strict import CHUNKED, Refusal

#: Fields that mean something to the connection itself.
_CONNECTION_FIELDS: Final = frozenset({b"host", b"connection", b"expect", b"content-encoding"})
#: h11 gets complete heads whose size was checked already.
_NO_LIMIT: Final = 1 << 30


@dataclass(slots=True)
class RequestHead:
    """A parsed request head and what it means for the connection."""

    method: str
    #: Percent-encoded, starting with ``/``, or ``*``.
    path: str
    #: Percent-encoded, without ``?``.
    query: str
    #: Lower-case names, values decoded as ISO-8859-1, in order.
    fields: list[tuple[str, str]]
    #: Bytes, or :data:`~minwebhook.http.strict.CHUNKED`.
    body_length: int
    is_http_1_0: bool = False
    #: Whether the client allows another request on this connection (RFC 9112 §9.3). HTTP/1.0 never does here.
    keep_alive: bool = True
    #: Whether the client waits for ``100 Continue`` before it sends the body (RFC 9110 §10.1.1).
    expects_continue: bool = False


def parse_head(raw: bytes, body_length: int) -> RequestHead:
    """The head in ``raw``, which a :class:`~minwebhook.http.framing.Framer` has cut and measured.

    Raises :class:`Refusal` for everything that is not a request this server takes.
    """
    connection = h11.Connection(h11.SERVER, _NO_LIMIT)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise _refusal_for(raw) from error
    if type(event) is not h11.Request:
        raise Refusal(400, "Malformed request head")
    strict.check_version(event.http_version)
    strict.check_method(event.method)
    path, query, authority = strict.check_target(event.method, event.target)
    head = RequestHead(event.method.decode(), path.decode(), query.decode(), [], body_length)
    if event.http_version == b"1.0":
        if body_length == CHUNKED:
            raise Refusal(400, "Transfer-Encoding does not exist in HTTP/1.0")
        head.is_http_1_0, head.keep_alive = True, False
    fields = head.fields
    for name, value in event.headers:
        fields.append((name.decode(), value.decode("latin-1")))
        if name in _CONNECTION_FIELDS:
            _apply(head, name, value)
    if authority is not None:
        # The authority of an absolute target replaces the Host field (RFC 9112 §3.2.2).
        head.fields = [("host", authority.decode()), *((name, value) for name, value in fields if name != "host")]
    return head


def _apply(head: RequestHead, name: bytes, value: bytes) -> None:
    if name == b"host":
        strict.check_host(value)
    elif name == b"connection":
        if b"close" in _members(value):
            head.keep_alive = False
    elif name == b"expect":
        if head.is_http_1_0:
            return
        if value.lower() != b"100-continue":
            raise Refusal(417, "The only supported expectation is 100-continue")
        head.expects_continue = head.body_length != 0
    elif head.body_length and _members(value) - {b"identity", b""}:
        raise Refusal(
            415, "Send the body uncompressed, without Content-Encoding", headers=(("Accept-Encoding", "identity"),)
        )


def _members(value: bytes) -> set[bytes]:
    return {member.strip() for member in value.lower().split(b",")}


def _refusal_for(raw: bytes) -> Refusal:
    # h11's own texts and status hints stay inside: they quote the peer's bytes, and 501 for framing faults is wrong.
    if b" HTTP/1.1\r\n" in raw and raw.lower().count(b"\nhost:") != 1:
        return Refusal(400, "Send exactly one Host field")
    return Refusal(400, "Malformed request head")
