"""Variables, resources and state as scripts and the official client use them, on a real server."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import Client, Server, StartFailed, serving

SECRET = "open-sesame-canary"
STARS = "********"
ECHO = "def main(**arguments):\n    return arguments\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a secret, a resource that holds it, and a script that tells all."""
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (server, client):
        client.deploy("u/admin/echo", ECHO)
        assert client.post("/folders/create", {"name": "team", "extra_perms": {"g/all": True}}).status == 200
        client.deploy("f/team/echo", ECHO)
        create(client, "u/admin/secret", SECRET, is_secret=True)
        create(client, "f/team/plain", "plain")
        database = {"host": "db", "password": "$var:u/admin/secret", "more": ["$var:f/team/plain"]}
        assert new_resource(client, "f/team/db", database).status == 201
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


@pytest.fixture(scope="module")
def alice(server: Server) -> Client:
    """A user who is no admin."""
    return server.user("alice")


def create(client: Client, path: str, value: str, *, is_secret: bool = False) -> None:
    body = {"path": path, "value": value, "is_secret": is_secret, "description": ""}
    answer = client.post("/variables/create", body)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (201, "text/plain")


def new_resource(client: Client, path: str, value: Any, kind: str = "any", **query: Any) -> Any:
    return client.post("/resources/create", {"path": path, "value": value, "resource_type": kind}, **query)


# --- variables --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_variable(client: Client) -> None:
    assert client.get("/variables/exists/u/admin/life").json() is False
    create(client, "u/admin/life", "one")
    assert client.get("/variables/exists/u/admin/life").headers["content-type"] == "application/json"
    again = client.post("/variables/create", {"path": "u/admin/life", "value": "two", "is_secret": False})
    assert (again.status, again.text) == (400, "Bad request: variable u/admin/life already exists")
    assert client.get("/variables/get_value/u/admin/life").json() == "one"
    assert (
        client.post("/variables/update/u/admin/life", {"value": "two", "path": "u/admin/life2"}).text == "u/admin/life2"
    )
    assert client.get("/variables/get/u/admin/life").status == 404
    shown = client.get("/variables/get/u/admin/life2").json()
    assert (shown["value"], shown["is_secret"], shown["extra_perms"]) == ("two", False, {})
    assert client.call("DELETE", "/variables/delete/u/admin/life2").status == 200
    assert client.call("DELETE", "/variables/delete/u/admin/life2").status == 404
    assert client.post("/variables/update/u/admin/life2", {"value": "x"}).status == 404


def test_secrets_are_shown_only_where_they_are_asked_for(client: Client) -> None:
    def shown(**query: Any) -> Any:
        return client.get("/variables/get/u/admin/secret", **query).json()["value"]

    assert shown() == shown(decrypt_secret="true") == SECRET
    assert shown(decrypt_secret="false") is None
    assert shown(decrypt_secret="false", include_encrypted="true").startswith("sealed:")
    listed = {item["path"]: item["value"] for item in client.get("/variables/list").json()}
    assert (listed["u/admin/secret"], listed["f/team/plain"]) == (None, "plain")
    assert len(client.get("/variables/list", per_page=1).json()) == 1
    assert [item["path"] for item in client.get("/variables/list", path_start="f/").json()] == ["f/team/plain"]


def test_what_is_a_secret_can_change(client: Client) -> None:
    create(client, "u/admin/turns", SECRET)
    for is_secret in (True, False, True):
        assert client.post("/variables/update/u/admin/turns", {"is_secret": is_secret}).status == 200
        shown = client.get("/variables/get/u/admin/turns").json()
        assert (shown["is_secret"], shown["value"]) == (is_secret, SECRET)
    assert client.call("DELETE", "/variables/delete/u/admin/turns").status == 200


def test_encrypted_values_go_out_and_come_back(client: Client) -> None:
    path = "u/admin/sealed"
    sealed = client.post("/variables/encrypt", SECRET).text
    body = {"path": path, "value": sealed, "is_secret": True, "description": ""}
    assert client.post("/variables/create", body, already_encrypted="true").status == 201
    assert client.get(f"/variables/get_value/{path}").json() == SECRET
    taken = client.get(f"/variables/get/{path}", decrypt_secret="false", include_encrypted="true").json()["value"]
    assert taken == sealed
    other = client.with_token(client.token, "admins")
    for value, caller in (("open sesame", client), (sealed[:-8] + "AAAAAAA=", client), (sealed, other)):
        refused = caller.post(
            "/variables/create", {**body, "value": value, "path": "u/admin/no"}, already_encrypted="true"
        )
        assert refused.status == 400 and "cannot be opened" in refused.text, refused.text


def test_a_variable_whose_time_is_over_is_gone(client: Client) -> None:
    body = {"path": "u/admin/short", "value": "x", "is_secret": False, "expires_at": "2020-01-01T00:00:00Z"}
    for _ in range(2):  # its path is free
        assert client.post("/variables/create", body).status == 201
    assert client.get("/variables/get/u/admin/short").status == 404
    assert client.get("/variables/exists/u/admin/short").json() is False


def test_contextual_variables_are_those_that_jobs_have(client: Client) -> None:
    listed = client.get("/variables/list_contextual").json()
    names = {item["name"] for item in listed}
    assert all(item["description"] and isinstance(item["value"], str) for item in listed)
    code = "import os\ndef main(): return dict(os.environ)"
    assert names <= client.preview(code).json().keys()


# --- rights -----------------------------------------------------------------------------------------------------------


def test_others_neither_see_nor_change_what_is_a_users_own(client: Client, alice: Client) -> None:
    create(alice, "u/alice/mine", "1")
    assert client.get("/variables/get/u/alice/mine").status == 200  # an admin
    answer = alice.get("/variables/get/u/admin/secret")
    assert (answer.status, SECRET in answer.text) == (404, False)
    assert alice.get("/variables/get_value/u/admin/secret").status == 404
    assert alice.get("/variables/get/u/admin/none").status == 404
    assert new_resource(client, "u/admin/res", SECRET).status == 201
    for way in ("get", "get_value", "get_value_interpolated"):
        assert alice.get(f"/resources/{way}/u/admin/res").status == 404
    for method, path, body in (
        ("POST", "/variables/create", {"path": "u/admin/x", "value": "", "is_secret": False}),
        ("POST", "/variables/update/u/admin/secret", {"value": ""}),
        ("POST", "/variables/update/u/alice/mine", {"path": "u/admin/x"}),
        ("DELETE", "/variables/delete/u/admin/secret", None),
        ("POST", "/resources/create", {"path": "u/admin/x", "value": 1, "resource_type": "any"}),
        ("POST", "/resources/update/u/admin/res", {"value": 1}),
        ("POST", "/resources/update_value/u/admin/res", {"value": 1}),
        ("DELETE", "/resources/delete/u/admin/res", None),
    ):
        refused = alice.call(method, path, data=body)
        assert (refused.status, "belongs to u/admin" in refused.text) == (400, True), (path, refused.text)
    assert {item["path"] for item in alice.get("/variables/list").json()} == {"u/alice/mine", "f/team/plain"}
    assert {item["path"] for item in alice.get("/resources/list").json()} == {"f/team/db"}


def test_references_have_the_rights_of_the_jobs_user(alice: Client) -> None:
    for value in ("$var:u/admin/secret", "$res:f/team/db"):
        failed = alice.run("f/team/echo", {"x": value})
        assert "Not found: variable u/admin/secret not found, in the argument 'x'" in failed.text
        assert SECRET not in failed.text
    assert alice.get("/resources/get_value_interpolated/f/team/db").status == 404


def test_results_that_are_kept_are_not_shared_with_those_who_may_not_know(client: Client, alice: Client) -> None:
    client.deploy("f/team/kept", ECHO, cache_ttl=600)
    assert client.run("f/team/kept", {"x": "$var:u/admin/secret"}).json() == {"x": SECRET}
    assert SECRET not in alice.run("f/team/kept", {"x": "$var:u/admin/secret"}).text


# --- resources --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_resource(client: Client) -> None:
    path, value = "u/admin/life", {"b": 1, "a": [None, 1.5, "é"]}
    assert client.get(f"/resources/exists/{path}").json() is False
    assert new_resource(client, path, value).status == 201
    assert new_resource(client, path, 2).status == 400
    assert new_resource(client, path, value, "other", update_if_exists="true").status == 201
    shown = client.get(f"/resources/get/{path}").json()
    assert (shown["value"], shown["resource_type"], shown["created_by"]) == (value, "other", "admin")
    assert client.get(f"/resources/get_value/{path}").text == '{"b":1,"a":[null,1.5,"é"]}'
    assert client.post(f"/resources/update_value/{path}", {"value": None}).status == 200
    assert client.get(f"/resources/get_value/{path}").json() is None
    assert client.post(f"/resources/update_value/{path}", {}).status == 400
    assert client.post(f"/resources/update/{path}", {"path": "u/admin/life2", "value": 3}).text == "u/admin/life2"
    assert client.get(f"/resources/get/{path}").status == 404
    assert client.call("DELETE", "/resources/delete/u/admin/life2").status == 200
    assert client.call("DELETE", "/resources/delete/u/admin/life2").status == 404


def test_secret_arguments_of_runs_are_not_listed(client: Client) -> None:
    for path in ("u/admin/secret_arg/a", "u/admin/secret_args"):
        new = {"path": path, "value": "x", "is_secret": True, "description": ""}
        assert client.post("/variables/create", new).status == 201
    listed = [item["path"] for item in client.get("/variables/list", path_start="u/admin/secret_arg").json()]
    assert listed == ["u/admin/secret_args"]
    assert client.get("/variables/get_value/u/admin/secret_arg/a").json() == "x"


def test_resources_are_listed_by_type(client: Client) -> None:
    def paths(**query: Any) -> list[str]:
        return [item["path"] for item in client.get("/resources/list", **query).json()]

    new_resource(client, "u/admin/s", 1, "state")
    assert paths(resource_type="state,none") == ["u/admin/s"]
    assert "u/admin/s" not in paths(resource_type_exclude="state")
    assert paths(path_start="f/team/") == ["f/team/db"]
    assert paths(page="2", per_page="10000") == []


def test_the_life_of_a_resource_type(client: Client) -> None:
    new = {"name": "c_door", "schema": {"type": "object"}, "description": "A door", "format_extension": "door"}
    assert client.post("/resources/type/create", new).status == 201
    assert client.post("/resources/type/create", new).status == 400
    shared = client.with_token(client.token, "admins")
    assert shared.post("/resources/type/create", {"name": "c_shared"}).status == 201
    assert client.get("/resources/type/listnames").json() == ["c_door", "c_shared"]
    assert client.get("/resources/type/get/c_shared").json()["workspace_id"] == "admins"
    assert client.post("/resources/type/update/c_door", {"schema": {"x": 1}}).status == 200
    assert client.get("/resources/type/get/c_door").json()["schema"] == {"x": 1}
    assert client.get("/resources/type/list").json()[0]["name"] == "c_door"
    found = client.get("/resources/file_resource_type_to_file_ext_map").json()
    assert found == {"c_door": {"format_extension": "door", "is_fileset": False}}
    assert client.call("DELETE", "/resources/type/delete/c_door").status == 200
    assert client.get("/resources/type/exists/c_door").json() is False
    assert client.post("/resources/type/update/c_door", {}).status == 404


# --- references in arguments ------------------------------------------------------------------------------------------


def test_arguments_are_what_their_references_name(client: Client) -> None:
    database = {"host": "db", "password": SECRET, "more": ["plain"]}
    sealed = client.post("/variables/encrypt", '{"a": "in sealed json"}').text
    given = {
        "v": "$var:u/admin/secret",
        "r": "$res:f/team/db",
        "deep": {"a": {"b": ["$var:f/team/plain", ["$var:f/team/plain", ["$var:f/team/plain"]]]}},
        "e": f"$encrypted:{sealed}",
        "c": ["$WM_JOB_PATH", "$WM_WORKSPACE", "$NO_SUCH"],
        "no": ["costs $var:x", "$5", "$", " $var:u/admin/secret"],
        "big": 2**70,
    }
    job_id = client.submit("u/admin/echo", given)
    ended = client.ended(job_id)
    assert ended["result"] == {
        "v": SECRET,
        "r": database,
        "deep": {"a": {"b": ["plain", ["plain", ["$var:f/team/plain"]]]}},
        "e": {"a": "in sealed json"},
        "c": ["u/admin/echo", "demo", "$NO_SUCH"],
        "no": given["no"],
        "big": 2**70,
    }
    # Whoever looks at the job sees what was sent.
    assert ended["args"] == client.get(f"/jobs_u/get_args/{job_id}").json() == given
    assert client.call("POST", "/jobs/run_wait_result/p/u/admin/echo", b'{"x":"\\u0024var:f/team/plain"}',
                       {"Content-Type": "application/json"}).json() == {"x": "plain"}  # fmt: skip


def test_large_arguments_and_long_lists_have_references_too(client: Client) -> None:
    client.deploy("u/admin/first", "def main(x, y, z): return [x, y[0], y[-1], z[0]]")
    given = {"x": "$res:f/team/db", "y": ["$var:f/team/plain"] * 1000, "z": ["$var:f/team/plain"] * 1001}
    assert client.run("u/admin/first", {**given, "y": ["$var:f/team/plain"] + ["x" * 100] * 999}).json()[1] == "plain"
    too_many = client.run("u/admin/first", given).text
    assert "there are more than 1000 references" in too_many


def test_resources_that_name_themselves_or_grow_are_refused(client: Client) -> None:
    new_resource(client, "u/admin/loop", {"a": "$res:u/admin/loop"})
    assert "more than 20 deep" in client.run("u/admin/echo", {"x": "$res:u/admin/loop"}).text
    assert client.get("/resources/get_value_interpolated/u/admin/loop").status == 400
    new_resource(client, "u/admin/grow0", "x" * 100_000)
    for number in range(1, 7):
        new_resource(client, f"u/admin/grow{number}", [f"$res:u/admin/grow{number - 1}"] * 10)
    assert "more than 33554432 characters" in client.run("u/admin/echo", {"x": "$res:u/admin/grow6"}).text


def test_what_is_sent_to_a_preprocessor_is_left_as_it_was_sent(client: Client) -> None:
    code = "def preprocessor(event):\n    return {'x': event['body']['x']}\n\ndef main(x):\n    return x\n"
    client.deploy("u/admin/pre", code)
    job_id = client.submit("u/admin/pre", {"x": "$var:u/admin/secret"})
    assert client.ended(job_id)["result"] == "$var:u/admin/secret"


def test_jobs_of_a_process_that_stays_have_their_own(client: Client) -> None:
    client.deploy("u/admin/stays", "def main(x): return x", dedicated_worker=True)
    values = [
        client.run("u/admin/stays", {"x": f"$var:{path}"}).json() for path in ("u/admin/secret", "f/team/plain") * 2
    ]
    assert values == [SECRET, "plain"] * 2


# --- secrets in logs --------------------------------------------------------------------------------------------------


def test_logs_and_errors_hide_what_the_job_was_told(client: Client) -> None:
    code = (
        "import sys, time\n"
        "def main(x):\n"
        "    sys.stdout.write('it is ' + x[:7]); sys.stdout.flush(); time.sleep(0.1); print(x[7:] + '!')\n"
        "    raise ValueError(x)\n"
    )
    client.deploy("u/admin/tells", code)
    for given in ("$var:u/admin/secret",):
        job_id = client.submit("u/admin/tells", {"x": given})
        ended = client.ended(job_id)
        assert f"it is {STARS}!" in ended["logs"]
        assert ended["result"]["error"]["message"] == STARS
        assert SECRET not in client.get(f"/jobs_u/get/{job_id}").text
    bash = client.preview('x="$1"\necho "$x"\nexit 3', {"x": "$var:u/admin/secret"}, "bash")
    assert STARS in bash.text and SECRET not in bash.text
    # A result is what the script says, whatever it is.
    assert client.run("u/admin/echo", {"x": "$var:u/admin/secret"}).json() == {"x": SECRET}


def test_the_log_hides_what_the_job_asks_for_while_it_runs(client: Client) -> None:
    code = (
        "import json, os, urllib.request\n"
        "def get(path):\n"
        "    url = f\"{os.environ['BASE_INTERNAL_URL']}/api/w/{os.environ['WM_WORKSPACE']}/{path}\"\n"
        "    request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + os.environ['WM_TOKEN']})\n"
        "    return json.load(urllib.request.urlopen(request))\n"
        "def main(path):\n"
        "    print('asked', get(path))\n"
    )
    client.deploy("u/admin/asks", code)
    paths = (
        "variables/get_value/u/admin/secret",
        "variables/get/u/admin/secret",
        "resources/get_value_interpolated/f/team/db",
    )
    for path in paths:
        logs = client.ended(client.submit("u/admin/asks", {"path": path}))["logs"]
        assert "asked" in logs and STARS in logs and SECRET not in logs


# --- signatures, storages ---------------------------------------------------------------------------------------------


def test_a_signature_is_checked_with_a_variable(client: Client, alice: Client) -> None:
    signature = {"secret": "u/admin/secret", "header": "X-Signature"}
    client.deploy("u/admin/signed", ECHO, signature=signature)

    def call(key: str) -> int:
        field = hmac.new(key.encode(), b'{"a":1}', hashlib.sha256).hexdigest()
        fields = {"X-Signature": field, "Content-Type": "application/json"}
        return client.call("POST", "/jobs/run_wait_result/p/u/admin/signed", b'{"a":1}', fields).status

    assert (call(SECRET), call("other")) == (200, 401)
    client.post("/variables/update/u/admin/secret", {"value": "another-secret"})
    assert (call(SECRET), call("another-secret")) == (401, 200)
    client.post("/variables/update/u/admin/secret", {"value": SECRET})
    body = {
        "path": "u/alice/signed",
        "content": ECHO,
        "language": "python3",
        "summary": "",
        "description": "",
        "signature": signature,
    }
    refused = alice.post("/scripts/create", body)
    assert (refused.status, "not yours to read" in refused.text) == (400, True)


def test_a_storage_is_configured_with_a_resource(client: Client) -> None:
    def configure(path: str) -> Any:
        config = {"type": "S3Storage", "s3_resource_path": path}
        return client.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": config})

    create(client, "u/admin/s3key", "s3-secret-canary", is_secret=True)
    bucket = {"bucket": "main", "endPoint": "127.0.0.1:1", "accessKey": "K", "secretKey": "$var:u/admin/s3key"}
    new_resource(client, "u/admin/s3", bucket, "s3")
    assert configure("$res:u/admin/s3").status == configure("u/admin/s3").status == 200
    # It is used: nothing answers there.
    assert client.get("/job_helpers/list_stored_files", max_keys=1).status == 502
    client.post("/resources/update_value/u/admin/s3", {"value": {**bucket, "endPoint": "http://127.0.0.1:1"}})
    refused = client.get("/job_helpers/list_stored_files", max_keys=1)
    assert refused.status == 502 and "must be reached by https" in refused.text, refused.text
    missing = configure("$res:u/admin/none")
    assert missing.status == 400 and "resource u/admin/none not found" in missing.text
    assert client.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": None}).status == 200


# --- the official client, from outside --------------------------------------------------------------------------------

WMILL = """
import wmill
assert wmill.get_variable("u/admin/secret") == "open-sesame-canary"
wmill.set_variable("u/admin/w", "one", is_secret=True)
wmill.set_variable("u/admin/w", "two")
assert wmill.get_variable("u/admin/w") == "two"
assert wmill.get_resource("f/team/db")["password"] == "open-sesame-canary"
assert wmill.get_resource("f/team/none", none_if_undefined=True) is None
for value in ({"a": 1}, {"a": [2]}):
    wmill.set_resource(path="u/admin/wr", value=value, resource_type="any")
    assert wmill.get_resource("u/admin/wr") == value
assert wmill.get_state() is None
for value in (1, {"n": 2}, None):
    wmill.set_state(value)
    assert wmill.get_state() == value
"""


def test_the_official_client_finds_what_it_expects(client: Client) -> None:
    environment = {
        "PATH": os.defpath,
        "BASE_INTERNAL_URL": client.address,
        "WM_TOKEN": client.token,
        "WM_WORKSPACE": client.workspace,
        "WM_STATE_PATH": "u/admin/outside/user",
    }
    done = subprocess.run(
        [sys.executable, "-c", WMILL], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = client.get("/resources/get/u/admin/outside/user").json()
    assert shown["resource_type"] == "state"
    assert client.get("/variables/get/u/admin/w").json()["is_secret"] is True


# --- at rest ----------------------------------------------------------------------------------------------------------


def test_nothing_of_it_is_in_the_files_and_without_the_key_the_server_does_not_start(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (server, client):
        create(client, "u/admin/secret", SECRET, is_secret=True)
        new_resource(client, "u/admin/r", {"password": "resource-canary"})
        config = {
            "type": "S3Storage",
            "s3_resource": {
                "bucket": "main",
                "endPoint": "s3.example.org",
                "secretKey": "storage-canary",
                "accessKey": "K",
            },
        }
        assert client.post("/workspaces/edit_large_file_storage_config", {"large_file_storage": config}).status == 200
        files = b"".join(file.read_bytes() for file in server.data.glob("minwebhook.db*"))
        assert not any(canary in files for canary in (SECRET.encode(), b"resource-canary", b"storage-canary"))
        assert (server.data / "secret.key").stat().st_mode & 0o777 == 0o600
        assert server.stop() == 0
        key = server.data / "secret.key"
        key.rename(tmp_path / "key")
        with pytest.raises(StartFailed, match="lacks keys that secrets"):
            server.start()
        assert not key.exists()
        server.environment["MINWEBHOOK_SECRET_KEY"] = (tmp_path / "key").read_text().strip()
        assert server.start().get("/variables/get_value/u/admin/secret").json() == SECRET
        assert server.stop() == 0
        environment = {"PATH": os.defpath, **server.environment}
        done = subprocess.run(
            [sys.executable, "-m", "minwebhook", "secrets", "status", "--data", str(server.data)],
            env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, "seals" in done.stdout, SECRET in done.stdout) == (0, True, False)


def test_a_job_that_was_queued_finds_what_is_there_when_it_runs(client: Client) -> None:
    create(client, "u/admin/later", "old")
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    job_id = client.submit("u/admin/echo", {"x": "$var:u/admin/later"}, scheduled_for=later)
    client.post("/variables/update/u/admin/later", {"value": "new"})
    assert client.ended(job_id)["result"] == {"x": "new"}
