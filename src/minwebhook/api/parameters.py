"""Parameters of queries, paths and headers as the OpenAPI document describes them, each once. Pure data.

A parameter that several operations share is one constant here. Two parameters of the same name that mean different
things, such as ``created_by`` of jobs and of scripts, have different keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from minwebhook.api import pages
from minwebhook.api.file_previews import MAX_PREVIEW_BYTES
from minwebhook.audit.record import ACTION_KINDS
from minwebhook.auth import token_store as tokens
from minwebhook.auth import users
from minwebhook.auth.tokens import PREFIX_LENGTH
from minwebhook.jobs import filters as jobs
from minwebhook.scripts import query as scripts
from minwebhook.scripts.model import EXTENSIONS, MAX_PATH_LENGTH, Language, ScriptKind
from minwebhook.storage.keys import MAX_KEY_BYTES
from minwebhook.storage.model import MAX_PAGE
from minwebhook.variables.model import MAX_NAME_LENGTH
from minwebhook.webhooks.query import MAX_TAG_LENGTH

#: A JSON Schema (2020-12).
Schema: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, what values it takes, and a sentence on what it does."""

    name: str
    schema: Schema
    sentence: str
    #: Its name below ``components/parameters``; only given where ``name`` alone is taken.
    key: str = ""
    #: The one method that reads it, where several methods of a path share an endpoint function.
    only_for: str = ""
    #: Whether it is for callers without a token, on those routes of an endpoint function that let them in.
    for_strangers: bool = False
    place: Literal["query", "path", "header"] = "query"
    #: Whether it must be sent; what is in the path always is.
    is_required: bool = False

    @property
    def component(self) -> str:
        """Its name below ``components/parameters``."""
        return self.key or self.name


BOOLEAN: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-fA-F]{16}$"}
SCRIPT_PATH: Final[Schema] = {
    "type": "string",
    "pattern": "^[ufg](/[A-Za-z0-9_-]+){2,}$",
    "maxLength": MAX_PATH_LENGTH,
}
#: At most 15 digits.
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}


def flag(name: str, sentence: str, *, default: bool = False, key: str = "") -> Parameter:
    """A parameter that is literally ``true`` or ``false``."""
    return Parameter(name, {**BOOLEAN, "default": default}, sentence, key)


def choice(name: str, sentence: str, *, key: str = "") -> Parameter:
    """Like :func:`flag`, but leaving it out is a third choice: it does not matter."""
    return Parameter(name, BOOLEAN, sentence, key)


def text(name: str, sentence: str, *, key: str = "") -> Parameter:
    """A parameter that is any text."""
    return Parameter(name, TEXT, sentence, key)


def per_page(default: int, most: int, *, key: str) -> Parameter:
    """How long the pages of a list are."""
    sentence = f"Items of a page; what is above {most} is taken as {most}, 0 as 1."
    return Parameter("per_page", {**_COUNT, "default": default}, sentence, key)


# --- in paths ---------------------------------------------------------------------------------------------------------

_SLASHES: Final = "It spans slashes, which may be sent as they are or percent-encoded."

WORKSPACE: Final = Parameter(
    "workspace",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "examples": ["demo"]},
    "The workspace.",
    place="path",
)
PATH: Final = Parameter(
    "path",
    {**SCRIPT_PATH, "examples": ["u/demo/hello"]},
    f"The path of a script, `u/<user>/<name>` or `f/<folder>/<name>`. {_SLASHES}",
    place="path",
)
FILE_PATH: Final = Parameter(
    "path",
    {
        "type": "string",
        "pattern": SCRIPT_PATH["pattern"].removesuffix("$") + f"({'|'.join(map(re.escape, EXTENSIONS))})$",
        "examples": ["u/demo/hello.py"],
    },
    f"The path of a script and the ending of its language: {', '.join(EXTENSIONS)}. {_SLASHES}",
    key="file_path",
    place="path",
)
HASH_FILE: Final = Parameter(
    "file",
    {
        "type": "string",
        "pattern": f"^[0-9a-f]{{16}}({'|'.join(map(re.escape, EXTENSIONS))})?$",
        "examples": ["0123456789abcdef.ts"],
    },
    "The hash of one version of a script, and perhaps the ending of its language.",
    place="path",
)
SCRIPT_HASH: Final = Parameter("hash", HASH, "The hash of one version of a script.", place="path")
JOB: Final = Parameter("id", UUID, "The id of a job.", place="path")
TOKEN_PREFIX: Final = Parameter(
    "prefix",
    {"type": "string", "pattern": f"^[A-Za-z0-9]{{{PREFIX_LENGTH}}}$"},
    "The beginning of a token.",
    place="path",
)

_KEY: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES, "examples": ["folder/name.txt"]}
_STORAGE: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}

KEY_IN_PATH: Final = Parameter("key", _KEY, f"The key of an object. {_SLASHES}", place="path")
STORAGE_IN_PATH: Final = Parameter(
    "storage",
    {**_STORAGE, "examples": ["_default_"]},
    "The name of a secondary storage; `_default_` is the primary one.",
    key="storage_in_path",
    place="path",
)
EPOCH_MS: Final = Parameter("epoch_ms", _COUNT, "A time in milliseconds since 1970.", place="path")
EMAIL: Final = Parameter(
    "email", {"type": "string", "minLength": 3, "examples": ["grace@localhost"]}, "The e-mail of a user.", place="path"
)
USERNAME: Final = Parameter(
    "username",
    {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,99}$", "examples": ["ada"]},
    "The name of a member.",
    key="member",
    place="path",
)
NAME: Final = Parameter(
    "name",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$", "examples": ["team"]},
    "The name of a folder or a group.",
    key="folder_or_group",
    place="path",
)
SETTING: Final = Parameter(
    "key",
    {"type": "string", "pattern": "^[a-z_]{1,60}$", "examples": ["base_url"]},
    "The name of a setting.",
    key="setting",
    place="path",
)
WORKSPACE_ID: Final = Parameter(
    "workspace_id",
    {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,49}$", "examples": ["demo"]},
    "The id of a workspace.",
    place="path",
    key="workspace_in_path",
)

TYPE_NAME: Final = Parameter(
    "name",
    {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": MAX_NAME_LENGTH, "examples": ["c_door"]},
    "The name of a resource type.",
    key="resource_type_name",
    place="path",
)

FLOW_VERSION: Final = Parameter(
    "version", {**_COUNT, "examples": [1]}, "The number of a version of a flow.", place="path"
)
FLOW_NODE: Final = Parameter("node", {**TEXT, "minLength": 1, "examples": ["a"]}, "The id of a step.", place="path")
RESUME_ID: Final = Parameter(
    "resume_id",
    {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "examples": [1]},
    "Tells messages for the same job apart: each number counts once.",
    place="path",
)
APPROVAL_SIGNATURE: Final = Parameter(
    "signature",
    {"type": "string", "pattern": "^[0-9a-fA-F]{64}$", "examples": ["0" * 64]},
    "Of job, number and approver, as `job_signature` gives it.",
    place="path",
)
RUNNABLE_KIND: Final = Parameter(
    "kind",
    {**TEXT, "enum": ["script", "flow"], "examples": ["script"]},
    "What is at the path.",
    "runnable_kind",
    place="path",
)
STATE_KEY: Final = Parameter(
    "key",
    {**TEXT, "minLength": 1, "maxLength": 255, "examples": ["counter"]},
    "The name of a state.",
    "state_key",
    place="path",
)
ENV_NAME: Final = Parameter(
    "env_name",
    {**TEXT, "minLength": 1, "maxLength": 255, "examples": ["region"]},
    "The name of a member of the flow's `flow_env`.",
    place="path",
)
#: What the names in route patterns mean, unless the operation says otherwise.
IN_PATHS: Final[Mapping[str, Parameter]] = {
    parameter.name: parameter
    for parameter in (
        WORKSPACE,
        PATH,
        SCRIPT_HASH,
        JOB,
        TOKEN_PREFIX,
        KEY_IN_PATH,
        STORAGE_IN_PATH,
        EPOCH_MS,
        EMAIL,
        USERNAME,
        TYPE_NAME,
        WORKSPACE_ID,
        FLOW_VERSION,
        FLOW_NODE,
        RESUME_ID,
        APPROVAL_SIGNATURE,
    )
}

# --- of runs ----------------------------------------------------------------------------------------------------------

_SECONDS: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}

#: What every run takes besides its arguments; the sentences say of which runs it counts.
RUN_OPTIONS: Final = (
    Parameter("job_id", UUID, "The id of the new job; 400 if there is a job with it."),
    Parameter("parent_job", UUID, "The job that this one belongs to. Not of previews."),
    Parameter("root_job", UUID, "The job at the top of those that this one belongs to. Not of previews."),
    Parameter(
        "tag", {"type": "string", "maxLength": MAX_TAG_LENGTH}, "The tag of the job instead of the script's own."
    ),
    Parameter("timeout", {**_SECONDS, "minimum": 1}, "Seconds the job may run. Of previews."),
    Parameter("scheduled_for", TIME, "The earliest time of the run. Of async runs."),
    Parameter(
        "scheduled_in_secs",
        {**_SECONDS, "minimum": -(2**31)},
        "The same as seconds from now; `scheduled_for` wins. Of async runs.",
    ),
    Parameter("cache_ttl", _SECONDS, "Seconds for which the result answers equal runs. Of runs by hash."),
    flag("cache_ignore_s3_path", "Nothing: the key of an object is part of what makes runs equal."),
    flag("skip_preprocessor", "Runs the script as if it had no preprocessor. Not of previews."),
    flag("invisible_to_owner", "Shows the job to its caller alone. Not of previews."),
    Parameter(
        "queue_limit",
        {**_SECONDS},
        "Refuses the run with 500 if more jobs than these are due. Of sync runs, not previews.",
    ),
    Parameter(
        "retry",
        {"type": "string", "contentMediaType": "application/json"},
        "When the run is tried again if it fails, as the script's own `retry`. Not of previews.",
    ),
)
#: How a request becomes arguments.
ARGUMENT_OPTIONS: Final = (
    Parameter(
        "payload",
        TEXT,
        "The arguments: a JSON object in base64, standard or URL-safe, with or without padding, percent-encoded.",
        only_for="GET",
    ),
    flag("raw", "Adds the argument `raw_string`, the exact text of the body."),
    flag("wrap_body", "Makes the whole body the one argument `body`."),
    text("include_header", "Names of headers that become arguments, separated by commas: `X-Sign` becomes `x_sign`."),
    text("include_query", "Names of query parameters that become arguments, separated by commas."),
)
PREFER: Final = Parameter(
    "Prefer",
    {"type": "string", "examples": ["wait=10", "respond-async"]},
    "`wait=N`: after N seconds rather 202 and where the result will be than waiting on. `respond-async`: at once.",
    place="header",
)

# --- of lists ---------------------------------------------------------------------------------------------------------

PAGE: Final = Parameter("page", {**_COUNT, "default": 1}, "Pages count from 1; 0 is page 1.")
NEWEST_FIRST: Final = flag("order_desc", "Newest first.", default=True)
ALL_WORKSPACES: Final = flag(
    "all_workspaces", "Of every workspace instead of this one; for super admins, in the workspace `admins`."
)

# --- of jobs ----------------------------------------------------------------------------------------------------------

#: Of whatever looks at one job.
VIEW_TOKEN: Final = (
    Parameter(
        "view_token",
        TEXT,
        "Lets callers without a token look at the job that it was made for (`job_view_token`).",
        for_strangers=True,
    ),
    Parameter("X-View-Token", TEXT, "The same, as a header.", for_strangers=True, place="header"),
)
#: Of what shows a whole job.
OF_JOBS: Final = (
    flag("no_logs", "Leaves the log out."),
    flag("no_code", "Leaves the code of previews out."),
)
APPROVER: Final = text("approver", "Who is to use the signature; it is for this name, or for none.")
FLOW_LEVEL: Final = flag(
    "flow_level", "For the flow of the job, not for the job: counts for the first step that waits."
)
RESUME_PAYLOAD: Final = Parameter(
    "payload", TEXT, "JSON in base64: what the steps behind see as `resume`.", "resume_payload", only_for="GET"
)
PAGE_TOKEN: Final = text("token", "That of `approvalPage`, for who has no rights on the flow.", key="page_token")
JSON_PATH: Final = text("json_path", "Names and indices separated by dots: the answer is that part of the result.")
GET_STARTED: Final = flag("get_started", "Fills `started` before the job has ended.")
REMOVE_ANSI_WARNINGS: Final = flag("remove_ansi_warnings", "Leaves out the first line, a hint on colors.")
FORCE_CANCEL: Final = flag("force_cancel", "Answers when they have ended.")

#: Of whatever follows a job.
OF_UPDATES: Final = (
    choice("running", "`false`: says so when the job starts.", key="updates_running"),
    Parameter("log_offset", _SECONDS, "The characters of the log that are known, plus one; as an update gave it."),
    Parameter("stream_offset", _SECONDS, "The chunks of the streamed result that are known; as an update gave it."),
    flag("no_logs", "Leaves the log out.", key="updates_no_logs"),
    flag("only_result", "Leaves the log out, and gives the result at the end instead of the job."),
    flag("get_progress", "Tells what the job says of its own progress."),
    flag("fast", "Nothing: what is new is told at once."),
    flag("is_flow", "Nothing: which jobs are flows is known."),
    Parameter("poll_delay_ms", _SECONDS, "Nothing: nothing is polled."),
)
LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID",
    {
        "type": "string",
        "pattern": "^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}:[0-9]+:[0-9]+:[qre])?$",
    },
    "The id of the last event of a stream that broke: goes on behind it, and starts no other job.",
    place="header",
)

_SEVERAL: Final = "Several are separated by commas; a leading `!` excludes them all."
_JSON: Final[Schema] = {"type": "string", "contentMediaType": "application/json"}


def _bounds(what: str, name: str) -> tuple[Parameter, Parameter]:
    """Two ends of a time, both included."""
    return (
        Parameter(f"{name}_before", TIME, f"Only jobs that were {what} then or before."),
        Parameter(f"{name}_after", TIME, f"Only jobs that were {what} then or after."),
    )


SUCCESS: Final = choice("success", "`true`: jobs that ended well. `false`: jobs that failed or were canceled.")
_JOBS_PER_PAGE: Final = per_page(jobs.DEFAULT_PER_PAGE, jobs.MAX_PER_PAGE, key="jobs_per_page")
INCLUDE_ARGS: Final = flag("include_args", "Shows the arguments.")
#: Of the list of dead letters.
SCRIPT_PATH_EXACT: Final = text("script_path_exact", "Only jobs of this script.", key="dead_script_path")
OF_DEAD_LETTERS: Final = (
    PAGE,
    _JOBS_PER_PAGE,
    SCRIPT_PATH_EXACT,
    INCLUDE_ARGS,
)
USE_LATEST_VERSION: Final = flag("use_latest_version", "Runs what the path has now, not the version that ran.")
#: Of all lists of jobs, and of their ids.
OF_JOB_LISTS: Final = (
    PAGE,
    _JOBS_PER_PAGE,
    NEWEST_FIRST,
    ALL_WORKSPACES,
    INCLUDE_ARGS,
    choice("running", "`true`: jobs that run. `false`: jobs that wait."),
    SUCCESS,
    Parameter(
        "status",
        {"type": "string", "enum": ["success", "failure", "canceled", "skipped"]},
        "Only jobs that ended like this.",
    ),
    text("script_path_start", f"Only jobs of scripts whose path begins with this. {_SEVERAL}"),
    text("script_path_exact", f"Only jobs of the script at this path. {_SEVERAL}"),
    text("script_hash", f"Only jobs of this version of a script. {_SEVERAL}"),
    text("created_by", f"Only jobs created by this name. {_SEVERAL}", key="jobs_created_by"),
    text("tag", f"Only jobs with this tag. {_SEVERAL}", key="jobs_tag"),
    text("label", f"Only jobs with this label. {_SEVERAL}"),
    text("job_kinds", f"Only jobs of this kind. {_SEVERAL}"),
    text("trigger_kind", f"Only jobs that were started like this. {_SEVERAL}"),
    text("trigger_path", f"Only jobs of this trigger, of which there are none. {_SEVERAL}"),
    text("schedule_path", f"Only jobs of this schedule, of which there are none. {_SEVERAL}"),
    text("worker", f"Only jobs of the worker of this name, of which there are none. {_SEVERAL}"),
    flag("allow_wildcards", "`*` stands for any characters in `tag`, `label` and `worker`."),
    text("broad_filter", "Only jobs with this piece of text in path or tag."),
    Parameter("args", _JSON, "Only jobs whose arguments contain this JSON value."),
    Parameter("result", _JSON, "Only jobs whose result contains this JSON value."),
    *_bounds("created", "created"),
    *_bounds("started", "started"),
    *_bounds("completed", "completed"),
    *_bounds("started, or if they were not, created", "created_or_started"),
    Parameter("created_before_queue", TIME, "`created_before` for jobs that wait or run."),
    Parameter("created_after_queue", TIME, "`created_after` for jobs that wait or run."),
    Parameter("parent_job", UUID, "Only jobs with this parent.", key="jobs_parent_job"),
    flag("has_null_parent", "Only jobs without a parent."),
    choice("is_skipped", "Only jobs that were skipped, of which there are none; `false`: no such."),
    flag("is_flow_step", "Only jobs of flows' steps."),
    flag("is_not_schedule", "Only jobs that no schedule started."),
    flag("suspended", "Only suspended jobs, of which there are none."),
    flag("scheduled_for_before_now", "Only jobs that are due, or were."),
)
TAGS: Final = text("tags", "Only jobs with one of these tags, separated by commas.")
COMPLETED_AFTER_S_AGO: Final = Parameter("completed_after_s_ago", _COUNT, "Only jobs that ended in the last seconds.")
#: Of the instance-wide count.
OF_TAG_COUNTS: Final = (
    Parameter("horizon_secs", {**_COUNT, "default": 3600}, "Only jobs that ended in the last seconds."),
    text("workspace_id", "Only jobs of this workspace."),
)

# --- of scripts -------------------------------------------------------------------------------------------------------

FORCE: Final = (flag("force", "Looks again, unless that was done within the last second."),)

SKIP_IF_NOOP: Final = flag("skip_if_noop", "Makes no version if nothing would change; the answer is the last one.")

#: Of ``scripts/list``.
OF_SCRIPT_LISTS: Final = (
    PAGE,
    per_page(scripts.DEFAULT_PER_PAGE, scripts.MAX_PER_PAGE, key="scripts_per_page"),
    NEWEST_FIRST,
    text("path_start", "Only paths that begin with this."),
    text("path_exact", "Only this path."),
    text("created_by", "Only versions made by this user.", key="scripts_created_by"),
    Parameter("parent_hash", HASH, "Only versions that follow this one, directly or not."),
    Parameter("first_parent_hash", HASH, "Only versions that follow this one directly."),
    Parameter("last_parent_hash", HASH, "Only versions whose oldest forebear is this one."),
    flag("show_archived", "Paths that were taken out of service instead of those in service."),
    choice("is_template", "Whether the script is a template."),
    choice("dedicated_worker", "Whether the script has processes of its own."),
    text("kinds", f"Kinds separated by commas: {', '.join(kind.value for kind in ScriptKind)}."),
    text("languages", f"Languages separated by commas: {', '.join(language.value for language in Language)}."),
    flag("starred_only", "Nothing: scripts cannot be starred in this version."),
    flag("include_without_main", "Also scripts without a `main` function."),
    flag("include_draft_only", "Also drafts that were never deployed."),
    flag("with_deployment_msg", "Shows the deployment message."),
    flag("without_description", "Leaves the description out."),
)

# --- of flows ---------------------------------------------------------------------------------------------------------

#: Of ``flows/list``.
OF_FLOW_LISTS: Final = (
    PAGE,
    per_page(30, 1000, key="flows_per_page"),
    NEWEST_FIRST,
    text("path_start", "Only paths that begin with this."),
    text("path_exact", "Only this path."),
    text("edited_by", "Only flows whose newest version is by this user."),
    flag("show_archived", "Flows that were taken out of service instead of those in service.", key="archived_flows"),
    flag("starred_only", "Nothing: flows cannot be starred in this version.", key="starred_flows"),
    flag("include_draft_only", "Also drafts that were never deployed."),
    flag("with_deployment_msg", "Shows the deployment message."),
    flag("without_description", "Leaves the description out."),
)

# --- of variables and resources ---------------------------------------------------------------------------------------

ALREADY_ENCRYPTED: Final = flag("already_encrypted", "The value of a secret is one that this server has encrypted.")
UPDATE_IF_EXISTS: Final = flag("update_if_exists", "Replaces a resource that is there.")
#: Of one variable.
OF_VARIABLES: Final = (
    flag("decrypt_secret", "Shows the value of a secret in clear.", default=True),
    flag("include_encrypted", "Shows it encrypted instead, where it is not shown in clear."),
)
#: Of lists of things at paths.
OF_PATH_LISTS: Final = (
    PAGE,
    per_page(pages.DEFAULT_PER_PAGE, pages.MAX_PER_PAGE, key="paths_per_page"),
    text("path_start", "Only paths that begin with this."),
)
OF_RESOURCE_LISTS: Final = (
    *OF_PATH_LISTS,
    text("resource_type", "Only of these types, separated by commas."),
    text("resource_type_exclude", "Not of these types, separated by commas."),
)

# --- of the audit log -------------------------------------------------------------------------------------------------

AUDIT_ID: Final = Parameter(
    "id", {"type": "integer", "minimum": 0, "examples": [1]}, "The number of a record.", key="audit_id", place="path"
)
OF_AUDIT_LISTS: Final = (
    PAGE,
    per_page(100, 1000, key="audit_per_page"),
    text("username", "Only what this user did."),
    text("operation", "Only this operation."),
    text("operations", "Only these operations, separated by commas."),
    text("exclude_operations", "Not these operations, separated by commas."),
    text("resource", "Only what was done to this path, id or name."),
    Parameter("action_kind", {"type": "string", "enum": list(ACTION_KINDS)}, "Only this kind of action."),
    Parameter("before", TIME, "Only what was done then or before.", key="audit_before"),
    Parameter("after", TIME, "Only what was done then or after.", key="audit_after"),
)

# --- of tokens --------------------------------------------------------------------------------------------------------

#: Of ``users/tokens/list``.
OF_TOKEN_LISTS: Final = (
    flag("exclude_ephemeral", "Leaves out the tokens of jobs."),
    PAGE,
    per_page(tokens.DEFAULT_PER_PAGE, tokens.MAX_PER_PAGE, key="tokens_per_page"),
)

#: Of ``users/list_as_super_admin``.
OF_USER_LISTS: Final = (PAGE, per_page(users.DEFAULT_PER_PAGE, users.MAX_PER_PAGE, key="users_per_page"))
REDIRECT: Final = Parameter(
    "rd", {"type": "string", "pattern": "^/[!-.0-[\\]-~]"}, "A path of this server to go on to."
)
IF_EXPIRING: Final = Parameter(
    "if_expiring_in_less_than_s", {**_COUNT, "examples": [3600]}, "Only if the session ends so soon, in seconds."
)

# --- of files ---------------------------------------------------------------------------------------------------------

#: Of everything that is done to files.
STORAGE: Final = (
    Parameter("storage", _STORAGE, "The name of a secondary storage; left out: the primary one."),
    Parameter("s3_resource_path", {"type": "string", "maxLength": 0}, "Only empty: there are no resources here."),
)
FILE_KEY: Final = Parameter("file_key", _KEY, "The key of the object.", is_required=True)
#: Of uploads.
OF_UPLOADS: Final = (
    Parameter(
        "file_key", {**_KEY, "minLength": 0}, "The key; left out: one of the server's choice.", key="new_file_key"
    ),
    text("file_extension", "How a key of the server's choice ends; `file` if left out."),
    text("content_type", "The `Content-Type` of downloads."),
    text("content_disposition", "The `Content-Disposition` of downloads."),
    *STORAGE,
)
#: What a download may be asked for in headers.
RANGES: Final = (
    Parameter(
        "Range",
        {"type": "string", "examples": ["bytes=0-99"]},
        "One range of bytes; others are ignored.",
        place="header",
    ),
    Parameter("If-Range", TEXT, "The range counts if the object still has this `ETag`.", place="header"),
    Parameter("If-None-Match", TEXT, "304 if the object still has one of these `ETag`s.", place="header"),
)
OF_FILE_LISTS: Final = (
    Parameter(
        "max_keys",
        {**_SECONDS, "minimum": 1, "default": MAX_PAGE},
        f"Keys of a page; what is above {MAX_PAGE} is taken as {MAX_PAGE}.",
    ),
    text("marker", "The `next_marker` of the page before."),
    text("prefix", "Only keys that begin with this.", key="key_prefix"),
    *STORAGE,
)
#: Of previews; the others of Windmill's mean nothing here.
OF_PREVIEWS: Final = (
    FILE_KEY,
    Parameter(
        "read_bytes_from",
        {"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0},
        "The first byte that is shown.",
    ),
    Parameter(
        "read_bytes_length",
        {"type": "integer", "minimum": 1, "maximum": MAX_PREVIEW_BYTES},
        "How many bytes are shown.",
        is_required=True,
    ),
    Parameter("csv_separator", {"type": "string", "default": ","}, "The one character that separates the columns."),
    flag("csv_has_header", "Whether the first row has the names of the columns.", default=True),
    *STORAGE,
)
OF_MOVES: Final = (
    Parameter("src_file_key", _KEY, "The key that it has.", is_required=True),
    Parameter("dest_file_key", _KEY, "The key that it gets; an object that has it is replaced.", is_required=True),
    *STORAGE,
)
#: The two parts of ``presigned``.
SIGNATURE: Final = (
    Parameter(
        "exp", {"type": "string", "pattern": "^[0-9]{1,12}$"}, "Until when, in seconds since 1970.", is_required=True
    ),
    Parameter("sig", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The signature.", is_required=True),
)
