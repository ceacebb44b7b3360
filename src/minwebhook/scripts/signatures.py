"""Checks of a sender's signature that a script declares and the server does, while the body comes in. Pure.

A script's ``signature`` setting says how its sender signs (all but ``secret`` and ``header`` have defaults)::

    {"secret": "github",                   name in the secrets file
     "header": "X-Hub-Signature-256",      where the signature is
     "algorithm": "sha256",                sha1, sha256, sha512: HMAC over the message
     "encoding": "hex",                    hex, base64
     "prefix": "sha256=",                  what comes before the signature in the field
     "message": "{timestamp}.",            text in front of the body, with {timestamp} and {id}
     "timestamp_header": "X-Timestamp",    Unix seconds; with it, ``tolerance_s`` counts
     "timestamp_prefix": "t=",             instead: the time is in the signature's field, behind this
     "id_header": "webhook-id",
     "tolerance_s": 300}

The message is what ``message`` gives and then the exact bytes of the body. A field may hold several signatures, separated
by spaces or commas (spaces alone if the prefix has a comma); one that fits is enough.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.errors import BadRequest, NotAuthorized
from minwebhook.http.messages import Headers

ALGORITHMS: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}
ENCODINGS: Final = ("hex", "base64")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SPACES: Final = re.compile(r" +")
_SEPARATORS: Final = re.compile(r"[ ,]+")
MAX_SIGNATURES: Final = 20
MAX_TOLERANCE_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """How a sender signs. ``secret`` is a name, never the secret itself."""

    secret: str
    header: str
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    message: str = ""
    timestamp_header: str | None = None
    timestamp_prefix: str | None = None
    id_header: str | None = None
    tolerance_s: int = 300

    @classmethod
    def parse(cls, name: str, value: Any) -> SignatureCheck:
        """From the setting of a script. Raises :class:`BadRequest` naming the member; ``name`` is the setting's."""
        if not isinstance(value, dict):
            raise BadRequest(f"{name} must be an object with secret and header")
        unknown = value.keys() - cls.__slots__
        if unknown:
            raise BadRequest(
                f"{name}: unknown member {sorted(map(str, unknown))[0]!r}; there are {', '.join(cls.__slots__)}"
            )
        texts = {
            member: _text(name, value, member)
            for member in cls.__slots__
            if member != "tolerance_s" and value.get(member) is not None
        }
        for member in ("secret", "header"):
            if not texts.get(member):
                raise BadRequest(f"{name}.{member} is missing")
        for member in ("header", "timestamp_header", "id_header"):
            if member in texts and not _FIELD_NAME.fullmatch(texts[member]):
                raise BadRequest(f"{name}.{member} must be the name of a header field")
        tolerance_s = value.get("tolerance_s", 300)
        if isinstance(tolerance_s, bool) or not isinstance(tolerance_s, int) or not 1 <= tolerance_s <= MAX_TOLERANCE_S:
            raise BadRequest(f"{name}.tolerance_s must be a whole number of seconds from 1 to {MAX_TOLERANCE_S}")
        check = cls(**texts, tolerance_s=tolerance_s)
        if check.algorithm not in ALGORITHMS:
            raise BadRequest(f"{name}.algorithm must be one of {', '.join(ALGORITHMS)}")
        if check.encoding not in ENCODINGS:
            raise BadRequest(f"{name}.encoding must be one of {', '.join(ENCODINGS)}")
        if check.timestamp_header and check.timestamp_prefix:
            raise BadRequest(f"{name}.timestamp_prefix and {name}.timestamp_header exclude each other")
        for placeholder in _PLACEHOLDER.findall(check.message):
            sources = {"timestamp": check.timestamp_header or check.timestamp_prefix, "id": check.id_header}
            if sources.get(placeholder) is None:
                raise BadRequest(f"{name}.message: {{{placeholder}}} needs {name}.{placeholder}_header")
        return check

    def begin(self, headers: Headers, secrets: Mapping[str, bytes], now_s: float) -> Verification:
        """For one request, before its body is read. Raises :class:`NotAuthorized` if headers alone tell that it is refused."""
        secret = secrets.get(self.secret)
        if secret is None:
            raise NotAuthorized(
                "the signature cannot be checked: the server has no secret of the name that the script gives"
            )
        sent = headers.get_all(self.header.lower())
        if len(sent) != 1:
            raise NotAuthorized(f"the signature is missing: send it once, in {self.header}")
        items = (_SPACES if "," in self.prefix else _SEPARATORS).split(sent[0].strip())[:MAX_SIGNATURES]
        values = {}
        if self.id_header is not None:
            values["id"] = _only(headers, self.id_header)
        if self.timestamp_header is not None:
            values["timestamp"] = _only(headers, self.timestamp_header)
        elif self.timestamp_prefix is not None:
            values["timestamp"] = next(
                (item.removeprefix(self.timestamp_prefix) for item in items if item.startswith(self.timestamp_prefix)),
                "",
            )
        timestamp = values.get("timestamp")
        if timestamp is not None and not (
            _SECONDS.fullmatch(timestamp) and abs(int(timestamp) - now_s) <= self.tolerance_s
        ):
            raise NotAuthorized(f"the time of the signature is not within {self.tolerance_s} seconds of now")
        message = _PLACEHOLDER.sub(lambda match: values[match[1]], self.message)
        digest = hmac.new(secret, message.encode("latin-1", "replace"), ALGORITHMS[self.algorithm])
        return Verification(digest, self._signatures(items))

    def _signatures(self, items: list[str]) -> tuple[bytes, ...]:
        """The signatures in the header field that could be ours, as bytes."""
        found: list[bytes] = []
        for item in items:
            if not item.startswith(self.prefix):
                continue
            text = item.removeprefix(self.prefix)
            try:
                found.append(bytes.fromhex(text) if self.encoding == "hex" else base64.b64decode(text, validate=True))
            except (ValueError, binascii.Error):
                continue
        return tuple(found)


class Verification:
    """The check of one request: :meth:`update` with the body as it comes, then :meth:`finish`."""

    __slots__ = ("_digest", "_signatures")

    def __init__(self, digest: hmac.HMAC, signatures: tuple[bytes, ...]) -> None:
        self._digest = digest
        self._signatures = signatures

    def update(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._digest.update(data)

    def finish(self) -> None:
        """After the last byte. Raises :class:`NotAuthorized` unless a signature fits."""
        expected = self._digest.digest()
        # Every one is compared, in constant time: neither which one nor how much of it fits can be measured.
        fits = [hmac.compare_digest(expected, signature) for signature in self._signatures]
        if not any(fits):
            raise NotAuthorized("the signature does not fit the body")


def _only(headers: Headers, field: str) -> str:
    found = headers.get_all(field.lower())
    if len(found) != 1:
        raise NotAuthorized(f"{field} is missing: it is part of the signature, send it once")
    return found[0]


def _text(name: str, value: dict[Any, Any], member: str) -> str:
    text = value[member]
    if not isinstance(text, str) or not text.isprintable() or len(text) > 200:
        raise BadRequest(f"{name}.{member} must be a text of at most 200 printable characters")
    return text
