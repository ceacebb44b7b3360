"""Method and path → route and path parameters. Pure.

Patterns are written like ``/api/w/{workspace}/jobs/run/p/{path...}``: literal segments, parameters of one segment, and
at the end a parameter that takes all remaining segments. At each segment a literal is tried before a parameter before
the rest; the most specific pattern that fits the *path* decides, whatever its methods are.

Paths are compared as they came, percent-encoded and split at ``/``: nothing is normalized, so two spellings never lead
to one route by accident. ``.``, ``..`` and doubled slashes are ordinary segments (an empty one fits no parameter),
``%2F`` in a single-segment parameter is data. The one exception: the rest may begin with one more slash, which is
dropped (``p//u/x/y`` is ``u/x/y``). Parameters are decoded strictly: RFC 3986 §2.1, UTF-8, no NUL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from minwebhook.errors import BadRequest, MethodNotAllowed, NotFound
from minwebhook.http.messages import Params

E = TypeVar("E")

_PARAMETER: Final = re.compile(r"\{([a-z_][a-z0-9_]*)(\.\.\.)?\}")
#: Answers kept: webhooks are few and called often. A flood of other paths empties the memory, and that is all.
MAX_RECENT: Final = 1024
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


@dataclass(frozen=True, slots=True)
class Route(Generic[E]):
    """One method of one pattern, and whatever the caller wants to find by it."""

    method: str
    pattern: str
    endpoint: E


@dataclass(frozen=True, slots=True)
class Match(Generic[E]):
    """A route with the decoded values of its parameters."""

    route: Route[E]
    params: Params


@dataclass(slots=True)
class _Node(Generic[E]):
    """A place in the tree of patterns, reached by the segments so far."""

    literals: dict[str, _Node[E]] = field(default_factory=dict)
    parameter: _Node[E] | None = None
    rest: _Node[E] | None = None
    #: Routes that end here by method, each with the names of its parameters.
    routes: dict[str, tuple[Route[E], tuple[str, ...]]] = field(default_factory=dict)


class Router(Generic[E]):
    """All routes. Raises ValueError for a malformed pattern, and for two routes that take the same requests."""

    def __init__(self, routes: Iterable[Route[E]]) -> None:
        self._root: _Node[E] = _Node()
        self._recent: dict[tuple[str, str], Match[E]] = {}
        for route in routes:
            self._add(route)

    def resolve(self, method: str, path: str) -> Match[E]:
        """The route for ``method`` and the percent-encoded ``path``. HEAD falls back to GET.

        Raises :class:`NotFound`, :class:`MethodNotAllowed` (with what is allowed) and, for parameters that cannot be
        decoded, :class:`BadRequest`.
        """
        recent = self._recent.get((method, path))
        if recent is not None:
            return recent
        node, values = self._find(path)
        found = node.routes.get(method)
        if found is None and method == "HEAD":
            found = node.routes.get("GET")
        if found is None:
            raise MethodNotAllowed(_allowed(node))
        route, names = found
        match = Match(route, {name: _decode(value) for name, value in zip(names, values, strict=True)})
        if len(self._recent) >= MAX_RECENT:
            self._recent.clear()
        self._recent[method, path] = match
        return match

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods for ``path``, with HEAD and OPTIONS, for an Allow field. Raises :class:`NotFound`."""
        return _allowed(self._find(path)[0])

    def at(self, path: str) -> tuple[Route[E], ...]:
        """All routes of ``path``, one for each method. Raises :class:`NotFound`."""
        return tuple(route for route, _ in self._find(path)[0].routes.values())

    def _add(self, route: Route[E]) -> None:
        node = self._root
        names: list[str] = []
        segments = _segments(route.pattern)
        for index, segment in enumerate(segments):
            match = _PARAMETER.fullmatch(segment)
            if match is None:
                if "{" in segment or "}" in segment:
                    raise ValueError(f"{route.pattern}: a parameter must be a whole segment")
                node = node.literals.setdefault(segment, _Node())
                continue
            if match[1] in names:
                raise ValueError(f"{route.pattern}: two parameters are called {match[1]}")
            names.append(match[1])
            if match[2] is None:
                node.parameter = node = node.parameter or _Node()
            elif index == len(segments) - 1:
                node.rest = node = node.rest or _Node()
            else:
                raise ValueError(f"{route.pattern}: nothing may follow {segment}")
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.pattern}: {node.routes[route.method][0].pattern} is the same")
        node.routes[route.method] = route, tuple(names)

    def _find(self, path: str) -> tuple[_Node[E], list[str]]:
        values: list[str] = []
        node = _walk(self._root, _segments(path), 0, values) if path.startswith("/") else None
        if node is None:
            raise NotFound("no such path")
        return node, values


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]


def _walk(node: _Node[E], segments: list[str], index: int, values: list[str]) -> _Node[E] | None:
    """The node where ``segments`` end, the raw values of the parameters on the way put into ``values``."""
    if index == len(segments):
        return node if node.routes else None
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None and (found := _walk(literal, segments, index + 1, values)) is not None:
        return found
    if node.parameter is not None and segment:
        values.append(segment)
        if (found := _walk(node.parameter, segments, index + 1, values)) is not None:
            return found
        values.pop()
    if node.rest is not None and (rest := "/".join(segments[index:]).removeprefix("/")):
        values.append(rest)
        return node.rest
    return None


def _allowed(node: _Node[E]) -> tuple[str, ...]:
    methods = {*node.routes, "OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return tuple(sorted(methods))


def _decode(value: str) -> str:
    if "%" not in value:
        return value
    if _BAD_ESCAPE.search(value):
        raise BadRequest("malformed percent-encoding in the path")
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None
