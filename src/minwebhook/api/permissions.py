"""The one place that decides what a caller may do: of the route, and of what a request is about.

::

    check_client    before anything else: where the token may be used from
    check_scopes    before the endpoint is called: what the token is for, whatever the resource is
    check_role      before the endpoint is called: what the user is in the workspace
    check_path      the path of the route, of a version that was found by its hash, of a body, of a job
    check_run       that a job of a path, or of code that came along, may be started
    check_script_client   where the script may be run from
    check_tag       the tags that a token is for
    may_see_job     one job; job_conditions is the same for lists of jobs, visible_paths for lists of what has a path

Every route says in ``routes.py`` what it is about (:class:`~minwebhook.api.endpoint.Resource`). Paths in routes are checked here
before the endpoint is called; for anything else the endpoint asks.
"""

from __future__ import annotations

from typing import Final

from minwebhook.addresses import is_within
from minwebhook.api.endpoint import Endpoint, Resource, Role
from minwebhook.auth.principal import Principal
from minwebhook.auth.rights import may_read, may_write, owner_of
from minwebhook.auth.scopes import required
from minwebhook.errors import AdminRequired, BadRequest, NotAuthorized, NotFound, PermissionDenied
from minwebhook.jobs.conditions import Condition, OwnOrWithin, Tagged, Within
from minwebhook.jobs.record import JobRecord
from minwebhook.paths import Paths
from minwebhook.scripts.script import Script

_OPERATORS: Final = "operators run and look only; ask an admin of the workspace for more"


#: What scopes call what a job runs.
_KINDS: Final = {"script": "scripts", "flow": "flows"}


def check_client(principal: Principal, client: str) -> None:
    """Whether the token may be used from where the request is from. Raises :class:`PermissionDenied`."""
    if principal.networks is not None and not is_within(client, principal.networks):
        raise PermissionDenied(f"this token cannot be used from {client}")


def check_script_client(script: Script, client: str) -> None:
    """Whether the script may be run from where the request is from. Raises :class:`PermissionDenied`."""
    networks = script.allowed_networks
    if networks is not None and not is_within(client, networks):
        raise PermissionDenied(f"{script.path} cannot be run from {client}")


def check_scopes(principal: Principal, endpoint: Endpoint) -> None:
    """Raises :class:`PermissionDenied`, and :class:`BadRequest` for a scope that nobody can understand."""
    scopes, whole = principal.scopes, endpoint.resource is Resource.WHOLE
    if scopes is not None and endpoint.gives_all_rights:
        raise PermissionDenied("a restricted token cannot do this; use one with all rights of its user")
    if scopes is not None and not scopes.opens(
        endpoint.domain, endpoint.action, endpoint.kind, follows_run=endpoint.follows_run, whole=whole
    ):
        needed = required(endpoint.domain, endpoint.action, endpoint.kind)
        raise PermissionDenied(f"Access denied. Required scope: {needed}")


def check_role(principal: Principal, endpoint: Endpoint) -> None:
    """Raises :class:`AdminRequired`, and :class:`PermissionDenied` for operators."""
    role = endpoint.role
    if role is Role.SUPER_ADMIN and not principal.is_super_admin:
        raise AdminRequired(principal.username)
    if role is Role.ADMIN and not principal.is_admin:
        raise AdminRequired(principal.username)
    if role is Role.DEVELOPER and principal.operator:
        raise PermissionDenied(_OPERATORS)


def check_path(principal: Principal, endpoint: Endpoint, path: str) -> None:
    """Whether the endpoint may be called for what is, or is not, at ``path``: the answers are the same.

    Raises :class:`PermissionDenied` for the token; for the user :class:`NotAuthorized` (runs), :class:`NotFound` (reads) and
    :class:`BadRequest` (changes), as upstream does.
    """
    scopes = principal.scopes
    if scopes is not None and not scopes.allows(endpoint.domain, endpoint.action, path, endpoint.kind):
        raise PermissionDenied(f"Required scope: {required(endpoint.domain, endpoint.action, endpoint.kind, path)}")
    if not principal.is_admin:
        _check_rights(principal, endpoint, path)


def _check_rights(principal: Principal, endpoint: Endpoint, path: str) -> None:
    if endpoint.action == "run":
        _check_runnable(principal, path)
    elif endpoint.action == "read":
        if not may_read(principal, path):
            noun = "script" if endpoint.domain == "jobs" else endpoint.domain.removesuffix("s")
            raise NotFound(f"{noun} not found at name {path}")
    elif not may_write(principal, path):
        raise BadRequest(f"{path} belongs to {owner_of(path)}: {principal.username} may not change it")


def _check_runnable(principal: Principal, path: str) -> None:
    if not may_read(principal, path):
        raise NotAuthorized(f"You are not authorized to access this script: {path}")


def check_run(principal: Principal, path: str | None, what: str = "scripts") -> None:
    """Whether a job of the script, or flow, at ``path`` may be started; None: of code that is not deployed.

    Raises :class:`PermissionDenied`.
    """
    kind = None if path is None else what
    if path is not None:
        _check_runnable(principal, path)
    if path is None and principal.operator:
        raise PermissionDenied(_OPERATORS)
    scopes = principal.scopes
    if scopes is not None and not scopes.allows("jobs", "run", path or "", kind):
        raise PermissionDenied(f"Required scope: {required('jobs', 'run', kind, path)}")


def check_tag(principal: Principal, tag: str) -> None:
    """Whether a job with this tag may be started. Raises :class:`PermissionDenied`."""
    scopes = principal.scopes
    if scopes is not None and not scopes.allows_tag(tag):
        raise PermissionDenied(f"the token runs jobs with these tags only: {', '.join(sorted(scopes.tags or ()))}")


def may_see_job(principal: Principal, endpoint: Endpoint, record: JobRecord) -> bool:
    """Whether the endpoint may be called for a job."""
    scopes = principal.scopes
    if not _has_rights(principal, endpoint, record):
        return False
    if scopes is None:
        return True
    path, kind = record.path or "", _KINDS.get(record.kind)
    return scopes.allows_tag(record.tag) and (
        scopes.allows("jobs", endpoint.action, path, kind)
        or (endpoint.follows_run and scopes.allows("jobs", "run", path, kind))
    )


def _has_rights(principal: Principal, endpoint: Endpoint, record: JobRecord) -> bool:
    """Whose job it is may do everything with it; others what they may with its script, if it is to be seen at all."""
    if principal.is_admin or record.permissioned_as == principal.permissioned_as:
        return True
    may = may_read if endpoint.action in ("read", "run") else may_write
    return record.visible_to_owner and may(principal, record.path)


def visible_paths(principal: Principal, domain: str) -> tuple[Paths, ...]:
    """Of which paths rows of a domain may be shown: of those that are in every one of these sets."""
    paths = principal.scopes.paths(domain, "read") if principal.scopes is not None else None
    own = None if principal.is_admin else principal.readable or Paths(())
    return tuple(each for each in (paths, own) if each is not None)


def job_conditions(principal: Principal, endpoint: Endpoint) -> tuple[Condition, ...]:
    """What jobs must fulfil that the endpoint shows in a list."""
    scopes, conditions = principal.scopes, list[Condition]()
    if not principal.is_admin:
        conditions.append(OwnOrWithin(principal.permissioned_as, principal.readable or Paths(())))
    if scopes is None:
        return tuple(conditions)
    paths = scopes.paths(endpoint.domain, endpoint.action, endpoint.kind)
    if paths is not None:
        conditions.append(Within(paths))
    if scopes.tags is not None:
        conditions.append(Tagged(scopes.tags))
    return tuple(conditions)
