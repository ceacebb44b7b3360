"""The caller of a request, once authenticated. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Final

from minwebhook.addresses import Network
from minwebhook.auth.scopes import Scopes
from minwebhook.paths import Paths

#: Who a job shows as its creator when nobody was logged in, and who cancels when nobody is. No user may have this name.
ANONYMOUS: Final = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they are in the workspace of the request."""

    email: str
    username: str
    is_admin: bool
    is_super_admin: bool
    #: What jobs show as their creator; differs from the username for labelled tokens.
    display_name: str
    #: The workspace the caller was authenticated for; None on instance-wide routes.
    workspace_id: str | None
    #: The first characters of the token used; None for the token from the settings, of which only a hash is kept.
    token_prefix: str | None
    #: May run and look, not change.
    operator: bool = False
    #: What the token is restricted to; None for a token with all rights of its user.
    scopes: Scopes | None = None
    #: Where the token may be used from; None for anywhere.
    networks: tuple[Network, ...] | None = None
    #: Requests that the token may make in a minute; 0 for any number.
    requests_per_minute: int = 0
    #: Paths whose content the user may see and run, and change (auth/rights.py asks); None where an admin may all, and
    #: outside of workspaces.
    readable: Paths | None = None
    writable: Paths | None = None

    @property
    def owner(self) -> str:
        """Whose turn the jobs take that it starts, and whose share of the queue: its token's."""
        return self.token_prefix or self.email

    @property
    def permissioned_as(self) -> str:
        """The identity whose rights a job runs with: ``u/<username>``, or the bare e-mail of a super admin who is not
        a member of the workspace (such a caller's username is the e-mail)."""
        return self.username if "@" in self.username else intern(f"u/{self.username}")  # queued jobs keep it
