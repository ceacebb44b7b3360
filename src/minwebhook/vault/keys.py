"""The keys that seal secrets, and the file that holds them: outside the database, so that a copy of it tells nothing.

A key is 256 random bits, written as ``mwk_`` and 43 characters of base64url. A key ring is one or more of them: the first
seals, all of them open. It comes from the setting ``secret_key``, or from ``DATA/secret.key`` with one key a line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from minwebhook.errors import SettingsError

FILE_NAME: Final = "secret.key"
KEY_BYTES: Final = 32
_PREFIX: Final = "mwk_"
_ID_BYTES: Final = 8
_MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Key:
    """One key; its id, 16 hex digits, is public: what it sealed names it."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str, origin: str) -> Key:
        """From its written form. Raises :class:`SettingsError` naming ``origin``, never the text."""
        try:
            if not text.startswith(_PREFIX):
                raise ValueError
            secret = base64.b64decode(text.removeprefix(_PREFIX) + "=", altchars=b"-_", validate=True)
            if len(secret) != KEY_BYTES:
                raise ValueError
        except (ValueError, binascii.Error):
            raise SettingsError(
                f"{origin} holds something that is no key: 'minwebhook secrets new-key' makes one ({_PREFIX}…)"
            ) from None
        digest = hashlib.blake2b(secret, digest_size=_ID_BYTES, person=b"minwebhook key").hexdigest()
        return cls(digest, secret)

    def to_text(self) -> str:
        """The written form."""
        return _PREFIX + base64.urlsafe_b64encode(self.secret).decode().rstrip("=")


def new_key() -> Key:
    """A random key."""
    text = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=")
    return Key.parse(text, "a new key")


class KeyRing:
    """The keys of one data directory. Without any, the first need of one makes the file."""

    def __init__(self, keys: tuple[Key, ...], file: Path | None) -> None:
        """``file`` is where keys are kept; None if they come from the settings."""
        self._keys = keys
        self._by_id = {key.id: key for key in keys}
        self._file = file

    @classmethod
    def load(cls, data: Path, texts: tuple[str, ...] = ()) -> KeyRing:
        """The keys of the setting ``secret_key``, else those of the file, if there is one. Raises :class:`SettingsError`."""
        if texts:
            return cls(tuple(Key.parse(text, "secret_key") for text in texts), None)
        file = data / FILE_NAME
        try:
            with file.open("rb") as content:
                mode = os.fstat(content.fileno()).st_mode
                lines = content.read(_MAX_FILE_BYTES).decode("ascii", "replace").split()
        except FileNotFoundError:
            return cls((), file)
        except OSError as error:
            raise SettingsError(f"cannot read the keys in {file}: {error.strerror}") from error
        if mode & 0o077:
            raise SettingsError(f"{file} can be read by others than its owner: chmod 600 {file}")
        if not lines:
            raise SettingsError(f"{file} is empty: put the key back, from where you keep it")
        return cls(tuple(Key.parse(line, str(file)) for line in lines), file)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all keys, the one that seals first."""
        return tuple(self._by_id)

    @property
    def is_from_settings(self) -> bool:
        """Whether the file plays no part."""
        return self._file is None

    def find(self, key_id: str) -> Key | None:
        """The key of this id."""
        return self._by_id.get(key_id)

    def first(self) -> Key:
        """The key that seals; made, and on disk, if there was none."""
        if not self._keys:
            self.replace((new_key(),))
        return self._keys[0]

    def replace(self, keys: tuple[Key, ...]) -> None:
        """Write the file anew: the old content is there, or the new one, whatever happens."""
        if self._file is None:
            raise SettingsError("the keys come from the setting secret_key: change them there")
        part = self._file.with_name(f".{FILE_NAME}.{secrets.token_hex(4)}")
        try:
            fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as content:
                content.writelines(key.to_text() + "\n" for key in keys)
                content.flush()
                os.fsync(content.fileno())
            part.rename(self._file)
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SettingsError(f"cannot write the keys to {self._file}: {error.strerror}") from error
        self._keys = keys
        self._by_id = {key.id: key for key in keys}
