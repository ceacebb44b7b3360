"""What each endpoint function takes and answers: the table behind the OpenAPI document. Pure data.

Who adds a route adds a line to :data:`OPERATIONS`, keyed by its endpoint function: answers, parameters (each a constant
of ``parameters.py``), body (schemas are in ``schemas.py``). The words are the function's docstring; tag, id, path
parameters, security and errors follow from the route. Tests fail until the table and the code agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import minwebhook
from minwebhook.api import (
    approval_pages,
    approvals,
    audit,
    batch_reruns,
    dead_letters,
    dependencies,
    files,
    flow_restarts,
    flow_runs,
    flows,
    folders,
    groups,
    health,
    instance,
    job_cancel,
    job_lists,
    jobs,
    login,
    members,
    openapi,
    parameters,
    previews,
    progress,
    resources,
    runs,
    script_versions,
    scripts,
    streams,
    system,
    tokens,
    user_states,
    users,
    variables,
    websocket,
    workspaces,
)
from minwebhook.api.endpoint import Call
from minwebhook.api.openapi import Answer, Body, Operation
from minwebhook.api.parameters import BOOLEAN, TEXT, TIME, UUID, Schema
from minwebhook.api.records import ANYTHING, OBJECT, array, described, nullable, record, ref
from minwebhook.api.routes import all_routes

_TEXT: Final = "text/plain"
_JSON: Final = "application/json"
_CBOR: Final = "application/cbor"
_IF_PREFERRED: Final = described(ANYTHING, "For those who prefer it (`Accept`).")
_INTEGER: Final[Schema] = {"type": "integer"}


def api_document() -> dict[str, Any]:
    """The OpenAPI document of this program."""
    return openapi.document(all_routes(), OPERATIONS, minwebhook.__version__)


def _json(schema: Schema, sentence: str) -> Mapping[int, Answer]:
    return {200: Answer(sentence, {_JSON: schema})}


def _text(sentence: str, status: int = 200, schema: Schema = TEXT) -> Mapping[int, Answer]:
    return {status: Answer(sentence, {_TEXT: schema})}


def _said(status: int = 200) -> Mapping[int, Answer]:
    return _text("A sentence that says so.", status)


def _json_body(name: str) -> Body:
    return Body("JSON only.", {_JSON: ref(name)})


#: Of all runs of deployed scripts, by path and by hash.
_ARGUMENTS: Final = Body(
    "What becomes the arguments: the members of a JSON object, the fields of a form; any other JSON value as `body`, "
    "text as `raw_string`. Other types are read as JSON if they are JSON. A part of a multipart form that has a "
    '`Content-Type` is a file: it is stored, and the argument is a list of objects `{"s3": KEY}`.',
    {
        _JSON: ANYTHING,
        "application/x-www-form-urlencoded": {"type": "object", "additionalProperties": TEXT},
        "multipart/form-data": {"type": "object", "additionalProperties": {"anyOf": [TEXT, array(ANYTHING)]}},
        _TEXT: TEXT,
        "application/xml": TEXT,
        "text/xml": TEXT,
        _CBOR: ANYTHING,
        "application/cloudevents+json": {"type": "object"},
        "*/*": ANYTHING,
    },
    is_required=False,
)
_STARTED: Final = _text("The id of the job, which is on disk.", 201, UUID)
_TIMING: Final = {"Server-Timing": "Where the time went, in milliseconds."}
_RESULT: Final = {
    200: Answer(
        "The result. A job that failed answers its error object, with the status of the setting `sync_failure_status`.",
        {
            _JSON: {"anyOf": [ref("JobError"), ANYTHING]},
            _CBOR: _IF_PREFERRED,
            "*/*": described(ANYTHING, "What the script chose."),
        },
        {**_TIMING, "Preference-Applied": "The `Prefer` that was followed."},
    ),
    202: Answer(
        "The id of the job, which did not end in the time of `Prefer`.",
        {_TEXT: UUID, "*/*": described(ANYTHING, "What the script chose.")},
        {**_TIMING, "Preference-Applied": "The `Prefer` that was followed.", "Location": "Where the result will be."},
    ),
}
_OF_RUNS: Final = (*parameters.ARGUMENT_OPTIONS, *parameters.RUN_OPTIONS)
#: What a storage says.
_STORAGE: Final = (502,)
_STORING: Final = (502, 507)
#: What a run may get besides.
_RUNNING: Final = (*_STORING, 422, 429)
#: What is gone for good.
_DELETED: Final = (410,)
_START: Final = Operation(_STARTED, _OF_RUNS, _ARGUMENTS, errors=_RUNNING)
_WAIT: Final = Operation(
    _RESULT, (*_OF_RUNS, parameters.PREFER), _ARGUMENTS, script_answers=True, errors=(*_RUNNING, *_DELETED)
)
_EVENTS: Final = {
    200: Answer("Server-sent events; the schema is that of one.", {"text/event-stream": ref("Event")}),
    204: Answer("There is nothing behind the event of `Last-Event-ID`: the job has ended and was told whole.", {}),
}
_STREAM: Final = Operation(_EVENTS, (*_OF_RUNS, parameters.LAST_EVENT_ID), _ARGUMENTS, errors=_RUNNING)
_CANCEL: Final = Operation(
    _text("The id, or a sentence that says that the job has ended already."), body=_json_body("Cancellation")
)
_ALL: Final = (parameters.ALL_WORKSPACES,)
_SEEN: Final = parameters.VIEW_TOKEN
_JOBS: Final = parameters.OF_JOB_LISTS
_ANY_FILE: Final = {"*/*": described(ANYTHING, "The bytes, with the type that they were stored with.")}
_BYTES: Final = {
    200: Answer("The object.", _ANY_FILE, {"ETag": "Changes with the object.", "Accept-Ranges": "`bytes`."}),
    206: Answer("The range.", _ANY_FILE, {"ETag": "Changes with the object.", "Content-Range": "Which bytes."}),
    304: Answer("The object is the one that the caller has.", {}, {"ETag": "Changes with the object."}),
}
_NULL: Final[Schema] = {"type": "null"}
#: A message to a flow is on disk.
_HEARD: Final = {201: Answer("It is on disk; the body is empty.", {})}
_PAYLOAD: Final = Body("Any JSON: what the steps behind see as `resume`.", {"*/*": ANYTHING}, is_required=False)
#: Signatures and tokens that are not for this.
_FORGED: Final = (400, 401, 403, 404)
_SPOKEN: Final = Operation(_HEARD, (parameters.APPROVER, parameters.RESUME_PAYLOAD), _PAYLOAD, errors=(*_FORGED, 413))
_PAGE: Final = {200: Answer("A page.", {"text/html": TEXT})}
_ANSWERED: Final = Body(
    "`action` is `resume` or `cancel`; each field of the form is `f.` and its name.",
    {"application/x-www-form-urlencoded": {"type": "object", "additionalProperties": TEXT}},
)

OPERATIONS: Final[Mapping[Call, Operation]] = {
    system.version: Operation(_text("`CE v` and the version.")),
    system.uptodate: Operation(_text("`yes`.")),
    system.ee_license: Operation(_text("Nothing.")),
    health.status: Operation(
        {
            200: Answer("It can, or most of it.", {_JSON: ref("Health")}),
            503: Answer("It cannot, or it is shutting down.", {_JSON: ref("Health")}),
        },
        parameters.FORCE,
        errors=(400,),
    ),
    health.detailed: Operation(
        {
            200: Answer("What was seen.", {_JSON: ref("HealthDetails")}),
            503: Answer("The same, if nothing can be stored or it is shutting down.", {_JSON: ref("HealthDetails")}),
        },
        parameters.FORCE,
    ),
    health.ready: Operation(
        {
            200: Answer("They are.", {_JSON: ref("Readiness")}),
            503: Answer("They are not.", {_JSON: ref("Readiness")}),
        }
    ),
    health.metrics: Operation(_text("The figures; `docs/operations.md` lists them.")),
    system.openapi_json: Operation(_json({"type": "object"}, "This document.")),
    system.openapi_yaml: Operation({200: Answer("This document.", {"application/yaml": {"type": "object"}})}),
    login.login: Operation(
        {200: Answer("The token.", {_TEXT: TEXT}, {"Set-Cookie": "The session, as the cookie `token`."})},
        body=_json_body("Login"),
        errors=(400, 413, 415, 429),
    ),
    login.logout: Operation(
        {
            200: Answer("A sentence that says so.", {_TEXT: TEXT}, {"Set-Cookie": "Takes the cookie away."}),
            307: Answer("As asked.", {}, {"Location": "The path in `rd`."}),
        },
        (parameters.REDIRECT,),
    ),
    login.request_password_reset: Operation(_said(), body=_json_body("ForgottenPassword"), errors=(400, 413, 415, 429)),
    login.reset_password: Operation(_said(), body=_json_body("PasswordReset"), errors=(400, 413, 415, 429)),
    login.is_smtp_configured: Operation(_json(BOOLEAN, "Whether there is one.")),
    login.is_password_login_disabled: Operation(_json(BOOLEAN, "`false`.")),
    login.refresh_token: Operation(_said(), (parameters.IF_EXPIRING,)),
    instance.test_smtp: Operation(_said(), body=_json_body("TestMail")),
    workspaces.exists_username: Operation(_json(BOOLEAN, "Whether there is."), body=_json_body("UsernameIn")),
    workspaces.is_creation_restricted: Operation(_json(BOOLEAN, "`true`.")),
    workspaces.get_encryption_key: Operation(_json(record({"key": TEXT}), "The key.")),
    workspaces.set_encryption_key: Operation(_said(), body=_json_body("NewKey")),
    variables.delete_bulk: Operation(
        _json(array(TEXT), "Where there was something."), body=_json_body("VariablePaths")
    ),
    login.is_first_time_setup: Operation(_json(BOOLEAN, "`false`.")),
    users.whoami: Operation(_json(ref("User"), "The caller.")),
    users.email: Operation(_text("The e-mail.")),
    users.all_runnables: Operation(_json(array(ref("Runnable")), "Scripts and flows, by workspace.")),
    instance.get_setting: Operation(_json(ANYTHING, "The value."), (parameters.SETTING,), errors=(403,)),
    instance.list_settings: Operation(_json(array(record({"name": TEXT, "value": ANYTHING})), "The settings.")),
    users.create: Operation(_said(201), body=_json_body("NewUser"), errors=(429,)),
    users.list_users: Operation(_json(array(ref("User")), "One page."), parameters.OF_USER_LISTS),
    users.exists: Operation(_json(BOOLEAN, "Whether there is.")),
    users.update: Operation(_said(), body=_json_body("UserUpdate"), errors=(404,)),
    users.delete: Operation(_said(), errors=(404,)),
    users.set_password: Operation(_said(), body=_json_body("Password"), errors=(404, 429)),
    users.set_password_of: Operation(_said(), body=_json_body("Password"), errors=(404, 429)),
    workspaces.list_own: Operation(_json(array(ref("Workspace")), "The workspaces.")),
    workspaces.list_as_super_admin: Operation(_json(array(ref("Workspace")), "The workspaces.")),
    workspaces.list_users: Operation(_json(ref("OwnWorkspaces"), "The caller's workspaces.")),
    workspaces.create: Operation(_said(201), body=_json_body("NewWorkspace")),
    workspaces.exists: Operation(_json(BOOLEAN, "Whether there is."), body=_json_body("WorkspaceId")),
    workspaces.unarchive: Operation(_said(), errors=(404,)),
    workspaces.archive: Operation(_said()),
    workspaces.delete: Operation(_said(), errors=(404,)),
    workspaces.get_name: Operation(_text("The name.")),
    workspaces.get_settings: Operation(_json(ref("WorkspaceSettings"), "The settings.")),
    workspaces.get_public_settings: Operation(_json(ref("PublicWorkspaceSettings"), "The settings.")),
    workspaces.add_user: Operation(_said(201), body=_json_body("NewMember")),
    members.whoami: Operation(_json(ref("Caller"), "The caller.")),
    members.list_members: Operation(_json(array(ref("Member")), "The members.")),
    members.list_usernames: Operation(_json(array(TEXT), "The names.")),
    members.get: Operation(_json(ref("Member"), "The member.")),
    members.username_to_email: Operation(_text("The e-mail.")),
    members.exists: Operation(_json(BOOLEAN, "Whether there is."), body=_json_body("Username")),
    members.is_owner: Operation(_json(BOOLEAN, "Whether the caller does.")),
    members.update: Operation(_said(), body=_json_body("MemberUpdate")),
    members.delete: Operation(_said()),
    members.leave: Operation(_said()),
    folders.create: Operation(_said(), body=_json_body("NewFolder")),
    folders.list_folders: Operation(_json(array(ref("Folder")), "The folders.")),
    folders.list_names: Operation(_json(array(TEXT), "The names.")),
    folders.get: Operation(_json(ref("Folder"), "The folder."), (parameters.NAME,)),
    folders.exists: Operation(_json(BOOLEAN, "Whether there is."), (parameters.NAME,)),
    folders.is_owner: Operation(_json(BOOLEAN, "Whether the caller may."), (parameters.NAME,)),
    folders.update: Operation(_said(), (parameters.NAME,), body=_json_body("FolderUpdate")),
    folders.add_owner: Operation(_said(), (parameters.NAME,), body=_json_body("Owner")),
    folders.remove_owner: Operation(_said(), (parameters.NAME,), body=_json_body("Owner")),
    folders.delete: Operation(_said(), (parameters.NAME,)),
    groups.create: Operation(_said(), body=_json_body("NewGroup")),
    groups.list_groups: Operation(_json(array(ref("Group")), "The groups.")),
    groups.list_names: Operation(_json(array(TEXT), "The names.")),
    groups.get: Operation(_json(ref("Group"), "The group."), (parameters.NAME,)),
    groups.update: Operation(_said(), (parameters.NAME,), body=_json_body("GroupUpdate")),
    groups.add_user: Operation(_said(), (parameters.NAME,), body=_json_body("Username")),
    groups.remove_user: Operation(_said(), (parameters.NAME,), body=_json_body("Username")),
    groups.delete: Operation(_said(), (parameters.NAME,)),
    tokens.create: Operation(_text("The token.", 201), body=_json_body("NewToken")),
    tokens.list_tokens: Operation(_json(array(ref("Token")), "One page."), parameters.OF_TOKEN_LISTS),
    tokens.impersonate: Operation(_text("The token.", 201), body=_json_body("ImpersonatedToken"), errors=(404,)),
    tokens.update_scopes: Operation(_text("A sentence that says so."), body=_json_body("Scopes"), errors=(404,)),
    tokens.update_label: Operation(_text("A sentence that says so."), body=_json_body("Label"), errors=(404,)),
    tokens.list_scopes: Operation(_json(array(ref("ScopeDomain")), "The domains.")),
    scripts.list_users: Operation(_json(array(TEXT), "The paths.")),
    scripts.list_tokens: Operation(_json(array(ref("RunnableToken")), "The tokens.")),
    tokens.delete: Operation(_text("How many there were, also if there were none.")),
    scripts.create: Operation(
        _text("The hash of the version.", 201), (parameters.SKIP_IF_NOOP,), _json_body("NewScript")
    ),
    scripts.infer_schema: Operation(_json({"type": "object"}, "The schema."), body=_json_body("Code")),
    scripts.get_by_path: Operation(_json(ref("Script"), "The version.")),
    scripts.get_by_hash: Operation(_json(ref("Script"), "The version.")),
    scripts.deployment_status: Operation(_json(ref("DeploymentStatus"), "How far it is.")),
    scripts.list_scripts: Operation(_json(array(ref("ScriptListItem")), "One page."), parameters.OF_SCRIPT_LISTS),
    scripts.exists: Operation(_json(BOOLEAN, "Whether there is.")),
    scripts.history: Operation(_json(array(ref("ScriptHistoryItem")), "The versions; none of an unknown path.")),
    scripts.archive: Operation({200: Answer("Done.", {_TEXT: {"type": "string", "maxLength": 0}})}),
    scripts.raw: Operation(_text("The code."), (parameters.FILE_PATH,)),
    script_versions.list_paths: Operation(_json(array(TEXT), "The paths.")),
    script_versions.list_search: Operation(_json(array(record({"path": TEXT, "content": TEXT})), "Paths and code.")),
    script_versions.get_draft: Operation(_json(ref("Script"), "The version.")),
    script_versions.get_latest_version: Operation(
        _json({"anyOf": [ref("ScriptHistoryItem"), _NULL]}, "The version, or null.")
    ),
    script_versions.raw_by_hash: Operation(_text("The code."), (parameters.HASH_FILE,), errors=(404,)),
    script_versions.raw_unpinned: Operation(_text("The code."), (parameters.FILE_PATH,)),
    script_versions.update_history: Operation(_said(), body=_json_body("DeploymentMessage")),
    script_versions.toggle_error_handler: Operation(_said(), body=_json_body("Muted")),
    script_versions.archive_version: Operation(_json(ref("Script"), "The version.")),
    script_versions.delete_version: Operation(_json(ref("Script"), "What is left of the version.")),
    script_versions.delete: Operation(_json(TEXT, "The path.")),
    script_versions.delete_bulk: Operation(
        _json(array(TEXT), "Where there was something."), body=_json_body("ScriptPaths")
    ),
    runs.run_by_path: _START,
    runs.run_by_hash: _START,
    runs.run_wait_by_path: _WAIT,
    runs.run_wait_by_hash: _WAIT,
    flows.create: Operation(_text("The path.", 201), body=_json_body("NewFlow")),
    flows.update: Operation(_text("The path."), body=_json_body("NewFlow")),
    flows.get: Operation(_json(ref("Flow"), "The flow.")),
    flows.list_paths: Operation(_json(array(TEXT), "The paths.")),
    flows.list_search: Operation(_json(array(record({"path": TEXT, "value": OBJECT})), "Paths and definitions.")),
    flows.get_version_of_path: Operation(_json(ref("Flow"), "The version.")),
    flows.get_draft: Operation(_json(ref("Flow"), "The flow.")),
    flows.list_users: Operation(_json(array(TEXT), "The paths."), (parameters.RUNNABLE_KIND,)),
    flows.list_tokens: Operation(_json(array(ref("RunnableToken")), "The tokens.")),
    flows.get_version: Operation(_json(ref("Flow"), "The version.")),
    flows.list_flows: Operation(_json(array(ref("FlowListItem")), "One page."), parameters.OF_FLOW_LISTS),
    flows.exists: Operation(_json(BOOLEAN, "Whether there is.")),
    flows.history: Operation(_json(array(ref("FlowHistoryItem")), "The versions; none of an unknown path.")),
    flows.get_latest_version: Operation(
        _json({"anyOf": [ref("FlowHistoryItem"), _NULL]}, "The newest version; null of an unknown path.")
    ),
    flows.update_history: Operation(_said(), body=_json_body("DeploymentMessage")),
    flows.deployment_status: Operation(_json(ref("FlowDeploymentStatus"), "That nothing is left to do.")),
    flows.toggle_error_handler: Operation(_said(), body=_json_body("Muted")),
    flows.archive: Operation(_said(), body=_json_body("ArchiveFlow")),
    flows.delete: Operation(_said()),
    flow_runs.run_by_path: _START,
    flow_runs.run_by_version: _START,
    flow_runs.run_wait_by_path: _WAIT,
    flow_runs.run_wait_by_version: _WAIT,
    flow_runs.run_preview: Operation(_STARTED, parameters.RUN_OPTIONS, _json_body("FlowPreview")),
    flow_runs.run_wait_preview: Operation(
        _RESULT, (*parameters.RUN_OPTIONS, parameters.PREFER), _json_body("FlowPreview"), script_answers=True
    ),
    flow_runs.flow_env: Operation(_json(ANYTHING, "The value."), (parameters.ENV_NAME,)),
    flow_runs.debug_info: Operation(_json(OBJECT, "Job objects by id."), _SEEN),
    flow_runs.result_by_id: Operation(_json(ANYTHING, "The result."), (parameters.JSON_PATH, *_SEEN)),
    streams.run_and_stream_flow_by_path: _STREAM,
    streams.run_and_stream_flow_by_version: _STREAM,
    runs.head: Operation({200: Answer("The token is valid.", {})}),
    previews.run_preview: Operation(_STARTED, parameters.RUN_OPTIONS, _json_body("Preview")),
    previews.run_wait_preview: Operation(
        _RESULT, (*parameters.RUN_OPTIONS, parameters.PREFER), _json_body("Preview"), script_answers=True
    ),
    dependencies.run_dependencies: Operation(_STARTED, body=_json_body("RawScripts")),
    dependencies.run_wait_dependencies: replace(_WAIT, parameters=(parameters.PREFER,), body=_json_body("RawScripts")),
    dependencies.run_flow_dependencies: Operation(_STARTED, body=_json_body("RawFlow")),
    dependencies.run_wait_flow_dependencies: replace(
        _WAIT, parameters=(parameters.PREFER,), body=_json_body("RawFlow")
    ),
    jobs.db_clock: Operation(_json(_INTEGER, "The time.")),
    jobs.get: Operation(_json(ref("Job"), "The job."), (*parameters.OF_JOBS, *_SEEN)),
    jobs.get_completed: Operation(
        _json(ref("CompletedJob"), "The job, without `type`."), (*parameters.OF_JOBS, *_SEEN)
    ),
    jobs.get_result: Operation(
        {200: Answer("The result.", {_JSON: ANYTHING, _CBOR: _IF_PREFERRED})}, (parameters.JSON_PATH, *_SEEN)
    ),
    jobs.get_result_maybe: Operation(
        _json(ref("ResultMaybe"), "The result, or that there is none."), (parameters.GET_STARTED, *_SEEN)
    ),
    jobs.get_timing: Operation(_json(ref("JobTiming"), "The times."), _SEEN),
    jobs.get_args: Operation(_json({"type": ["object", "null"]}, "The arguments."), _SEEN),
    jobs.get_logs: Operation(_text("The log."), (parameters.REMOVE_ANSI_WARNINGS, *_SEEN)),
    streams.run_and_stream_by_path: _STREAM,
    streams.run_and_stream_by_hash: _STREAM,
    streams.getupdate_sse: Operation(_EVENTS, (*parameters.OF_UPDATES, parameters.LAST_EVENT_ID, *_SEEN)),
    websocket.connect: Operation(
        {
            101: Answer("The WebSocket; its messages are described in `docs/streams.md`.", {}),
            426: Answer("This is a WebSocket: the text says which header fields to send.", openapi.PROBLEM),
        }
    ),
    streams.getupdate: Operation(_json(ref("Update"), "What is new."), (*parameters.OF_UPDATES, *_SEEN)),
    jobs.get_completed_logs_tail: Operation(_json(TEXT, "The end of the log."), _SEEN),
    jobs.get_root_job_id: Operation(_json(UUID, "The id."), _SEEN),
    jobs.get_started_at_by_ids: Operation(_json(array(nullable(TIME)), "The times."), _SEEN, _json_body("JobIds")),
    jobs.job_view_token: Operation(_text("The view token.")),
    jobs.delete_completed: Operation(_json(ref("CompletedJob"), "The job, without `type`."), parameters.OF_JOBS),
    files.upload: Operation(
        _json(record({"file_key": TEXT}), "The key."),
        parameters.OF_UPLOADS,
        Body(
            "The bytes, as they are and as many as there are.",
            {"application/octet-stream": ANYTHING, "*/*": ANYTHING},
            is_required=False,
        ),
        errors=_STORING,
    ),
    files.download: Operation(
        _BYTES, (parameters.FILE_KEY, *parameters.STORAGE, *parameters.RANGES), errors=(416, 502)
    ),
    files.download_signed: Operation(
        _BYTES, (*parameters.SIGNATURE, *parameters.RANGES), errors=(400, 403, 404, 416, 502)
    ),
    files.list_files: Operation(_json(ref("FileList"), "One page."), parameters.OF_FILE_LISTS, errors=_STORAGE),
    files.metadata: Operation(
        _json(ref("FileMetadata"), "What is known."), (parameters.FILE_KEY, *parameters.STORAGE), errors=_STORAGE
    ),
    files.load_preview: Operation(_json(ref("FilePreview"), "The piece."), parameters.OF_PREVIEWS, errors=_STORAGE),
    files.delete: Operation(
        _json(_NULL, "Done, also if there was none."), (parameters.FILE_KEY, *parameters.STORAGE), errors=_STORAGE
    ),
    files.move: Operation(_json(_NULL, "Done."), parameters.OF_MOVES, errors=_STORING),
    files.test_connection: Operation(_json(_NULL, "It answers."), parameters.STORAGE, errors=_STORAGE),
    files.old_name: Operation({}),
    files.sign: Operation(
        _json(array(ref("S3Object")), "The same objects in the same order, signed."),
        body=_json_body("S3Objects"),
        errors=_STORAGE,
    ),
    workspaces.edit_storage: Operation(_text("A sentence that says so."), body=_json_body("StorageConfig")),
    workspaces.secondary_names: Operation(_json(array(TEXT), "The names."), errors=_STORAGE),
    variables.create: Operation(_text("A sentence.", 201), (parameters.ALREADY_ENCRYPTED,), _json_body("NewVariable")),
    variables.update: Operation(_text("Its path."), (parameters.ALREADY_ENCRYPTED,), _json_body("VariableChange")),
    variables.delete: Operation(_text("A sentence.")),
    variables.get: Operation(_json(ref("Variable"), "The variable."), parameters.OF_VARIABLES),
    variables.get_value: Operation(_json(TEXT, "The value.")),
    variables.exists: Operation(_json(BOOLEAN, "Whether there is.")),
    variables.list_variables: Operation(_json(array(ref("Variable")), "One page."), parameters.OF_PATH_LISTS),
    variables.list_contextual: Operation(_json(array(ref("ContextualVariable")), "All of them.")),
    variables.encrypt: Operation(_text("The encrypted value."), body=_json_body("PlainValue")),
    resources.create: Operation(_text("A sentence.", 201), (parameters.UPDATE_IF_EXISTS,), _json_body("NewResource")),
    resources.update: Operation(_text("Its path."), body=_json_body("ResourceChange")),
    resources.update_value: Operation(_text("A sentence."), body=_json_body("ResourceValue")),
    resources.delete: Operation(_text("A sentence.")),
    resources.get: Operation(_json(ref("Resource"), "The resource.")),
    resources.get_value: Operation(_json(ANYTHING, "The value.")),
    resources.get_value_interpolated: Operation(_json(ANYTHING, "The value.")),
    resources.exists: Operation(_json(BOOLEAN, "Whether there is.")),
    resources.list_resources: Operation(_json(array(ref("Resource")), "One page."), parameters.OF_RESOURCE_LISTS),
    resources.create_type: Operation(_text("A sentence.", 201), body=_json_body("NewResourceType")),
    resources.update_type: Operation(_text("A sentence."), body=_json_body("ResourceTypeChange")),
    resources.delete_type: Operation(_text("A sentence.")),
    resources.get_type: Operation(_json(ref("ResourceType"), "The type.")),
    resources.type_exists: Operation(_json(BOOLEAN, "Whether there is.")),
    resources.list_types: Operation(_json(array(ref("ResourceType")), "All of them.")),
    resources.list_type_names: Operation(_json(array(TEXT), "All of them.")),
    resources.file_extensions: Operation(
        _json({"type": "object", "additionalProperties": ref("FileType")}, "By the name of the type.")
    ),
    audit.list_records: Operation(_json(array(ref("AuditRecord")), "One page."), parameters.OF_AUDIT_LISTS),
    audit.get: Operation(_json(ref("AuditRecord"), "The record."), (parameters.AUDIT_ID,)),
    job_lists.list_jobs: Operation(_json(array(ref("Job")), "One page."), _JOBS),
    job_lists.list_queue: Operation(_json(array(ref("QueueRow")), "One page."), _JOBS),
    job_lists.list_completed: Operation(_json(array(ref("CompletedJob")), "One page."), _JOBS),
    job_lists.list_ids: Operation(_json(array(UUID), "One page."), _JOBS),
    job_lists.list_queue_ids: Operation(_json(array(UUID), "One page."), _JOBS),
    job_lists.queue_count: Operation(_json(ref("JobCount"), "How many."), (*_ALL, parameters.TAGS)),
    job_lists.completed_count: Operation(_json(ref("JobCount"), "How many."), _ALL),
    job_lists.count_jobs: Operation(
        _json(_INTEGER, "How many."),
        (*_ALL, parameters.TAGS, parameters.SUCCESS, parameters.COMPLETED_AFTER_S_AGO),
    ),
    job_lists.count_by_tag: Operation(_json(array(ref("TagCount")), "How many of each."), parameters.OF_TAG_COUNTS),
    job_lists.queue_position: Operation(_json(ref("QueuePosition"), "The place.")),
    job_lists.scheduled_for: Operation(_json(_INTEGER, "The time.")),
    approvals.job_signature: Operation(_text("64 hex digits."), (parameters.APPROVER,)),
    approvals.resume_urls: Operation(
        _json(ref("ResumeUrls"), "The URLs."), (parameters.APPROVER, parameters.FLOW_LEVEL)
    ),
    approvals.resume: _SPOKEN,
    approvals.cancel: _SPOKEN,
    approvals.get_flow: Operation(
        _json(ref("FlowToApprove"), "The flow and who has approved."), (parameters.APPROVER,), errors=_FORGED
    ),
    approval_pages.show_signed: Operation(_PAGE, (parameters.APPROVER,), errors=_FORGED),
    approval_pages.send_signed: Operation(_PAGE, (parameters.APPROVER,), _ANSWERED, errors=(*_FORGED, 413)),
    approval_pages.show: Operation(_PAGE, (parameters.PAGE_TOKEN,), errors=_FORGED),
    approval_pages.send: Operation(_PAGE, (parameters.PAGE_TOKEN,), _ANSWERED, errors=(*_FORGED, 413)),
    approvals.resume_flow: Operation(_HEARD, body=_PAYLOAD, errors=(403,)),
    approvals.resume_suspended: Operation(_HEARD, body=_json_body("Approval"), errors=_FORGED),
    approvals.approval_info: Operation(
        _json(ref("ApprovalInfo"), "What is shown."), (parameters.PAGE_TOKEN,), errors=_FORGED
    ),
    progress.get_progress: Operation(_json(nullable(_INTEGER), "In percent.")),
    progress.set_progress: Operation(_json(_INTEGER, "In percent, as it is now."), body=_json_body("Progress")),
    user_states.get_user_state: Operation(_json(ANYTHING, "The value."), (parameters.STATE_KEY,)),
    user_states.set_user_state: Operation(_said(), (parameters.STATE_KEY,), body=Body("Any JSON.", {_JSON: ANYTHING})),
    dead_letters.list_dead: Operation(
        _json(array(ref("CompletedJob")), "One page, those that ended last first."), parameters.OF_DEAD_LETTERS
    ),
    dead_letters.redrive: Operation(_STARTED, (parameters.USE_LATEST_VERSION,), errors=_DELETED),
    dead_letters.redrive_all: Operation(
        _json(ref("Redriven"), "What became of them."), (parameters.SCRIPT_PATH_EXACT, parameters.USE_LATEST_VERSION)
    ),
    dead_letters.discard: Operation(_text("The id.")),
    flow_restarts.restart_flow: Operation(_STARTED, body=_json_body("FlowRestart"), errors=_DELETED),
    batch_reruns.batch_rerun: Operation(
        {201: Answer("A line for each job: the id of the new one, or Error: and why.", {"text/event-stream": TEXT})},
        body=_json_body("BatchRerun"),
    ),
    dead_letters.replay: Operation(_STARTED, (parameters.USE_LATEST_VERSION,), errors=_DELETED),
    job_cancel.cancel: _CANCEL,
    job_cancel.force_cancel: _CANCEL,
    job_cancel.cancel_persistent: Operation({200: Answer("Done.", {})}, body=_json_body("Cancellation")),
    job_cancel.cancel_selection: Operation(
        _json(array(UUID), "The ids of those that had not ended."),
        (*_ALL, parameters.FORCE_CANCEL),
        _json_body("JobIds"),
    ),
}
