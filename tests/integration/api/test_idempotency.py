"""Requests that are sent again with their key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server import Answer, Client, Server, eventually, serving

MakeServer = Callable[..., Server]

#: What is different in each run, so that a repeated answer is no coincidence.
DICE = "import os, time\n\ndef main(wait=0.05, **rest):\n    time.sleep(wait)\n    return os.urandom(8).hex()\n"
SYNC = "/jobs/run_wait_result/p/u/admin/dice"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("keys") / "data", "--workers", "3") as (_, client):
        client.deploy("u/admin/dice", DICE)
        client.deploy("u/admin/dice2", DICE)
        yield client


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def runs(client: Client, path: str = "u/admin/dice") -> int:
    return len(client.get("/jobs/list", script_path_exact=path, per_page=1000).json())


def same(answers: list[Answer]) -> bool:
    return len({(answer.status, answer.body, answer.headers["content-type"]) for answer in answers}) == 1


@pytest.mark.parametrize("header", ["Idempotency-Key", "webhook-id", "X-GitHub-Delivery"])
def test_callers_with_one_key_get_one_job(client: Client, header: str) -> None:
    before = runs(client)
    key = {header: str(uuid.uuid4())}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post(SYNC, {}, key), range(24)))
    assert answers[0].status == 200
    assert same(answers)
    assert runs(client) == before + 1
    assert client.post(SYNC, {}, {header: str(uuid.uuid4())}).body != answers[0].body


def test_without_a_key_every_request_is_new(client: Client) -> None:
    assert not same([client.post(SYNC, {}) for _ in range(2)])
    assert not same([client.post(SYNC, {}, {"Idempotency-Key": ""}) for _ in range(2)])


def test_another_request_under_the_same_key_is_a_mistake(client: Client) -> None:
    key = new_key()
    assert client.post(SYNC, {"a": 1}, key).status == 200
    for other in (client.post(SYNC, {"a": 2}, key), client.post(SYNC, {"a": 1}, key, tag="x")):
        assert other.status == 422
        assert "another request" in other.text
    assert (
        client.call("POST", SYNC + "?token=ignored", b'{"a": 1}', {**key, "Content-Type": "application/json"}).status
        == 200
    )


def test_while_the_first_runs_another_request_is_refused_at_once(client: Client) -> None:
    key = new_key()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: client.post(SYNC, {"wait": 1.0}, key))
        eventually(lambda: client.get("/jobs/queue/list", script_path_exact="u/admin/dice").json(), "the first")
        assert client.post(SYNC, {"wait": 1.1}, key).status == 422
        assert same([first.result(), client.post(SYNC, {"wait": 1.0}, key)])


def test_keys_are_of_one_runnable_and_one_user(client: Client) -> None:
    key = new_key()
    answers = [client.post(SYNC, {}, key), client.post("/jobs/run_wait_result/p/u/admin/dice2", {}, key)]
    version = client.get("/scripts/get/p/u/admin/dice").json()["hash"]
    answers.append(client.post(f"/jobs/run_wait_result/h/{version}", {}, key))
    assert len({answer.body for answer in answers}) == 3


def test_async_sync_and_stream_share_the_job_of_a_key(client: Client) -> None:
    key = new_key()
    first = client.post("/jobs/run/p/u/admin/dice", {}, key)
    again = client.post("/jobs/run/p/u/admin/dice", {}, key)
    assert (first.status, first.body) == (again.status, again.body) == (201, first.body)
    result = client.post(SYNC, {}, key)
    assert client.ended(first.text)["result"] == result.json()
    streamed = client.post("/jobs/run_and_stream/p/u/admin/dice", {}, key)
    last = json.loads([line for line in streamed.text.splitlines() if line.startswith("data: ")][-1][6:])
    assert last["only_result"] == result.json()


def test_a_failure_is_an_answer_too(client: Client) -> None:
    client.deploy("u/admin/fails", "import os\n\ndef main():\n    raise ValueError(os.urandom(8).hex())\n")
    key = new_key()
    assert same([client.post("/jobs/run_wait_result/p/u/admin/fails", {}, key) for _ in range(3)])


def test_a_mistake_does_not_use_up_the_key(client: Client) -> None:
    key = new_key()
    broken = client.call("POST", SYNC, b"{", {**key, "Content-Type": "application/json"})
    assert broken.status == 400
    taken = client.submit("u/admin/dice")
    assert client.post(SYNC, {}, key, job_id=taken).status == 400
    assert client.post(SYNC, {}, key).status == 200


def test_a_caller_that_leaves_finds_its_result_when_it_comes_back(client: Client) -> None:
    before = runs(client)
    key = new_key()
    body = b'{"wait": 0.5}'
    head = (
        f"POST /api/w/demo{SYNC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        f"Idempotency-Key: {key['Idempotency-Key']}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with client.raw(head.encode() + body):
        eventually(lambda: runs(client) == before + 1, "the job")
    answer = client.call("POST", SYNC, body, {**key, "Content-Type": "application/json"})
    assert answer.status == 200
    assert runs(client) == before + 1


def test_prefer_and_a_key(client: Client) -> None:
    key = new_key()
    later = client.post(SYNC, {"wait": 0.3}, {**key, "Prefer": "respond-async"})
    assert later.status == 202
    assert client.post(SYNC, {"wait": 0.3}, key).json() == client.ended(later.text)["result"]


def test_a_key_has_a_length(client: Client) -> None:
    assert client.post(SYNC, {}, {"Idempotency-Key": "k" * 256}).status == 400
    assert client.post(SYNC, {}, {"Idempotency-Key": "k" * 255}).status == 200


def test_files_of_a_repeated_form_are_not_kept(client: Client) -> None:
    client.deploy("u/admin/files", "def main(f=None):\n    return f\n")
    head = b'Content-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: application/pdf'
    form = b"--b\r\n" + head + b"\r\n\r\nhello\r\n--b--\r\n"
    headers = {**new_key(), "Content-Type": "multipart/form-data; boundary=b"}

    def stored() -> int:
        return len(client.get("/job_helpers/list_stored_files", max_keys=1000).json()["windmill_large_files"])

    before = stored()
    answers = [client.call("POST", "/jobs/run_wait_result/p/u/admin/files", form, headers) for _ in range(3)]
    assert answers[0].status == 200, answers[0].text
    assert same(answers)
    assert stored() == before + 1
    other = client.call("POST", "/jobs/run_wait_result/p/u/admin/files", form.replace(b"hello", b"world"), headers)
    assert other.status == 422
    assert stored() == before + 1


def test_what_a_script_has_deleted_after_use_is_gone(client: Client) -> None:
    client.deploy("u/admin/secretive", DICE, delete_after_use=True)
    key = new_key()
    path = "/jobs/run_wait_result/p/u/admin/secretive"
    assert client.post(path, {}, key).status == 200
    gone = eventually(lambda: (answer := client.post(path, {}, key)).status == 410 and answer, "the end of the data")
    assert isinstance(gone, Answer)
    assert "was deleted" in gone.text


def test_keys_survive_restarts_and_kills(make_server: MakeServer) -> None:
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/dice", DICE)
    ended, running = new_key(), new_key()
    first = client.post(SYNC, {}, ended)
    job_id = client.post("/jobs/run/p/u/admin/dice", {"wait": 0.5}, running).text
    client.running(job_id)
    server.kill()
    client = server.start()
    assert same([first, client.post(SYNC, {}, ended)])
    assert client.post(SYNC, {"wait": 0.5}, running).json() == client.ended(job_id)["result"]
    assert client.post("/jobs/run/p/u/admin/dice", {"wait": 0.5}, running).text == job_id
    assert client.post("/jobs/run/p/u/admin/dice", {}, job_id=job_id).status == 400


def test_keys_are_forgotten_after_their_time_and_only_listed_fields_are_keys(tmp_path: Path) -> None:
    flags = ("--idempotency-ttl-s", "1", "--idempotency-headers", "X-Delivery")
    with serving(tmp_path / "data", *flags) as (_, client):
        client.deploy("u/admin/dice", DICE)
        key = {"X-Delivery": "one"}
        first = client.post(SYNC, {}, key)
        assert same([first, client.post(SYNC, {}, key)])
        eventually(lambda: client.post(SYNC, {}, key).body != first.body, "the end of the key")
        other = new_key()
        assert not same([client.post(SYNC, {}, other) for _ in range(2)])


def test_no_field_is_a_key_if_none_is_listed(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--idempotency-headers", "") as (_, client):
        client.deploy("u/admin/dice", DICE)
        key = new_key()
        assert not same([client.post(SYNC, {}, key) for _ in range(2)])
