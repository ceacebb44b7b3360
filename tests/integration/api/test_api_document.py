"""The OpenAPI document as it is served, and whether the code asks for the query parameters that it names."""

from __future__ import annotations

import re
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from minwebhook.api.operations import api_document
from minwebhook.api.schemas import SCHEMAS
from minwebhook.http.codecs import FORM
from tests.server import Client, eventually, serving

HERE: Final = Path(__file__).parent
#: The example of the document.
ENDED_JOB: Final = uuid.UUID(SCHEMAS["JobIds"]["examples"][0][0])
WAITING_JOB: Final = uuid.UUID(int=8)
#: Routes about a flow that waits, in place of a job.
OF_FLOWS: Final = re.compile(r"\{signature\}|/flow/|/result_by_id/|^/approve/")
#: Read as a credential, which is no parameter of an operation.
CREDENTIAL: Final = {"token"}


def test_the_document_is_public_and_the_same_in_both_forms(client: Client) -> None:
    anyone = client.with_token("")
    as_json, as_yaml = anyone.get("/api/openapi.json"), anyone.get("/api/openapi.yaml")
    assert (as_json.status, as_json.headers["content-type"]) == (200, "application/json")
    assert (as_yaml.status, as_yaml.headers["content-type"]) == (200, "application/yaml")
    assert as_json.json() == api_document()
    assert yaml.safe_load(as_yaml.text) == as_json.json()


@pytest.mark.parametrize(("path", "name"), [("/api/users/whoami", "User"), ("/api/health/status", "Health")])
def test_every_member_of_an_answer_is_described(client: Client, path: str, name: str) -> None:
    schema = api_document()["components"]["schemas"][name]
    assert set(schema["required"]) <= client.get(path).json().keys() <= set(schema["properties"])


class Caller:
    """Makes calls as the document describes them."""

    STEP: Final = {"id": "a", "value": {"type": "identity"}}

    def __init__(self, client: Client, document: dict[str, Any]) -> None:
        self._client = client
        self._document = document
        client.deploy("u/demo/hello", "def main(**arguments): return arguments")
        client.deploy("u/demo/twice", "def main(n: int): return n")
        client.deploy("u/demo/fails", "def main(): raise ValueError", retry={})
        client.ended(client.submit("u/demo/hello", job_id=ENDED_JOB))
        ada = {"email": "ada@localhost", "password": "correct horse battery"}
        assert client.post("/api/users/create", ada).status == 201
        assert client.post("/workspaces/add_user", ada).status == 201
        #: Who drives one again, or discards it, takes it off the list.
        self._dead_letters = [client.submit("u/demo/fails") for _ in range(8)]
        for job_id in self._dead_letters:
            client.ended(job_id)
        self._flows = [self._waiting_flow() for _ in range(20)]
        self._ended_flow = client.post("/jobs/run/preview_flow", {"value": {"modules": [self.STEP]}}).text
        client.ended(self._ended_flow)
        self._person = {"email": "renewing@localhost", "password": "correct horse battery"}
        assert client.post("/api/users/create", self._person).status == 201
        client.submit("u/demo/hello", job_id=WAITING_JOB, scheduled_for="2999-12-31T23:59:59Z")
        key = document["components"]["parameters"]["file_key"]["schema"]["examples"][0]
        client.call("POST", f"/job_helpers/upload_s3_file?file_key={key}", b"text")
        (signed,) = client.post("/apps/sign_s3_objects", {"s3_objects": [{"s3": key}]}).json()
        twice = client.get("/scripts/get/p/u/demo/twice").json()["hash"]
        self._known = {
            "hash": twice,
            "file": f"{twice}.py",
            "prefix": client.post("/api/users/tokens/create", {}).text[:10],
            "epoch_ms": 1,
            "read_bytes_length": 10,
            **dict(urllib.parse.parse_qsl(signed["presigned"])),
        }

    def parameters(self, operation: dict[str, Any], place: str) -> list[dict[str, Any]]:
        """What an operation takes in one place."""
        return [each for each in map(self._resolve, operation.get("parameters", ())) if each["in"] == place]

    def calls(self, method: str, path: str, operation: dict[str, Any]) -> Iterator[int]:
        """Calls with the examples of the document; their statuses.

        Some parameters are of interest before the end of a job, some after it, some without a token.
        """
        is_of_flows = OF_FLOWS.search(path) is not None
        jobs: tuple[Any, ...] = (self._dead_letters.pop(),) if "/dead_letters/" in path else (ENDED_JOB, WAITING_JOB)
        if any(part in path for part in ("/restart/f/", "/flow_env_by_flow_job_id/", "/get_flow_debug_info/")):
            jobs = (self._ended_flow,)
        for job_id in (self._flows[-1][0],) if is_of_flows else jobs:
            known = {**self._known, "id": job_id}
            if is_of_flows:
                known["signature"] = self._flows.pop()[1]
            if "/h/{hash}/p/" in path:
                known["path"] = "u/demo/twice"
            target = path
            for parameter in self.parameters(operation, "path"):
                value = known.get(parameter["name"]) or parameter["schema"]["examples"][0]
                if (parameter["name"], parameter["schema"]["type"]) == ("id", "integer"):  # of a record, not of a job
                    value = parameter["schema"]["examples"][0]
                target = target.replace("{" + parameter["name"] + "}", str(value))
            # The query must not be empty: a request without any parameters need not be asked for them.
            query = {"other": "1"}
            for parameter in self.parameters(operation, "query"):
                if parameter["required"]:
                    name = parameter["name"]
                    query[name] = str(known.get(name) or parameter["schema"]["examples"][0])
            data = None
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                data = self._resolve(content["application/json"]["schema"]).get("examples", [{}])[0]
            body: bytes | None = None
            headers: dict[str, str] = {}
            if FORM in content:
                body, headers = b"action=resume", {"Content-Type": FORM}
            holder = self._client
            if path == "/api/users/refresh_token":  # of sessions only, which it ends
                holder = holder.with_token(holder.post("/api/auth/login", self._person).text)
            for client in (holder, holder.with_token("")):
                yield client.call(method, target, body, headers, data=data, query=query).status

    def _waiting_flow(self) -> tuple[str, str]:
        """One that waits for an approval behind its step ``a``, and a signature for it."""
        module = {**self.STEP, "suspend": {"required_events": 9}}
        job_id = self._client.post("/jobs/run/preview_flow", {"value": {"modules": [module]}}).text
        eventually(lambda: self._client.get(f"/jobs/result_by_id/{job_id}/a").status == 200, "the step has ended")
        return job_id, self._client.get(f"/jobs/job_signature/{job_id}/1").text

    def _resolve(self, described: dict[str, Any]) -> dict[str, Any]:
        """What a reference leads to, or what is there in its place."""
        found: dict[str, Any] = self._document
        if "$ref" not in described:
            return described
        for step in described["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found


#: What is tested elsewhere: there is no mail server here, and the first workspaces are not deleted.
REFUSED = {
    "post_settings_test_smtp",
    "post_auth_request_password_reset",
    "post_auth_reset_password",
    "delete_workspaces_delete_workspace_id",
}


def takes_away(path: str) -> int:
    """How much is gone after such a call: 0 nothing, 1 what one route is about, 2 what was signed, 3 the caller's way in."""
    if path.endswith(("/workspaces/archive", "/users/leave")):
        return 3
    if path.endswith("/workspaces/encryption_key"):
        return 2
    return int(re.search("archive|delete|cancel|redrive_all", path) is not None)


def test_the_code_asks_for_the_parameters_that_are_described_and_for_no_others(tmp_path: Path) -> None:
    document = api_document()
    operations = {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    asked_file = tmp_path / "asked"
    described: dict[str, set[str]] = {}
    asked: dict[str, set[str]] = {}
    with serving(  # the stream of a job that waits should not last
        tmp_path / "data",
        "--stream-timeout-s",
        "0.1",
        program=(str(HERE / "recording_server.py"),),
        environment={"ASKED": str(asked_file)},
    ) as (_, client):
        caller = Caller(client, document)
        # What takes scripts and jobs away comes last.
        for method, path in sorted(operations, key=lambda each: takes_away(each[1])):
            operation = operations[method, path]
            name = operation["operationId"]
            asked_file.write_text("")
            statuses = list(caller.calls(method, path, operation))
            is_gone = not any(status.startswith("2") for status in operation["responses"])
            assert is_gone or name in REFUSED or any(200 <= status < 300 for status in statuses), (name, statuses)
            described[name] = {each["name"] for each in caller.parameters(operation, "query")}
            asked[name] = set(asked_file.read_text().split()) - (CREDENTIAL - described[name])
    assert asked == described
