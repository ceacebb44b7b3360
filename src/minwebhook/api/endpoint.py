"""What a route says of itself: which function answers, and what calling it means for authorization. Pure."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from minwebhook.http.messages import Response

if TYPE_CHECKING:
    from minwebhook.api.context import Context


class Access(enum.Enum):
    """Who may call a route."""

    #: Anyone, without a token.
    PUBLIC = "public"
    #: Whoever has a valid token, and callers without any, who see little.
    OPTIONAL = "optional"
    #: Whoever has a valid token.
    TOKEN = "token"  # noqa: S105 - a word, not a secret


class Role(enum.Enum):
    """What the user of a token must be, at least, in the workspace of the route."""

    #: A member, operators too.
    MEMBER = "member"
    #: Who may change things: no operator.
    DEVELOPER = "developer"
    ADMIN = "admin"
    #: Of the instance, whatever the workspace.
    SUPER_ADMIN = "super admin"


class Resource(enum.Enum):
    """What a route is about, and who looks whether the caller may: tokens and users can be restricted to paths."""

    #: The domain as a whole: restricted to paths, a token cannot call it.
    WHOLE = "whole"
    #: What is at ``{path...}``; looked at before the endpoint is called.
    PATH = "path"
    #: Something that the endpoint finds: a version, a job, a path in the body. It asks ``permissions``.
    FOUND = "found"
    #: Rows: the endpoint shows those that the caller may see.
    ROWS = "rows"


#: An endpoint function.
Call: TypeAlias = "Callable[[Context], Awaitable[Response]]"


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: each request is counted by its endpoint
class Endpoint:
    """What the router finds: the function, and what calling it means for authorization."""

    call: Call
    #: Windmill's scope words: the resource's domain and what is done to it (``read``, ``write``, ``run``).
    domain: str
    action: str
    access: Access = Access.TOKEN
    #: Whether pages of any origin may read the answer.
    cors: bool = False
    role: Role = Role.MEMBER
    resource: Resource = Resource.WHOLE
    #: What is run, if it is one kind of thing (``scripts``).
    kind: str | None = None
    #: Whether a token must have all rights of its user: who can call it can get them, whatever its scopes.
    gives_all_rights: bool = False
    #: Whether a token that may run a script may look there at what came of it.
    follows_run: bool = False
    #: Whether the query parameter ``token`` is the endpoint's own, and no credential.
    has_own_token: bool = False
    #: What the audit log says of calls: the operation and the kind of action; None for nothing.
    audited: tuple[str, str] | None = None
