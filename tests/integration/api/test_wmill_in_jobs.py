"""Windmill's own client inside of jobs, as scripts import it: installed by the server, told by the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import missing
from tests.docs.pages import ROOT
from tests.flows import py, step
from tests.server import Client, Server, eventually, serving
from tests.wheels import download

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"hello\r\n--b--\r\n"
)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client with all it needs; the servers of these tests are offline."""
    place = tmp_path_factory.mktemp("wheels")
    if reason := download(place, "wmill==1.850.0"):
        missing(f"the wheels of wmill: {reason}")
    return place


@pytest.fixture(scope="module", params=["root", "userns"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Server]:
    rung = request.param
    if rung == "root" and os.geteuid() != 0:
        missing("the sandbox rung root: not running as root")
    flags = ("--sandbox", rung, "--offline", "--package-wheelhouse", str(wheels), "--workers", "3")
    scripts = ("--scripts", str(ROOT / "examples" / "packages"))
    with serving(tmp_path_factory.mktemp(rung) / "data", *flags, *scripts) as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def run(client: Client, code: str, **arguments: Any) -> Any:
    answer = client.preview("import wmill\n\n" + code, arguments)
    assert answer.status == 200, answer.text
    value = answer.json()
    assert not (isinstance(value, dict) and "error" in value), value
    return value


def test_the_example_reads_an_uploaded_file_and_writes_another(client: Client) -> None:
    uploaded = client.call("POST", "/job_helpers/upload_s3_file?file_key=in/a.txt", b"hello").json()["file_key"]
    result = client.run("u/demo/shout", {"file": {"s3": uploaded}}).json()
    assert result["file"] == "in/a.txt.loud"
    assert client.get("/job_helpers/download_s3_file", file_key=result["file"]).text == "HELLO"
    assert httpx.get(result["link"]).text == "HELLO"


def test_a_form_reaches_the_client(client: Client) -> None:
    client.deploy("u/admin/form", "import wmill\n\ndef main(file):\n    return wmill.load_s3_file(file[0]).decode()\n")
    assert client.call("POST", "/jobs/run_wait_result/p/u/admin/form", FILE, FORM).json() == "hello"


def test_files(client: Client) -> None:
    code = """
def main():
    stored = wmill.write_s3_file(wmill.S3Object(s3="some/b.bin"), b"x" * 3_000_000)
    with wmill.load_s3_file_reader(stored) as reader:
        count = len(reader.read())
    signed = wmill.sign_s3_objects([stored])[0]
    links = wmill.get_presigned_s3_public_urls([stored])
    wmill.delete_s3_object(stored)
    try:
        wmill.load_s3_file(stored)
    except Exception as error:
        gone = "404" in str(error)
    return [stored["s3"], count, "presigned" in signed, len(links), gone]
"""
    assert run(client, code) == ["some/b.bin", 3_000_000, True, 1, True]


def test_who_and_where(client: Client) -> None:
    code = """
import os

def main():
    return [wmill.whoami()["username"], wmill.get_workspace(), wmill.get_version(), os.environ["WM_STATE_PATH"]]
"""
    assert run(client, code) == ["admin", "demo", client.get("/api/version").text, "u/admin/tmp_state"]


def test_other_scripts(client: Client) -> None:
    client.deploy("u/admin/double", "def main(n: int):\n    return 2 * n\n")
    client.deploy("u/admin/broken", "def main():\n    raise ValueError('no luck')\n")
    code = """
def main():
    started = wmill.run_script_by_path_async("u/admin/double", {"n": 4})
    done = wmill.Windmill().wait_job(started)
    job = wmill.Windmill().get_job(started)
    try:
        wmill.run_script_by_path("u/admin/broken")
    except Exception as error:
        said = "no luck" in str(error)
    return [wmill.run_script_by_path("u/admin/double", {"n": 2}), done, wmill.get_result(started),
            wmill.get_job_status(started), job["parent_job"], said]
"""
    sync = run(client, code)
    assert sync[:4] == [4, 8, 8, "COMPLETED"]
    assert sync[5] is True
    parent = client.job(sync[4])
    assert parent["job_kind"] == "preview"


def test_a_job_cancels_another(client: Client) -> None:
    client.deploy("u/admin/long", "import time\n\ndef main():\n    time.sleep(60)\n")
    code = """
def main():
    job = wmill.run_script_by_path_async("u/admin/long")
    wmill.cancel_job(job, "enough")
    return job
"""
    job = run(client, code)
    eventually(lambda: client.job(job).get("canceled"), "the cancellation")


def test_streams(client: Client) -> None:
    code = "def main():\n    wmill.stream_result('a')\n    wmill.stream_result('b')\n"
    assert run(client, code) == "ab"


def test_progress(client: Client) -> None:
    code = """
def main():
    wmill.set_progress(30)
    wmill.set_progress(20)
    return wmill.get_progress()
"""
    assert run(client, code) == 30


def test_a_step_asks_for_approval_and_keeps_a_state(client: Client) -> None:
    ask = """
import wmill

def main():
    wmill.set_flow_user_state("asked", {"times": 1})
    return wmill.get_resume_urls("alice")
"""
    tell = "import wmill\n\ndef main(said): return [said, wmill.get_flow_user_state('asked')]\n"
    modules = [
        step("a", py(ask), suspend={"required_events": 1}),
        step("b", py(tell, said="{resume, approvers, kept: flow_user_state('asked')}")),
    ]
    flow_id = client.post("/jobs/run/preview_flow", {"value": {"modules": modules}}).text

    def status() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.job(flow_id).get("flow_status", {}).get("modules", [])
        return found

    eventually(lambda: [each for each in status() if each["type"] == "WaitingForEvents"], "the flow waits", 50)
    found = client.get(f"/jobs/completed/get_result/{status()[0]['job']}").json()
    assert sorted(found) == ["approvalPage", "cancel", "resume"]
    assert httpx.post(found["resume"], json={"ok": True}).status_code == 201
    said = {"resume": {"ok": True}, "approvers": ["alice"], "kept": {"times": 1}}
    assert client.ended(flow_id)["result"] == [said, {"times": 1}]
