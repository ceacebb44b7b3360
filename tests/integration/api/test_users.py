"""People: logging in, roles, folders and groups on a real server, and how soon a change counts."""

from __future__ import annotations

import http.cookies
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.server import Answer, Client, Server

PASSWORD = "correct horse battery"


@dataclass
class People:
    """A folder ``team`` that Ada owns, Bob may write, Cy (an operator) may read, and Dee has nothing to do with."""

    admin: Client
    ada: Client
    bob: Client
    cy: Client
    dee: Client


def join(admin: Client, name: str, **role: bool) -> Client:
    """A new member of demo, by the ways that an admin has."""
    email = f"{name}@x.org"
    assert admin.post("/api/users/create", {"email": email, "name": name}).text == f"created {email} as {name}"
    answer = admin.post("/workspaces/add_user", {"email": email, **role})
    assert answer.status == 201, answer.text
    token = admin.post("/api/users/tokens/impersonate", {"impersonate_email": email})
    return admin.with_token(token.text)


@pytest.fixture(scope="module")
def people(server: Server) -> People:
    admin = server.client()
    ada, bob, cy, dee = (join(admin, name, operator=name == "cy") for name in ("ada", "bob", "cy", "dee"))
    folder = {"name": "team", "extra_perms": {"u/bob": True, "g/readers": False}}
    assert ada.post("/folders/create", folder).status == 200
    assert admin.post("/groups/create", {"name": "readers"}).status == 200
    assert admin.post("/groups/adduser/readers", {"username": "cy"}).status == 200
    ada.deploy("f/team/echo", "def main(**arguments): return arguments")
    ada.deploy("u/ada/own", "def main(): return 1")
    return People(admin, ada, bob, cy, dee)


def brief(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.text


def test_who_may_run_what(people: People) -> None:
    digest = people.ada.get("/scripts/get/p/f/team/echo").json()["hash"]
    refusal = (401, "Not authorized: You are not authorized to access this script: f/team/echo")
    for client, may in (
        (people.admin, True),
        (people.ada, True),
        (people.bob, True),
        (people.cy, True),
        (people.dee, False),
    ):
        for target in ("p/f/team/echo", f"h/{digest}"):
            for way in ("run", "run_wait_result", "run_and_stream"):
                answer = client.post(f"/jobs/{way}/{target}")
                assert (answer.status in (200, 201)) is may, (way, target, answer.text)
                assert may or brief(answer) == refusal
    # Whether there is a script cannot be told by who may not see it.
    assert people.dee.run("f/team/none").text == people.dee.run("f/team/echo").text.replace("echo", "none")
    assert people.bob.run("u/ada/own").status == 401
    assert people.bob.run("u/bob/none").status == 404


def test_who_may_look_at_what(people: People) -> None:
    digest = people.ada.get("/scripts/get/p/f/team/echo").json()["hash"]
    for path in (
        "/scripts/get/p/f/team/echo",
        f"/scripts/get/h/{digest}",
        f"/scripts/deployment_status/h/{digest}",
        "/scripts/history/p/f/team/echo",
        "/scripts/raw/p/f/team/echo.py",
        "/scripts/exists/p/f/team/echo",
        "/scripts/list_tokens/f/team/echo",
    ):
        for client in (people.admin, people.ada, people.bob, people.cy):
            assert client.get(path).status == 200, path
        assert brief(people.dee.get(path)) == (404, "Not found: script not found at name f/team/echo")
    listed = {
        client.token: {each["path"] for each in client.get("/scripts/list").json()} for client in vars(people).values()
    }
    assert listed[people.cy.token] == {"f/team/echo"}
    assert listed[people.dee.token] == set()
    assert listed[people.ada.token] == {"f/team/echo", "u/ada/own"}
    assert listed[people.admin.token] > listed[people.ada.token]


def test_who_may_change_what(people: People) -> None:
    new = {"summary": "", "description": "", "language": "bash", "content": "echo 1", "path": "f/team/new"}
    denied = "Bad request: f/team/new belongs to f/team: dee may not change it"
    assert brief(people.dee.post("/scripts/create", new)) == (400, denied)
    answer = people.cy.post("/scripts/create", new)
    assert answer.status == 403
    assert "operators run and look only" in answer.text
    assert people.bob.post("/scripts/create", new).status == 201
    assert people.dee.post("/scripts/archive/p/f/team/new").status == 400
    assert people.cy.post("/scripts/archive/p/f/team/new").status == 403
    assert people.bob.post("/scripts/archive/p/f/team/new").status == 200
    assert people.bob.post("/scripts/create", {**new, "path": "u/ada/x"}).status == 400
    assert people.bob.post("/scripts/create", {**new, "path": "f/nofolder/x"}).status == 400
    assert people.bob.post("/scripts/create", {**new, "path": "u/bob/x"}).status == 201
    assert people.cy.preview("echo 1", language="bash").status == 403
    assert people.dee.preview("echo 1", language="bash").status == 200


def test_jobs_of_others(people: People) -> None:
    job = people.ada.submit("f/team/echo", {"secret": 1})
    people.ada.ended(job)
    hidden = people.ada.submit("f/team/echo", {"secret": 2}, invisible_to_owner="true")
    people.ada.ended(hidden)
    preview = people.ada.post("/jobs/run/preview", {"language": "bash", "content": "echo 1"}).text
    people.ada.ended(preview)
    everyone = (people.admin, people.ada, people.bob, people.cy, people.dee)
    for job_id, seen_by in ((job, everyone[:4]), (hidden, everyone[:2]), (preview, everyone[:2])):
        for client in everyone:
            may = client in seen_by
            for path in ("jobs_u/get", "jobs_u/completed/get_result_maybe", "jobs_u/get_logs", "jobs_u/getupdate_sse"):
                answer = client.get(f"/{path}/{job_id}")
                assert answer.status == (200 if may else 403), (path, answer.text)
                assert may or "view token" in answer.text
            listed = {each["id"] for each in client.get("/jobs/list").json()}
            assert (job_id in listed) is may
    shared = people.ada.get(f"/jobs/job_view_token/{preview}").text
    assert people.dee.get(f"/jobs_u/get/{preview}", view_token=shared).status == 200
    assert people.dee.get(f"/jobs/job_view_token/{preview}").status == 403


def test_ending_jobs_of_others(people: People) -> None:
    later = {"scheduled_for": "2999-01-01T00:00:00Z"}
    job = people.ada.submit("f/team/echo", **later)
    for client in (people.cy, people.dee):
        assert client.post(f"/jobs_u/queue/cancel/{job}").status == 403
        assert client.post("/jobs/queue/cancel_selection", [job]).json() == []
    assert people.cy.post("/jobs_u/queue/cancel_persistent/f/team/echo").status == 400
    assert people.ada.job(job)["canceled"] is False
    assert people.bob.post(f"/jobs_u/queue/cancel/{job}").status == 200
    own = people.cy.submit("f/team/echo", **later)
    assert people.cy.post(f"/jobs_u/queue/cancel/{own}").status == 200


def test_a_job_has_the_rights_of_who_started_it_and_no_more(people: People) -> None:
    """It calls the server with its own token."""
    code = (
        "import json, os, urllib.error, urllib.request\n"
        "def main(calls):\n"
        "    found = []\n"
        "    for method, path, data in calls:\n"
        "        body = None if data is None else json.dumps(data).encode()\n"
        "        headers = {'Authorization': 'Bearer ' + os.environ['WM_TOKEN'], 'Content-Type': 'application/json'}\n"
        "        request = urllib.request.Request(os.environ['BASE_INTERNAL_URL'] + path, body, headers, method=method)\n"
        "        try:\n"
        "            with urllib.request.urlopen(request, timeout=20) as answer:\n"
        "                found.append(answer.status)\n"
        "        except urllib.error.HTTPError as error:\n"
        "            found.append(error.code)\n"
        "    return found\n"
    )
    people.ada.deploy("f/team/calls", code)
    calls: tuple[tuple[str, str, Any, tuple[int, int, int]], ...] = (
        ("GET", "/api/w/demo/users/whoami", None, (200, 200, 200)),
        ("GET", "/api/users/whoami", None, (200, 200, 200)),
        ("GET", "/api/w/demo/scripts/get/p/u/ada/own", None, (200, 404, 200)),
        ("GET", "/api/w/demo/scripts/get/p/u/admin/echo", None, (404, 404, 200)),
        ("POST", "/api/w/demo/groups/create", {"name": "readers"}, (403, 403, 400)),
        ("GET", "/api/w/admins/users/whoami", None, (401, 401, 401)),
        ("POST", "/api/users/tokens/create", {}, (403, 403, 403)),
        ("POST", "/api/auth/logout", None, (403, 403, 403)),
        ("POST", "/api/users/create", {"email": "x@x"}, (403, 403, 403)),
        ("GET", "/api/users/list_as_super_admin", None, (403, 403, 403)),
        ("POST", "/api/workspaces/create", {"id": "x", "name": "x"}, (403, 403, 403)),
    )
    asked = [each[:3] for each in calls]
    for index, client in enumerate((people.ada, people.cy, people.admin)):
        answer = client.run("f/team/calls", {"calls": asked})
        assert answer.json() == [each[3][index] for each in calls], client.token


def test_who_am_i(people: People) -> None:
    shown = people.cy.get("/users/whoami").json()
    assert shown == {
        **shown,
        "username": "cy",
        "email": "cy@x.org",
        "operator": True,
        "is_admin": False,
        "role": "operator",
        "groups": ["all", "readers"],
        "folders_read": ["team"],
        "folders": [],
        "folders_owners": [],
    }
    shown = people.bob.get("/users/whoami").json()
    assert (shown["role"], shown["folders"], shown["folders_owners"]) == ("developer", ["team"], [])
    assert people.ada.get("/users/whoami").json()["folders_owners"] == ["team"]
    assert people.ada.get("/api/users/email").text == "ada@x.org"
    for path, owners in (("u/ada/x", [people.ada]), ("f/team/x", [people.ada]), ("f/none/x", [])):
        for client in (people.ada, people.bob):
            assert client.get(f"/users/is_owner/{path}").json() is (client in owners)
    assert people.admin.get("/users/is_owner/f/none/x").json() is True


def test_folders_belong_to_their_owners(people: People) -> None:
    assert [each["name"] for each in people.cy.get("/folders/list").json()] == ["team"]
    assert people.dee.get("/folders/listnames").json() == []
    assert people.dee.get("/folders/get/team").status == 404
    assert people.dee.get("/folders/exists/team").json() is False
    shown = people.cy.get("/folders/get/team").json()
    assert (shown["owners"], shown["extra_perms"]) == (["u/ada"], {"u/bob": True, "g/readers": False})
    for client, status in ((people.dee, 404), (people.cy, 403), (people.bob, 400)):
        assert client.post("/folders/update/team", {"owners": ["u/bob"]}).status == status
        assert client.post("/folders/addowner/team", {"owner": "u/bob"}).status == status
        assert client.call("DELETE", "/folders/delete/team").status == status
    assert people.ada.post("/folders/addowner/team", {"owner": "u/bob"}).status == 200
    assert people.bob.get("/folders/is_owner/team").json() is True
    assert people.bob.post("/folders/removeowner/team", {"owner": "u/bob"}).status == 200
    assert people.bob.get("/folders/is_owner/team").json() is False
    assert people.ada.post("/folders/create", {"name": "team"}).status == 400
    assert people.ada.post("/folders/create", {"name": "x", "owners": ["u/bob"]}).status == 400
    assert people.cy.post("/folders/create", {"name": "x"}).status == 403
    assert people.ada.post("/folders/create", {"name": "mine"}).status == 200
    assert people.ada.call("DELETE", "/folders/delete/mine").status == 200
    assert people.ada.get("/folders/get/mine").status == 404


def _variable(path: str) -> dict[str, Any]:
    return {"path": path, "value": "x", "is_secret": True, "description": ""}


def _deployed(client: Client, path: str) -> None:
    client.deploy(path, "def main(): return 1")


def _archived(client: Client, path: str) -> None:
    _deployed(client, path)
    assert client.post(f"/scripts/archive/p/{path}").status == 200


def _flow(client: Client, path: str) -> None:
    body = {"path": path, "summary": "", "value": {"modules": []}}
    assert client.post("/flows/create", body).status == 201


def _ran(client: Client, path: str, delay_s: int = 0) -> None:
    _flow(client, path)
    assert client.post(f"/jobs/run/f/{path}", {}, scheduled_in_secs=delay_s).status == 201
    assert client.call("DELETE", f"/flows/delete/{path}").status == 200


def _queued(client: Client, path: str) -> None:
    _ran(client, path, 3600)


#: What may lie in a folder when it goes: how it is put there.
CONTENTS: dict[str, Callable[[Client, str], Any]] = {
    "variable": lambda client, path: client.post("/variables/create", _variable(path)),
    "resource": lambda client, path: client.post(
        "/resources/create", {"path": path, "value": {}, "resource_type": "any"}
    ),
    "flow": _flow,
    "script": _deployed,
    "archived": _archived,
    "ran": _ran,
    "queued": _queued,
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_left_of_a_folder_does_not_go_to_whoever_makes_it_again(people: People, kind: str) -> None:
    name = f"left-{kind}"
    assert people.ada.post("/folders/create", {"name": name}).status == 200
    CONTENTS[kind](people.ada, f"f/{name}/thing")
    assert people.ada.call("DELETE", f"/folders/delete/{name}").status == 200
    for client in (people.dee, people.ada):
        refused = client.post("/folders/create", {"name": name})
        assert (refused.status, "let an admin make the folder" in refused.text) == (403, True)
    # A name that only begins like it is in nobody's way.
    assert people.dee.post("/folders/create", {"name": f"{name}-not"}).status == 200
    assert people.admin.post("/folders/create", {"name": name, "owners": ["u/ada"]}).status == 200
    assert people.ada.get(f"/folders/is_owner/{name}").json() is True


def test_the_path_of_a_preview_takes_no_folder(people: People) -> None:
    body = {"content": "def main(): return 1", "language": "python3", "args": {}, "path": "f/free/thing"}
    assert people.dee.post("/jobs/run_wait_result/preview", body).status == 200
    assert people.ada.post("/folders/create", {"name": "free"}).status == 200


def test_changes_count_for_the_next_request(people: People) -> None:
    eve = join(people.admin, "eve")
    assert eve.run("f/team/echo").status == 401
    assert people.admin.post("/groups/adduser/readers", {"username": "eve"}).status == 200
    assert eve.run("f/team/echo").status == 200
    assert people.admin.post("/groups/removeuser/readers", {"username": "eve"}).status == 200
    assert eve.run("f/team/echo").status == 401
    assert people.admin.post("/users/update/eve", {"is_admin": True}).status == 200
    assert eve.run("f/team/echo").status == 200
    assert people.admin.post("/users/update/eve", {"operator": True}).status == 200
    assert eve.get("/users/whoami").json()["role"] == "operator"
    assert people.admin.post("/users/update/eve", {"is_admin": True, "operator": True}).status == 400
    assert people.admin.post("/users/update/eve", {"disabled": True}).status == 200
    assert eve.get("/jobs/list").status == 401
    assert "eve" not in people.admin.get("/users/list_usernames").json()
    assert people.admin.post("/users/update/eve", {"disabled": False}).status == 200
    assert people.admin.post("/api/users/update/eve@x.org", {"disabled": True}).status == 200
    assert eve.get("/jobs/list").status == 401
    assert people.admin.post("/api/users/update/eve@x.org", {"disabled": False}).status == 200
    assert people.admin.call("DELETE", "/users/delete/eve").status == 200
    assert eve.get("/jobs/list").status == 401
    assert eve.get("/api/users/whoami").status == 200
    assert people.admin.call("DELETE", "/api/users/delete/eve@x.org").status == 200
    assert eve.get("/api/users/whoami").status == 401
    assert people.admin.post("/users/update/eve", {}).status == 404


def test_the_last_super_admin_stays(people: People) -> None:
    for answer in (
        people.admin.post("/api/users/update/admin@localhost", {"is_super_admin": False}),
        people.admin.post("/api/users/update/admin@localhost", {"disabled": True}),
        people.admin.call("DELETE", "/api/users/delete/admin@localhost"),
    ):
        assert answer.status == 400
        assert "the last super admin" in answer.text


def test_workspaces(people: People) -> None:
    admin, ada = people.admin, people.ada
    assert admin.post("/api/workspaces/create", {"id": "lab", "name": "The lab"}).status == 201
    assert admin.post("/api/workspaces/create", {"id": "lab", "name": "x"}).status == 400
    assert ada.post("/api/workspaces/create", {"id": "own", "name": "x"}).status == 403
    assert ada.post("/api/workspaces/exists", {"id": "lab"}).json() is True
    assert ada.post("/api/workspaces/exists", {"id": "none"}).json() is False
    assert [each["id"] for each in ada.get("/api/workspaces/list").json()] == ["demo"]
    assert ada.get("/api/workspaces/users").json() == {
        "email": "ada@x.org",
        "workspaces": [{"id": "demo", "name": "Demo", "username": "ada", "color": None}],
    }
    lab = ada.with_token(ada.token, "lab")
    assert lab.get("/jobs/list").status == 401
    boss = admin.with_token(admin.token, "lab")
    assert boss.post("/workspaces/add_user", {"email": "ada@x.org", "username": "countess"}).status == 201
    assert boss.post("/workspaces/add_user", {"email": "ada@x.org"}).status == 400
    assert boss.post("/workspaces/add_user", {"email": "bob@x.org", "username": "countess"}).status == 400
    assert boss.post("/workspaces/add_user", {"email": "nobody@x.org"}).status == 400
    assert lab.get("/users/whoami").json()["username"] == "countess"
    assert lab.get("/users/username_to_email/countess").text == "ada@x.org"
    assert lab.get("/workspaces/get_workspace_name").text == "The lab"
    assert lab.post("/workspaces/archive").status == 403
    assert boss.post("/workspaces/archive").status == 200
    assert lab.get("/users/whoami").status == 404
    assert "lab" not in {each["id"] for each in admin.get("/api/workspaces/list").json()}
    assert {"id": "lab", "name": "The lab", "owner": "", "deleted": True} in admin.get(
        "/api/workspaces/list_as_superadmin"
    ).json()
    assert ada.post("/api/workspaces/unarchive/lab").status == 403
    assert admin.post("/api/workspaces/unarchive/lab").status == 200
    assert lab.post("/users/leave").status == 200
    assert lab.get("/users/whoami").status == 401


# --- logging in -------------------------------------------------------------------------------------------------------


def log_in(client: Client, email: str, password: str = PASSWORD) -> Answer:
    return client.with_token("").post("/api/auth/login", {"email": email, "password": password})


def test_a_session(people: People) -> None:
    admin = people.admin
    assert admin.post("/api/users/create", {"email": "Grace@X.org", "password": PASSWORD}).status == 201
    answer = log_in(admin, "GRACE@x.org")
    assert (answer.status, len(answer.text)) == (200, 32)
    cookie = http.cookies.SimpleCookie(answer.headers["set-cookie"])["token"]
    assert (cookie.value, cookie["path"], cookie["httponly"], cookie["samesite"]) == (answer.text, "/", True, "Lax")
    assert (cookie["secure"], cookie["domain"], cookie["max-age"]) == ("", "", "259200")
    stranger = admin.with_token("")
    by_cookie = {"Cookie": f"token={answer.text}"}
    assert stranger.get("/api/users/whoami", by_cookie).json()["username"] == "grace"
    listed = stranger.get("/api/users/tokens/list", by_cookie).json()
    assert [(each["label"], each["token_prefix"]) for each in listed] == [("session", answer.text[:10])]
    ended = stranger.call("POST", "/api/auth/logout", None, by_cookie)
    assert ended.status == 200
    assert http.cookies.SimpleCookie(ended.headers["set-cookie"])["token"].value == ""
    assert stranger.get("/api/users/whoami", by_cookie).status == 401
    assert stranger.call("POST", "/api/auth/logout").status == 401


def test_a_new_password_ends_sessions(people: People) -> None:
    admin = people.admin
    assert admin.post("/api/users/create", {"email": "hopper@x.org"}).status == 201
    assert brief(log_in(admin, "hopper@x.org")) == (400, "Bad request: Invalid login")
    assert admin.post("/api/users/set_password_of/hopper@x.org", {"password": PASSWORD}).status == 200
    session = admin.with_token(log_in(admin, "hopper@x.org").text)
    assert session.get("/api/users/whoami").status == 200
    assert session.post("/api/users/setpassword", {"password": "short"}).status == 400
    assert session.post("/api/users/setpassword", {"password": "another password"}).status == 200
    assert session.get("/api/users/whoami").status == 401
    assert log_in(admin, "hopper@x.org").status == 400
    assert log_in(admin, "hopper@x.org", "another password").status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [("/", 307), ("/x?y=1", 307), ("//evil.org", 200), ("/\\evil.org", 200), ("https://evil.org", 200), ("", 200)],
)
def test_after_logging_out_a_browser_stays_here(people: People, target: str, status: int) -> None:
    token = people.admin.post("/api/users/tokens/create", {}).text
    answer = people.admin.with_token(token).get("/api/auth/logout", rd=target)
    assert (answer.status, answer.headers.get("location")) == (status, target if status == 307 else None)


def test_passwords_are_guessed_five_times_and_no_more(make_server: Callable[..., Server]) -> None:
    server = make_server()
    admin = server.start()
    for name in ("ada", "bob"):
        assert admin.post("/api/users/create", {"email": f"{name}@x", "password": PASSWORD}).status == 201
    for _ in range(5):
        assert brief(log_in(admin, "ada@x", "wrong password")) == (400, "Bad request: Invalid login")
    answer = log_in(admin, "ada@x")
    assert answer.status == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert log_in(admin, "bob@x").status == 200
    for _ in range(5):
        assert log_in(admin, "nobody@x", "wrong password").status == 400
    assert log_in(admin, "bob@x").status == 429  # the address
    assert PASSWORD not in server.log
    assert (
        server.execute(
            "UPDATE usr SET name = 'x' WHERE password LIKE '$argon2id$%' AND instr(password, ?) = 0", PASSWORD
        )
        == 2
    )


def test_no_password_is_there_from_the_start(make_server: Callable[..., Server]) -> None:
    server = make_server()
    admin = server.start()
    for password in ("changeme", "admin", "password", ""):
        assert log_in(admin, "admin@localhost", password).status in (400, 429)
    assert admin.with_token("").get("/api/auth/is_first_time_setup").json() is False
    assert server.execute("UPDATE usr SET name = 'x' WHERE password IS NULL") == 1
