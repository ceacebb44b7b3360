"""JSON Schemas of variables, resources, folders and groups. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.api.parameters import BOOLEAN, TEXT, TIME, Schema
from minwebhook.api.records import (
    ANYTHING,
    INTEGER,
    OBJECT,
    described,
    nullable,
    record,
)
from minwebhook.audit.record import ACTION_KINDS
from minwebhook.variables.model import MAX_NAME_LENGTH, MAX_PATH_LENGTH

_PATH: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_PATH_LENGTH,
    "pattern": "^(u/[A-Za-z0-9_.@+-]+|[fg]/[A-Za-z0-9_-]+)(/[A-Za-z0-9_-]+)+$",
}
_TYPE_NAME: Final[Schema] = {"type": "string", "maxLength": MAX_NAME_LENGTH, "pattern": "^[A-Za-z0-9_-]+$"}
_NO_RIGHTS: Final[Schema] = {"type": "object", "maxProperties": 0}

VARIABLES: Final[Mapping[str, Schema]] = {
    "NewVariable": {
        **record(
            {"path": _PATH, "value": TEXT, "is_secret": BOOLEAN},
            optional={
                "description": nullable(TEXT),
                "account": nullable(INTEGER),
                "is_oauth": nullable(BOOLEAN),
                "expires_at": described(nullable(TIME), "When it is gone."),
            },
        ),
        "examples": [{"path": "u/demo/hello", "value": "open sesame", "is_secret": True, "description": "the door"}],
    },
    "VariableChange": {
        **record(
            {},
            optional={
                "path": described(nullable({**_PATH}), "Where it goes."),
                "value": nullable(TEXT),
                "is_secret": nullable(BOOLEAN),
                "description": nullable(TEXT),
            },
        ),
        "examples": [{"value": "close sesame"}],
    },
    "Variable": record(
        {
            "workspace_id": TEXT,
            "path": _PATH,
            "value": nullable(TEXT),
            "is_secret": BOOLEAN,
            "description": TEXT,
            "extra_perms": _NO_RIGHTS,
            "account": nullable(INTEGER),
            "is_oauth": BOOLEAN,
            "is_expired": BOOLEAN,
            "refresh_error": {"type": "null"},
            "is_linked": BOOLEAN,
            "is_refreshed": BOOLEAN,
            "expires_at": nullable(TIME),
        }
    ),
    "ContextualVariable": record({"name": TEXT, "value": TEXT, "description": TEXT, "is_custom": BOOLEAN}),
    "NewResource": {
        **record(
            {"path": _PATH, "value": ANYTHING, "resource_type": _TYPE_NAME},
            optional={"description": nullable(TEXT)},
        ),
        "examples": [
            {"path": "u/demo/hello", "value": {"host": "db.example.org", "port": 5432}, "resource_type": "postgresql"}
        ],
    },
    "ResourceChange": {
        **record(
            {},
            optional={
                "path": described(nullable({**_PATH}), "Where it goes."),
                "value": ANYTHING,
                "resource_type": nullable({**_TYPE_NAME}),
                "description": nullable(TEXT),
            },
        ),
        "examples": [{"description": "the database"}],
    },
    "Resource": record(
        {
            "workspace_id": TEXT,
            "path": _PATH,
            "description": TEXT,
            "resource_type": _TYPE_NAME,
            "value": ANYTHING,
            "extra_perms": _NO_RIGHTS,
            "created_by": TEXT,
            "edited_at": TIME,
            "is_oauth": BOOLEAN,
            "is_expired": BOOLEAN,
            "is_linked": BOOLEAN,
            "is_refreshed": BOOLEAN,
            "account": {"type": "null"},
        }
    ),
    "NewResourceType": {
        **record(
            {"name": _TYPE_NAME},
            optional={
                "schema": described(ANYTHING, "A JSON Schema."),
                "description": nullable(TEXT),
                "format_extension": described(nullable({**_TYPE_NAME}), "How files end, if the resources are files."),
            },
        ),
        "examples": [{"name": "c_door", "schema": {"type": "object"}, "description": "A door"}],
    },
    "ResourceTypeChange": {
        **record({}, optional={"schema": ANYTHING, "description": nullable(TEXT)}),
        "examples": [{"schema": {"type": "object"}}],
    },
    "ResourceType": record(
        {
            "workspace_id": TEXT,
            "name": _TYPE_NAME,
            "schema": ANYTHING,
            "description": TEXT,
            "created_by": TEXT,
            "edited_at": TIME,
            "format_extension": nullable(TEXT),
        }
    ),
    "PlainValue": {"type": "string", "examples": ["open sesame"]},
    "ResourceValue": {**record({"value": ANYTHING}), "examples": [{"value": {"host": "db.example.org"}}]},
    "AuditRecord": record(
        {
            "id": INTEGER,
            "workspace_id": nullable(TEXT),
            "timestamp": TIME,
            "username": TEXT,
            "operation": TEXT,
            "action_kind": {"type": "string", "enum": list(ACTION_KINDS)},
            "resource": nullable(TEXT),
            "parameters": OBJECT,
        }
    ),
    "FileType": record({"format_extension": TEXT, "is_fileset": BOOLEAN}),
}
