"""JSON Schemas of flows. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.api.parameters import BOOLEAN, SCRIPT_PATH, TEXT, TIME, UUID, Schema
from minwebhook.api.records import ANYTHING, INTEGER, OBJECT, array, described, nullable, record

_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
_STORED: Final[Schema] = {"type": ["string", "null"], "pattern": "^[^\\u0000]*$"}
_SMALL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1}
#: A flow that does something, for those who try it.
_EXAMPLE: Final = {
    "modules": [
        {"id": "a", "value": {"type": "identity"}},
        {
            "id": "b",
            "value": {
                "type": "rawscript",
                "language": "python3",
                "content": "def main(n): return n",
                "input_transforms": {"n": {"type": "static", "value": 1}},
            },
        },
    ]
}
_VALUE: Final = described(
    record(
        {"modules": {"type": "array", "items": record({"value": record({"type": {"enum": ["identity"]}})})}},
        optional={"same_worker": _FLAG, "skip_expr": nullable(TEXT), "flow_env": nullable(OBJECT)},
    ),
    "OpenFlow's `value`; docs/flows.md has its members.",
)
_SETTINGS: Final[Mapping[str, Schema]] = {
    "draft_only": _FLAG,
    "tag": _STORED,
    "dedicated_worker": _FLAG,
    "timeout": described(_SMALL, "Seconds that a run may take."),
    "visible_to_runner_only": _FLAG,
    "on_behalf_of_email": _STORED,
    "ws_error_handler_muted": _FLAG,
}

_KEPT: Final = described(_SMALL, "How many iterations or branches of the step are kept.")
_RESTART: Final = nullable(
    record({"flow_job_id": UUID, "step_id": TEXT}, optional={"branch_or_iteration_n": _KEPT}),
)

_TRANSFORM: Final = record({"type": {"enum": ["static"]}}, optional={"value": ANYTHING})
_OF_PATHS: Final[Schema] = {
    "type": "object",
    "additionalProperties": record(
        {},
        optional={
            "input_transforms": {"type": ["object", "null"], "additionalProperties": _TRANSFORM},
            "use_latest_version": _FLAG,
        },
    ),
}

#: By name.
FLOWS: Final[Mapping[str, Schema]] = {
    "NewFlow": {
        **record(
            {"path": SCRIPT_PATH, "summary": {"type": "string", "pattern": "^[^\\u0000]*$"}, "value": _VALUE},
            optional={
                "description": _STORED,
                "schema": nullable(OBJECT),
                "deployment_message": _STORED,
                **_SETTINGS,
            },
        ),
        "examples": [{"path": "u/demo/hello", "summary": "", "value": _EXAMPLE}],
    },
    "Flow": record(
        {
            "workspace_id": TEXT,
            "path": TEXT,
            "summary": TEXT,
            "description": TEXT,
            "value": described(OBJECT, "As it was sent."),
            "edited_by": TEXT,
            "edited_at": TIME,
            "archived": BOOLEAN,
            "schema": nullable(OBJECT),
            "extra_perms": OBJECT,
            "version_id": INTEGER,
        },
        optional=_SETTINGS,
    ),
    "FlowListItem": record(
        {
            "workspace_id": TEXT,
            "path": TEXT,
            "summary": TEXT,
            "edited_by": TEXT,
            "edited_at": TIME,
            "archived": BOOLEAN,
            "extra_perms": OBJECT,
            "starred": BOOLEAN,
            "has_draft": BOOLEAN,
        },
        optional={
            "description": TEXT,
            "draft_only": BOOLEAN,
            "ws_error_handler_muted": BOOLEAN,
            "deployment_msg": TEXT,
        },
    ),
    "FlowHistoryItem": record({"id": INTEGER, "created_at": TIME}, optional={"deployment_msg": TEXT}),
    "FlowDeploymentStatus": record(
        {"lock_error_logs": nullable(TEXT), "job_id": nullable(TEXT), "warnings": array(TEXT)}
    ),
    "DeploymentMessage": record({}, optional={"deployment_msg": _STORED}),
    "ArchiveFlow": record({}, optional={"archived": _FLAG}),
    "FlowRestart": {
        **record(
            {"step_id": described(TEXT, "The step to begin at; those before it must have succeeded.")},
            optional={"branch_or_iteration_n": _KEPT, "flow_version": nullable(INTEGER)},
        ),
        "examples": [{"step_id": "a"}],
    },
    "BatchRerun": {
        **record(
            {"job_ids": {**array(UUID), "maxItems": 1000}},
            optional={"script_options_by_path": nullable(_OF_PATHS), "flow_options_by_path": nullable(_OF_PATHS)},
        ),
        "examples": [{"job_ids": ["01a20156-0fca-7000-b6a3-dd03b6257e63"]}],
    },
    "FlowPreview": {
        **record(
            {"value": _VALUE},
            optional={"args": nullable(OBJECT), "path": _STORED, "tag": _STORED, "restarted_from": _RESTART},
        ),
        "examples": [{"value": _EXAMPLE, "args": {"a": 1}}],
    },
}
