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
from minwebhook.api.job_access import MAX_IDS
from minwebhook.api.parameters import BOOLEAN, HASH, SCRIPT_PATH, TEXT, TIME, UUID, Schema
from minwebhook.api.records import ANYTHING, array, described, nullable, record, ref
from minwebhook.audit.record import ACTION_KINDS
from minwebhook.auth.request_limits import MAX_PER_MINUTE
from minwebhook.auth.requests import MAX_LABEL_LENGTH
from minwebhook.auth.scopes import MAX_SCOPE_LENGTH, MAX_SCOPES
from minwebhook.scripts.limits import LEAST
from minwebhook.scripts.model import Language, ScriptKind
from minwebhook.scripts.signatures import ALGORITHMS, ENCODINGS, MAX_TOLERANCE_S
from minwebhook.storage.keys import MAX_KEY_BYTES
from minwebhook.storage.objects import MAX_SIGNED_S
from minwebhook.variables.model import MAX_NAME_LENGTH, MAX_PATH_LENGTH

_OBJECT: Final[Schema] = {"type": "object"}
_NETWORKS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string", "examples": ["192.0.2.0/24", "2001:db8::1"]},
    "minItems": 1,
    "maxItems": MAX_NETWORKS,
}
_INTEGER: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
#: Hashes are lower-case where the server writes them.
_HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_SMALL: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_LANGUAGE: Final[Schema] = {"type": "string", "enum": [language.value for language in Language]}
_KIND: Final[Schema] = {"type": "string", "enum": [kind.value for kind in ScriptKind]}

# --- jobs -------------------------------------------------------------------------------------------------------------

_JOB: Final = record(
    {
        "workspace_id": TEXT,
        "id": UUID,
        "created_by": described(TEXT, "A username, or the label of a token."),
        "created_at": TIME,
        "canceled": BOOLEAN,
        "job_kind": described(TEXT, "`script`, `preview`, `flow`, `flowpreview`, `identity` or `dependencies`."),
        "permissioned_as": described(TEXT, "On whose behalf it runs: `u/<user>`."),
        "is_flow_step": BOOLEAN,
        "email": TEXT,
        "visible_to_owner": BOOLEAN,
        "tag": TEXT,
    },
    optional={
        "language": TEXT,
        "args": described(ANYTHING, "The arguments, or a short object in their place if they are large."),
        "parent_job": UUID,
        "script_hash": _HASH,
        "script_path": TEXT,
        "logs": described(TEXT, "The end of the log."),
        "canceled_by": TEXT,
        "canceled_reason": TEXT,
        "priority": _INTEGER,
        "mem_peak": described(_INTEGER, "Resident memory at its peak, in KiB."),
        "cpu_s": described({"type": "number"}, "Seconds of processor time."),
        "ended_by": described(
            TEXT, "The limit that ended it: timeout, cpu, oom, pids, log, result; or `signal` and its number."
        ),
        "self_wait_time_ms": described(_INTEGER, "How long it was due before it started."),
        "preprocessed": BOOLEAN,
        "labels": array(TEXT),
        "attempts": described(_INTEGER, "How often it was begun, if more than once."),
        "dead": described(BOOLEAN, "It failed for good although it was to be tried again."),
        "raw_code": described(TEXT, "The code of a preview."),
        "raw_flow": described(_OBJECT, "The definition of a flow that came with its request."),
        "flow_status": described(_OBJECT, "Where a flow is; docs/flows.md has its members."),
        "flow_step_id": described(TEXT, "The step of the flow that it is a job of."),
    },
)
_QUEUED: Final = record(
    {
        "type": {"const": "QueuedJob"},
        "scheduled_for": TIME,
        "running": BOOLEAN,
        "same_worker": BOOLEAN,
        "script_entrypoint_override": nullable(TEXT),
    },
    optional={
        "started_at": TIME,
        "root_job": UUID,
        "suspend_until": described(TIME, "Until when a flow waits for approvals."),
        "timeout": described(_INTEGER, "Its own limit, in seconds."),
        "cache_ttl": _INTEGER,
    },
)
_COMPLETED: Final = record(
    {
        "started_at": nullable(TIME),
        "completed_at": nullable(TIME),
        "duration_ms": _INTEGER,
        "success": BOOLEAN,
        "result_columns": nullable(array(TEXT)),
        "deleted": BOOLEAN,
        "is_skipped": BOOLEAN,
    },
    optional={
        "type": {"const": "CompletedJob"},
        "result": described(ANYTHING, "The result or error object, or `WINDMILL_TOO_BIG` if it is large."),
    },
)
_JOBS: Final[Mapping[str, Schema]] = {
    "JobMembers": {**_JOB, "description": "What every job shows."},
    "QueuedJob": {"allOf": [ref("JobMembers"), _QUEUED], "description": "A job that waits or runs."},
    "CompletedJob": {"allOf": [ref("JobMembers"), _COMPLETED], "description": "A job that has ended."},
    "Job": {"oneOf": [ref("QueuedJob"), ref("CompletedJob")]},
    "ResumeUrls": record({"approvalPage": TEXT, "cancel": TEXT, "resume": TEXT}),
    "Approver": record({"resume_id": _INTEGER, "approver": TEXT}),
    "FlowToApprove": record({"job": ref("Job"), "approvers": array(ref("Approver"))}),
    "Approval": record(
        {},
        optional={
            "payload": ANYTHING,
            "approval_token": nullable(TEXT),
            "approved": described(BOOLEAN, "`false` ends the flow. By default `true`."),
        },
    ),
    "ApprovalInfo": record(
        {
            "flow_id": UUID,
            "flow_path": nullable(TEXT),
            "workspace_id": TEXT,
            "is_waiting": BOOLEAN,
            "can_approve": described(BOOLEAN, "Whether the caller may."),
            "approvers": array(ref("Approver")),
        },
        optional={
            "job_id": UUID,
            "step_id": TEXT,
            "summary": TEXT,
            "required_events": described(_INTEGER, "How many more approvals are needed."),
            "until": nullable(TIME),
            "form_schema": described(ANYTHING, "JSON Schema of the form."),
            "description": described(ANYTHING, "These three are members of the step's result."),
            "default_args": ANYTHING,
            "enums": ANYTHING,
            "hide_cancel": BOOLEAN,
            "user_auth_required": BOOLEAN,
            "user_groups_required": array(ANYTHING),
            "self_approval_disabled": BOOLEAN,
        },
    ),
    "Redriven": record(
        {
            "jobs": described(array(UUID), "The ids of the new jobs."),
            "failed": described(
                {"type": "object", "additionalProperties": TEXT}, "Why letters, by their ids, could not be run."
            ),
            "left": described(_INTEGER, "Letters that are still there."),
        }
    ),
    "ResultMaybe": {
        **record(
            {
                "started": nullable(BOOLEAN),
                "success": nullable(BOOLEAN),
                "completed": BOOLEAN,
                "result": described(ANYTHING, "null as long as `completed` is false."),
            }
        ),
        "description": "The result, if there is one yet.",
    },
    "Update": {
        **record(
            {"stream_offset": described(_INTEGER, "The number of chunks until now.")},
            optional={
                "running": BOOLEAN,
                "completed": described(BOOLEAN, "Always there, but for `only_result` before the end."),
                "new_logs": TEXT,
                "new_result_stream": TEXT,
                "log_offset": described(_INTEGER, "The number of characters of the log until now, plus one."),
                "only_result": described(ANYTHING, "The result, if it was asked for and is there."),
            },
        ),
        "description": "What is new of a job since the offsets.",
    },
    "Event": {
        **record(
            {"data": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("EventData")}},
            optional={"id": described(TEXT, "What `Last-Event-ID` says to go on behind it."), "retry": _INTEGER},
        ),
        "description": "A server-sent event.",
    },
    "EventData": record(
        {"type": {"enum": ["update", "timeout", "notfound", "error"]}},
        optional={
            "running": BOOLEAN,
            "completed": {"const": True, "description": "The job has ended, and this is the last event."},
            "new_logs": TEXT,
            "new_result_stream": TEXT,
            "log_offset": _INTEGER,
            "stream_offset": _INTEGER,
            "job": described(
                ref("CompletedJob"), "At the end, without log and code, unless only the result is wanted."
            ),
            "only_result": described(ANYTHING, "At the end, if only the result is wanted."),
            "error": TEXT,
        },
    ),
    "QueueRow": record(
        {
            "id": UUID,
            "running": BOOLEAN,
            "created_by": TEXT,
            "created_at": TIME,
            "started_at": nullable(TIME),
            "scheduled_for": TIME,
            "script_hash": nullable(_HASH),
            "script_path": nullable(TEXT),
            "args": described(nullable(_OBJECT), "null unless asked for."),
            "job_kind": TEXT,
            "schedule_path": nullable(TEXT),
            "is_flow_step": BOOLEAN,
            "language": described(nullable(TEXT), "null of flows."),
            "email": TEXT,
            "suspend": _INTEGER,
            "tag": TEXT,
            "priority": nullable(_INTEGER),
            "workspace_id": TEXT,
        }
    ),
    "JobTiming": record({"created_at": TIME, "started_at": nullable(TIME), "duration_ms": _INTEGER}),
    "JobCount": record({"database_length": _INTEGER, "suspended": nullable(_INTEGER)}),
    "QueuePosition": record({"position": _INTEGER}),
    "TagCount": record({"tag": TEXT, "count": _INTEGER}),
    "JobIds": {**array(UUID), "maxItems": MAX_IDS, "examples": [["01a20156-0fca-7000-b6a3-dd03b6257e63"]]},
    "JobError": {
        **record(
            {
                "error": record(
                    {"message": TEXT, "name": TEXT},
                    optional={
                        "stack": TEXT,
                        "extra": described(ANYTHING, "Attributes of the exception."),
                        "exit_code": _INTEGER,
                        "signal": _INTEGER,
                        "reason": TEXT,
                        "canceler": TEXT,
                    },
                )
            }
        ),
        "description": "The result of a job that failed on its own, was canceled or took too long.",
    },
    "Preview": {
        **record(
            {"language": _LANGUAGE},
            optional={
                "content": described(nullable(TEXT), "The code."),
                "args": described(nullable(_OBJECT), "The arguments."),
                "path": described(nullable(TEXT), "What the job shows as its path."),
                "tag": described(nullable(TEXT), "The tag of the job; the query parameter wins."),
                "kind": {"enum": ["code", None]},
            },
        ),
        "examples": [{"language": "python3", "content": "def main(a: int): return a + 1", "args": {"a": 1}}],
    },
    "RawScripts": {
        **record(
            {
                "raw_scripts": {
                    **array(
                        record({"raw_code": TEXT, "language": _LANGUAGE}, optional={"script_path": nullable(TEXT)}),
                    ),
                    "minItems": 1,
                    "maxItems": 1,
                }
            },
            optional={"entrypoint": nullable(TEXT)},
        ),
        "examples": [{"raw_scripts": [{"raw_code": "def main(): return 1", "language": "python3"}]}],
    },
    "Cancellation": {**record({}, optional={"reason": nullable(TEXT)}), "examples": [{"reason": "no longer needed"}]},
}

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
    "crash_attempts": described(_INTEGER, "How often a run is begun that ends with the server."),
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
            {"path": SCRIPT_PATH, **_SCRIPT_TEXTS, "language": _LANGUAGE},
            optional={
                "parent_hash": described(nullable(HASH), "The live version that this one follows."),
                "auto_parent": described(nullable(BOOLEAN), "Follows whatever version is live."),
                "kind": {"enum": [*_KIND["enum"], None]},
                "tag": nullable(TEXT),
                "schema": described(nullable(_OBJECT), "The JSON Schema of the arguments."),
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
    "Script": record(
        {
            "workspace_id": TEXT,
            "hash": _HASH,
            "path": SCRIPT_PATH,
            "parent_hashes": described(nullable(array(_HASH)), "Versions that this one follows, the last one first."),
            **_SCRIPT_TEXTS,
            "created_by": TEXT,
            "created_at": TIME,
            "archived": BOOLEAN,
            "schema": nullable(_OBJECT),
            "deleted": BOOLEAN,
            "extra_perms": _OBJECT,
            "lock": nullable(TEXT),
            "lock_error_logs": nullable(TEXT),
            "language": _LANGUAGE,
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
            "hash": _HASH,
            "path": SCRIPT_PATH,
            "summary": TEXT,
            "created_at": TIME,
            "archived": BOOLEAN,
            "extra_perms": _OBJECT,
            "language": _LANGUAGE,
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
    "ScriptHistoryItem": record({"script_hash": _HASH}, optional={"deployment_msg": TEXT}),
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
            "size_in_bytes": _INTEGER,
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
                    nullable(_OBJECT), "`S3Storage` or `FilesystemStorage`; null or left out: that of the settings."
                )
            },
        ),
        "examples": [{"large_file_storage": None}],
    },
}

# --- variables, resources ---------------------------------------------------------------------------------------------

_PATH: Final[Schema] = {
    "type": "string",
    "maxLength": MAX_PATH_LENGTH,
    "pattern": "^(u/[A-Za-z0-9_.@+-]+|[fg]/[A-Za-z0-9_-]+)(/[A-Za-z0-9_-]+)+$",
}
_TYPE_NAME: Final[Schema] = {"type": "string", "maxLength": MAX_NAME_LENGTH, "pattern": "^[A-Za-z0-9_-]+$"}
_NO_RIGHTS: Final[Schema] = {"type": "object", "maxProperties": 0}

_KNOWLEDGE: Final[Mapping[str, Schema]] = {
    "NewVariable": {
        **record(
            {"path": _PATH, "value": TEXT, "is_secret": BOOLEAN},
            optional={
                "description": nullable(TEXT),
                "account": nullable(_INTEGER),
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
            "account": nullable(_INTEGER),
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
            "id": _INTEGER,
            "workspace_id": nullable(TEXT),
            "timestamp": TIME,
            "username": TEXT,
            "operation": TEXT,
            "action_kind": {"type": "string", "enum": list(ACTION_KINDS)},
            "resource": nullable(TEXT),
            "parameters": _OBJECT,
        }
    ),
    "FileType": record({"format_extension": TEXT, "is_fileset": BOOLEAN}),
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
            "workers_alive": _INTEGER,
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
                            "latency_ms": _NUMBER,
                            "pool": record({"size": _INTEGER, "idle": _INTEGER, "max_connections": _INTEGER}),
                        }
                    ),
                    "workers": record(
                        {
                            "healthy": BOOLEAN,
                            "active_count": _INTEGER,
                            "worker_groups": array(TEXT),
                            "min_version": TEXT,
                            "versions": array(TEXT),
                        }
                    ),
                    "queue": record({"pending_jobs": _INTEGER, "running_jobs": _INTEGER, "oldest_pending_s": _NUMBER}),
                    "disk": record({"healthy": BOOLEAN, "free_bytes": _INTEGER}),
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
        **record({"type": TEXT, "title": TEXT, "status": _INTEGER, "detail": TEXT}),
        "description": "An error for those who accept `application/problem+json` (RFC 9457).",
    },
}

#: By their names below ``components/schemas``.
SCHEMAS: Final[Mapping[str, Schema]] = {**_JOBS, **_SCRIPTS, **_FILES, **_KNOWLEDGE, **IDENTITY, **FLOWS, **_REST}
