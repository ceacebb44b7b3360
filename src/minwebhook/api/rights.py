"""Whether the caller of a request may read or change what is at a path, with the answers for those who may not.

Two things are asked: what the user may (``auth/rights.py``), and what the token is for (``permissions.py``).
"""

from __future__ import annotations

from minwebhook.api.context import Context
from minwebhook.api.permissions import check_path
from minwebhook.auth.rights import may_read


def readable(context: Context, domain: str, path: str) -> bool:
    """Whether the caller may see what of ``domain`` is at ``path``."""
    principal = context.principal
    if principal.scopes is not None and not principal.scopes.allows(domain, "read", path):
        return False
    return may_read(principal, path)


def writable(context: Context, path: str) -> str:
    """``path``, if the caller may change what is there.

    Raises :class:`PermissionDenied` if the token is not for it, and :class:`BadRequest` (upstream's status) if it is
    another user's.
    """
    check_path(context.principal, context.endpoint, path)
    return path
