"""Where an S3 bucket is and how it is asked: checked values, and the URLs made of them. Pure.

Endpoints are named by people who may not be the machine's owner (admins of a workspace), and what an endpoint answers is
given back as an object. So the rules here are about where this server may be sent:

- https by default. Plain http only to hosts that the operator has listed, because what listens without TLS inside a
  network (metadata services above all) trusts whoever reaches it.
- never to link-local, multicast or unspecified addresses, however they are written.
- always with keys: a client without keys would go and look for some at an address that it believes in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from minwebhook.errors import BadRequest

DEFAULT_REGION: Final = "us-east-1"

#: Longest answer to one request, in seconds, unless a setting says otherwise.
DEFAULT_TIMEOUT_S: Final = 120.0

_BUCKET: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,61}[A-Za-z0-9]")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
#: Keys and tokens become parts of header fields.
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
#: What URL parsers of other programs read as a number and so as an address: 2852039166, 0xA9FEA9FE, 169.254.43518.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")

#: The metadata service of EC2 under IPv6, a private address that is no store.
_METADATA: Final = IPv6Address("fd00:ec2::254")


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, or the part of one below ``prefix``. Raises :class:`BadRequest` naming the field that is wrong."""

    bucket: str
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = DEFAULT_REGION
    session_token: str = field(default="", repr=False)
    #: ``https://host/bucket/key``; otherwise ``https://bucket.host/key``.
    path_style: bool = True
    #: In front of every key; empty, or with a ``/`` at its end.
    prefix: str = ""
    #: Certificates to trust besides the system's, as PEM.
    ca_pem: str = field(default="", repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise BadRequest("bucket must be the name of an S3 bucket: 3 to 63 letters, digits, dots and dashes")
        if not _REGION.fullmatch(self.region):
            raise BadRequest("region must be a name such as us-east-1")
        for name, value in (("accessKey", self.access_key), ("secretKey", self.secret_key)):
            if not _VISIBLE.fullmatch(value):
                raise BadRequest(f"{name} is missing or has blanks: this server never looks for keys elsewhere")
        if self.session_token and not _VISIBLE.fullmatch(self.session_token):
            raise BadRequest("token must be printable ASCII without blanks")
        _split(self.endpoint)

    @property
    def base_url(self) -> str:
        """The URL of the bucket, without a slash at its end."""
        if self.path_style:
            return f"{self.endpoint}/{self.bucket}"
        return self.host_style_endpoint

    @property
    def host_style_endpoint(self) -> str:
        """The endpoint with the bucket in its host name."""
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"

    @property
    def is_plain_http(self) -> bool:
        """Whether requests go without TLS."""
        return self.endpoint.startswith("http://")


def endpoint_url(
    value: str,
    region: str = DEFAULT_REGION,
    *,
    port: int | None = None,
    use_tls: bool = True,
    plain_http_hosts: Collection[str] = (),
) -> str:
    """An endpoint as people write it (``minio.example:9000``, a URL, or nothing for AWS), as a checked URL.

    ``port`` and ``use_tls`` count when ``value`` does not say. Raises :class:`BadRequest`.
    """
    value = value.strip()
    if not value:
        value = f"s3.{region}.amazonaws.com"
    if "://" not in value:
        value = f"{'https' if use_tls else 'http'}://{value}"
    parts = _split(value)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    number = parts.port or port
    if number is not None and not 1 <= number <= 65535:
        raise BadRequest("port must be from 1 to 65535")
    authority = host if number is None else f"{host}:{number}"
    if parts.scheme == "http" and authority not in {name.lower() for name in plain_http_hosts}:
        raise BadRequest(
            f"endPoint {authority} must be reached by https; plain http only works for hosts listed in the setting"
            " s3_plain_http_hosts"
        )
    return f"{parts.scheme}://{authority}"


def _split(endpoint: str) -> SplitResult:
    """The parts of an endpoint that has nothing but scheme, host and port."""
    if not _VISIBLE.fullmatch(endpoint):  # urlsplit would take line breaks out
        raise BadRequest("endPoint must be printable ASCII without blanks")
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise BadRequest("endPoint must be a host name, with a port if needed, or its URL") from None
    if parts.scheme not in ("http", "https"):
        raise BadRequest("endPoint must begin with https://")
    if parts.path.strip("/") or any(mark in endpoint for mark in "@?#"):
        raise BadRequest("endPoint must be a host name, with a port if needed, and nothing else")
    _check_host(host)
    return parts


def _check_host(host: str) -> None:
    """Refuses hosts that no store is at."""
    try:
        address = ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or _NUMERIC.fullmatch(host):
            raise BadRequest("endPoint must have a host name or an IP address written the usual way") from None
        return
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if _is_nowhere(address):
        raise BadRequest("endPoint must not be a link-local, multicast or unspecified address")


def _is_nowhere(address: IPv4Address | IPv6Address) -> bool:
    return address.is_link_local or address.is_multicast or address.is_unspecified or address == _METADATA
