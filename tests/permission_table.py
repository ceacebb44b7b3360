"""Who may call what: a decision for every route, and what each decision means for every kind of caller.

This is written down a second time on purpose, by people, and held against a running server: a route without a decision fails
the suite, and so does one that decides otherwise. ``docs/permissions.md`` is made from it: ``python -m tests.permission_table``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "permissions.md"

#: Kinds of callers. All but the last three belong to the workspace ``demo`` and its folder ``team``: the owner of the folder, and
#: tokens of the owner's; an operator who may read the folder; and a developer who has nothing to do with it.
KINDS: Final = (
    "none",
    "wrong",
    "expired",
    "elsewhere",
    "abroad",
    "read-only",
    "hook",
    "other hook",
    "operator",
    "other",
    "owner",
    "admin",
    "super",
    "job",
)

#: What each decision answers to each kind of caller; 0 is "may". In the order of ``KINDS``.
DECISIONS: Final[dict[str, tuple[int, ...]]] = {
    "public": (0,) * 14,
    # the instance
    "oneself": (401, 401, 401, 401, 403, 0, 401, 401, 0, 0, 0, 0, 0, 0),
    "change oneself": (401, 401, 401, 401, 403, 403, 401, 401, 0, 0, 0, 0, 0, 403),
    "super admin": (401, 401, 401, 401, 403, 403, 401, 401, 403, 403, 403, 403, 0, 403),
    # the workspace
    "member": (401, 401, 401, 401, 403, 0, 403, 403, 0, 0, 0, 0, 0, 0),
    "member, changing": (401, 401, 401, 401, 403, 403, 403, 403, 0, 0, 0, 0, 0, 0),
    "developer": (401, 401, 401, 401, 403, 403, 403, 403, 403, 0, 0, 0, 0, 0),
    "admin": (401, 401, 401, 401, 403, 403, 403, 403, 403, 403, 403, 0, 0, 0),
    "admin of members": (401, 401, 401, 401, 403, 403, 403, 403, 403, 403, 403, 0, 0, 403),
    # what lies at a path
    "look": (401, 401, 401, 401, 403, 0, 403, 403, 0, 404, 0, 0, 0, 0),
    "own records": (401, 401, 401, 401, 403, 404, 403, 403, 404, 404, 404, 0, 0, 0),
    "change": (401, 401, 401, 401, 403, 403, 403, 403, 403, 400, 0, 0, 0, 0),
    "change folder": (401, 401, 401, 401, 403, 403, 403, 403, 403, 404, 0, 0, 0, 0),
    "run": (401, 401, 401, 401, 403, 403, 0, 403, 0, 401, 0, 0, 0, 0),
    "run anything": (401, 401, 401, 401, 403, 403, 0, 0, 0, 0, 0, 0, 0, 0),
    # a job
    "follow": (401, 401, 401, 401, 403, 0, 0, 403, 0, 403, 0, 0, 0, 0),
    "follow, open": (400, 401, 401, 401, 403, 0, 0, 403, 0, 403, 0, 0, 0, 0),
    "look at job": (401, 401, 401, 401, 403, 0, 403, 403, 0, 403, 0, 0, 0, 0),
    "times, open": (0, 401, 401, 401, 403, 0, 403, 403, 0, 0, 0, 0, 0, 0),
    "run job again": (401, 401, 401, 401, 403, 403, 0, 403, 0, 403, 0, 0, 0, 0),
    "change job": (401, 401, 401, 401, 403, 403, 403, 403, 403, 403, 0, 0, 0, 0),
    "end job, open": (400, 401, 401, 401, 403, 403, 403, 403, 403, 403, 0, 0, 0, 0),
    "end jobs of path": (400, 401, 401, 401, 403, 403, 403, 403, 400, 400, 0, 0, 0, 0),
    "signed": (0, 401, 401, 401, 403, 0, 403, 403, 0, 0, 0, 0, 0, 0),
    "signed, changing": (0, 401, 401, 401, 403, 403, 403, 403, 0, 0, 0, 0, 0, 0),
}

_W: Final = "/api/w/{workspace}"

#: Routes by decision: methods and patterns, in groups of one line each.
_ROUTES: Final[dict[str, tuple[str, ...]]] = {
    "public": (
        "POST /api/auth/login",
        "POST /api/auth/request_password_reset",
        "POST /api/auth/reset_password",
        "GET /api/auth/is_first_time_setup",
        "GET /api/auth/is_smtp_configured",
        "GET /api/auth/is_password_login_disabled",
        "GET /api/version",
        "GET /api/uptodate",
        "GET /api/ee_license",
        "GET /api/health/status",
        "GET /readyz",
        "GET /api/openapi.json",
        "GET /api/openapi.yaml",
        "GET /api/jobs/db_clock",
        f"GET {_W}/s3_proxy/{{storage}}/{{key...}}",
    ),
    "oneself": (
        "GET /api/users/whoami",
        "GET /api/users/email",
        "GET /api/users/all_runnables",
        "GET /api/settings/global/{key}",
        "GET /api/users/tokens/list",
        "GET /api/tokens/list/scopes",
        "GET /api/workspaces/list",
        "GET /api/workspaces/users",
        "POST /api/workspaces/exists",
        "POST /api/workspaces/exists_username",
        "GET /api/workspaces/create_workspace_require_superadmin",
        "GET /api/health/detailed",
    ),
    "change oneself": (
        "POST|GET|HEAD /api/auth/logout",
        "POST /api/users/setpassword",
        "GET|HEAD /api/users/refresh_token",
        "POST /api/users/tokens/create",
        "DELETE /api/users/tokens/delete/{prefix}",
        "POST /api/users/tokens/update_scopes/{prefix}",
        "POST /api/users/tokens/update_label/{prefix}",
    ),
    "super admin": (
        "POST /api/users/create",
        "POST /api/settings/test_smtp",
        "GET /api/settings/list_global",
        "GET /api/users/list_as_super_admin",
        "GET /api/users/exists/{email}",
        "POST /api/users/update/{email}",
        "POST /api/users/set_password_of/{email}",
        "DELETE /api/users/delete/{email}",
        "POST /api/users/tokens/impersonate",
        "GET /api/workspaces/list_as_superadmin",
        "POST /api/workspaces/create",
        "POST /api/workspaces/unarchive/{workspace_id}",
        "DELETE /api/workspaces/delete/{workspace_id}",
        "GET /api/jobs/completed/count_by_tag",
        "GET /metrics",
    ),
    "member": (
        f"GET {_W}/users/whoami",
        f"GET {_W}/users/list",
        f"GET {_W}/users/list_usernames",
        f"GET {_W}/users/get/{{username}}",
        f"GET {_W}/users/whois/{{username}}",
        f"GET {_W}/users/username_to_email/{{username}}",
        f"GET {_W}/users/is_owner/{{path...}}",
        f"POST {_W}/users/exists",
        f"GET {_W}/workspaces/get_workspace_name",
        f"GET {_W}/workspaces/get_public_settings",
        f"GET {_W}/workspaces/get_secondary_storage_names",
        f"GET {_W}/folders/list",
        f"GET {_W}/folders/listnames",
        f"GET {_W}/folders/exists/{{name}}",
        f"GET {_W}/folders/is_owner/{{name}}",
        f"GET {_W}/groups/list",
        f"GET {_W}/groups/listnames",
        f"GET {_W}/groups/get/{{name}}",
        f"GET {_W}/audit/list",
        f"GET {_W}/variables/list",
        f"GET {_W}/variables/list_contextual",
        f"GET {_W}/resources/list",
        f"GET {_W}/resources/type/get/{{name}}",
        f"GET {_W}/resources/type/exists/{{name}}",
        f"GET {_W}/resources/type/list",
        f"GET {_W}/resources/type/listnames",
        f"GET {_W}/resources/file_resource_type_to_file_ext_map",
        f"GET {_W}/scripts/list",
        f"GET {_W}/flows/list",
        f"GET {_W}/flows/list_paths",
        f"GET {_W}/flows/list_paths_from_workspace_runnable/{{kind}}/{{path...}}",
        f"GET {_W}/scripts/list_paths_from_workspace_runnable/{{path...}}",
        f"GET {_W}/flows/list_search",
        "GET /approve/{workspace}/{id}",
        f"GET {_W}/jobs_u/flow/approval_info/{{id}}",
        f"GET {_W}/jobs/list",
        f"GET {_W}/jobs/queue/list",
        f"GET {_W}/jobs/completed/list",
        f"GET {_W}/jobs/dead_letters/list",
        f"GET {_W}/jobs/queue/count",
        f"GET {_W}/jobs/queue/position/{{epoch_ms}}",
        f"GET {_W}/jobs/completed/count",
        f"GET {_W}/jobs/completed/count_jobs",
        f"GET {_W}/job_helpers/download_s3_file",
        f"GET {_W}/job_helpers/list_stored_files",
        f"GET {_W}/job_helpers/load_file_metadata",
        f"GET {_W}/job_helpers/load_file_preview",
        f"GET {_W}/job_helpers/test_connection",
        f"POST {_W}/job_helpers/multipart_download_s3_file",
        f"POST {_W}/apps/sign_s3_objects",
    ),
    "member, changing": (
        f"POST {_W}/users/leave",
        f"POST {_W}/jobs/queue/cancel_selection",
        f"POST {_W}/jobs_u/flow/resume_suspended/{{id}}",
        "POST /approve/{workspace}/{id}",
    ),
    "developer": (
        f"POST {_W}/folders/create",
        f"POST {_W}/variables/encrypt",
        f"DELETE {_W}/variables/delete_bulk",
        f"POST {_W}/resources/type/create",
        f"POST {_W}/resources/type/update/{{name}}",
        f"DELETE {_W}/resources/type/delete/{{name}}",
        f"POST {_W}/scripts/schema",
        f"POST {_W}/jobs/run/preview",
        f"POST {_W}/jobs/run_wait_result/preview",
        f"POST {_W}/jobs/run_inline/preview",
        f"POST {_W}/jobs/run/preview_flow",
        f"POST {_W}/jobs/run_wait_result/preview_flow",
        f"POST {_W}/jobs/run/dependencies_async",
        f"POST {_W}/job_helpers/upload_s3_file",
        f"POST {_W}/job_helpers/multipart_upload_s3_file",
        f"DELETE {_W}/job_helpers/delete_s3_file",
        f"GET|HEAD {_W}/job_helpers/move_s3_file",
    ),
    "admin": (
        f"POST {_W}/workspaces/add_user",
        f"POST {_W}/workspaces/archive",
        f"GET|POST {_W}/workspaces/encryption_key",
        f"GET {_W}/workspaces/get_settings",
        f"POST {_W}/workspaces/edit_large_file_storage_config",
        f"POST {_W}/groups/create",
        f"POST {_W}/groups/update/{{name}}",
        f"POST {_W}/groups/adduser/{{name}}",
        f"POST {_W}/groups/removeuser/{{name}}",
        f"DELETE {_W}/groups/delete/{{name}}",
        f"GET {_W}/jobs/list_filtered_uuids",
        f"GET {_W}/jobs/queue/list_filtered_uuids",
        f"POST {_W}/jobs/completed/delete/{{id}}",
    ),
    "admin of members": (f"POST {_W}/users/update/{{username}}", f"DELETE {_W}/users/delete/{{username}}"),
    "look": (
        f"GET {_W}/scripts/get/p/{{path...}}",
        f"GET {_W}/scripts/get/h/{{hash}}",
        f"GET {_W}/scripts/deployment_status/h/{{hash}}",
        f"GET {_W}/scripts/exists/p/{{path...}}",
        f"GET {_W}/scripts/history/p/{{path...}}",
        f"GET {_W}/scripts/raw/p/{{path...}}",
        f"GET {_W}/scripts/list_tokens/{{path...}}",
        f"GET {_W}/flows/get/{{path...}}",
        f"GET {_W}/flows/get/v/{{version}}",
        f"GET {_W}/flows/get/v/{{version}}/p/{{path...}}",
        f"GET {_W}/flows/get/draft/{{path...}}",
        f"GET {_W}/flows/list_tokens/{{path...}}",
        f"GET {_W}/flows/exists/{{path...}}",
        f"GET {_W}/flows/history/p/{{path...}}",
        f"GET {_W}/flows/get_latest_version/{{path...}}",
        f"GET {_W}/flows/deployment_status/p/{{path...}}",
        f"GET {_W}/folders/get/{{name}}",
        f"GET {_W}/variables/get/{{path...}}",
        f"GET {_W}/variables/get_value/{{path...}}",
        f"GET {_W}/variables/exists/{{path...}}",
        f"GET {_W}/resources/get/{{path...}}",
        f"GET {_W}/resources/get_value/{{path...}}",
        f"GET {_W}/resources/get_value_interpolated/{{path...}}",
        f"GET {_W}/resources/exists/{{path...}}",
    ),
    "own records": (f"GET {_W}/audit/get/{{id}}",),
    "change": (
        f"POST {_W}/scripts/create",
        f"POST {_W}/scripts/archive/p/{{path...}}",
        f"POST {_W}/flows/create",
        f"POST {_W}/flows/update/{{path...}}",
        f"POST {_W}/flows/history_update/v/{{version}}",
        f"POST {_W}/flows/archive/{{path...}}",
        f"DELETE {_W}/flows/delete/{{path...}}",
        f"POST {_W}/variables/create",
        f"POST {_W}/variables/update/{{path...}}",
        f"DELETE {_W}/variables/delete/{{path...}}",
        f"POST {_W}/resources/create",
        f"POST {_W}/resources/update/{{path...}}",
        f"POST {_W}/resources/update_value/{{path...}}",
        f"DELETE {_W}/resources/delete/{{path...}}",
    ),
    "change folder": (
        f"POST {_W}/folders/update/{{name}}",
        f"POST {_W}/folders/addowner/{{name}}",
        f"POST {_W}/folders/removeowner/{{name}}",
        f"DELETE {_W}/folders/delete/{{name}}",
    ),
    "run": (
        f"POST|HEAD {_W}/jobs/run/p/{{path...}}",
        f"POST {_W}/jobs/run/h/{{hash}}",
        f"POST|GET|HEAD {_W}/jobs/run_wait_result/p/{{path...}}",
        f"POST {_W}/jobs/run_wait_result/h/{{hash}}",
        f"POST|GET|HEAD {_W}/jobs/run_and_stream/p/{{path...}}",
        f"POST|GET {_W}/jobs/run_and_stream/h/{{hash}}",
        f"POST|HEAD {_W}/jobs/run/f/{{path...}}",
        f"POST {_W}/jobs/run/fv/{{version}}",
        f"POST|GET|HEAD {_W}/jobs/run_wait_result/f/{{path...}}",
        f"POST|GET {_W}/jobs/run_wait_result/fv/{{version}}",
        f"POST|GET|HEAD {_W}/jobs/run_and_stream/f/{{path...}}",
        f"POST|GET {_W}/jobs/run_and_stream/fv/{{version}}",
    ),
    "run anything": (
        f"POST|HEAD {_W}/jobs/run/batch_rerun_jobs",
        f"HEAD {_W}/jobs/run/h/{{hash}}",
        f"HEAD {_W}/jobs/run_wait_result/h/{{hash}}",
        f"HEAD {_W}/jobs/run_and_stream/h/{{hash}}",
        f"HEAD {_W}/jobs/run/fv/{{version}}",
        f"HEAD {_W}/jobs/run_wait_result/fv/{{version}}",
        f"HEAD {_W}/jobs/run_and_stream/fv/{{version}}",
        f"GET {_W}/jobs/ws",
        f"POST {_W}/jobs/dead_letters/redrive_all",
    ),
    "follow": (
        f"GET {_W}/jobs/completed/get/{{id}}",
        f"GET {_W}/jobs/completed/get_result/{{id}}",
        f"GET {_W}/jobs/completed/get_result_maybe/{{id}}",
        f"GET {_W}/jobs/completed/get_timing/{{id}}",
        f"GET {_W}/jobs/job_signature/{{id}}/{{resume_id}}",
        f"GET {_W}/jobs/resume_urls/{{id}}/{{resume_id}}",
        f"GET {_W}/jobs/flow/user_states/{{id}}/{{key}}",
        f"GET {_W}/jobs/result_by_id/{{id}}/{{node}}",
        f"GET {_W}/job_metrics/get_progress/{{id}}",
    ),
    "follow, open": (
        f"GET {_W}/jobs_u/get/{{id}}",
        f"GET {_W}/jobs_u/get_args/{{id}}",
        f"GET {_W}/jobs_u/getupdate/{{id}}",
        f"GET {_W}/jobs_u/getupdate_sse/{{id}}",
        f"GET {_W}/jobs_u/get_logs/{{id}}",
        f"GET {_W}/jobs_u/get_completed_logs_tail/{{id}}",
        f"GET {_W}/jobs_u/get_root_job_id/{{id}}",
        f"GET {_W}/jobs_u/get_flow_debug_info/{{id}}",
        f"GET {_W}/jobs_u/completed/get/{{id}}",
        f"GET {_W}/jobs_u/completed/get_result/{{id}}",
        f"GET {_W}/jobs_u/completed/get_result_maybe/{{id}}",
        f"GET {_W}/jobs_u/completed/get_timing/{{id}}",
    ),
    "look at job": (
        f"GET {_W}/jobs/job_view_token/{{id}}",
        f"GET {_W}/jobs/queue/scheduled_for/{{id}}",
        f"GET {_W}/jobs/flow_env_by_flow_job_id/{{id}}/{{env_name}}",
    ),
    "times, open": (f"POST {_W}/jobs_u/queue/get_started_at_by_ids",),
    "run job again": (
        f"POST {_W}/jobs/restart/f/{{id}}",
        f"POST {_W}/jobs/replay/{{id}}",
        f"POST {_W}/jobs/dead_letters/redrive/{{id}}",
        f"POST {_W}/jobs/flow/resume/{{id}}",
    ),
    "change job": (
        f"POST {_W}/jobs/dead_letters/discard/{{id}}",
        f"POST {_W}/jobs/flow/user_states/{{id}}/{{key}}",
        f"POST {_W}/job_metrics/set_progress/{{id}}",
    ),
    "signed": (
        f"GET|HEAD {_W}/jobs_u/resume/{{id}}/{{resume_id}}/{{signature}}",
        f"GET|HEAD {_W}/jobs_u/cancel/{{id}}/{{resume_id}}/{{signature}}",
        f"GET {_W}/jobs_u/get_flow/{{id}}/{{resume_id}}/{{signature}}",
        "GET /approve/{workspace}/{id}/{resume_id}/{signature}",
    ),
    "signed, changing": (
        f"POST {_W}/jobs_u/resume/{{id}}/{{resume_id}}/{{signature}}",
        f"POST {_W}/jobs_u/cancel/{{id}}/{{resume_id}}/{{signature}}",
        "POST /approve/{workspace}/{id}/{resume_id}/{signature}",
    ),
    "end job, open": (f"POST {_W}/jobs_u/queue/cancel/{{id}}", f"POST {_W}/jobs_u/queue/force_cancel/{{id}}"),
    "end jobs of path": (f"POST {_W}/jobs_u/queue/cancel_persistent/{{path...}}",),
}


def decisions() -> dict[tuple[str, str], str]:
    """The decision for each method and pattern."""
    made: dict[tuple[str, str], str] = {}
    for decision, lines in _ROUTES.items():
        for line in lines:
            methods, pattern = line.split(" ")
            for method in methods.split("|"):
                assert (method, pattern) not in made, line
                made[method, pattern] = decision
    return made


def page() -> str:
    """The text of ``docs/permissions.md``."""
    lines = [
        "# Permissions",
        "",
        "Which caller may call which route. This page is made from a table of the tests, which make every call on a running",
        "server; `python -m tests.permission_table` writes it anew.",
        "",
        "## Callers",
        "",
        "Scripts and jobs are those of a folder `team` in one workspace.",
        "",
        "| caller | is |",
        "|---|---|",
        "| none | without a token |",
        "| wrong | with a token that does not exist |",
        "| expired | with a token of the owner whose time is over |",
        "| elsewhere | with a token that is bound to another workspace |",
        "| abroad | with a token of the owner whose `allowed_networks` do not hold the caller's address |",
        "| read-only | with a `read_only` token of the owner |",
        "| hook | with a token of the owner, bound to the workspace, that may run this script |",
        "| other hook | with such a token for another script |",
        "| operator | an operator who may look into the folder |",
        "| other | a developer who has nothing to do with the folder |",
        "| owner | a developer who owns the folder |",
        "| admin | an admin of the workspace |",
        "| super | a super admin |",
        "| job | the token of a running job that a super admin has started |",
        "",
        "## Decisions",
        "",
        "An empty cell: may. A route of a list shows what the caller may see; nobody is refused for what others have.",
        "",
        f"| decision | {' | '.join(KINDS)} |",
        "|---" * (len(KINDS) + 1) + "|",
    ]
    for decision, statuses in DECISIONS.items():
        cells = " | ".join(str(status or "") for status in statuses)
        lines.append(f"| {decision} | {cells} |")
    lines += ["", "## Routes", ""]
    for decision, routes in _ROUTES.items():
        lines += [f"**{decision[0].upper()}{decision[1:]}**", ""]
        lines += [f"- `{line.replace('|', ', ')}`" for line in routes]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
