"""The bodies of requests that make and change tokens, checked strictly. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from minwebhook.addresses import parse_networks
from minwebhook.auth.request_limits import MAX_PER_MINUTE
from minwebhook.auth.scopes import MAX_SCOPE_LENGTH, MAX_SCOPES
from minwebhook.auth.tokens import SESSION_LABEL
from minwebhook.errors import BadRequest
from minwebhook.times import parse_rfc3339

MAX_LABEL_LENGTH: Final = 1000

_RESERVED_LABELS: Final = frozenset({SESSION_LABEL, "guest_session", "debugger-token"})
_RESERVED_PREFIXES: Final = (
    "ephemeral",
    "mcp-oauth-",
    "embed_app:",
    "sdk_app:",
    "impersonation:",
    "cli-login:",
    "remote-deploy:",
)


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a caller may ask of a new token. The server itself may use reserved labels; :meth:`parse` refuses them."""

    label: str | None = None
    #: Milliseconds since 1970; None = for ever. A time in the past is allowed and makes a token that never works.
    expiration_ms: int | None = None
    #: The only workspace it is good for; None = every workspace and the instance-wide routes.
    workspace_id: str | None = None
    #: What it is restricted to (auth/scopes.py); () = nothing.
    scopes: tuple[str, ...] = ()
    #: Whether it can change and run nothing.
    read_only: bool = False
    #: Networks that it may be used from; None = anywhere.
    allowed_networks: tuple[str, ...] | None = None
    #: Requests that it may make in a minute; None = as many as the instance allows by default.
    requests_per_minute: int | None = None

    @classmethod
    def parse(cls, obj: Any) -> NewToken:
        """Check a decoded JSON body ``{label?, expiration?, scopes?, workspace_id?, read_only?, allowed_networks?,
        requests_per_minute?}``.

        Raises :class:`BadRequest` naming the field.
        """
        if not isinstance(obj, dict):
            raise BadRequest("the body must be a JSON object, {} for a token without limits")
        read_only = obj.get("read_only")
        if read_only is not None and not isinstance(read_only, bool):
            raise BadRequest("read_only must be true, false or null")
        return cls(
            parse_label(obj),
            _time_ms(obj, "expiration"),
            _text(obj, "workspace_id"),
            parse_scopes(obj),
            bool(read_only),
            parse_networks("allowed_networks", obj.get("allowed_networks")),
            _requests_per_minute(obj),
        )

    def ending_by(self, latest_ms: int) -> NewToken:
        """The same, with an expiration that is not after ``latest_ms``."""
        ends_ms = latest_ms if self.expiration_ms is None else min(self.expiration_ms, latest_ms)
        return replace(self, expiration_ms=ends_ms)


def _requests_per_minute(obj: dict[Any, Any]) -> int | None:
    value = obj.get("requests_per_minute")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_PER_MINUTE):
        raise BadRequest(f"requests_per_minute must be a whole number from 1 to {MAX_PER_MINUTE}, or null")
    return value


def is_reserved_label(label: str | None) -> bool:
    """Whether a label is for the server's own tokens."""
    return label is not None and (label in _RESERVED_LABELS or label.lower().startswith(_RESERVED_PREFIXES))


def parse_label(obj: Any) -> str | None:
    """The member ``label`` of a decoded JSON body. Raises :class:`BadRequest`."""
    if not isinstance(obj, dict):
        raise BadRequest('the body must be a JSON object such as {"label": "..."}')
    label = _text(obj, "label")
    if label is not None and len(label) > MAX_LABEL_LENGTH:
        raise BadRequest(f"label must have at most {MAX_LABEL_LENGTH} characters")
    if is_reserved_label(label):
        raise BadRequest("label is reserved for the server's own tokens; choose another")
    return label


def parse_scopes(obj: Any) -> tuple[str, ...]:
    """The member ``scopes`` of a decoded JSON body; null is (). Raises :class:`BadRequest`."""
    if not isinstance(obj, dict):
        raise BadRequest('the body must be a JSON object such as {"scopes": ["jobs:read"]}')
    scopes = obj.get("scopes")
    if scopes is None:
        return ()
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise BadRequest("scopes must be an array of strings or null")
    if len(scopes) > MAX_SCOPES or any(len(scope) > MAX_SCOPE_LENGTH for scope in scopes):
        raise BadRequest(f"scopes: send at most {MAX_SCOPES}, of at most {MAX_SCOPE_LENGTH} characters each")
    for scope in scopes:
        _check_characters("scopes", scope)
    return tuple(scopes)


def _text(obj: dict[Any, Any], name: str) -> str | None:
    value = obj.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string or null")
    _check_characters(name, value)
    return value


def _check_characters(name: str, value: str) -> None:
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRequest(f"{name} holds characters that cannot be stored")


def _time_ms(obj: dict[Any, Any], name: str) -> int | None:
    """An RFC 3339 date-time as milliseconds since 1970."""
    value = obj.get(name)
    if value is None:
        return None
    try:
        return parse_rfc3339(value if isinstance(value, str) else "")
    except ValueError:
        problem = f"{name} must be an RFC 3339 date-time with Z or an offset, such as 2030-01-31T12:00:00Z, or null"
        raise BadRequest(problem) from None
