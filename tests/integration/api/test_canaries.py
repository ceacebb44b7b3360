"""Canaries: secrets are planted wherever a request, a setting or a resource may hold them, and looked for in everything
that the server writes, answers to others, or shows to the machine."""

from __future__ import annotations

import contextlib
import resource
import signal
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.flows import py, step
from tests.server import ADMIN_TOKEN, Client, Server, descendants, eventually, serving

ECHO = "def main(**arguments):\n    return 'done'\n"
PREPROCESSED = "def preprocessor(event):\n    return {'event': event}\n\ndef main(event):\n    return 'done'\n"
SPREAD = "def preprocessor(wm_trigger, **rest):\n    return rest\n\ndef main(**rest):\n    return 'done'\n"
TELLS = "def main(x, y):\n    print('x is', x, y)\n    raise ValueError(f'{x} {y}')\n"


@dataclass
class Aviary:
    """Canaries by where they sit."""

    server: Server
    client: Client
    planted: dict[str, str] = field(default_factory=dict)
    #: Everything that was answered to requests which do not ask for a secret.
    answers: list[str] = field(default_factory=list)

    def plant(self, place: str) -> str:
        """A new canary."""
        value = f"canary-{len(self.planted)}-{place}-9f8e7d6c5b"
        self.planted[place] = value
        return value

    def alive_in(self, text: bytes) -> list[str]:
        """The places whose canaries are to be seen, as they are or percent-encoded."""
        return [
            place
            for place, value in self.planted.items()
            if value.encode() in text or urllib.parse.quote(value).encode() in text
        ]

    def call(self, method: str, path: str, *, token: str | None = None, query: Any = None, **more: Any) -> None:
        client = self.client if token is None else self.client.with_token(token)
        self.answers.append(client.call(method, path, query=query, **more).text)


@pytest.fixture(scope="module")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aviary]:
    """A server in which all canaries sit, after it has been called in all ways."""
    folder = tmp_path_factory.mktemp("canaries")
    planted = Aviary(Server(folder / "none"), Client("", ""))
    hooks = folder / "hooks.toml"
    hooks.write_text(f'sender = "{planted.plant("hook secret")}"\n')
    hooks.chmod(0o600)
    config = folder / "settings.toml"
    config.write_text(
        f's3_secret_key = "{planted.plant("s3 setting")}"\nhook_secrets = "{hooks}"\n'
        f'package_index = ["https://user:{planted.plant("index")}@127.0.0.1:1/simple"]\npackage_timeout_s = 5\n'
    )
    config.chmod(0o600)
    with serving(folder / "data", "--config", str(config), "--workers", "2", "--log-level", "debug") as (
        server,
        client,
    ):
        planted.server, planted.client = server, client
        planted.planted["admin token"] = ADMIN_TOKEN
        plant_knowledge(planted)
        call_in_all_ways(planted)
        yield planted


def plant_knowledge(aviary: Aviary) -> None:
    """Secrets that the server keeps."""
    client = aviary.client
    variable = {"path": "u/admin/v", "value": aviary.plant("variable"), "is_secret": True}
    resource = {"path": "u/admin/r", "value": {"password": aviary.plant("resource")}, "resource_type": "any"}
    bucket = {"bucket": "main", "endPoint": "127.0.0.1:1", "accessKey": "K", "secretKey": aviary.plant("storage")}
    config = {"large_file_storage": {"type": "S3Storage", "s3_resource": bucket}}
    aviary.call("POST", "/variables/create", data=variable)
    aviary.call("POST", "/variables/create", data=variable)
    aviary.call("POST", "/resources/create", data=resource)
    aviary.call("POST", "/workspaces/edit_large_file_storage_config", data=config)
    aviary.call(
        "POST", "/workspaces/edit_large_file_storage_config", data={"large_file_storage": {**config, "type": 1}}
    )
    aviary.call("GET", "/job_helpers/list_stored_files", query={"max_keys": 1})
    for path, code in (("echo", ECHO), ("pre", PREPROCESSED), ("spread", SPREAD), ("tells", TELLS)):
        client.deploy(f"u/admin/{path}", code)
    signature = {"secret": "sender", "header": "X-Signature"}
    client.deploy("u/admin/signed", ECHO, signature=signature)
    # Its packages are looked for at the index, in vain.
    client.deploy("u/admin/packages", "import no_such_package_for_canaries\n" + ECHO)


def call_in_all_ways(aviary: Aviary) -> None:
    """Credentials in every place; good ones and wrong ones."""
    client = aviary.client
    for place in ("header", "cookie", "query"):
        token = client.post("/api/users/tokens/create", {"label": place}).text
        aviary.planted[f"token in the {place}"] = token
        wrong = aviary.plant(f"wrong token in the {place}".replace(" ", "-"))
        for path in ("echo", "pre", "spread"):
            for value in (token, wrong):
                for query in ({"include_header": "Authorization,Cookie", "include_query": "token"}, {"raw": "maybe"}):
                    run = f"/jobs/run_wait_result/p/u/admin/{path}"
                    if place == "query":
                        aviary.call("POST", run, token="", query={**query, "token": value}, data={})
                        continue
                    fields = {"Cookie": f"a=b; token={value}"} if place == "cookie" else {}
                    bearer = value if place == "header" else ""
                    aviary.call("POST", run, token=bearer, query=query, data={}, headers=fields)
    told = {"x": "$var:u/admin/v", "y": "$res:u/admin/r"}
    client.post("/variables/create", {"path": "u/admin/inner", "value": aviary.plant("inner"), "is_secret": True})
    client.post("/resources/update_value/u/admin/r", {"value": "$var:u/admin/inner"})
    job_id = client.submit("u/admin/tells", told)
    client.ended(job_id)
    aviary.answers += [client.get(f"/jobs_u/get/{job_id}").text, client.logs(job_id)]
    aviary.call("POST", "/jobs/run_wait_result/p/u/admin/signed", data={}, headers={"X-Signature": "00"})
    client.get("/jobs/run_wait_result/p/u/admin/echo", payload="!" + aviary.plant("bad payload"))
    call_with_passwords(aviary)
    call_flows(aviary)
    environment = "import os\ndef main(): return {k: v for k, v in os.environ.items() if k != 'WM_TOKEN'}"
    aviary.answers.append(client.preview(environment).text)


def call_with_passwords(aviary: Aviary) -> None:
    """Passwords that are set, that fit and that do not."""
    first, second = aviary.plant("password"), aviary.plant("new password")
    user = {"email": "canary@x", "password": first}
    for path, token, data in (
        ("/api/users/create", None, user),
        ("/api/users/create", None, user),
        ("/api/auth/login", "", {**user, "password": aviary.plant("wrong password")}),
        ("/api/users/set_password_of/canary@x", None, {"password": second}),
        ("/api/auth/login", "", {**user, "password": second, "more": [first]}),
        ("/api/auth/reset_password", "", {"token": aviary.plant("reset token"), "new_password": second}),
    ):
        client = aviary.client if token is None else aviary.client.with_token(token)
        answer = client.post(path, data)
        if path == "/api/auth/login" and answer.status == 200:
            aviary.planted["session"] = answer.text
            cookie = {"Cookie": f"token={answer.text}"}
            aviary.answers.append(client.get("/api/users/whoami", cookie).text)
        else:
            aviary.answers.append(answer.text)


def call_flows(aviary: Aviary) -> None:
    """Secrets that steps are told, by name and by expression, for a user and for the sender of a webhook."""
    client = aviary.client
    told = "def main(x, y, z): print(x, y, z); return len(x)"
    code = py(told, x="variable('u/admin/v')", y="flow_input.y", z=["$res:u/admin/r"])
    assert (
        client.post(
            "/flows/create", {"path": "u/admin/f", "summary": "", "value": {"modules": [step("a", code)]}}
        ).status
        == 201
    )
    hook = client.post("/api/users/tokens/create", {"scopes": ["jobs:run:flows:u/admin/f"]}).text
    aviary.planted["token of a hook"] = hook
    for token in (client.token, hook):
        job_id = client.with_token(token).post("/jobs/run/f/u/admin/f", {"y": "$var:u/admin/v"}).text
        aviary.answers.append(str(client.ended(job_id)))


def wait_for_packages(aviary: Aviary) -> None:
    hashes = aviary.client.get("/scripts/get/p/u/admin/packages").json()["hash"]
    found = eventually(
        lambda: (
            (answer := aviary.client.get(f"/scripts/deployment_status/h/{hashes}").json())["lock_error_logs"] and answer
        ),
        "the search for packages",
        30,
    )
    aviary.answers.append(str(found))


def test_no_answer_tells_a_secret_that_it_was_not_asked_for(aviary: Aviary) -> None:
    wait_for_packages(aviary)
    client = aviary.client
    for path in (
        *("/jobs/list", "/jobs/completed/list", "/jobs/queue/list", "/audit/list", "/variables/list", "/scripts/list"),
        *("/workspaces/get_secondary_storage_names", "/variables/list_contextual", "/api/users/tokens/list"),
        *("/api/openapi.json", "/api/health/status", "/api/health/detailed", "/metrics", "/readyz", "/api/version"),
    ):
        aviary.answers.append(
            client.call("GET", path, query={"include_args": "true"} if "jobs/" in path else None).text
        )
    for job in client.get("/jobs/list", per_page=1000).json():
        aviary.answers.append(client.get(f"/jobs_u/get/{job['id']}").text)
        aviary.answers.append(client.logs(job["id"]))
    assert len(aviary.answers) > 60
    assert aviary.alive_in("\n".join(aviary.answers).encode()) == []


def test_the_log_has_none(aviary: Aviary) -> None:
    wait_for_packages(aviary)
    log = aviary.server.log
    assert "[hidden]" in log and '"status":401' in log
    assert aviary.alive_in(log.encode()) == []


def test_the_files_have_none_but_those_that_are_there_to_open_them(aviary: Aviary) -> None:
    files = [path for path in aviary.server.data.rglob("*") if path.is_file()]
    assert any(path.name == "minwebhook.db" for path in files)
    for path in files:
        assert aviary.alive_in(path.read_bytes()) == [], path
    key = (aviary.server.data / "secret.key").read_text().strip().encode()
    assert [path.name for path in files if key in path.read_bytes()] == ["secret.key"]
    assert key.decode() not in aviary.server.log


def test_no_process_shows_them_in_its_command_line_or_environment(aviary: Aviary) -> None:
    started = descendants(aviary.server.pid)
    assert started
    for pid in (aviary.server.pid, *started):
        shown = {}
        for name in ("cmdline", "environ"):
            try:
                shown[name] = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:  # it has ended
                continue
            # The test gives the server its admin's token in the environment; it gives it to nobody.
            known = ["admin token"] if (pid, name) == (aviary.server.pid, "environ") else []
            assert aviary.alive_in(shown[name]) == known, (pid, name)


def test_a_crash_leaves_no_dump_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a dump would be
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with serving(tmp_path / "data", "--workers", "1") as (server, client):
            resource.setrlimit(resource.RLIMIT_CORE, before)
            client.preview("def main(): return 1")
            looked_at = 0
            for pid in (server.pid, *descendants(server.pid)):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a used child may end meanwhile
                    limits = Path(f"/proc/{pid}/limits").read_text()
                    [line] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
                    assert line.split()[4] == "0", (pid, line)
                    looked_at += 1
            assert looked_at > 1
            server.signal(signal.SIGABRT)
            assert server.wait() == -signal.SIGABRT
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert [path.name for path in tmp_path.iterdir() if path.is_file() and path.stat().st_size > 1_000_000] == []
