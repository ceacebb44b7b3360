"""Sealing and opening texts: XChaCha20-Poly1305 with the key ring.

A sealed text is ``sealed:KEY_ID:BASE64``: the id of the key in 16 hex digits, then the nonce (24 random bytes: no number of
texts makes two alike) and what was encrypted with its tag. Purpose and workspace are authenticated with it, so that what was
sealed for one use or workspace cannot be passed off as another's.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Final

from minwebhook.errors import MinwebhookError
from minwebhook.vault.keys import KeyRing

_SEALED: Final = re.compile(r"sealed:(?P<key>[0-9a-f]{16}):(?P<data>[A-Za-z0-9+/]+={0,2})")
_NONCE_BYTES: Final = 24

#: What texts are sealed for.
VARIABLE: Final = "variable"
RESOURCE: Final = "resource"
STORAGE: Final = "storage"
#: The key that a workspace signs with.
WORKSPACE: Final = "workspace key"


class SealError(MinwebhookError):
    """A sealed text cannot be opened: its key is not there, or it is not what it seems. The text holds no secret."""


class Vault:
    """Seals with the first key of a ring, opens with all of them."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def seal(self, purpose: str, workspace: str, plain: str) -> str:
        """``plain`` as a sealed text; another one each time."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt  # noqa: PLC0415 - 1 MiB, for the first who asks

        key = self._keys.first()
        nonce = os.urandom(_NONCE_BYTES)
        data = crypto_aead_xchacha20poly1305_ietf_encrypt(
            plain.encode(), _context(purpose, workspace, key.id), nonce, key.secret
        )
        return f"sealed:{key.id}:{base64.b64encode(nonce + data).decode()}"

    def open(self, purpose: str, workspace: str, sealed: str) -> str:
        """What was sealed. Raises :class:`SealError`."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt  # noqa: PLC0415 - 1 MiB, for the first who asks
        from nacl.exceptions import CryptoError  # noqa: PLC0415

        match = _SEALED.fullmatch(sealed)
        if match is None:
            raise SealError("this is no sealed text")
        key = self._keys.find(match["key"])
        if key is None:
            raise SealError(f"the key {match['key']} that sealed this is not there")
        try:
            data = base64.b64decode(match["data"], validate=True)
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                data[_NONCE_BYTES:], _context(purpose, workspace, key.id), data[:_NONCE_BYTES], key.secret
            ).decode()
        except (CryptoError, ValueError, TypeError, binascii.Error):
            raise SealError("this was not sealed here for this use, or it is damaged") from None


def is_sealed(text: str) -> bool:
    """Whether ``text`` has the form of a sealed one."""
    return _SEALED.fullmatch(text) is not None


def _context(purpose: str, workspace: str, key_id: str) -> bytes:
    """What is authenticated besides; no part can run into the next, as ids of keys have a fixed length."""
    return f"minwebhook:{key_id}:{purpose}:{workspace}".encode()
