"""Object keys: the one place that says which names an object may have, and how those of uploads are made. Pure.

A checked key is a relative path that means the same everywhere: it cannot leave a directory, needs no escaping rules
of its own, and reads back from every store as it was written. Everything else is refused rather than repaired, because
two spellings of one object are two ways around a permission.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NewType

from minwebhook.errors import BadRequest

#: A checked key, such as ``windmill_uploads/upload_1700000000000_7.pdf``.
ObjectKey = NewType("ObjectKey", str)

#: The limit of S3, in bytes of UTF-8.
MAX_KEY_BYTES: Final = 1024

#: The first segment that no key has: below it a local directory keeps what it knows of its objects.
RESERVED_SEGMENT: Final = ".minwebhook"

UPLOAD_PREFIX: Final = "windmill_uploads/"

_MAX_EXTENSION_LENGTH: Final = 32
_DEFAULT_EXTENSION: Final = "file"
_NOT_IN_EXTENSIONS: Final = re.compile(r"[^A-Za-z0-9_-]")
_UPLOAD: Final = re.compile(rf"{UPLOAD_PREFIX}upload_([0-9]{{1,16}})_[0-9]+\.[A-Za-z0-9_-]+")
#: A slash may be escaped in JSON.
_MENTIONED: Final = re.compile(rb"upload_[0-9]{1,16}_[0-9]+\.[A-Za-z0-9_-]+")


def parse_key(value: object, field: str = "file_key") -> ObjectKey:
    """``value`` as a key; bytes must be UTF-8. Raises :class:`BadRequest` naming ``field`` and the key."""

    def refuse(reason: str) -> BadRequest:
        return BadRequest(f"{field} {_shown(value)} is not a key: {reason}")

    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise refuse("it must be UTF-8") from None
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{field} must be the key of an object, such as folder/name.txt")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise refuse("it must be valid Unicode") from None
    if size > MAX_KEY_BYTES:
        raise refuse(f"it is longer than {MAX_KEY_BYTES} bytes")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise refuse("it must not contain control characters")
    if "\\" in value:
        raise refuse("folders are separated by /, not by a backslash")
    segments = value.split("/")
    if not segments[0] or not segments[-1]:
        raise refuse("it must not begin or end with /")
    if not all(segments):
        raise refuse("it must not contain //")
    if "." in segments or ".." in segments:
        raise refuse("it must not contain . or .. as a folder")
    if segments[0] == RESERVED_SEGMENT:
        raise refuse(f"the folder {RESERVED_SEGMENT} is the server's own")
    return ObjectKey(value)


def is_key(value: str) -> bool:
    """Whether ``value`` is a well-formed key."""
    try:
        parse_key(value)
    except BadRequest:
        return False
    return True


def upload_key(now_ms: int, number: int, filename: str | None = None) -> ObjectKey:
    """The key of an upload that has none of its own; the caller never gives a ``number`` twice in one millisecond.

    The form is Windmill's: ``windmill_uploads/upload_{ms}_{number}.{extension}``.
    """
    return ObjectKey(f"{UPLOAD_PREFIX}upload_{now_ms}_{number}.{extension_of(filename)}")


def uploaded_at_ms(key: str) -> int | None:
    """When :func:`upload_key` made this key; None if it did not."""
    found = _UPLOAD.fullmatch(key)
    return int(found[1]) if found else None


def mentioned_uploads(text: bytes) -> set[str]:
    """Every key of :func:`upload_key` that a JSON text mentions."""
    return {UPLOAD_PREFIX + found.decode() for found in _MENTIONED.findall(text)}


def extension_of(filename: str | None) -> str:
    """What follows the last dot of ``filename``, of harmless characters only; a name without a dot counts whole.

    ``file`` when nothing is left of it (upstream's default).
    """
    extension = (filename or "").rpartition(".")[2]
    return _NOT_IN_EXTENSIONS.sub("", extension)[:_MAX_EXTENSION_LENGTH] or _DEFAULT_EXTENSION


def _shown(value: object) -> str:
    """A key in an error text: escaped, and not longer than a line."""
    shown = ascii(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
