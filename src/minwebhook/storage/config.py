"""The storages of a workspace as JSON: what ``edit_large_file_storage_config`` takes. Pure.

The shape is Windmill's: a primary storage with a ``type``, and named secondary ones in ``secondary_storage``::

    {"type": "S3Storage", "s3_resource": {"bucket": "b", "region": "", "endPoint": "", "accessKey": "…", "secretKey": "…"},
     "secondary_storage": {"archive": {"type": "FilesystemStorage", "root_path": "/srv/objects/archive"}}}

``s3_resource_path`` names a resource of the workspace, with or without ``$res:``. Two things are our own: ``s3_resource``
may hold the S3 resource itself; and ``advanced_permissions`` are refused, because accepting rules that nobody enforces would
be worse than having none. Members that are not known are ignored, as upstream does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, TypeAlias

from minwebhook.errors import BadRequest
from minwebhook.storage.s3_location import DEFAULT_REGION, DEFAULT_TIMEOUT_S, S3Location, endpoint_url

#: Types of upstream that are not for this server.
_OTHER_TYPES: Final = frozenset({"S3AwsOidc", "AzureBlobStorage", "AzureWorkloadIdentity", "GoogleCloudStorage"})

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_SECONDARY: Final = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator lets workspaces configure."""

    #: Directory below which theirs may be; empty if none may.
    storage_root: str = ""
    plain_http_hosts: tuple[str, ...] = ()
    ca_pem: str = field(default="", repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Directory:
    """Objects in a directory: ``folder``, in segments, below ``base``."""

    base: str
    folder: tuple[str, ...]


#: Where a storage is.
Place: TypeAlias = Directory | S3Location


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """The storages of a workspace: places, and the JSON that says so (with secrets)."""

    primary: Place
    secondary: Mapping[str, Place]
    json: Mapping[str, Any] = field(repr=False)


def _none(path: str) -> object:
    raise BadRequest(f"resource {path} not found")


def parse_edit(body: object, limits: Limits, find_resource: Callable[[str], object] = _none) -> WorkspaceConfig | None:
    """The body of ``edit_large_file_storage_config``; None takes the configuration away."""
    if not isinstance(body, dict):
        raise BadRequest('the body must be an object: {"large_file_storage": …}')
    value = body.get("large_file_storage")
    return None if value is None else parse_config(value, limits, find_resource)


def parse_config(value: object, limits: Limits, find_resource: Callable[[str], object] = _none) -> WorkspaceConfig:
    """A configuration; raises :class:`BadRequest` naming the member that is wrong.

    ``find_resource`` gives the value of the resource at a path, and raises :class:`BadRequest` if there is none.
    """
    primary, kept = _parse_storage("large_file_storage", value, limits, find_resource)
    secondary: dict[str, Place] = {}
    others = value.get("secondary_storage") if isinstance(value, dict) else None
    if others is not None:
        field_name = "large_file_storage.secondary_storage"
        if not isinstance(others, dict) or len(others) > MAX_SECONDARY:
            raise BadRequest(f"{field_name} must be an object of at most {MAX_SECONDARY} storages by name")
        kept["secondary_storage"] = {}
        for name, other in others.items():
            if not _NAME.fullmatch(name):
                raise BadRequest(f"{field_name}: a name has 1 to 64 letters, digits, - and _, not {ascii(name)[:80]}")
            secondary[name], kept["secondary_storage"][name] = _parse_storage(
                f"{field_name}.{name}", other, limits, find_resource
            )
    return WorkspaceConfig(primary, secondary, kept)


def _parse_storage(
    name: str, value: object, limits: Limits, find_resource: Callable[[str], object]
) -> tuple[Place, dict[str, Any]]:
    """One storage: where it is, and the JSON to keep of it."""
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object with a type")
    kind = value.get("type")
    if isinstance(kind, str) and kind in _OTHER_TYPES:
        raise BadRequest(f"{name}.type {kind} is not supported here; use S3Storage or FilesystemStorage")
    if kind not in ("S3Storage", "FilesystemStorage"):
        raise BadRequest(f"{name}.type must be S3Storage or FilesystemStorage")
    if value.get("advanced_permissions") is not None:
        raise BadRequest(f"{name}.advanced_permissions are not supported here; leave them out")
    is_public = value.get("public_resource")
    if is_public is not None and not isinstance(is_public, bool):
        raise BadRequest(f"{name}.public_resource must be true or false")
    kept: dict[str, Any] = {"type": kind}
    if is_public is not None:
        kept["public_resource"] = is_public
    if kind == "FilesystemStorage":
        kept["root_path"] = value.get("root_path")
        return _directory(f"{name}.root_path", kept["root_path"], limits), kept
    path = value.get("s3_resource_path")
    if path is not None and "s3_resource" not in value:
        if not isinstance(path, str):
            raise BadRequest(f"{name}.s3_resource_path must be the path of a resource")
        kept["s3_resource_path"] = path
        try:
            resource = find_resource(path.removeprefix("$res:"))
        except BadRequest as error:
            raise BadRequest(f"{name}.s3_resource_path: {error.detail}") from error
        return _parse_s3(f"{name}.s3_resource_path", resource, limits)[0], kept
    location, kept["s3_resource"] = _parse_s3(f"{name}.s3_resource", value.get("s3_resource"), limits)
    return location, kept


def _directory(name: str, value: object, limits: Limits) -> Directory:
    """A directory that is strictly below the operator's."""
    if not limits.storage_root:
        raise BadRequest(f"{name}: the setting storage_root does not allow workspaces to choose directories")
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise BadRequest(f"{name} must be an absolute path")
    path = PurePosixPath(value)
    if ".." in path.parts or not path.is_relative_to(limits.storage_root) or path == PurePosixPath(limits.storage_root):
        raise BadRequest(f"{name} must be below the directory that the setting storage_root names")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{name} is not valid Unicode") from None
    return Directory(limits.storage_root, path.relative_to(limits.storage_root).parts)


def _parse_s3(name: str, value: object, limits: Limits) -> tuple[S3Location, dict[str, Any]]:
    """An S3 resource of Windmill's type ``s3``, and the members of it that count."""
    if not isinstance(value, dict):
        raise BadRequest(
            f"{name} must be an S3 resource: an object with bucket, region, endPoint, accessKey, secretKey"
        )

    def text(member: str) -> str:
        found = value.get(member)
        if found is not None and not isinstance(found, str):
            raise BadRequest(f"{name}.{member} must be a string")
        return found or ""

    def flag(member: str) -> bool:
        found = value.get(member)
        if found is not None and not isinstance(found, bool):
            raise BadRequest(f"{name}.{member} must be true or false")
        return found is not False

    port = value.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int)):
        raise BadRequest(f"{name}.port must be a whole number")
    region = text("region") or DEFAULT_REGION
    try:
        location = S3Location(
            bucket=text("bucket"),
            endpoint=endpoint_url(
                text("endPoint"),
                region,
                port=port,
                use_tls=flag("useSSL"),
                plain_http_hosts=limits.plain_http_hosts,
            ),
            access_key=text("accessKey"),
            secret_key=text("secretKey"),
            region=region,
            session_token=text("token"),
            path_style=flag("pathStyle"),
            ca_pem=limits.ca_pem,
            timeout_s=limits.timeout_s,
        )
    except BadRequest as error:
        raise BadRequest(f"{name}.{error.detail}") from error
    members = ("bucket", "region", "endPoint", "useSSL", "accessKey", "secretKey", "pathStyle", "port", "token")
    return location, {member: value[member] for member in members if value.get(member) is not None}
