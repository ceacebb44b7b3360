"""Which pages may use a browser's cookie here: those of our own origin (RFC 6454, RFC 6455 §10.2). Pure.

A browser sends the cookies of a site along with WebSocket handshakes, and with other requests that need no preflight,
whichever page makes them; only ``Origin`` tells where the page is from. Callers that bring a token of their own need no
such check: no page of a stranger knows it.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.http.messages import Request

_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\[\]/?#@:\s]+)(?::([0-9]{1,5}))?")
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]/?#@:\s]+)(?::([0-9]{0,5}))?")
_BASE_URL: Final = re.compile(r"(https?://[^/?#]*)(?:[/?#].*)?", re.DOTALL)
_DEFAULT_PORT: Final = {"http": 80, "https": 443}

#: Scheme, host, port.
_Origin = tuple[str, str, int]


def may_use_cookie(request: Request, base_url: str = "") -> bool:
    """Whether the request may be authenticated by its cookie.

    Yes if no page made it (there is no ``Origin``), if the page is from the host and port that ``Host`` names, or from
    the origin of the setting ``base_url``. A page may be https and its request not, behind a proxy that ends TLS; the
    other way round it is a stranger's. The host that a trusted proxy names counts instead of ``Host``; the word of no
    other does: anyone who reaches this server could have written it.
    """
    values = request.headers.get_all("origin")
    if not values:
        return True
    origin = _parse(values[0])
    if origin is None or len(values) > 1:
        return False
    scheme, host, port = origin
    base = _BASE_URL.fullmatch(base_url.lower())
    if base is not None and origin == _parse(base[1]):
        return True
    named = _host_and_port(request.forwarded_host or request.headers.get("host") or "", scheme)
    return (host, port) == named and scheme in ("https", request.scheme)


def is_cross_site(request: Request, base_url: str = "") -> bool:
    """Whether a page of another site made the request, as far as its browser says.

    ``Sec-Fetch-Site`` says it; browsers without it send a ``Referer``, whose host is then none of those that this server
    has: that of ``Host``, of ``X-Forwarded-Host`` (which no page can set) or of the setting ``base_url``. Who sends neither
    is no browser, or was told to keep silent.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "cross-site"
    referer = request.headers.get("referer")
    if not referer:
        return False
    forwarded = (request.headers.get("x-forwarded-host") or "").partition(",")[0].strip()
    own = {_host_of(request.headers.get("host") or ""), _host_of(forwarded), _host_of_url(base_url)} - {None}
    return _host_of_url(referer) not in own


def _host_of_url(url: str) -> str | None:
    match = _BASE_URL.fullmatch(url.lower())
    return None if match is None else _host_of(match[1].partition("//")[2].rpartition("@")[2])


def _host_of(authority: str) -> str | None:
    match = _AUTHORITY.fullmatch(authority.lower())
    return None if match is None else match[1]


def _parse(origin: str) -> _Origin | None:
    """None for ``null``, for other schemes, and for what is no origin."""
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host, int(port or _DEFAULT_PORT[scheme])


def _host_and_port(authority: str, scheme: str) -> tuple[str, int] | None:
    match = _AUTHORITY.fullmatch(authority.lower())
    if match is None:
        return None
    host, port = match.groups()
    return host, int(port or _DEFAULT_PORT[scheme])
