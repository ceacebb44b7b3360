"""What callers are told when the request itself is refused: status, class prefix, and the problem document."""

from __future__ import annotations

import json

import pytest

from tests.server import Client

NO_JOB = "00000000-0000-7000-8000-000000000000"
ADD = "/jobs/run_wait_result/p/u/admin/add"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/jobs/nothing", 404, "Not found: no such path"),
        ("GET", "/api/nothing", 404, "Not found: no such path"),
        ("POST", "/jobs/run_wait_result/p/u/no/script", 404, "Not found: script not found at name u/no/script"),
        ("POST", "/jobs/run/p/u/no/script", 404, "Not found: script not found at name u/no/script"),
        ("POST", "/jobs/run/h/0000000000000001", 404, "Not found: script not found at name 1"),
        ("POST", "/jobs/run/h/ffffffffffffffff", 404, "Not found: script not found at name -1"),
        ("POST", "/jobs/run/h/zz", 400, "Bad request: hash must be 16 hex digits"),
        ("GET", f"/jobs_u/get/{NO_JOB}", 404, f"Not found: Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/get_logs/{NO_JOB}", 404, f"Not found: Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/completed/get/{NO_JOB}", 404, f"Not found: Completed Job not found at name {NO_JOB}"),
        ("GET", f"/jobs/completed/get_result/{NO_JOB}", 404, f"Not found: Completed Job not found at name {NO_JOB}"),
        ("GET", "/jobs_u/get/7", 400, "Bad request: job id: '7' is not a UUID"),
        ("GET", "/jobs_u/get/{" + NO_JOB + "}", 400, "Bad request: job id: "),
        ("GET", "/jobs/list?page=x", 400, "Bad request: page: send a whole number, not 'x'"),
        ("GET", "/jobs/list?running=1", 400, "Bad request: running: send true or false, not '1'"),
        ("GET", "/jobs/list?running=true&success=true", 400, "Bad request: running=true and success"),
        ("GET", "/jobs/list?parent_job=x", 400, "Bad request: parent_job: 'x' is not a job id (UUID)"),
        (
            "GET",
            "/jobs/list?all_workspaces=true",
            400,
            "Bad request: all_workspaces: this is possible in the workspace",
        ),
        ("GET", "/jobs/queue/list?args=x", 400, "Bad request: args: 'x' is not JSON"),
        ("GET", "/jobs/completed/list?include_args=1", 400, "Bad request: include_args: send true or false"),
        ("GET", "/jobs/list_filtered_uuids?status=x", 400, "Bad request: status: send one of"),
        (
            "GET",
            "/jobs/queue/list_filtered_uuids?created_after=x",
            400,
            "Bad request: created_after: 'x' is not a time",
        ),
        ("GET", "/jobs/queue/count?all_workspaces=1", 400, "Bad request: all_workspaces: send true or false"),
        ("GET", "/jobs/completed/count?all_workspaces=true", 400, "Bad request: all_workspaces: "),
        ("GET", "/jobs/completed/count_jobs?completed_after_s_ago=-1", 400, "Bad request: completed_after_s_ago: "),
        ("GET", "/jobs/completed/count_jobs?success=1", 400, "Bad request: success: send true or false"),
        (
            "GET",
            "/api/jobs/completed/count_by_tag?horizon_secs=x",
            400,
            "Bad request: horizon_secs: send a whole number",
        ),
        ("GET", "/jobs/queue/position/soon", 400, "Bad request: epoch_ms: send a whole number, not 'soon'"),
        ("GET", f"/jobs/queue/scheduled_for/{NO_JOB}", 404, f"Not found: queued job id {NO_JOB} does not exist"),
        ("GET", "/jobs/queue/scheduled_for/7", 400, "Bad request: job id: '7' is not a UUID"),
        ("GET", f"/jobs/job_view_token/{NO_JOB}", 404, f"Not found: Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/get_args/{NO_JOB}", 404, f"Not found: Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/get_root_job_id/{NO_JOB}", 404, f"Not found: Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/completed/get_timing/{NO_JOB}", 404, f"Not found: Completed Job not found at name {NO_JOB}"),
        ("GET", f"/jobs_u/get_completed_logs_tail/{NO_JOB}", 404, "Not found: Completed Job not found at name"),
        ("POST", f"/jobs/completed/delete/{NO_JOB}", 404, f"Not found: Completed Job not found at name {NO_JOB}"),
        ("GET", "/api/w/nowhere/jobs/list", 404, "Not found: workspace nowhere not found"),
        ("DELETE", "/jobs/list", 405, "method not allowed, use GET, HEAD, OPTIONS"),
        ("GET", "/jobs/run/p/u/admin/add", 405, "method not allowed, use "),
        ("GET", "/jobs/run_wait_result/h/0000000000000001", 405, "method not allowed, use "),
    ],
)
def test_status_and_text(client: Client, method: str, path: str, status: int, text: str) -> None:
    answer = client.call(method, path)
    assert answer.status == status
    assert answer.text.startswith(text)
    assert answer.headers["content-type"].startswith("text/plain")
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_token_and_with_a_wrong_one(client: Client, method: str) -> None:
    missing = client.with_token("").call(method, ADD)
    assert (missing.status, missing.text, missing.headers["www-authenticate"]) == (401, "Unauthorized", "Bearer")
    wrong = client.with_token("wrong").call(method, ADD)
    assert (wrong.status, wrong.text) == (401, "Not authorized: Unauthorized")


def test_every_route_wants_a_token_but_for_these(client: Client) -> None:
    from minwebhook.api.endpoint import Access
    from minwebhook.api.routes import all_routes

    stranger = client.with_token("")
    public, optional = set(), set()
    for number, route in enumerate(all_routes()):
        liar = client.with_token(f"{number:010}")  # the same one again and again would be a 429
        path = route.pattern.replace("{workspace}", "demo").replace("{path...}", "u/admin/add").replace("{id}", NO_JOB)
        path = path.replace("{hash}", "0000000000000001").replace("{prefix}", "abc").replace("{epoch_ms}", "1")
        path = path.replace("{storage}", "_default_").replace("{key...}", "a")
        body, fields = (b"{}", JSON) if route.method == "POST" else (None, {})
        answer = stranger.call(route.method, path, body, fields)
        refused = liar.call(route.method, path, body, fields)
        if route.endpoint.access is Access.PUBLIC:
            public.add(route.pattern)
            # Signed addresses are their own credential, and so is a password; a token counts for nothing there.
            wants_password = path == "/api/auth/login" or "password_reset" in path or path.endswith("/reset_password")
            expected = 403 if "s3_proxy" in path else 400 if wants_password else 200
            assert (answer.status, refused.status) == (expected, expected)
            continue
        assert refused.status == 401, (route.method, path)
        if route.pattern == "/metrics":  # public if a setting says so, not here
            assert answer.status == 401
            continue
        if route.endpoint.access is Access.OPTIONAL:
            optional.add(route.pattern.removeprefix("/api/w/{workspace}/jobs_u/"))
            # The pages of approvals want a token of their own.
            is_page = "/jobs_u/flow/" in path or (path.startswith("/approve/") and "{signature}" not in path)
            assert answer.status in ((401,) if is_page else (200, 400, 404)), (route.method, path)
            nowhere = stranger.call(route.method, path.replace("/demo/", "/nowhere/"), body, fields)
            text = "" if route.method == "HEAD" else "Not found: workspace nowhere not found"
            assert (nowhere.status, nowhere.text) == (404, text)
        else:
            assert answer.status == 401, (route.method, path)
    documents = {"/api/openapi.json", "/api/openapi.yaml"}
    signed = {"/api/w/{workspace}/s3_proxy/{storage}/{key...}"}
    shown_before_login = {f"/api/auth/is_{what}" for what in ("password_login_disabled", "smtp_configured")}
    browsers = {"/api/auth/login", "/api/auth/is_first_time_setup"} | shown_before_login
    browsers |= {"/api/auth/request_password_reset", "/api/auth/reset_password"}
    health = {"/api/version", "/api/health/status", "/readyz", "/api/jobs/db_clock"}
    health |= {"/api/uptodate", "/api/ee_license"}
    assert public == health | browsers | documents | signed
    assert optional == {
        "get/{id}",
        "get_args/{id}",
        "get_logs/{id}",
        "get_completed_logs_tail/{id}",
        "get_root_job_id/{id}",
        "getupdate/{id}",
        "getupdate_sse/{id}",
        "completed/get/{id}",
        "completed/get_result/{id}",
        "completed/get_result_maybe/{id}",
        "completed/get_timing/{id}",
        "queue/get_started_at_by_ids",
        "queue/cancel/{id}",
        "queue/force_cancel/{id}",
        "queue/cancel_persistent/{path...}",
        "resume/{id}/{resume_id}/{signature}",
        "cancel/{id}/{resume_id}/{signature}",
        "get_flow/{id}/{resume_id}/{signature}",
        "get_flow_debug_info/{id}",
        "/approve/{workspace}/{id}",
        "/approve/{workspace}/{id}/{resume_id}/{signature}",
        "flow/approval_info/{id}",
        "flow/resume_suspended/{id}",
    }


def test_problem_documents_for_those_who_accept_them(client: Client) -> None:
    answer = client.get("/jobs/nothing", {"Accept": "application/problem+json, text/plain"})
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not found: no such path",
        "status": 404,
        "detail": "no such path",
    }
    unauthorized = client.with_token("").get("/jobs/list", {"Accept": "application/problem+json"})
    assert (unauthorized.status, unauthorized.headers["www-authenticate"]) == (401, "Bearer")
    assert unauthorized.json()["detail"] == "Unauthorized"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/scripts/create", b"{", 400, "Bad request: invalid json: "),
        ("/scripts/create", b"[]", 400, "Bad request: the body must be a JSON object"),
        ("/scripts/create", b'{"content": ""}', 400, "Bad request: language is missing"),
        ("/jobs/run/preview", b"[]", 400, "Bad request: send a JSON object"),
        ("/jobs/run/preview", b"{}", 400, "Bad request: language: say which"),
        ("/jobs/run/preview", b'{"language": "cobol"}', 400, "Bad request: language must be the name of a language"),
        ("/jobs/run/preview", b'{"language": "rust"}', 400, "Bad request: language rust is not run by this version"),
        ("/jobs/run/preview", b'{"language": "bash", "args": []}', 400, "Bad request: args: send an object"),
        ("/jobs/run/preview", b'{"language": "bash", "content": 1}', 400, "Bad request: content: send a text"),
        ("/jobs/run/preview", b'{"language": "bash", "kind": "noop"}', 400, "Bad request: kind: "),
        ("/jobs/run/preview?timeout=0", b'{"language": "bash"}', 400, "Bad request: timeout: "),
        (f"/jobs_u/queue/cancel/{NO_JOB}", b"[]", 400, "Bad request: send "),
        (f"/jobs_u/queue/cancel/{NO_JOB}", b'{"reason": 1}', 400, "Bad request: send "),
        (f"/jobs_u/queue/cancel/{NO_JOB}", b"{}", 404, f"Not found: queued job id {NO_JOB} does not exist"),
        ("/jobs_u/queue/cancel/7", b"{}", 400, "Bad request: job id: '7' is not a UUID"),
        ("/jobs_u/queue/cancel_persistent/u/a/b", b"[]", 400, "Bad request: send "),
        ("/jobs/queue/cancel_selection", b"{}", 400, "Bad request: send a JSON array of job ids"),
        ("/jobs/queue/cancel_selection", b"[1]", 400, "Bad request: send a JSON array of job ids"),
        ("/jobs/queue/cancel_selection", b'["7"]', 400, "Bad request: job id: '7' is not a UUID"),
        ("/jobs/queue/cancel_selection?all_workspaces=true", b"[]", 400, "Bad request: all_workspaces: "),
        ("/jobs/queue/cancel_selection?force_cancel=1", b"[]", 400, "Bad request: force_cancel: "),
        ("/jobs_u/queue/get_started_at_by_ids", b'{"a": 1}', 400, "Bad request: send a JSON array of job ids"),
        ("/jobs_u/queue/get_started_at_by_ids", b'["7"]', 400, "Bad request: job id: '7' is not a UUID"),
    ],
)
def test_bodies_that_are_refused(client: Client, path: str, body: bytes, status: int, text: str) -> None:
    answer = client.call("POST", path, body, JSON)
    assert answer.status == status, answer.text
    assert answer.text.startswith(text)


@pytest.mark.parametrize(
    "path",
    [
        "/scripts/create",
        "/jobs/run/preview",
        "/api/users/tokens/create",
        f"/jobs_u/queue/cancel/{NO_JOB}",
        f"/jobs_u/queue/force_cancel/{NO_JOB}",
        "/jobs_u/queue/cancel_persistent/u/a/b",
        "/jobs/queue/cancel_selection",
        "/jobs_u/queue/get_started_at_by_ids",
        "/apps/sign_s3_objects",
        "/workspaces/edit_large_file_storage_config",
    ],
)
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", ""])
def test_endpoints_that_read_json_only_say_415(client: Client, path: str, content_type: str) -> None:
    answer = client.call("POST", path, b"{}", {"Content-Type": content_type})
    assert answer.status == 415
    assert answer.text == "send the body as JSON with Content-Type: application/json"


def test_a_body_over_the_limit_is_a_413_and_at_the_limit_it_runs(make_server) -> None:  # type: ignore[no-untyped-def]
    client = make_server("--max-body-bytes", "1000").start()
    client.deploy("u/admin/size", "def main(**rest):\n    return len(str(rest))\n")
    fitting = json.dumps({"a": "x" * 991}).encode()
    assert len(fitting) == 1000
    path = "/jobs/run_wait_result/p/u/admin/size"
    assert client.call("POST", path, fitting, JSON).status == 200
    over = client.call("POST", path, fitting + b" ", JSON)
    assert over.status == 413
    assert "max_body_bytes" in over.text or "1000" in over.text
    assert client.call("POST", path, fitting, JSON).status == 200


def test_a_job_of_another_workspace_is_not_there(client: Client) -> None:
    job_id = client.submit("u/admin/add", {"a": 1})
    client.ended(job_id)
    other = client.with_token(client.token, "admins")
    for path in (f"/jobs_u/get/{job_id}", f"/jobs_u/get_logs/{job_id}", f"/jobs_u/completed/get_result/{job_id}"):
        assert other.get(path).status == 404
    for way in ("cancel", "force_cancel"):
        answer = other.post(f"/jobs_u/queue/{way}/{job_id}")
        assert (answer.status, answer.text) == (400, f"Bad request: job {job_id} is not of the workspace admins")
    assert job_id not in [job["id"] for job in other.get("/jobs/list").json()]


def test_version_health_and_identity(client: Client) -> None:
    import minwebhook

    stranger = client.with_token("")
    assert stranger.get("/api/version").text == f"CE v{minwebhook.__version__}"
    health = stranger.get("/api/health/status")
    assert (health.status, health.json()["status"]) == (200, "healthy")
    assert client.get("/api/users/whoami").json()["super_admin"] is True


@pytest.mark.parametrize(
    "path",
    [
        "/api/auth/login",
        "/api/auth/request_password_reset",
        "/api/auth/reset_password",
        "/jobs_u/queue/cancel/00000000-0000-7000-8000-000000000000",
        "/jobs_u/flow/resume_suspended/00000000-0000-7000-8000-000000000000",
    ],
)
def test_who_has_no_token_sends_small_bodies_only(client: Client, path: str) -> None:
    stranger = client.with_token("")
    kind = {"Content-Type": "application/json"}
    assert stranger.call("POST", path, b"[" + b"[]," * 100_000 + b"[]]", kind).status == 413
    assert stranger.call("POST", path, b'"%b"' % (b"x" * 200_000), kind).status in (400, 401)
    assert client.call("POST", path, b'"%b"' % (b"x" * 300_000), kind).status in (400, 413)


def test_a_signature_is_checked_before_the_body_is_read(client: Client) -> None:
    path = "/jobs_u/resume/00000000-0000-7000-8000-000000000000/1/" + "0" * 64
    head = (
        f"POST /api/w/demo{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with client.raw(head.encode()) as connection:
        assert connection.recv(12) == b"HTTP/1.1 403"
