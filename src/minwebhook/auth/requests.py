"""The body of a token creation, checked strictly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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

    @classmethod
    def parse(cls, obj: Any) -> NewToken:
        """Check a decoded JSON body ``{label?, expiration?, scopes?, workspace_id?, read_only?}``.

        Restricted tokens (``scopes``, ``read_only``) are refused: to ignore the wish would hand out full rights.
        Raises :class:`BadRequest` naming the field.
        """
        if not isinstance(obj, dict):
            raise BadRequest("the body must be a JSON object, {} for a token without limits")
        label = _text(obj, "label")
        if label is not None:
            if len(label) > MAX_LABEL_LENGTH:
                raise BadRequest(f"label must have at most {MAX_LABEL_LENGTH} characters")
            if label in _RESERVED_LABELS or label.lower().startswith(_RESERVED_PREFIXES):
                raise BadRequest("label is reserved for the server's own tokens; choose another")
        scopes = obj.get("scopes")
        if scopes is not None and not isinstance(scopes, list):
            raise BadRequest("scopes must be an array of strings or null")
        if scopes:
            raise BadRequest("scopes must be empty: this version has no restricted tokens")
        read_only = obj.get("read_only")
        if read_only is not None and not isinstance(read_only, bool):
            raise BadRequest("read_only must be true, false or null")
        if read_only:
            raise BadRequest("read_only must be false: this version has no restricted tokens")
        return cls(label, _time_ms(obj, "expiration"), _text(obj, "workspace_id"))


def _text(obj: dict[Any, Any], name: str) -> str | None:
    value = obj.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string or null")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRequest(f"{name} holds characters that cannot be stored")
    return value


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
