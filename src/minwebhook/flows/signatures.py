"""Signatures that let whoever holds them resume or end a waiting flow, without a login. Pure.

They need no storage and do not expire; they end with the flow, and all of a workspace with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final
from uuid import UUID

from minwebhook.errors import BadRequest

#: Numbers that tell messages for one job apart are of 32 bits.
MAX_RESUME_ID: Final = (1 << 32) - 1
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_SIGNATURE_DIGITS: Final = 64


def approval_signature(key: str, job_id: UUID, resume_id: int, approver: str | None = None) -> str:
    """HMAC-SHA256 in hex over the 16 bytes of the job's id, the number as 4 bytes (big-endian) and the name, if any."""
    message = job_id.bytes + struct.pack(">I", resume_id) + (approver or "").encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def is_approval_signature(key: str, signature: str, job_id: UUID, resume_id: int, approver: str | None = None) -> bool:
    """Whether it is the one for these. Takes the same time for every wrong one. Raises :class:`BadRequest` if it is no hex."""
    given = signature.lower()
    if len(given) != _SIGNATURE_DIGITS or not _HEX_DIGITS.issuperset(given):
        raise BadRequest("the signature must be 64 hex digits: the URL is cut off or changed")
    return hmac.compare_digest(approval_signature(key, job_id, resume_id, approver), given)


def approval_token(key: str, flow_id: UUID) -> str:
    """What the page for approvals of one flow is opened with."""
    return hmac.new(key.encode(), b"approval_token" + flow_id.bytes, hashlib.sha256).hexdigest()


def is_approval_token(key: str, token: str, flow_id: UUID) -> bool:
    """Whether it is the one for this flow."""
    return hmac.compare_digest(approval_token(key, flow_id).encode(), token.encode("utf-8", "surrogatepass"))


def number_of(approver: str) -> int:
    """The number under which somebody's message for a job is kept who comes without one: each has one word."""
    return int.from_bytes(hashlib.sha256(approver.encode("utf-8", "surrogatepass")).digest()[:4], "big")
