"""The JSON Schemas (2020-12) of what is sent and answered, as the OpenAPI document names them. Pure data.

They are open: an object may have more members than are described, as newer versions add some. A test holds them
against what ``to_json`` of the described classes gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.addresses import MAX_NETWORKS
from minwebhook.api.file_previews import PreviewKind
from minwebhook.api.files import MAX_SIGNED
from minwebhook.api.flow_schemas import FLOWS
from minwebhook.api.identity_schemas import IDENTITY
from minwebhook.api.job_schemas import JOBS
from minwebhook.api.parameters import BOOLEAN, HASH, SCRIPT_PATH, TEXT, TIME, UUID, Schema
from minwebhook.api.records import (
    ANYTHING,
    INTEGER,
    LANGUAGE,
    NUMBER,
    OBJECT,
    SHOWN_HASH,
    array,
    described,
    nullable,
    record,
)
from minwebhook.api.variable_schemas import VARIABLES
from minwebhook.auth.request_limits import MAX_PER_MINUTE
from minwebhook.auth.requests import MAX_LABEL_LENGTH
from minwebhook.auth.scopes import MAX_SCOPE_LENGTH, MAX_SCOPES
from minwebhook.scripts.limits import LEAST
from minwebhook.scripts.model import ScriptKind
from minwebhook.scripts.signatures import ALGORITHMS, ENCODINGS, MAX_TOLERANCE_S
from minwebhook.storage.keys import MAX_KEY_BYTES
from minwebhook.storage.objects import MAX_SIGNED_S

_NETWORKS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "examples": ["192.0.2.0/24", "2001:db8::1"]},
    "minItems": 1,
    "maxItems": MAX_NETWORKS,
}
_SMALL: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_KIND: Final[Schema] = {"type": "string", "enum": [kind.value for kind in ScriptKind]}

# --- scripts ----------------------------------------------------------------------------------------------------------

#: Kept with a version and given back; left out of answers where they are not set.
_LIMITS: Final[Mapping[str, Schema]] = {
    name: {"type": "number" if name == "cpu_s" else "integer", "minimum": least} for name, least in LEAST.items()
}
_SCRIPT_SETTINGS: Final[Mapping[str, Schema]] = {
    "is_template": BOOLEAN,
    "draft_only": described(BOOLEAN, "A placeholder that a real version may replace."),
    "envs": described(array({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*="}), "Variables, `NAME=value`."),
    "concurrency_key": TEXT,
    "concurrent_limit": _SMALL,
    "concurrency_time_window_s": _SMALL,
    "debounce_key": TEXT,
    "debounce_delay_s": _SMALL,
    "max_total_debouncing_time": _SMALL,
    "max_total_debounces_amount": _SMALL,
    "debounce_args_to_accumulate": array(TEXT),
    "cache_ttl": _SMALL,
    "cache_ignore_s3_path": BOOLEAN,
    "dedicated_worker": described(BOOLEAN, "Whether processes stay and run further jobs of this version."),
    "ws_error_handler_muted": BOOLEAN,
    "priority": described({"type": "integer", "minimum": -(2**15), "maximum": 2**15 - 1}, "Higher starts first."),
    "timeout": described(_SMALL, "Seconds a job may run."),
    "delete_after_use": BOOLEAN,
    "delete_after_secs": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "restart_unless_cancelled": BOOLEAN,
    "visible_to_runner_only": described(BOOLEAN, "Whether jobs are shown to their caller alone."),
    "codebase": TEXT,
    "on_behalf_of_email": TEXT,
    "assets": array(ANYTHING),
    "limits": described(
        record({}, optional={name: nullable(schema) for name, schema in _LIMITS.items()}),
        "What its jobs may use, where it is not what all may; above the instance's maxima these hold.",
    ),
    "network": described(
        {"type": "string", "enum": ["host", "none", None]}, "What its jobs may reach; none: only this server."
    ),
    "allowed_networks": described(_NETWORKS, "Addresses and networks that requests may run it from."),
    "retry": described({"type": "object"}, "When failed runs are tried again; see the documentation."),
    "crash_attempts": described(INTEGER, "How often a run is begun that ends with the server."),
    "signature": described(
        record(
            {"secret": TEXT, "header": TEXT},
            optional={
                "algorithm": {"enum": [*ALGORITHMS, None]},
                "encoding": {"enum": [*ENCODINGS, None]},
                **{
                    name: nullable(TEXT)
                    for name in ("prefix", "message", "timestamp_header", "timestamp_prefix", "id_header")
                },
                "tolerance_s": {"type": "integer", "minimum": 1, "maximum": MAX_TOLERANCE_S},
            },
        ),
        "How the sender signs; the server refuses runs that are not signed so.",
    ),
}
_SCRIPT_TEXTS: Final[Mapping[str, Schema]] = {"summary": TEXT, "description": TEXT, "content": described(TEXT, "Code.")}
_SCRIPTS: Final[Mapping[str, Schema]] = {
    "NewScript": {
        **record(
            {"path": SCRIPT_PATH, **_SCRIPT_TEXTS, "language": LANGUAGE},
            optional={
                "parent_hash": described(nullable(HASH), "The live version that this one follows."),
                "auto_parent": described(nullable(BOOLEAN), "Follows whatever version is live."),
                "kind": {"enum": [*_KIND["enum"], None]},
                "tag": nullable(TEXT),
                "schema": described(
                    nullable(OBJECT), "The JSON Schema of the arguments; null for what is read off the signature."
                ),
                "lock": {"anyOf": [nullable(TEXT), array(TEXT)], "description": "Requirements, whole or by line."},
                "no_main_func": described(nullable(BOOLEAN), "Read off the code of Python scripts."),
                "has_preprocessor": described(nullable(BOOLEAN), "Read off the code of Python scripts."),
                "deployment_message": nullable(TEXT),
                "custom_debounce_key": described(nullable(TEXT), "Another name of `debounce_key`."),
                "preserve_on_behalf_of": nullable(BOOLEAN),
                **{name: nullable(schema) for name, schema in _SCRIPT_SETTINGS.items()},
            },
        ),
        "examples": [
            {
                "path": "u/demo/twice",
                "summary": "doubles a number",
                "description": "",
                "content": "def main(n: int): return 2 * n",
                "language": "python3",
                "auto_parent": True,
            }
        ],
    },
    "Code": {
        **record({"content": described(TEXT, "The code."), "language": LANGUAGE}),
        "examples": [{"content": "def main(n: int, unit: str = 'm'): return f'{n} {unit}'", "language": "python3"}],
    },
    "Script": record(
        {
            "workspace_id": TEXT,
            "hash": SHOWN_HASH,
            "path": SCRIPT_PATH,
            "parent_hashes": described(
                nullable(array(SHOWN_HASH)), "Versions that this one follows, the last one first."
            ),
            **_SCRIPT_TEXTS,
            "created_by": TEXT,
            "created_at": TIME,
            "archived": BOOLEAN,
            "schema": nullable(OBJECT),
            "deleted": BOOLEAN,
            "extra_perms": OBJECT,
            "lock": nullable(TEXT),
            "lock_error_logs": nullable(TEXT),
            "language": LANGUAGE,
            "kind": _KIND,
            "tag": nullable(TEXT),
        },
        optional={**_SCRIPT_SETTINGS, "no_main_func": BOOLEAN, "has_preprocessor": BOOLEAN},
    ),
    "DeploymentStatus": record(
        {
            "lock": described(nullable(TEXT), "Its packages; null as long as they are not found."),
            "lock_error_logs": described(nullable(TEXT), "Why they were not found."),
            "job_id": described(nullable(UUID), "The job that looks for them; null if none had to."),
        }
    ),
    "ScriptListItem": record(
        {
            "hash": SHOWN_HASH,
            "path": SCRIPT_PATH,
            "summary": TEXT,
            "created_at": TIME,
            "archived": BOOLEAN,
            "extra_perms": OBJECT,
            "language": LANGUAGE,
            "starred": BOOLEAN,
            "tag": nullable(TEXT),
            "has_deploy_errors": BOOLEAN,
            "ws_error_handler_muted": BOOLEAN,
            "kind": _KIND,
        },
        optional={
            "description": TEXT,
            "deployment_msg": TEXT,
            "draft_only": BOOLEAN,
            "no_main_func": BOOLEAN,
            "use_codebase": BOOLEAN,
        },
    ),
    "ScriptPaths": {
        **record({"paths": {"type": "array", "items": TEXT, "maxItems": 1000}}),
        "examples": [{"paths": ["u/admin/none"]}],
    },
    "Muted": record({}, optional={"muted": nullable({"type": "boolean"})}),
    "ScriptHistoryItem": record({"script_hash": SHOWN_HASH}, optional={"deployment_msg": TEXT}),
}

# --- files ------------------------------------------------------------------------------------------------------------

_KEY: Final = described({"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES}, "The key.")
_STORAGE_NAME: Final = {"storage": described(nullable(TEXT), "The name of a secondary storage.")}
_FILES: Final[Mapping[str, Schema]] = {
    "S3Object": record(
        {"s3": _KEY, "presigned": described(TEXT, "The query of an address below `s3_proxy`.")}, optional=_STORAGE_NAME
    ),
    "S3Objects": {
        **record(
            {"s3_objects": {**array(record({"s3": _KEY}, optional=_STORAGE_NAME)), "maxItems": MAX_SIGNED}},
            optional={
                "expiry_secs": described(
                    {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_SIGNED_S},
                    "How long; 12 hours if left out.",
                )
            },
        ),
        "examples": [{"s3_objects": [{"s3": "folder/name.txt"}], "expiry_secs": 3600}],
    },
    "FileList": record(
        {
            "windmill_large_files": array(record({"s3": TEXT})),
            "next_marker": described(nullable(TEXT), "The `marker` of the next page; null at the end."),
            "restricted_access": BOOLEAN,
        }
    ),
    "FileMetadata": record(
        {
            "mime_type": TEXT,
            "size_in_bytes": INTEGER,
            "last_modified": TIME,
            "expires": {"type": "null"},
            "version_id": {"type": "null"},
        }
    ),
    "FilePreview": record(
        {
            "content": described(nullable(TEXT), "The text, or a table with commas; null for what is no text."),
            "content_type": {"type": "string", "enum": [kind.value for kind in PreviewKind]},
            "msg": described(nullable(TEXT), "Why there is no content."),
        }
    ),
    "StorageConfig": {
        **record(
            {},
            optional={
                "large_file_storage": described(
                    nullable(OBJECT), "`S3Storage` or `FilesystemStorage`; null or left out: that of the settings."
                )
            },
        ),
        "examples": [{"large_file_storage": None}],
    },
}

# --- tokens, the server, errors ---------------------------------------------------------------------------------------

_HEALTH: Final[Schema] = {"type": "string", "enum": ["healthy", "degraded", "unhealthy"]}
_SCOPES: Final[Schema] = {
    "type": ["array", "null"],
    "items": {"type": "string", "maxLength": MAX_SCOPE_LENGTH},
    "maxItems": MAX_SCOPES,
    "description": "What it is restricted to, as in `jobs:run:scripts:f/team/*`; null or empty: nothing.",
}

_REST: Final[Mapping[str, Schema]] = {
    "NewToken": {
        **record(
            {},
            optional={
                "label": {"type": ["string", "null"], "maxLength": MAX_LABEL_LENGTH},
                "expiration": described(nullable(TIME), "When it stops working; null or left out: never."),
                "workspace_id": described(nullable(TEXT), "The only workspace it is good for."),
                "scopes": _SCOPES,
                "read_only": described({"type": ["boolean", "null"]}, "It may run and change nothing."),
                "allowed_networks": described(
                    {**_NETWORKS, "type": ["array", "null"]}, "Addresses and networks that it may be used from."
                ),
                "requests_per_minute": described(
                    {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_PER_MINUTE},
                    "Requests that it may make in a minute, and at once after a pause.",
                ),
            },
        ),
        "examples": [{"label": "webhook-door", "workspace_id": "demo"}],
    },
    "ImpersonatedToken": {
        **record(
            {"impersonate_email": described(TEXT, "Whose token it is.")},
            optional={
                "label": {"type": ["string", "null"], "maxLength": MAX_LABEL_LENGTH},
                "expiration": described(nullable(TIME), "When it stops working; null or left out: never."),
                "workspace_id": described(nullable(TEXT), "The only workspace it is good for."),
            },
        ),
        "examples": [{"impersonate_email": "admin@localhost", "label": "of the admin"}],
    },
    "Scopes": {**record({"scopes": _SCOPES}), "examples": [{"scopes": ["jobs:run:scripts:u/demo/hello"]}]},
    "Label": {
        **record({"label": {"type": ["string", "null"], "maxLength": MAX_LABEL_LENGTH}}),
        "examples": [{"label": "webhook-door"}],
    },
    "RunnableToken": record(
        {
            "label": nullable(TEXT),
            "token_prefix": TEXT,
            "expiration": nullable(TIME),
            "created_at": TIME,
            "last_used_at": TIME,
            "scopes": nullable(array(TEXT)),
            "email": described(TEXT, "Whose it is."),
        }
    ),
    "ScopeDomain": record(
        {
            "name": TEXT,
            "description": nullable(TEXT),
            "scopes": array(record({"value": TEXT, "label": TEXT, "requires_resource_path": BOOLEAN})),
        }
    ),
    "Token": {
        **record(
            {
                "label": nullable(TEXT),
                "token_prefix": TEXT,
                "expiration": nullable(TIME),
                "created_at": TIME,
                "last_used_at": TIME,
                "scopes": nullable(array(TEXT)),
                "workspace_id": nullable(TEXT),
                "read_only": BOOLEAN,
                "allowed_networks": {"type": ["array", "null"], "items": TEXT},
                "requests_per_minute": {"type": ["integer", "null"]},
            }
        ),
        "description": "What is shown of a token; the token itself cannot be read again.",
    },
    "Health": record(
        {
            "status": _HEALTH,
            "checked_at": TIME,
            "database_healthy": BOOLEAN,
            "workers_alive": INTEGER,
        },
        optional={"draining": described(BOOLEAN, "true while the server shuts down.")},
    ),
    "Readiness": record({"ready": BOOLEAN, "reasons": array(TEXT)}),
    "HealthDetails": record(
        {
            "status": _HEALTH,
            "checked_at": TIME,
            "version": TEXT,
            "reasons": array(TEXT),
            "draining": BOOLEAN,
            "checks": record(
                {
                    "database": record(
                        {
                            "healthy": BOOLEAN,
                            "latency_ms": NUMBER,
                            "pool": record({"size": INTEGER, "idle": INTEGER, "max_connections": INTEGER}),
                        }
                    ),
                    "workers": record(
                        {
                            "healthy": BOOLEAN,
                            "active_count": INTEGER,
                            "worker_groups": array(TEXT),
                            "min_version": TEXT,
                            "versions": array(TEXT),
                        }
                    ),
                    "queue": record({"pending_jobs": INTEGER, "running_jobs": INTEGER, "oldest_pending_s": NUMBER}),
                    "disk": record({"healthy": BOOLEAN, "free_bytes": INTEGER}),
                    "sandbox": record(
                        {
                            "rung": TEXT,
                            "description": TEXT,
                            "missing": array(record({"name": TEXT, "reason": TEXT, "cure": TEXT})),
                        }
                    ),
                    "readiness": record({"healthy": BOOLEAN}),
                }
            ),
        }
    ),
    "Problem": {
        **record({"type": TEXT, "title": TEXT, "status": INTEGER, "detail": TEXT}),
        "description": "An error for those who accept `application/problem+json` (RFC 9457).",
    },
}

#: By their names below ``components/schemas``.
SCHEMAS: Final[Mapping[str, Schema]] = {**JOBS, **_SCRIPTS, **_FILES, **VARIABLES, **IDENTITY, **FLOWS, **_REST}
