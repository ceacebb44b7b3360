"""What the OpenAPI document says is tried on a real server: schemathesis calls every operation with what its schemas
allow and with what they forbid, and holds the answers against the document. Its settings, and the reason for each check
that is off, are in ``schemathesis.toml``.
"""

from __future__ import annotations

import collections
import functools
import string
import subprocess
import sys
import urllib.parse
import uuid
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from minwebhook.api.routes import all_routes
from tests.server import ADMIN_TOKEN, Client, eventually, serving

HERE: Final = Path(__file__).parent
EXAMPLES: Final = HERE.parents[2] / "examples" / "scripts"
#: Routes that are answered with what to call instead.
GONE: Final = {f"POST /api/w/{{workspace}}/job_helpers/multipart_{way}load_s3_file" for way in ("up", "down")}
#: Routes that would take away what the others are called with; they have tests of their own.
NOT_CALLED: Final = {
    "POST /api/w/{workspace}/users/leave",
    "POST /api/w/{workspace}/workspaces/archive",
    "POST /api/settings/test_smtp",
    "DELETE /api/workspaces/delete/{workspace_id}",
    "POST /api/auth/request_password_reset",
    "POST /api/auth/reset_password",
}
#: It takes two minutes on two cores with nothing else to do, and this on busy ones.
_TIMEOUT_S: Final = 400.0
#: Sessions only, which the token here is none of.
SESSION: Final = "GET /api/users/refresh_token"
#: Asked for by header fields that the generator does not send.
WEBSOCKET: Final = "GET /api/w/{workspace}/jobs/ws"


def has_begun(client: Client, flow_id: str) -> bool:
    """Whether the first step of a flow has ended."""
    return client.get(f"/jobs/result_by_id/{flow_id}/a").status == 200


def write_settings(client: Client, path: Path) -> None:
    """The settings, with the token and the ids of what the server has."""
    client.deploy("u/demo/retired", "def main(): pass")
    # The example of the document, which it is set to again and again: what is signed with it goes on to hold.
    assert client.post("/workspaces/encryption_key", {"new_key": "k" * 64}).status == 200
    names = {
        "TOKEN": ADMIN_TOKEN,
        "HASH": client.get("/scripts/get/p/u/demo/hello").json()["hash"],
        "RETIRED": client.deploy("u/demo/retired", "def main(): return 1"),
        "DOOMED": client.deploy("u/demo/doomed", "def main(): pass"),
        "JOB": client.submit("u/demo/hello", {"name": "Ada"}, job_id=uuid.UUID(int=7)),
        "WAITING": client.submit("u/demo/retired", scheduled_for="2999-12-31T23:59:59Z"),
    }
    for flow in ("flow", "doomed_flow", "archived_flow", "moved_flow"):
        new = {
            "path": f"u/demo/{flow}",
            "summary": "",
            "value": {"modules": [{"id": "a", "value": {"type": "identity"}}]},
        }
        assert client.post("/flows/create", new).status == 201
    names["FLOW_JOB"] = client.post("/jobs/run/f/u/demo/flow").text
    client.ended(names["FLOW_JOB"])
    waiting = {"value": {"modules": [{"id": "a", "value": {"type": "identity"}, "suspend": {"required_events": 9999}}]}}
    for place in ("ASKED", "PAGE", "SHOWN", "REFUSED_1", "REFUSED_2"):
        names[place] = job_id = client.post("/jobs/run/preview_flow", waiting).text
        eventually(functools.partial(has_begun, client, job_id), "a flow waits")
    for number in (1, 2, 3):
        names[f"RESUME_{number}"] = client.get(f"/jobs/job_signature/{names['ASKED']}/{number}").text
    for number in (1, 2):
        names[f"CANCEL_{number}"] = client.get(f"/jobs/job_signature/{names[f'REFUSED_{number}']}/{number}").text
    names["PREFIX"] = client.post("/api/users/tokens/create", {"label": "to be changed"}).text[:10]
    for name in ("ada", "grace", "doomed"):
        user = {"email": f"{name}@localhost", "password": "correct horse battery"}  # the example of the document
        assert client.post("/api/users/create", user).status == 201
    for name in ("ada", "doomed"):
        assert client.post("/workspaces/add_user", {"email": f"{name}@localhost"}).status == 201
    for name in ("crew", "team", "doomed"):
        for kind in ("folders", "groups", "resources/type"):
            assert client.post(f"/{kind}/create", {"name": name}).status in (200, 201)
    assert client.post("/api/workspaces/create", {"id": "lab", "name": "The lab"}).status == 201
    client.deploy("u/demo/fails", "def main(): raise ValueError", retry={})
    names |= {name: client.submit("u/demo/fails") for name in ("DEAD", "DISCARDED", "REPLAYED")}
    for name in ("JOB", "DEAD", "DISCARDED", "REPLAYED"):
        client.ended(names[name])
    for key in ("a.csv", "b.csv"):
        assert client.call("POST", f"/job_helpers/upload_s3_file?file_key={key}", b"x;y\n1;2\n").status == 200
    (signed,) = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": "a.csv"}]}).json()
    names |= {f"SIGNED_{name.upper()}": value for name, value in urllib.parse.parse_qsl(signed["presigned"])}
    template = string.Template((HERE / "schemathesis.toml").read_text(encoding="utf-8"))
    path.write_text(template.substitute(names), encoding="utf-8")


def statuses(client: Client) -> dict[str, collections.Counter[int]]:
    """How often each route has answered with which status, as the server counts it."""
    found: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for family in text_string_to_metric_families(client.get("/metrics").text):
        if family.name == "minwebhook_http_requests":
            for sample in family.samples:
                labels = sample.labels
                if labels["route"]:  # none for what was tried because it is wrong
                    found[f"{labels['method']} {labels['route']}"][int(labels["status"])] += int(sample.value)
    return found


@pytest.mark.slow
@pytest.mark.timeout(_TIMEOUT_S + 30)
def test_the_server_does_what_its_description_says(tmp_path: Path) -> None:
    flags = ("--scripts", str(EXAMPLES), "--job-timeout-s", "5", "--workers", "2", "--stream-timeout-s", "0.5")
    no_limits = (
        "--failed-tokens-per-address",
        "0",
        "--failed-tokens-per-prefix",
        "0",
    )  # many that do not work are tried
    with serving(tmp_path / "data", *flags, *no_limits) as (server, client):
        write_settings(client, tmp_path / "schemathesis.toml")
        before = statuses(client)
        # From a file, because schemathesis does not call what gave it the document.
        (tmp_path / "openapi.json").write_bytes(client.get("/api/openapi.json").body)
        ended = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", "schemathesis.toml"),
                *("run", "openapi.json", "--url", client.address, "--no-color"),
            ],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "no_proxy": "*", "PYTHONUTF8": "1"},
            timeout=_TIMEOUT_S,
            check=False,
        )
        after = statuses(client)
        faults = [line for line in server.log.splitlines() if "a request failed" in line]
    assert ended.returncode == 0, ended.stdout
    assert faults == []
    called = {route: seen for route in after if (seen := after[route] - before[route])}
    assert called.keys() == {f"{route.method} {route.pattern}" for route in all_routes()} - NOT_CALLED
    # No operation was refused or not found all the time: what the checks saw were its real answers.
    unanswered = {route for route, seen in called.items() if not any(200 <= status < 300 for status in seen)}
    assert unanswered == GONE | {WEBSOCKET, SESSION}
