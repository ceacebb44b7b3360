"""Tokens that let anyone look at one job: ``{job id}.{signature}``, signed with the secret key of its workspace. Pure.

They need no storage and do not expire; a new key of the workspace ends them all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from minwebhook.auth.tokens import same_hash


def new_workspace_key() -> str:
    """The secret key of a new workspace: 64 hex digits."""
    return secrets.token_hex(32)


def view_token(key: str, job_id: UUID) -> str:
    """The token for a job: its id, and HMAC-SHA256 over the 16 bytes of the id and the text ``view_token``."""
    signature = hmac.new(key.encode(), job_id.bytes + b"view_token", hashlib.sha256).hexdigest()
    return f"{job_id}.{signature}"


def is_view_token(key: str, token: str, job_id: UUID) -> bool:
    """Whether ``token`` is the one for this job. Takes the same time for every wrong signature."""
    return same_hash(view_token(key, job_id), token)
