"""What a restricted token may do: scopes, their grammar, and the questions asked of them. Pure.

::

    domain:action                       jobs:read, variables:write
    domain:action:resources             scripts:read:f/team/*,u/alice/report
    jobs:run                            any code: deployed scripts, flows, previews
    jobs:run:kind                       kind is scripts or flows
    jobs:run:kind:resources             jobs:run:scripts:f/team/*
    if_jobs:filter_tags:tags            its jobs have one of these tags; restricts nothing else
    mcp:...                             of a language of its own; grants nothing here

Resources are separated by commas. ``*`` is every one, ``f/team/*`` is ``f/team`` and what lies below it, anything else is
that path. ``delete`` is another word for ``write``. Older forms (``run:script/PATH``, ``jobs:listjobs``, …) are read as
what replaced them.

Two layers ask. The route asks first, whatever the resource is (:meth:`Scopes.opens`), then whoever knows the resource
(:meth:`Scopes.allows`). Only the scope is a pattern, never the path that is asked for. A text that is no scope grants
nothing, but restricts all the same; one with a word that nobody knows is an error, so that its owner learns of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from minwebhook.errors import BadRequest
from minwebhook.paths import Paths, contains, matches

#: What scopes are about. Most are domains of other servers' routes: tokens are made for those, too.
DOMAINS: Final = frozenset(
    {"jobs", "scripts", "flows", "flow_conversations", "apps", "raw_apps", "variables", "resources", "schedules"}
    | {"folders", "users", "groups", "workspaces", "http_triggers", "websocket_triggers", "kafka_triggers"}
    | {"nats_triggers", "mqtt_triggers", "amqp_triggers", "sqs_triggers", "gcp_triggers", "azure_triggers"}
    | {"postgres_triggers", "email_triggers", "native_triggers", "audit", "settings", "workers", "service_logs"}
    | {"configs", "oauth", "ai", "ai_skills", "indexer", "teams", "git_sync", "capture", "drafts", "favorites"}
    | {"inputs", "job_helpers", "concurrency_groups", "oidc", "openapi", "acls", "agent_workers", "mcp", "docs"}
    | {"data_metrics", "health"}
)
#: What is done. ``cancel`` is for jobs only.
ACTIONS: Final = frozenset({"read", "write", "run", "cancel"})
KINDS: Final = frozenset({"scripts", "flows"})

#: Scopes of one token, and characters of one scope.
MAX_SCOPES: Final = 200
MAX_SCOPE_LENGTH: Final = 2000

_TAGS: Final = "if_jobs:filter_tags:"
_LEGACY_PREFIXES: Final = {"run:script/": "jobs:run:scripts:", "run:flow/": "jobs:run:flows:"}
_LEGACY: Final = {
    "jobs:runscript": "jobs:run:scripts",
    "jobs:runflow": "jobs:run:flows",
    "jobs:resumeflow": "jobs:run:flows",
    "jobs:listjobs": "jobs:read",
    "jobs:deletejob": "jobs:write",
}
#: Answers kept for each token; there are fewer different questions by routes than this.
_MAX_KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope that could be read. Its words may be unknown ones."""

    domain: str
    action: str
    #: Of ``jobs:run``; None is all of them, previews too.
    kind: str | None = None
    #: None is every resource.
    resources: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """None for what is no scope."""
        domain, *rest = modern(text).split(":")
        if not domain or not rest or not all(rest) or domain in ("if_jobs", "mcp"):
            return None
        action = "write" if rest[0] == "delete" else rest[0]
        if (domain, action) == ("jobs", "run"):
            if len(rest) > 3 or (len(rest) > 1 and rest[1] not in KINDS):
                return None
            return cls(domain, action, rest[1] if len(rest) > 1 else None, _resources(rest[2:]))
        return None if len(rest) > 2 else cls(domain, action, None, _resources(rest[1:]))

    @property
    def is_known(self) -> bool:
        """Whether its words mean something."""
        return self.domain in DOMAINS and self.action in ACTIONS

    @property
    def has_every_resource(self) -> bool:
        """Whether it is for the domain as a whole."""
        return self.resources is None or "*" in self.resources

    def grants(self, domain: str, action: str, kind: str | None) -> bool:
        """Whether it is about this, for some resource."""
        return (
            self.domain == domain
            and _includes(domain, self.action, action)
            and (action != "run" or self.kind is None or self.kind == kind)
        )

    def has(self, path: str) -> bool:
        """Whether ``path`` is one of its resources."""
        return self.resources is None or any(matches(pattern, path) for pattern in self.resources)

    def covers(self, other: Scope) -> bool:
        """Whether it grants all that ``other`` grants."""
        if not self.is_known or not self.grants(other.domain, other.action, other.kind):
            return False
        if self.has_every_resource:
            return True
        return other.resources is not None and all(
            any(contains(own, theirs) for own in self.resources or ()) for theirs in other.resources
        )


class Scopes:
    """All scopes of one token, or that it may only read; made once for each token."""

    __slots__ = ("_kept", "_read", "is_read_only", "is_restricted", "tags", "texts")

    def __init__(self, texts: Iterable[str], *, is_read_only: bool = False) -> None:
        #: As they were written.
        self.texts: Final = tuple(texts)
        self.is_read_only: Final = is_read_only
        filters = [frozenset(_items(text[len(_TAGS) :])) for text in self.texts if text.startswith(_TAGS)]
        #: Tags that its jobs may have; None is any.
        self.tags: Final = frozenset.intersection(*filters) if filters else None
        #: Whether anything but tags is restricted.
        self.is_restricted: Final = any(not text.startswith(_TAGS) for text in self.texts)
        self._read: Final = tuple(scope for text in self.texts if (scope := Scope.parse(text)) is not None)
        self._kept: dict[tuple[str, str, str | None, bool, bool], bool] = {}

    @classmethod
    def of(cls, texts: Iterable[str] | None, *, is_read_only: bool = False) -> Scopes | None:
        """None if there is no restriction: no scopes is every right."""
        made = cls(texts or (), is_read_only=is_read_only)
        return made if made.texts or is_read_only else None

    def opens(
        self, domain: str, action: str, kind: str | None = None, *, follows_run: bool = False, whole: bool = False
    ) -> bool:
        """Whether a route may be called at all. Raises :class:`BadRequest` for a scope with unknown words.

        ``whole``: the route is not about one resource, nor filters by them, so that the scope must be for all.
        ``follows_run``: whoever may run a script may see there what came of it.
        """
        key = (domain, action, kind, follows_run, whole)
        known = self._kept.get(key)
        if known is None:
            known = self._opens(*key)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = known
        return known

    def _opens(self, domain: str, action: str, kind: str | None, follows_run: bool, whole: bool) -> bool:
        if self.is_read_only and action != "read":
            return False
        if not self.is_restricted:
            return True
        for scope in self._read:
            if not scope.is_known:
                raise BadRequest(f"the token has a scope with an unknown word: {scope.domain}:{scope.action}")
            if scope.grants(domain, action, kind) and (not whole or scope.has_every_resource):
                return True
            if follows_run and (scope.domain, scope.action) == ("jobs", "run"):
                return True
            if action == "read" and domain != "jobs" and scope.grants(domain, "run", kind) and not whole:
                return True
        return False

    def allows(self, domain: str, action: str, path: str, kind: str | None = None) -> bool:
        """Whether this may be done with what is at ``path``."""
        if self.is_read_only and action != "read":
            return False
        return not self.is_restricted or any(
            scope.is_known and scope.grants(domain, action, kind) and scope.has(path) for scope in self._read
        )

    def allows_all(self, domain: str, action: str) -> bool:
        """Whether this may be done with whatever there is."""
        if self.is_read_only and action != "read":
            return False
        return not self.is_restricted or any(
            scope.is_known and scope.grants(domain, action, None) and scope.has_every_resource for scope in self._read
        )

    def paths(self, domain: str, action: str, kind: str | None = None) -> Paths | None:
        """Of which resources rows may be shown; None is all."""
        if not self.is_restricted:
            return None
        granting = [scope for scope in self._read if scope.is_known and scope.grants(domain, action, kind)]
        return Paths.of(pattern for scope in granting for pattern in scope.resources or ("*",))

    def allows_tag(self, tag: str) -> bool:
        """Whether it may have to do with jobs of this tag."""
        return self.tags is None or tag in self.tags

    def covers(self, texts: Iterable[str]) -> bool:
        """Whether a token with these scopes could do no more than this one."""
        other = Scopes(texts)
        if self.tags is not None and (other.tags is None or not other.tags <= self.tags):
            return False
        if self.is_read_only or not self.is_restricted:
            return not self.is_read_only
        return other.is_restricted and all(
            text in self.texts or text.startswith(_TAGS) or self._covers(text) for text in other.texts
        )

    def _covers(self, text: str) -> bool:
        scope = Scope.parse(text)
        return scope is not None and any(own.covers(scope) for own in self._read)


def modern(text: str) -> str:
    """A scope in the form of today."""
    for old, new in _LEGACY_PREFIXES.items():
        if text.startswith(old):
            return new + text[len(old) :]
    return _LEGACY.get(text, text)


def run_scopes(kind: str, path: str) -> tuple[str, str]:
    """The two ways to write that one script (or flow) may be run."""
    return f"jobs:run:{kind}:{path}", f"run:{kind.removesuffix('s')}/{path}"


def required(domain: str, action: str, kind: str | None = None, path: str | None = None) -> str:
    """The scope that would be needed, for error texts."""
    return ":".join(part for part in (domain, action, kind if action == "run" else None, path) if part)


def _includes(domain: str, held: str, asked: str) -> bool:
    """Whether one action implies another. ``write`` of jobs does not run any."""
    return held == asked or (held == "write" and (asked in ("read", "cancel") or (asked == "run" and domain == "apps")))


def _resources(parts: list[str]) -> tuple[str, ...] | None:
    return _items(parts[0]) if parts else None


def _items(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
