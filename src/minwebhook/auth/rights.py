"""Whether a caller may read or change what is at a path: asked here, for everything that has one. Pure.

``u/NAME/…`` is that user's own, ``f/FOLDER/…`` is for all members of the workspace; admins may do everything.
"""

from __future__ import annotations

from minwebhook.auth.principal import Principal


def may_read(principal: Principal, path: str) -> bool:
    """Whether ``principal`` may see what is at ``path``."""
    return principal.is_admin or not path.startswith("u/") or path.startswith(f"u/{principal.username}/")


def may_write(principal: Principal, path: str) -> bool:
    """Whether ``principal`` may make, change and delete what is at ``path``."""
    return may_read(principal, path)
