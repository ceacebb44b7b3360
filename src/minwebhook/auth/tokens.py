"""Tokens as text: making, hashing and naming them. Pure.

A token is 32 random letters and digits. Only its SHA-256 is stored; that is safe without salt or stretching because the
token itself has 190 bits of randomness. Its first ten characters are public and name it in lists.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from functools import lru_cache
from typing import Final

TOKEN_LENGTH: Final = 32
PREFIX_LENGTH: Final = 10

#: Label of tokens that the server lends to running scripts; hidden from lists on request.
EPHEMERAL_LABEL: Final = "ephemeral-script"
#: Label of a browser session.
SESSION_LABEL: Final = "session"

_ALPHABET: Final = string.ascii_letters + string.digits
_VERBATIM_LABELS: Final = ("webhook-", "http-", "email-", "ws-")


def new_token() -> str:
    """A new random token."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


@lru_cache(maxsize=1024)  # the same few tokens come with every request
def token_hash(token: str) -> str:
    """The stored form: lower-case hex SHA-256. Any text has one, also one that came mangled from the network."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def token_prefix(token: str) -> str:
    """The public name of a token."""
    return token[:PREFIX_LENGTH]


def same_hash(left: str, right: str) -> bool:
    """Whether two hashes are equal, in constant time."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def display_name(label: str | None, username: str) -> str:
    """Who a job shows as its creator (``created_by``): the token's label if it has a telling one, else the user."""
    if not label or label in (SESSION_LABEL, EPHEMERAL_LABEL):
        return username
    return label if label.startswith(_VERBATIM_LABELS) else f"label-{label}"
