"""JSON Schemas of jobs and what runs them. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from minwebhook.api.job_access import MAX_IDS
from minwebhook.api.parameters import BOOLEAN, TEXT, TIME, UUID, Schema
from minwebhook.api.records import (
    ANYTHING,
    INTEGER,
    LANGUAGE,
    OBJECT,
    SHOWN_HASH,
    array,
    described,
    nullable,
    record,
    ref,
)

#: Members of updates of all kinds.
_OF_UPDATES: Final[Mapping[str, Schema]] = {
    "progress": described(INTEGER, "What the job says of its own progress, in percent, if that was asked for."),
    "flow_status": described(OBJECT, "Of a flow: where it is; docs/flows.md has its members."),
    "flow_stream_job_id": described(UUID, "Of a flow: the job of its last step, whose chunks these are."),
}

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
        "script_hash": SHOWN_HASH,
        "script_path": TEXT,
        "logs": described(TEXT, "The end of the log."),
        "canceled_by": TEXT,
        "canceled_reason": TEXT,
        "priority": INTEGER,
        "mem_peak": described(INTEGER, "Resident memory at its peak, in KiB."),
        "cpu_s": described({"type": "number"}, "Seconds of processor time."),
        "ended_by": described(
            TEXT, "The limit that ended it: timeout, cpu, oom, pids, log, result; or `signal` and its number."
        ),
        "self_wait_time_ms": described(INTEGER, "How long it was due before it started."),
        "preprocessed": BOOLEAN,
        "labels": array(TEXT),
        "attempts": described(INTEGER, "How often it was begun, if more than once."),
        "dead": described(BOOLEAN, "It failed for good although it was to be tried again."),
        "raw_code": described(TEXT, "The code of a preview."),
        "raw_flow": described(OBJECT, "The definition of a flow."),
        "flow_status": described(OBJECT, "Where a flow is; docs/flows.md has its members."),
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
        "timeout": described(INTEGER, "Its own limit, in seconds."),
        "cache_ttl": INTEGER,
    },
)
_COMPLETED: Final = record(
    {
        "started_at": nullable(TIME),
        "completed_at": nullable(TIME),
        "duration_ms": INTEGER,
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
JOBS: Final[Mapping[str, Schema]] = {
    "JobMembers": {**_JOB, "description": "What every job shows."},
    "QueuedJob": {"allOf": [ref("JobMembers"), _QUEUED], "description": "A job that waits or runs."},
    "CompletedJob": {"allOf": [ref("JobMembers"), _COMPLETED], "description": "A job that has ended."},
    "Job": {"oneOf": [ref("QueuedJob"), ref("CompletedJob")]},
    "ResumeUrls": record({"approvalPage": TEXT, "cancel": TEXT, "resume": TEXT}),
    "Approver": record({"resume_id": INTEGER, "approver": TEXT}),
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
            "required_events": described(INTEGER, "How many more approvals are needed."),
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
            "left": described(INTEGER, "Letters that are still there."),
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
            {"stream_offset": described(INTEGER, "The number of chunks until now.")},
            optional={
                "running": BOOLEAN,
                "completed": described(BOOLEAN, "Always there, but for `only_result` before the end."),
                "new_logs": TEXT,
                "new_result_stream": TEXT,
                "log_offset": described(INTEGER, "The number of characters of the log until now, plus one."),
                "only_result": described(ANYTHING, "The result, if it was asked for and is there."),
                **_OF_UPDATES,
            },
        ),
        "description": "What is new of a job since the offsets.",
    },
    "Event": {
        **record(
            {"data": {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("EventData")}},
            optional={"id": described(TEXT, "What `Last-Event-ID` says to go on behind it."), "retry": INTEGER},
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
            "log_offset": INTEGER,
            "stream_offset": INTEGER,
            "job": described(
                ref("CompletedJob"), "At the end, without log and code, unless only the result is wanted."
            ),
            "only_result": described(ANYTHING, "At the end, if only the result is wanted."),
            "error": TEXT,
            **_OF_UPDATES,
        },
    ),
    "Progress": {
        **record(
            {"percent": described(INTEGER, "From 0 to 99; what is less counts as 0, what is more as 99.")},
            optional={"flow_job_id": described(nullable(UUID), "The flow of the job; not needed.")},
        ),
        "examples": [{"percent": 40}],
        "additionalProperties": True,
    },
    "QueueRow": record(
        {
            "id": UUID,
            "running": BOOLEAN,
            "created_by": TEXT,
            "created_at": TIME,
            "started_at": nullable(TIME),
            "scheduled_for": TIME,
            "script_hash": nullable(SHOWN_HASH),
            "script_path": nullable(TEXT),
            "args": described(nullable(OBJECT), "null unless asked for."),
            "job_kind": TEXT,
            "schedule_path": nullable(TEXT),
            "is_flow_step": BOOLEAN,
            "language": described(nullable(TEXT), "null of flows."),
            "email": TEXT,
            "suspend": INTEGER,
            "tag": TEXT,
            "priority": nullable(INTEGER),
            "workspace_id": TEXT,
        }
    ),
    "JobTiming": record({"created_at": TIME, "started_at": nullable(TIME), "duration_ms": INTEGER}),
    "JobCount": record({"database_length": INTEGER, "suspended": nullable(INTEGER)}),
    "QueuePosition": record({"position": INTEGER}),
    "TagCount": record({"tag": TEXT, "count": INTEGER}),
    "JobIds": {**array(UUID), "maxItems": MAX_IDS, "examples": [["01a20156-0fca-7000-b6a3-dd03b6257e63"]]},
    "JobError": {
        **record(
            {
                "error": record(
                    {"message": TEXT, "name": TEXT},
                    optional={
                        "stack": TEXT,
                        "extra": described(ANYTHING, "Attributes of the exception."),
                        "exit_code": INTEGER,
                        "signal": INTEGER,
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
            {"language": LANGUAGE},
            optional={
                "content": described(nullable(TEXT), "The code."),
                "args": described(nullable(OBJECT), "The arguments."),
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
                        record({"raw_code": TEXT, "language": LANGUAGE}, optional={"script_path": nullable(TEXT)}),
                    ),
                    "minItems": 1,
                    "maxItems": 1,
                }
            },
            optional={"entrypoint": nullable(TEXT)},
        ),
        "examples": [{"raw_scripts": [{"raw_code": "def main(): return 1", "language": "python3"}]}],
    },
    "RawFlow": {
        **record(
            {"flow_value": described(OBJECT, "The definition of a flow.")},
            optional={
                "path": described(nullable(TEXT), "What the job shows as its path, and what imports are relative to.")
            },
        ),
        "examples": [{"flow_value": {"modules": []}, "path": "u/admin/none"}],
    },
    "Cancellation": {**record({}, optional={"reason": nullable(TEXT)}), "examples": [{"reason": "no longer needed"}]},
}
