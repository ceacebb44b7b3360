"""What variables, resources and resource types are, and the bodies that make and change them. Pure.

Times are Unix milliseconds. A value is opened (read in clear) by its store only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from minwebhook.errors import BadRequest
from minwebhook.times import parse_rfc3339, rfc3339

MAX_PATH_LENGTH: Final = 255
MAX_NAME_LENGTH: Final = 50
#: Bytes of a value; of a resource's as JSON.
MAX_VALUE_BYTES: Final = 1024 * 1024
MAX_DESCRIPTION_BYTES: Final = 64 * 1024

#: ``u/USER/NAME`` or ``f/FOLDER/NAME``, the name perhaps of several parts. A super admin who is no member of the workspace
#: has an e-mail address for USER.
_PATH: Final = re.compile(r"(?:u/[A-Za-z0-9_.@+-]+|[fg]/[A-Za-z0-9_-]+)(?:/[A-Za-z0-9_-]+)+")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


def is_path(value: str) -> bool:
    """Whether ``value`` can be the path of a variable or a resource."""
    return len(value) <= MAX_PATH_LENGTH and _PATH.fullmatch(value) is not None


def parse_path(value: object, name: str = "path") -> str:
    """``value`` as a path. Raises :class:`BadRequest` naming the member."""
    if not isinstance(value, str) or not is_path(value):
        raise BadRequest(
            f"{name} must be u/<user>/<name> or f/<folder>/<name>, each part of letters, digits, - and _,"
            f" at most {MAX_PATH_LENGTH} characters"
        )
    return value


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable; ``stored`` is its value, sealed if it is a secret."""

    workspace: str
    path: str
    stored: str = field(repr=False)
    is_secret: bool
    description: str
    account: int | None
    is_oauth: bool
    expires_at_ms: int | None

    def to_json(self, value: str | None) -> dict[str, Any]:
        """The object of ``variables/get`` and ``variables/list``."""
        return {
            "workspace_id": self.workspace,
            "path": self.path,
            "value": value,
            "is_secret": self.is_secret,
            "description": self.description,
            "extra_perms": {},
            "account": self.account,
            "is_oauth": self.is_oauth,
            "is_expired": False,
            "refresh_error": None,
            "is_linked": False,
            "is_refreshed": False,
            "expires_at": rfc3339(self.expires_at_ms),
        }


@dataclass(frozen=True, slots=True)
class NewVariable:
    """The body of ``variables/create``."""

    path: str
    value: str = field(repr=False)
    is_secret: bool
    description: str
    account: int | None
    is_oauth: bool
    expires_at_ms: int | None

    @classmethod
    def parse(cls, body: object) -> NewVariable:
        """From decoded JSON ``{path, value, is_secret, description?, account?, is_oauth?, expires_at?}``."""
        members = _members(body)
        account = members.get("account")
        if account is not None and (isinstance(account, bool) or not isinstance(account, int) or account >> 63):
            raise BadRequest("account must be a whole number or null")
        return cls(
            path=parse_path(members.get("path")),
            value=_text(members, "value", MAX_VALUE_BYTES),
            is_secret=_flag(members, "is_secret"),
            description=_text(members, "description", MAX_DESCRIPTION_BYTES, default=""),
            account=account,
            is_oauth=_flag(members, "is_oauth", default=False),
            expires_at_ms=_time(members, "expires_at"),
        )


@dataclass(frozen=True, slots=True)
class VariableChange:
    """The body of ``variables/update``; None for what stays."""

    path: str | None
    value: str | None = field(repr=False)
    is_secret: bool | None
    description: str | None

    @classmethod
    def parse(cls, body: object) -> VariableChange:
        """From decoded JSON ``{path?, value?, is_secret?, description?}``."""
        members = _members(body)
        return cls(
            path=parse_path(members["path"]) if members.get("path") is not None else None,
            value=_text(members, "value", MAX_VALUE_BYTES) if members.get("value") is not None else None,
            is_secret=_flag(members, "is_secret") if members.get("is_secret") is not None else None,
            description=_text(members, "description", MAX_DESCRIPTION_BYTES)
            if members.get("description") is not None
            else None,
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource; ``stored`` is its value as sealed JSON text."""

    workspace: str
    path: str
    stored: str = field(repr=False)
    resource_type: str
    description: str
    created_by: str
    edited_at_ms: int

    def to_json(self, value: bytes) -> dict[str, Any]:
        """The object of ``resources/get`` and ``resources/list``; ``value`` is JSON text."""
        return {
            "workspace_id": self.workspace,
            "path": self.path,
            "description": self.description,
            "resource_type": self.resource_type,
            "value": orjson.Fragment(value),
            "extra_perms": {},
            "created_by": self.created_by,
            "edited_at": rfc3339(self.edited_at_ms),
            "is_oauth": False,
            "is_expired": False,
            "is_linked": False,
            "is_refreshed": False,
            "account": None,
        }


@dataclass(frozen=True, slots=True)
class NewResource:
    """The body of ``resources/create``."""

    path: str
    value: str = field(repr=False)
    resource_type: str
    description: str

    @classmethod
    def parse(cls, body: object) -> NewResource:
        """From decoded JSON ``{path, value, resource_type, description?}``."""
        members = _members(body)
        return cls(
            path=parse_path(members.get("path")),
            value=parse_value(members),
            resource_type=parse_name(members.get("resource_type"), "resource_type"),
            description=_text(members, "description", MAX_DESCRIPTION_BYTES, default=""),
        )


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """The body of ``resources/update``; None for what stays."""

    path: str | None
    value: str | None = field(repr=False)
    resource_type: str | None
    description: str | None

    @classmethod
    def parse(cls, body: object) -> ResourceChange:
        """From decoded JSON ``{path?, value?, resource_type?, description?}``."""
        members = _members(body)
        kind = members.get("resource_type")
        return cls(
            path=parse_path(members["path"]) if members.get("path") is not None else None,
            value=parse_value(members) if "value" in members else None,
            resource_type=None if kind is None else parse_name(kind, "resource_type"),
            description=_text(members, "description", MAX_DESCRIPTION_BYTES)
            if members.get("description") is not None
            else None,
        )


@dataclass(frozen=True, slots=True)
class ResourceType:
    """What resources of one type look like."""

    workspace: str
    name: str
    schema: str | None
    description: str
    created_by: str
    edited_at_ms: int
    format_extension: str | None

    def to_json(self) -> dict[str, Any]:
        """The object of ``resources/type/get`` and ``resources/type/list``."""
        return {
            "workspace_id": self.workspace,
            "name": self.name,
            "schema": None if self.schema is None else orjson.Fragment(self.schema),
            "description": self.description,
            "created_by": self.created_by,
            "edited_at": rfc3339(self.edited_at_ms),
            "format_extension": self.format_extension,
        }


@dataclass(frozen=True, slots=True)
class NewResourceType:
    """The body of ``resources/type/create``."""

    name: str
    schema: str | None
    description: str
    format_extension: str | None

    @classmethod
    def parse(cls, body: object, name: str | None = None) -> NewResourceType:
        """From decoded JSON ``{name, schema?, description?, format_extension?}``; ``name`` is that of an existing one."""
        members = _members(body)
        extension = members.get("format_extension")
        return cls(
            name=parse_name(members.get("name") if name is None else name, "name"),
            schema=None if members.get("schema") is None else parse_value(members, "schema"),
            description=_text(members, "description", MAX_DESCRIPTION_BYTES, default=""),
            format_extension=None if extension is None else parse_name(extension, "format_extension"),
        )


def parse_name(value: object, name: str) -> str:
    """The name of a resource type. Raises :class:`BadRequest` naming the member."""
    if not isinstance(value, str) or len(value) > MAX_NAME_LENGTH or not _NAME.fullmatch(value):
        raise BadRequest(f"{name} must be of letters, digits, - and _, at most {MAX_NAME_LENGTH} characters")
    return value


def parse_value(members: Mapping[str, Any], name: str = "value") -> str:
    """The value of a resource as JSON text. Raises :class:`BadRequest`, never with the value in it."""
    try:
        encoded = orjson.dumps(members.get(name))
    except (TypeError, ValueError, RecursionError):
        raise BadRequest(f"{name} cannot be stored: it is nested too deeply or holds a number out of range") from None
    if len(encoded) > MAX_VALUE_BYTES:
        raise BadRequest(f"{name} is too large: at most {MAX_VALUE_BYTES} bytes of JSON")
    return encoded.decode()


def _members(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _text(members: Mapping[str, Any], name: str, max_bytes: int, *, default: str | None = None) -> str:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{name} is not valid Unicode") from None
    if size > max_bytes:
        raise BadRequest(f"{name} is too large: at most {max_bytes} bytes")
    if "\0" in value:
        raise BadRequest(f"{name} must not contain the character NUL")
    return value


def _flag(members: Mapping[str, Any], name: str, *, default: bool | None = None) -> bool:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def _time(members: Mapping[str, Any], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    try:
        return parse_rfc3339(value if isinstance(value, str) else "")
    except ValueError:
        raise BadRequest(f"{name} must be an RFC 3339 date-time such as 2030-01-31T12:00:00Z, or null") from None
