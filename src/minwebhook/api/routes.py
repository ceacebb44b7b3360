"""The whole surface: method, path, endpoint, and what calling it means for authorization (domain, action, access)."""

from __future__ import annotations

from typing import Final

from minwebhook.api import jobs, previews, runs, scripts, system, tokens
from minwebhook.api.context import Access, Call, Endpoint
from minwebhook.http.routing import Route

_W: Final = "/api/w/{workspace}"


#: Whose answers pages of any origin may read: runs, ended jobs, and all that works without a token (upstream's list).
_CORS: Final = ("/jobs/run/p/", "/jobs/run/h/", "/jobs/run_wait_result/p/", "/jobs/run_wait_result/h/",
                "/jobs/completed/list", "/jobs/completed/get", "/jobs_u/")  # fmt: skip


def _route(method: str, path: str, call: Call, domain: str, action: str) -> Route[Endpoint]:
    has_cors = path.removeprefix(_W).startswith(_CORS)
    return Route(method, path, Endpoint(call, domain, action, cors=has_cors))


def _public(method: str, path: str, call: Call) -> Route[Endpoint]:
    return Route(method, path, Endpoint(call, "public", "read", Access.PUBLIC))


def all_routes() -> list[Route[Endpoint]]:
    """Every route, by resource."""
    run, read, write = "run", "read", "write"
    routes = [
        _public("GET", "/api/version", system.version),
        _public("GET", "/api/health/status", system.health_status),
        _route("GET", "/api/users/whoami", system.whoami, "users", read),
        _route("POST", "/api/users/tokens/create", tokens.create, "users", write),
        _route("GET", "/api/users/tokens/list", tokens.list_tokens, "users", read),
        _route("DELETE", "/api/users/tokens/delete/{prefix}", tokens.delete, "users", write),
        _route("POST", _W + "/scripts/create", scripts.create, "scripts", write),
        _route("GET", _W + "/scripts/list", scripts.list_scripts, "scripts", read),
        _route("GET", _W + "/scripts/get/p/{path...}", scripts.get_by_path, "scripts", read),
        _route("GET", _W + "/scripts/get/h/{hash}", scripts.get_by_hash, "scripts", read),
        _route("GET", _W + "/scripts/exists/p/{path...}", scripts.exists, "scripts", read),
        _route("GET", _W + "/scripts/history/p/{path...}", scripts.history, "scripts", read),
        _route("GET", _W + "/scripts/raw/p/{path...}", scripts.raw, "scripts", read),
        _route("POST", _W + "/scripts/archive/p/{path...}", scripts.archive, "scripts", write),
        _route("POST", _W + "/jobs/run/p/{path...}", runs.run_by_path, "jobs", run),
        _route("HEAD", _W + "/jobs/run/p/{path...}", runs.head, "jobs", run),
        _route("POST", _W + "/jobs/run/h/{hash}", runs.run_by_hash, "jobs", run),
        _route("HEAD", _W + "/jobs/run/h/{hash}", runs.head, "jobs", run),
        _route("POST", _W + "/jobs/run_wait_result/p/{path...}", runs.run_wait_by_path, "jobs", run),
        _route("GET", _W + "/jobs/run_wait_result/p/{path...}", runs.run_wait_by_path, "jobs", run),
        _route("HEAD", _W + "/jobs/run_wait_result/p/{path...}", runs.head, "jobs", run),
        _route("POST", _W + "/jobs/run_wait_result/h/{hash}", runs.run_wait_by_hash, "jobs", run),
        _route("HEAD", _W + "/jobs/run_wait_result/h/{hash}", runs.head, "jobs", run),
        _route("POST", _W + "/jobs/run/preview", previews.run_preview, "jobs", run),
        _route("POST", _W + "/jobs/run_wait_result/preview", previews.run_wait_preview, "jobs", run),
        _route("GET", _W + "/jobs/list", jobs.list_jobs, "jobs", read),
        _route("GET", _W + "/jobs/queue/count", jobs.queue_count, "jobs", read),
        _route("GET", _W + "/jobs_u/get/{id}", jobs.get, "jobs", read),
        _route("GET", _W + "/jobs_u/get_logs/{id}", jobs.get_logs, "jobs", read),
        _route("POST", _W + "/jobs_u/queue/cancel/{id}", jobs.cancel, "jobs", write),
        _route("POST", _W + "/jobs_u/queue/force_cancel/{id}", jobs.cancel, "jobs", write),
    ]
    for group in ("/jobs", "/jobs_u"):  # the same reads exist in both
        routes += [
            _route("GET", _W + group + "/completed/get/{id}", jobs.get_completed, "jobs", read),
            _route("GET", _W + group + "/completed/get_result/{id}", jobs.get_result, "jobs", read),
            _route("GET", _W + group + "/completed/get_result_maybe/{id}", jobs.get_result_maybe, "jobs", read),
        ]
    return routes
