"""The whole surface: method, path, endpoint, and what calling it means for authorization (domain, action, access)."""

from __future__ import annotations

from typing import Final

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
from minwebhook.api.audited import AUDITED
from minwebhook.api.endpoint import Access, Call, Endpoint, Resource, Role
from minwebhook.http.routing import Route

_W: Final = "/api/w/{workspace}"

WHOLE, FOUND, ROWS = Resource.WHOLE, Resource.FOUND, Resource.ROWS
MEMBER, DEVELOPER, ADMIN, SUPER_ADMIN = Role.MEMBER, Role.DEVELOPER, Role.ADMIN, Role.SUPER_ADMIN


#: Whose answers pages of any origin may read: runs, ended jobs, and all that works without a token (upstream's list).
_CORS: Final = ("/jobs/run/p/", "/jobs/run/h/", "/jobs/run_wait_result/p/", "/jobs/run_wait_result/h/",
                "/jobs/run_and_stream/p/", "/jobs/run_and_stream/h/",
                "/jobs/run/f/", "/jobs/run/fv/", "/jobs/run_wait_result/f/", "/jobs/run_wait_result/fv/",
                "/jobs/run_and_stream/f/", "/jobs/run_and_stream/fv/",
                "/jobs/completed/list", "/jobs/completed/get", "/jobs/job_signature/", "/jobs/resume_urls/",
                "/jobs/result_by_id/",
                "/jobs_u/")  # fmt: skip


#: What a token that may run a script may look at of its jobs.
_FOLLOWING: Final = ("/jobs_u/get", "/jobs_u/completed/get", "/jobs/completed/get", "/jobs/job_signature/",
                     "/jobs/resume_urls/", "/jobs/flow/user_states/", "/jobs/result_by_id/",
                     "/job_metrics/get_progress/")  # fmt: skip


def _route(
    method: str,
    path: str,
    call: Call,
    domain: str,
    action: str,
    resource: Resource | None = None,
    *,
    access: Access = Access.TOKEN,
    role: Role | None = None,
    kind: str | None = None,
    gives_all_rights: bool = False,
    has_own_token: bool = False,
) -> Route[Endpoint]:
    """A route with a ``{path...}`` is about that path, one with an ``{id}`` or ``{hash}`` about what that is, unless it
    says otherwise. Who changes things is no operator, unless it says otherwise."""
    below = path.removeprefix(_W)
    if resource is None:
        found = "{id}" in path or "{hash}" in path or "{version}" in path
        resource = Resource.PATH if "{path...}" in path else Resource.FOUND if found else Resource.WHOLE
    if role is None:
        role = Role.DEVELOPER if action == "write" else Role.MEMBER
    return Route(
        method,
        path,
        Endpoint(
            call,
            domain,
            action,
            access,
            cors=below.startswith(_CORS),
            role=role,
            resource=resource,
            kind=kind,
            gives_all_rights=gives_all_rights,
            follows_run=method == "GET" and below.startswith(_FOLLOWING),
            audited=AUDITED.get(call),
            has_own_token=has_own_token,
        ),
    )


def _optional(
    method: str, path: str, call: Call, domain: str, action: str, resource: Resource | None = None
) -> Route[Endpoint]:
    """Also for callers without a token."""
    return _route(method, path, call, domain, action, resource, access=Access.OPTIONAL)


def _powerful(method: str, path: str, call: Call, role: Role) -> Route[Endpoint]:
    """What passwords, users and tokens of others are made with: a way around the scopes of a token."""
    return _route(method, path, call, "users", "write", role=role, gives_all_rights=True)


def _runs(method: str, path: str, call: Call) -> Route[Endpoint]:
    """Of deployed scripts."""
    return _route(method, path, call, "jobs", "run", kind="scripts")


def _flow_routes() -> list[Route[Endpoint]]:
    """Flows: what they are, and running them."""
    read, write = "read", "write"
    routes = [
        _route("POST", _W + "/flows/create", flows.create, "flows", write, FOUND),
        _route("POST", _W + "/flows/update/{path...}", flows.update, "flows", write),
        _route("GET", _W + "/flows/list_tokens/{path...}", flows.list_tokens, "flows", read),
        _route(
            "GET", _W + "/flows/list_paths_from_workspace_runnable/{kind}/{path...}", flows.list_users, "flows", read, ROWS
        ),
        _route("GET", _W + "/flows/list", flows.list_flows, "flows", read, ROWS),
        _route("GET", _W + "/flows/list_paths", flows.list_paths, "flows", read, ROWS),
        _route("GET", _W + "/flows/list_search", flows.list_search, "flows", read, ROWS),
        _route("GET", _W + "/flows/get/v/{version}", flows.get_version, "flows", read),
        _route("GET", _W + "/flows/get/v/{version}/p/{path...}", flows.get_version_of_path, "flows", read),
        _route("GET", _W + "/flows/get/draft/{path...}", flows.get_draft, "flows", read),
        _route("GET", _W + "/flows/get/{path...}", flows.get, "flows", read),
        _route("GET", _W + "/flows/exists/{path...}", flows.exists, "flows", read),
        _route("GET", _W + "/flows/history/p/{path...}", flows.history, "flows", read),
        _route("GET", _W + "/flows/get_latest_version/{path...}", flows.get_latest_version, "flows", read),
        _route("POST", _W + "/flows/history_update/v/{version}", flows.update_history, "flows", write),
        _route("GET", _W + "/flows/deployment_status/p/{path...}", flows.deployment_status, "flows", read),
        _route(
            "POST", _W + "/flows/toggle_workspace_error_handler/{path...}", flows.toggle_error_handler, "flows", write
        ),
        _route("POST", _W + "/flows/archive/{path...}", flows.archive, "flows", write),
        _route("DELETE", _W + "/flows/delete/{path...}", flows.delete, "flows", write),
        _route("POST", _W + "/jobs/run/preview_flow", flow_runs.run_preview, "jobs", "run", role=DEVELOPER),
        _route("POST", _W + "/jobs/run_wait_result/preview_flow", flow_runs.run_wait_preview, "jobs", "run", role=DEVELOPER),
        _route("POST", _W + "/jobs/restart/f/{id}", flow_restarts.restart_flow, "jobs", "run", kind="flows"),
        _route("HEAD", _W + "/jobs/restart/f/{id}", runs.head, "jobs", "run", kind="flows"),
        _route("GET", _W + "/jobs/result_by_id/{id}/{node}", flow_runs.result_by_id, "jobs", read),
        _route("GET", _W + "/jobs/flow_env_by_flow_job_id/{id}/{env_name}", flow_runs.flow_env, "jobs", read),
        _optional("GET", _W + "/jobs_u/get_flow_debug_info/{id}", flow_runs.debug_info, "jobs", read),
    ]  # fmt: skip
    for part, run, wait, stream in (
        ("f/{path...}", flow_runs.run_by_path, flow_runs.run_wait_by_path, streams.run_and_stream_flow_by_path),
        (
            "fv/{version}",
            flow_runs.run_by_version,
            flow_runs.run_wait_by_version,
            streams.run_and_stream_flow_by_version,
        ),
    ):
        calls = (("run", run), ("run_wait_result", wait), ("run_and_stream", stream))
        for way, call in calls:
            for method in ("POST",) if way == "run" else ("POST", "GET"):
                routes.append(_route(method, f"{_W}/jobs/{way}/{part}", call, "jobs", "run", kind="flows"))
            routes.append(_route("HEAD", f"{_W}/jobs/{way}/{part}", runs.head, "jobs", "run", kind="flows"))
    return routes


def _approval_routes() -> list[Route[Endpoint]]:
    """What lets a waiting flow go on, or ends it; and what scripts keep in the flow that they are part of."""
    read, write, optional = "read", "write", Access.OPTIONAL
    signed = "{id}/{resume_id}/{signature}"
    routes = [
        _route("GET", _W + "/jobs/job_signature/{id}/{resume_id}", approvals.job_signature, "jobs", read),
        _route("GET", _W + "/jobs/resume_urls/{id}/{resume_id}", approvals.resume_urls, "jobs", read),
        _optional("GET", f"{_W}/jobs_u/get_flow/{signed}", approvals.get_flow, "jobs", read),
        _route("POST", _W + "/jobs/flow/resume/{id}", approvals.resume_flow, "jobs", "run", kind="flows"),
        _route(
            "POST",
            _W + "/jobs_u/flow/resume_suspended/{id}",
            approvals.resume_suspended,
            "jobs",
            write,
            access=optional,
            role=MEMBER,
        ),
        _route(
            "GET",
            _W + "/jobs_u/flow/approval_info/{id}",
            approvals.approval_info,
            "jobs",
            read,
            access=optional,
            has_own_token=True,
        ),
        _route("GET", _W + "/jobs/flow/user_states/{id}/{key}", user_states.get_user_state, "jobs", read),
        _route("GET", _W + "/job_metrics/get_progress/{id}", progress.get_progress, "jobs", read),
        _route("POST", _W + "/job_metrics/set_progress/{id}", progress.set_progress, "jobs", write, role=MEMBER),
        _route("POST", _W + "/jobs/flow/user_states/{id}/{key}", user_states.set_user_state, "jobs", write, role=MEMBER),
    ]  # fmt: skip
    page, signed_page = "/approve/{workspace}/{id}", f"/approve/{{workspace}}/{signed}"
    routes += [
        _optional("GET", signed_page, approval_pages.show_signed, "jobs", read),
        _route("POST", signed_page, approval_pages.send_signed, "jobs", write, access=optional, role=MEMBER),
        _route("GET", page, approval_pages.show, "jobs", read, access=optional, has_own_token=True),
        _route("POST", page, approval_pages.send, "jobs", write, access=optional, role=MEMBER, has_own_token=True),
    ]
    for way, call in (("resume", approvals.resume), ("cancel", approvals.cancel)):
        path = f"{_W}/jobs_u/{way}/{signed}"
        # A link in a mail is opened by a browser which says that another site led to it: that is no attack, it is signed.
        routes.append(_optional("GET", path, call, "jobs", read))
        routes.append(_route("POST", path, call, "jobs", write, access=optional, role=MEMBER))
        routes.append(
            _optional("HEAD", path, runs.head, "jobs", read)
        )  # a look must not fall back to a GET that speaks
    return routes


def _public(method: str, path: str, call: Call) -> Route[Endpoint]:
    return Route(method, path, Endpoint(call, "public", "read", Access.PUBLIC, audited=AUDITED.get(call)))


def _identity_routes() -> list[Route[Endpoint]]:
    """Logging in, users, tokens, workspaces and who may do what in them."""
    read, write = "read", "write"
    return [
        _public("POST", "/api/auth/login", login.login),
        _route("POST", "/api/auth/logout", login.logout, "users", write, role=MEMBER),
        _route("GET", "/api/auth/logout", login.logout, "users", write, role=MEMBER),
        _route("HEAD", "/api/auth/logout", runs.head, "users", write, role=MEMBER),
        _public("POST", "/api/auth/request_password_reset", login.request_password_reset),
        _public("POST", "/api/auth/reset_password", login.reset_password),
        _public("GET", "/api/auth/is_first_time_setup", login.is_first_time_setup),
        _public("GET", "/api/auth/is_smtp_configured", login.is_smtp_configured),
        _public("GET", "/api/auth/is_password_login_disabled", login.is_password_login_disabled),
        _powerful("GET", "/api/users/refresh_token", login.refresh_token, MEMBER),
        # A probe must not fall back to a GET that ends a session.
        _powerful("HEAD", "/api/users/refresh_token", runs.head, MEMBER),
        _powerful("POST", "/api/settings/test_smtp", instance.test_smtp, SUPER_ADMIN),
        _route("GET", "/api/users/whoami", users.whoami, "users", read),
        _route("GET", "/api/users/email", users.email, "users", read),
        _route("GET", "/api/users/all_runnables", users.all_runnables, "users", read),
        _route("GET", "/api/settings/global/{key}", instance.get_setting, "settings", read),
        _route("GET", "/api/settings/list_global", instance.list_settings, "settings", read, role=SUPER_ADMIN),
        _powerful("POST", "/api/users/setpassword", users.set_password, MEMBER),
        _powerful("POST", "/api/users/create", users.create, SUPER_ADMIN),
        _route("GET", "/api/users/list_as_super_admin", users.list_users, "users", read, role=SUPER_ADMIN),
        _route("GET", "/api/users/exists/{email}", users.exists, "users", read, role=SUPER_ADMIN),
        _powerful("POST", "/api/users/update/{email}", users.update, SUPER_ADMIN),
        _powerful("POST", "/api/users/set_password_of/{email}", users.set_password_of, SUPER_ADMIN),
        _powerful("DELETE", "/api/users/delete/{email}", users.delete, SUPER_ADMIN),
        _route("GET", "/api/workspaces/list", workspaces.list_own, "workspaces", read),
        _route("GET", "/api/workspaces/users", workspaces.list_users, "workspaces", read),
        _route(
            "GET",
            "/api/workspaces/list_as_superadmin",
            workspaces.list_as_super_admin,
            "workspaces",
            read,
            role=SUPER_ADMIN,
        ),
        _route("POST", "/api/workspaces/create", workspaces.create, "workspaces", write, role=SUPER_ADMIN),
        _route(
            "DELETE", "/api/workspaces/delete/{workspace_id}", workspaces.delete, "workspaces", write, role=SUPER_ADMIN
        ),
        _route("POST", "/api/workspaces/exists", workspaces.exists, "workspaces", read),
        _route("POST", "/api/workspaces/exists_username", workspaces.exists_username, "workspaces", read),
        _route(
            "GET",
            "/api/workspaces/create_workspace_require_superadmin",
            workspaces.is_creation_restricted,
            "workspaces",
            read,
        ),
        _route(
            "POST",
            "/api/workspaces/unarchive/{workspace_id}",
            workspaces.unarchive,
            "workspaces",
            write,
            role=SUPER_ADMIN,
        ),
        _route("GET", _W + "/users/whoami", members.whoami, "users", read),
        _route("GET", _W + "/users/list", members.list_members, "users", read),
        _route("GET", _W + "/users/list_usernames", members.list_usernames, "users", read),
        _route("GET", _W + "/users/get/{username}", members.get, "users", read),
        _route("GET", _W + "/users/whois/{username}", members.get, "users", read),
        _route("GET", _W + "/users/username_to_email/{username}", members.username_to_email, "users", read),
        _route("GET", _W + "/users/is_owner/{path...}", members.is_owner, "users", read, WHOLE),
        _route("POST", _W + "/users/exists", members.exists, "users", read),
        _route("POST", _W + "/users/update/{username}", members.update, "users", write, role=ADMIN),
        _route("DELETE", _W + "/users/delete/{username}", members.delete, "users", write, role=ADMIN),
        _route("POST", _W + "/users/leave", members.leave, "users", write, role=MEMBER),
        _route("GET", _W + "/workspaces/get_workspace_name", workspaces.get_name, "workspaces", read),
        _route("GET", _W + "/workspaces/get_settings", workspaces.get_settings, "workspaces", read, role=ADMIN),
        _route("GET", _W + "/workspaces/get_public_settings", workspaces.get_public_settings, "workspaces", read),
        _route("POST", _W + "/workspaces/add_user", workspaces.add_user, "workspaces", write, role=ADMIN),
        _route(
            "GET",
            _W + "/workspaces/encryption_key",
            workspaces.get_encryption_key,
            "workspaces",
            read,
            role=ADMIN,
            gives_all_rights=True,
        ),
        _route(
            "POST",
            _W + "/workspaces/encryption_key",
            workspaces.set_encryption_key,
            "workspaces",
            write,
            role=ADMIN,
            gives_all_rights=True,
        ),
        _route("POST", _W + "/workspaces/archive", workspaces.archive, "workspaces", write, role=ADMIN),
        _route("POST", _W + "/folders/create", folders.create, "folders", write),
        _route("GET", _W + "/folders/list", folders.list_folders, "folders", read),
        _route("GET", _W + "/folders/listnames", folders.list_names, "folders", read),
        _route("GET", _W + "/folders/get/{name}", folders.get, "folders", read),
        _route("GET", _W + "/folders/exists/{name}", folders.exists, "folders", read),
        _route("GET", _W + "/folders/is_owner/{name}", folders.is_owner, "folders", read),
        _route("POST", _W + "/folders/update/{name}", folders.update, "folders", write),
        _route("POST", _W + "/folders/addowner/{name}", folders.add_owner, "folders", write),
        _route("POST", _W + "/folders/removeowner/{name}", folders.remove_owner, "folders", write),
        _route("DELETE", _W + "/folders/delete/{name}", folders.delete, "folders", write),
        _route("POST", _W + "/groups/create", groups.create, "groups", write, role=ADMIN),
        _route("GET", _W + "/groups/list", groups.list_groups, "groups", read),
        _route("GET", _W + "/groups/listnames", groups.list_names, "groups", read),
        _route("GET", _W + "/groups/get/{name}", groups.get, "groups", read),
        _route("POST", _W + "/groups/update/{name}", groups.update, "groups", write, role=ADMIN),
        _route("POST", _W + "/groups/adduser/{name}", groups.add_user, "groups", write, role=ADMIN),
        _route("POST", _W + "/groups/removeuser/{name}", groups.remove_user, "groups", write, role=ADMIN),
        _route("DELETE", _W + "/groups/delete/{name}", groups.delete, "groups", write, role=ADMIN),
        _route("POST", "/api/users/tokens/create", tokens.create, "users", write, role=MEMBER),
        _route("GET", "/api/users/tokens/list", tokens.list_tokens, "users", read),
        _route("DELETE", "/api/users/tokens/delete/{prefix}", tokens.delete, "users", write, role=MEMBER),
        _route("POST", "/api/users/tokens/update_scopes/{prefix}", tokens.update_scopes, "users", write, role=MEMBER),
        _route("POST", "/api/users/tokens/update_label/{prefix}", tokens.update_label, "users", write, role=MEMBER),
        _powerful("POST", "/api/users/tokens/impersonate", tokens.impersonate, SUPER_ADMIN),
        _route("GET", "/api/tokens/list/scopes", tokens.list_scopes, "users", read),
    ]


def _version_routes() -> list[Route[Endpoint]]:
    """All scripts at once, and the versions of one."""
    read, write = "read", "write"
    return [
        _route("GET", _W + "/scripts/list_paths", script_versions.list_paths, "scripts", read, ROWS),
        _route("GET", _W + "/scripts/list_search", script_versions.list_search, "scripts", read, ROWS),
        _route("GET", _W + "/scripts/get/draft/{path...}", script_versions.get_draft, "scripts", read),
        _route(
            "GET", _W + "/scripts/get_latest_version/{path...}", script_versions.get_latest_version, "scripts", read
        ),
        _route("GET", _W + "/scripts/raw/h/{file}", script_versions.raw_by_hash, "scripts", read, FOUND),
        _route("GET", _W + "/scripts/raw_unpinned/p/{path...}", script_versions.raw_unpinned, "scripts", read, FOUND),
        _route(
            "POST",
            _W + "/scripts/history_update/h/{hash}/p/{path...}",
            script_versions.update_history,
            "scripts",
            write,
        ),
        _route(
            "POST",
            _W + "/scripts/toggle_workspace_error_handler/p/{path...}",
            script_versions.toggle_error_handler,
            "scripts",
            write,
        ),
        _route("POST", _W + "/scripts/archive/h/{hash}", script_versions.archive_version, "scripts", write),
        _route("POST", _W + "/scripts/delete/h/{hash}", script_versions.delete_version, "scripts", write, role=ADMIN),
        _route("POST", _W + "/scripts/delete/p/{path...}", script_versions.delete, "scripts", write),
        _route("DELETE", _W + "/scripts/delete_bulk", script_versions.delete_bulk, "scripts", write, FOUND, role=ADMIN),
    ]


def all_routes() -> list[Route[Endpoint]]:
    """Every route, by resource."""
    run, read, write, cancel = "run", "read", "write", "cancel"
    routes = [
        *_identity_routes(),
        *_flow_routes(),
        *_approval_routes(),
        _public("GET", "/api/version", system.version),
        _public("GET", "/api/uptodate", system.uptodate),
        _public("GET", "/api/ee_license", system.ee_license),
        _public("GET", "/api/health/status", health.status),
        _route("GET", "/api/health/detailed", health.detailed, "health", read),
        _public("GET", "/readyz", health.ready),
        _optional("GET", "/metrics", health.metrics, "health", read),
        _public("GET", "/api/openapi.json", system.openapi_json),
        _public("GET", "/api/openapi.yaml", system.openapi_yaml),
        _route("GET", _W + "/scripts/list_tokens/{path...}", scripts.list_tokens, "scripts", read),
        _route(
            "GET",
            _W + "/scripts/list_paths_from_workspace_runnable/{path...}",
            scripts.list_users,
            "scripts",
            read,
            ROWS,
        ),
        _route("POST", _W + "/scripts/create", scripts.create, "scripts", write, FOUND, role=DEVELOPER),
        _route("POST", _W + "/scripts/schema", scripts.infer_schema, "scripts", write, WHOLE, role=DEVELOPER),
        _route("GET", _W + "/scripts/list", scripts.list_scripts, "scripts", read, ROWS),
        _route("GET", _W + "/scripts/get/p/{path...}", scripts.get_by_path, "scripts", read),
        _route("GET", _W + "/scripts/get/h/{hash}", scripts.get_by_hash, "scripts", read),
        _route("GET", _W + "/scripts/deployment_status/h/{hash}", scripts.deployment_status, "scripts", read),
        _route("GET", _W + "/scripts/exists/p/{path...}", scripts.exists, "scripts", read),
        _route("GET", _W + "/scripts/history/p/{path...}", scripts.history, "scripts", read),
        _route("GET", _W + "/scripts/raw/p/{path...}", scripts.raw, "scripts", read, FOUND),
        _route("POST", _W + "/scripts/archive/p/{path...}", scripts.archive, "scripts", write, role=DEVELOPER),
        *_version_routes(),
        _runs("POST", _W + "/jobs/run/p/{path...}", runs.run_by_path),
        _runs("HEAD", _W + "/jobs/run/p/{path...}", runs.head),
        _runs("POST", _W + "/jobs/run/h/{hash}", runs.run_by_hash),
        _runs("HEAD", _W + "/jobs/run/h/{hash}", runs.head),
        _runs("POST", _W + "/jobs/run_wait_result/p/{path...}", runs.run_wait_by_path),
        _runs("GET", _W + "/jobs/run_wait_result/p/{path...}", runs.run_wait_by_path),
        _runs("HEAD", _W + "/jobs/run_wait_result/p/{path...}", runs.head),
        _runs("POST", _W + "/jobs/run_wait_result/h/{hash}", runs.run_wait_by_hash),
        _runs("HEAD", _W + "/jobs/run_wait_result/h/{hash}", runs.head),
        _runs("POST", _W + "/jobs/run_and_stream/p/{path...}", streams.run_and_stream_by_path),
        _runs("GET", _W + "/jobs/run_and_stream/p/{path...}", streams.run_and_stream_by_path),
        _runs("HEAD", _W + "/jobs/run_and_stream/p/{path...}", runs.head),
        _runs("POST", _W + "/jobs/run_and_stream/h/{hash}", streams.run_and_stream_by_hash),
        _runs("GET", _W + "/jobs/run_and_stream/h/{hash}", streams.run_and_stream_by_hash),
        _runs("HEAD", _W + "/jobs/run_and_stream/h/{hash}", runs.head),
        _route("POST", _W + "/jobs/run/preview", previews.run_preview, "jobs", run, role=DEVELOPER),
        _route("POST", _W + "/jobs/run_wait_result/preview", previews.run_wait_preview, "jobs", run, role=DEVELOPER),
        # What clients call instead if the server is on their machine.
        _route("POST", _W + "/jobs/run_inline/preview", previews.run_wait_preview, "jobs", run, role=DEVELOPER),
        _route("POST", _W + "/jobs/run/dependencies_async", dependencies.run_dependencies, "jobs", run, role=DEVELOPER),
        _route("POST", _W + "/jobs/run/dependencies", dependencies.run_wait_dependencies, "jobs", run, role=DEVELOPER),
        _route(
            "POST",
            _W + "/jobs/run/flow_dependencies_async",
            dependencies.run_flow_dependencies,
            "jobs",
            run,
            role=DEVELOPER,
        ),
        _route(
            "POST",
            _W + "/jobs/run/flow_dependencies",
            dependencies.run_wait_flow_dependencies,
            "jobs",
            run,
            role=DEVELOPER,
        ),
        _route("GET", _W + "/jobs/ws", websocket.connect, "jobs", run, FOUND, kind="scripts"),
        _public("GET", "/api/jobs/db_clock", jobs.db_clock),
        _route("GET", "/api/jobs/completed/count_by_tag", job_lists.count_by_tag, "jobs", read, role=SUPER_ADMIN),
        _route("POST", _W + "/job_helpers/upload_s3_file", files.upload, "job_helpers", write),
        _route("GET", _W + "/job_helpers/download_s3_file", files.download, "job_helpers", read),
        _route("DELETE", _W + "/job_helpers/delete_s3_file", files.delete, "job_helpers", write),
        _route("GET", _W + "/job_helpers/move_s3_file", files.move, "job_helpers", write),
        _route("GET", _W + "/job_helpers/list_stored_files", files.list_files, "job_helpers", read),
        _route("GET", _W + "/job_helpers/load_file_metadata", files.metadata, "job_helpers", read),
        _route("GET", _W + "/job_helpers/load_file_preview", files.load_preview, "job_helpers", read),
        _route("GET", _W + "/job_helpers/test_connection", files.test_connection, "job_helpers", read),
        _route("POST", _W + "/job_helpers/multipart_upload_s3_file", files.old_name, "job_helpers", write),
        _route("POST", _W + "/job_helpers/multipart_download_s3_file", files.old_name, "job_helpers", read),
        # A probe must not fall back to a GET that moves.
        _route("HEAD", _W + "/job_helpers/move_s3_file", runs.head, "job_helpers", write),
        _route(
            "POST",
            _W + "/workspaces/edit_large_file_storage_config",
            workspaces.edit_storage,
            "workspaces",
            write,
            role=ADMIN,
        ),
        _route("GET", _W + "/workspaces/get_secondary_storage_names", workspaces.secondary_names, "workspaces", read),
        _route("POST", _W + "/apps/sign_s3_objects", files.sign, "job_helpers", read),
        _public("GET", _W + "/s3_proxy/{storage}/{key...}", files.download_signed),
        _route("POST", _W + "/variables/create", variables.create, "variables", write, FOUND, role=DEVELOPER),
        _route("POST", _W + "/variables/update/{path...}", variables.update, "variables", write, role=DEVELOPER),
        _route("DELETE", _W + "/variables/delete/{path...}", variables.delete, "variables", write, role=DEVELOPER),
        _route("DELETE", _W + "/variables/delete_bulk", variables.delete_bulk, "variables", write, FOUND),
        _route("GET", _W + "/variables/get/{path...}", variables.get, "variables", read),
        _route("GET", _W + "/variables/get_value/{path...}", variables.get_value, "variables", read),
        _route("GET", _W + "/variables/exists/{path...}", variables.exists, "variables", read),
        _route("GET", _W + "/variables/list", variables.list_variables, "variables", read, ROWS),
        _route("GET", _W + "/variables/list_contextual", variables.list_contextual, "variables", read),
        _route("POST", _W + "/variables/encrypt", variables.encrypt, "variables", write, FOUND, role=DEVELOPER),
        _route("POST", _W + "/resources/create", resources.create, "resources", write, FOUND),
        _route("POST", _W + "/resources/update/{path...}", resources.update, "resources", write),
        _route("POST", _W + "/resources/update_value/{path...}", resources.update_value, "resources", write),
        _route("DELETE", _W + "/resources/delete/{path...}", resources.delete, "resources", write),
        _route("GET", _W + "/resources/get/{path...}", resources.get, "resources", read),
        _route("GET", _W + "/resources/get_value/{path...}", resources.get_value, "resources", read),
        _route(
            "GET",
            _W + "/resources/get_value_interpolated/{path...}",
            resources.get_value_interpolated,
            "resources",
            read,
        ),
        _route("GET", _W + "/resources/exists/{path...}", resources.exists, "resources", read),
        _route("GET", _W + "/resources/list", resources.list_resources, "resources", read, ROWS),
        _route("POST", _W + "/resources/type/create", resources.create_type, "resources", write, role=DEVELOPER),
        _route("POST", _W + "/resources/type/update/{name}", resources.update_type, "resources", write, role=DEVELOPER),
        _route(
            "DELETE",
            _W + "/resources/type/delete/{name}",
            resources.delete_type,
            "resources",
            write,
            role=DEVELOPER,
        ),
        _route("GET", _W + "/resources/type/get/{name}", resources.get_type, "resources", read),
        _route("GET", _W + "/resources/type/exists/{name}", resources.type_exists, "resources", read),
        _route("GET", _W + "/resources/type/list", resources.list_types, "resources", read),
        _route("GET", _W + "/resources/type/listnames", resources.list_type_names, "resources", read),
        _route(
            "GET", _W + "/resources/file_resource_type_to_file_ext_map", resources.file_extensions, "resources", read
        ),
        _route("GET", _W + "/audit/list", audit.list_records, "audit", read),
        _route("GET", _W + "/audit/get/{id}", audit.get, "audit", read, Resource.WHOLE),
        _route("GET", _W + "/jobs/list", job_lists.list_jobs, "jobs", read, ROWS),
        _route("GET", _W + "/jobs/list_filtered_uuids", job_lists.list_ids, "jobs", read, ROWS, role=ADMIN),
        _route("GET", _W + "/jobs/queue/list", job_lists.list_queue, "jobs", read, ROWS),
        _route("GET", _W + "/jobs/queue/list_filtered_uuids", job_lists.list_queue_ids, "jobs", read, ROWS, role=ADMIN),
        _route("GET", _W + "/jobs/queue/count", job_lists.queue_count, "jobs", read),
        _route("GET", _W + "/jobs/queue/position/{epoch_ms}", job_lists.queue_position, "jobs", read),
        _route("GET", _W + "/jobs/queue/scheduled_for/{id}", job_lists.scheduled_for, "jobs", read),
        _route("POST", _W + "/jobs/queue/cancel_selection", job_cancel.cancel_selection, "jobs", cancel, FOUND),
        _route("GET", _W + "/jobs/completed/list", job_lists.list_completed, "jobs", read, ROWS),
        _route("GET", _W + "/jobs/completed/count", job_lists.completed_count, "jobs", read),
        _route("GET", _W + "/jobs/completed/count_jobs", job_lists.count_jobs, "jobs", read),
        _route("POST", _W + "/jobs/completed/delete/{id}", jobs.delete_completed, "jobs", write, role=ADMIN),
        _route("GET", _W + "/jobs/dead_letters/list", dead_letters.list_dead, "jobs", read, ROWS),
        _route("POST", _W + "/jobs/dead_letters/redrive/{id}", dead_letters.redrive, "jobs", run, kind="scripts"),
        _route(
            "POST", _W + "/jobs/dead_letters/redrive_all", dead_letters.redrive_all, "jobs", run, ROWS, kind="scripts"
        ),
        _route("POST", _W + "/jobs/dead_letters/discard/{id}", dead_letters.discard, "jobs", write),
        _route("POST", _W + "/jobs/replay/{id}", dead_letters.replay, "jobs", run, kind="scripts"),
        _route("POST", _W + "/jobs/run/batch_rerun_jobs", batch_reruns.batch_rerun, "jobs", run, FOUND, kind="scripts"),
        _route("HEAD", _W + "/jobs/run/batch_rerun_jobs", runs.head, "jobs", run, FOUND, kind="scripts"),
        _route("GET", _W + "/jobs/job_view_token/{id}", jobs.job_view_token, "jobs", read),
        _optional("GET", _W + "/jobs_u/get/{id}", jobs.get, "jobs", read),
        _optional("GET", _W + "/jobs_u/get_args/{id}", jobs.get_args, "jobs", read),
        _optional("GET", _W + "/jobs_u/getupdate/{id}", streams.getupdate, "jobs", read),
        _optional("GET", _W + "/jobs_u/getupdate_sse/{id}", streams.getupdate_sse, "jobs", read),
        _optional("GET", _W + "/jobs_u/get_logs/{id}", jobs.get_logs, "jobs", read),
        _optional("GET", _W + "/jobs_u/get_completed_logs_tail/{id}", jobs.get_completed_logs_tail, "jobs", read),
        _optional("GET", _W + "/jobs_u/get_root_job_id/{id}", jobs.get_root_job_id, "jobs", read),
        _optional("POST", _W + "/jobs_u/queue/get_started_at_by_ids", jobs.get_started_at_by_ids, "jobs", read, FOUND),
        _optional("POST", _W + "/jobs_u/queue/cancel/{id}", job_cancel.cancel, "jobs", cancel),
        _optional("POST", _W + "/jobs_u/queue/force_cancel/{id}", job_cancel.force_cancel, "jobs", cancel),
        _optional(
            "POST", _W + "/jobs_u/queue/cancel_persistent/{path...}", job_cancel.cancel_persistent, "jobs", cancel
        ),
    ]
    for name, call in (  # the same reads exist with a token and without
        ("get", jobs.get_completed),
        ("get_result", jobs.get_result),
        ("get_result_maybe", jobs.get_result_maybe),
        ("get_timing", jobs.get_timing),
    ):
        routes.append(_route("GET", f"{_W}/jobs/completed/{name}/{{id}}", call, "jobs", read))
        routes.append(_optional("GET", f"{_W}/jobs_u/completed/{name}/{{id}}", call, "jobs", read))
    return routes
