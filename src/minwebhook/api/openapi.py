"""From routes and what is known of their operations to an OpenAPI 3.1 document. Pure.

The document is made from the very table that dispatches, so it has every route and no other. What holds for many
operations is derived from the route and not written down again: path parameters, who may call it, errors, tags (the
endpoint function's module) and ids (method and path).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from minwebhook.api.endpoint import Access, Call, Endpoint
from minwebhook.api.parameters import IN_PATHS, Parameter, Schema
from minwebhook.api.records import ANYTHING, ref
from minwebhook.api.schemas import SCHEMAS
from minwebhook.http.routing import Route

_IN_PATH: Final = re.compile(r"\{([a-z_]+)(?:\.\.\.)?\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is not an error, by media type; no content: an empty body."""

    sentence: str
    content: Mapping[str, Schema]
    #: Names and what they say; none of them is always there.
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_openapi(self) -> dict[str, Any]:
        """The Response Object."""
        shown: dict[str, Any] = {"description": self.sentence}
        if self.headers:
            headers = self.headers.items()
            shown["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers}
        if self.content:
            shown["content"] = _content(self.content)
        return shown


@dataclass(frozen=True, slots=True)
class Body:
    """A request body, by media type."""

    sentence: str
    content: Mapping[str, Schema]
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """What an endpoint function takes and answers; its docstring says what it does."""

    answers: Mapping[int, Answer]
    #: Of the query and the headers; and those of the path that are not what ``IN_PATHS`` says.
    parameters: tuple[Parameter, ...] = ()
    #: Of the methods that have a body; GET and HEAD of the same function have none.
    body: Body | None = None
    #: Whether the answer is a script's, which may choose status, content type and body.
    script_answers: bool = False
    #: Statuses of errors besides those that follow from the route.
    errors: tuple[int, ...] = ()


#: How errors are described.
PROBLEM: Final[Mapping[str, Schema]] = {"text/plain": {"type": "string"}, "application/problem+json": ref("Problem")}
#: The answers to what goes wrong, with their names below ``components/responses``.
_ERRORS: Final[Mapping[int, tuple[str, Answer]]] = {
    400: ("BadRequest", Answer("The request must be changed; the text says what to send.", PROBLEM)),
    401: (
        "NotAuthorized",
        Answer("No valid token.", PROBLEM, {"WWW-Authenticate": "`Bearer`, if there was no token at all."}),
    ),
    403: ("PermissionDenied", Answer("The token is valid, but not for this.", PROBLEM)),
    404: ("NotFound", Answer("What the path names does not exist, or not yet.", PROBLEM)),
    410: ("Gone", Answer("What would be needed was deleted for good.", PROBLEM)),
    413: ("PayloadTooLarge", Answer("The body is over a limit, which the text names.", PROBLEM)),
    415: ("UnsupportedMediaType", Answer("The body is compressed, or of a type that is not read here.", PROBLEM)),
    416: (
        "RangeNotSatisfiable",
        Answer("The range is outside of the object.", PROBLEM, {"Content-Range": "`bytes */` and the object's size."}),
    ),
    422: ("KeyReused", Answer("The idempotency key belongs to another request.", PROBLEM)),
    429: (
        "TooManyRequests",
        Answer("The script or the token has as much waiting as it may.", PROBLEM, {"Retry-After": "Seconds to wait."}),
    ),
    500: (
        "NoResult",
        Answer("The caller waited too long (`timeout after {N}s`), or the result cannot be sent as it asks.", PROBLEM),
    ),
    502: ("BadGateway", Answer("The object storage does not answer, or refuses what it is asked.", PROBLEM)),
    503: ("Unavailable", Answer("The server cannot take this now.", PROBLEM, {"Retry-After": "Seconds to wait."})),
    507: ("InsufficientStorage", Answer("There is no room left for what was sent.", PROBLEM)),
}
#: The answer of a script, whatever it is.
_ANY_CONTENT: Final[Mapping[str, Schema]] = {"*/*": ANYTHING}

_DESCRIPTION: Final = """\
Windmill-compatible webhooks.

Errors are `text/plain`, a class and a detail; with `Accept: application/problem+json` they are problem documents. Any \
path answers another method with 405 and `Allow`, and OPTIONS with `Allow`; HEAD is possible wherever GET is. What is \
wrong with HTTP itself is refused before any operation: 400, 408, 413, 414, 415, 417, 431, 501, 505."""

_SECURITY: Final[Mapping[str, Schema]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The first choice, if there are several."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "token", "description": "The second choice."},
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "For senders that can only be given a URL. The server's log hides it.",
    },
}

#: Any one of them.
_CREDENTIALS: Final[Sequence[Schema]] = [{name: []} for name in _SECURITY]


def document(routes: Iterable[Route[Endpoint]], operations: Mapping[Call, Operation], version: str) -> dict[str, Any]:
    """The document. Raises KeyError for a route whose endpoint function has no operation."""
    paths: dict[str, dict[str, Any]] = {}
    parameters: dict[str, Parameter] = {}
    errors: set[int] = set()
    modules: dict[str, None] = {}
    for route in routes:
        operation = operations[route.endpoint.call]
        used, failing = _parameters(route, operation), _errors(route, operation)
        for parameter in used:
            if parameters.setdefault(parameter.component, parameter) != parameter:
                raise ValueError(f"two parameters have the key {parameter.component}")
        if not operation.script_answers:
            errors |= failing
        modules[route.endpoint.call.__module__] = None
        path = _IN_PATH.sub(r"{\1}", route.pattern)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, operation, used, failing)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "minwebhook",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": _CREDENTIALS,
        "tags": [{"name": _tag(module), "description": _sentences(sys.modules[module])[0]} for module in modules],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "parameters": {name: _parameter(parameters[name]) for name in sorted(parameters)},
            "responses": dict(_component(status) for status in sorted(errors)),
            "securitySchemes": _SECURITY,
        },
    }


def operation_id(route: Route[Endpoint]) -> str:
    """The method and the path's words: ``post_jobs_run_p_path``. No other route changes it."""
    path = route.pattern.removeprefix("/api/")
    if not path.startswith("w/{workspace}/users/"):  # which are others than those of the instance
        path = path.removeprefix("w/{workspace}/")
    words = _IN_PATH.sub(r"\1", path)
    return re.sub(r"[^a-z0-9]+", "_", f"{route.method.lower()}/{words}")


def _operation(
    route: Route[Endpoint], operation: Operation, parameters: list[Parameter], errors: set[int]
) -> dict[str, Any]:
    summary, description = _sentences(route.endpoint.call)
    shown: dict[str, Any] = {
        "operationId": operation_id(route),
        "tags": [_tag(route.endpoint.call.__module__)],
        "summary": summary,
    }
    if description:
        shown["description"] = description
    if route.endpoint.access is not Access.TOKEN:
        shown["security"] = [] if route.endpoint.access is Access.PUBLIC else [*_CREDENTIALS, {}]
    if parameters:
        shown["parameters"] = [{"$ref": f"#/components/parameters/{each.component}"} for each in parameters]
    body = _body(route, operation)
    if body is not None:
        shown["requestBody"] = {
            "description": body.sentence,
            "required": body.is_required,
            "content": _content(body.content),
        }
    answers: dict[str, Any] = {str(status): answer.to_openapi() for status, answer in operation.answers.items()}
    for status in sorted(errors):
        name, error = _ERRORS[status]
        if operation.script_answers:  # which may have the same status
            answers[str(status)] = replace(error, content={**error.content, **_ANY_CONTENT}).to_openapi()
        else:
            answers[str(status)] = {"$ref": f"#/components/responses/{name}"}
    if operation.script_answers:
        answers["default"] = Answer("Whatever the script chose.", _ANY_CONTENT).to_openapi()
    shown["responses"] = answers
    return shown


def _parameters(route: Route[Endpoint], operation: Operation) -> list[Parameter]:
    """All parameters of a route, those in its path first."""
    own = {each.name: each for each in operation.parameters if each.place == "path"}
    in_path = [own.get(name) or IN_PATHS[name] for name in _IN_PATH.findall(route.pattern)]
    lets_strangers_in = route.endpoint.access is Access.OPTIONAL
    return in_path + [
        each
        for each in operation.parameters
        if each.place != "path"
        and each.only_for in ("", route.method)
        and (lets_strangers_in or not each.for_strangers)
    ]


def _body(route: Route[Endpoint], operation: Operation) -> Body | None:
    return None if route.method in ("GET", "HEAD") else operation.body


def _errors(route: Route[Endpoint], operation: Operation) -> set[int]:
    """The errors that a call may get once HTTP is right."""
    if route.endpoint.access is Access.PUBLIC:
        return set(operation.errors)
    statuses = {400, 401, 403, 429, 503, *operation.errors}
    if "{workspace}" in route.pattern:
        statuses.add(404)
    if _body(route, operation) is not None:
        statuses |= {413, 415}
    if operation.script_answers:
        statuses.add(500)
    return statuses


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required or parameter.place == "path",
        "description": parameter.sentence,
        "schema": parameter.schema,
    }


def _component(status: int) -> tuple[str, dict[str, Any]]:
    name, error = _ERRORS[status]
    return name, error.to_openapi()


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _tag(module: str) -> str:
    return module.rpartition(".")[2]


def _sentences(documented: object) -> tuple[str, str]:
    """A docstring's first paragraph, on one line, and the rest."""
    first, _, rest = (inspect.getdoc(documented) or "").partition("\n\n")
    return first.replace("\n", " "), rest
