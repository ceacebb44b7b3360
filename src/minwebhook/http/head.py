"""The bytes of a request head → a :class:`RequestHead`: h11 parses, unless the recognizer knows the form. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import h11

from minwebhook.http import strict
from minwebhook.http.messages import Headers
from minwebhook.http.recognizer import recognize
from minwebhook.http.strict import CHUNKED, Refusal

#: Fields that mean something to the connection itself.
_CONNECTION_FIELDS: Final = frozenset({"host", "connection", "expect", "content-encoding"})
#: h11 gets complete heads whose size was checked already.
_NO_LIMIT: Final = 1 << 30


@dataclass(slots=True)
class RequestHead:
    """A parsed request head and what it means for the connection. Never changed: equal heads may share one."""

    method: str
    #: Percent-encoded, starting with ``/``, or ``*``.
    path: str
    #: Percent-encoded, without ``?``.
    query: str
    headers: Headers
    #: Bytes, or :data:`~minwebhook.http.strict.CHUNKED`.
    body_length: int
    is_http_1_0: bool = False
    #: Whether the client allows another request on this connection (RFC 9112 §9.3). HTTP/1.0 never does here.
    keep_alive: bool = True
    #: Whether the client waits for ``100 Continue`` before it sends the body (RFC 9110 §10.1.1).
    expects_continue: bool = False


def parse_head(raw: bytes, body_length: int, *, use_recognizer: bool = True) -> RequestHead:
    """The head in ``raw``, which a :class:`~minwebhook.http.framing.Framer` has cut and measured.

    Raises :class:`Refusal` for everything that is not a request this server takes.
    """
    plain = recognize(raw) if use_recognizer else None
    is_http_1_0 = False
    if plain is not None:
        method, target, fields = plain
    else:
        event = _parse_with_h11(raw)
        strict.check_version(event.http_version)
        strict.check_method(event.method)
        is_http_1_0 = event.http_version == b"1.0"
        method, target = event.method.decode(), event.target.decode("latin-1")
        fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    path, query, authority = strict.check_target(method, target)
    if authority is not None:
        # The authority of an absolute target replaces the Host field (RFC 9112 §3.2.2).
        fields = [("host", authority), *((name, value) for name, value in fields if name != "host")]
    head = RequestHead(method, path, query, Headers(fields), body_length)
    if is_http_1_0:
        if body_length == CHUNKED:
            raise Refusal(400, "Transfer-Encoding does not exist in HTTP/1.0")
        head.is_http_1_0, head.keep_alive = True, False
    for name, value in fields:
        if name in _CONNECTION_FIELDS:
            _apply(head, name, value)
    return head


def _parse_with_h11(raw: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, _NO_LIMIT)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise _refusal_for(raw) from error
    if type(event) is not h11.Request:
        raise Refusal(400, "Malformed request head")
    return event


def _apply(head: RequestHead, name: str, value: str) -> None:
    if name == "host":
        strict.check_host(value)
    elif name == "connection":
        if "close" in _members(value):
            head.keep_alive = False
    elif name == "expect":
        if head.is_http_1_0:
            return
        if value.lower() != "100-continue":
            raise Refusal(417, "The only supported expectation is 100-continue")
        head.expects_continue = head.body_length != 0
    elif head.body_length and _members(value) - {"identity", ""}:
        raise Refusal(
            415, "Send the body uncompressed, without Content-Encoding", headers=(("Accept-Encoding", "identity"),)
        )


def _members(value: str) -> set[str]:
    return {member.strip("\t ") for member in value.lower().split(",")}


def _refusal_for(raw: bytes) -> Refusal:
    # h11's own texts and status hints stay inside: they quote the peer's bytes, and 501 for framing faults is wrong.
    if b" HTTP/1.1\r\n" in raw and raw.lower().count(b"\nhost:") != 1:
        return Refusal(400, "Send exactly one Host field")
    return Refusal(400, "Malformed request head")
