"""Signed access to one object for a limited time, checked by this server itself. Pure.

The token is the query string that Windmill calls ``presigned``: ``exp={Unix seconds}&sig={hex}``, an HMAC-SHA256 over
key, expiry and the name of the secondary storage, under a secret of the workspace. So a token for one object opens no
other, nor one of the same key elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from minwebhook.errors import PermissionDenied
from minwebhook.storage.keys import ObjectKey

SECRET_BYTES: Final = 32

_EXPIRY: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


class Signer:
    """Signs and checks for one storage; ``storage`` is its name if it is a secondary one."""

    def __init__(self, secret: bytes, storage: str | None = None) -> None:
        if len(secret) < SECRET_BYTES:
            raise ValueError(f"the secret must have {SECRET_BYTES} bytes")
        self._secret = secret
        self._storage = storage

    def sign(self, key: ObjectKey, expires_at_s: int) -> str:
        """The token that opens ``key`` until ``expires_at_s`` (Unix seconds)."""
        return f"exp={expires_at_s}&sig={self._signature(key, str(expires_at_s))}"

    def check(self, key: ObjectKey, exp: str, sig: str, now_s: float) -> None:
        """Raises :class:`PermissionDenied` unless ``exp`` and ``sig`` are of a token for ``key`` that is still valid."""
        # Compared as bytes: compare_digest takes no text beyond ASCII.
        is_ours = _EXPIRY.fullmatch(exp) is not None and hmac.compare_digest(
            self._signature(key, exp).encode(), sig.encode("utf-8", "replace")
        )
        if not is_ours:
            raise PermissionDenied("the signature does not fit the object")
        if int(exp) <= now_s:
            raise PermissionDenied("the signature has expired; ask for a new one")

    def _signature(self, key: ObjectKey, exp: str) -> str:
        # A key may contain "&" and "=", so unescaped fields could be read in two ways; a length in front of each cannot.
        fields = [key, exp] if self._storage is None else [key, exp, self._storage]
        text = "".join(f"{len(field)}:{field}" for field in fields)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
