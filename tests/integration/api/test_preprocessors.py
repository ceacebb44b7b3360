"""Preprocessors: what they get, what they give, and what is shown of it."""

from __future__ import annotations

import pytest

from tests.server import Client

JSON = {"Content-Type": "application/json"}
PRE = """
def preprocessor(event):
    print("preparing")
    return {"kind": event["kind"], "size": len(event["raw_string"] or ""), "who": event["headers"].get("x-who"), "all": event}

def main(kind, size=0, who=None, all=None):
    print("running")
    return [kind, size, who, all]
"""


@pytest.fixture
def hook(client: Client) -> str:
    client.deploy("u/admin/pre", PRE)
    return "/jobs/run_wait_result/p/u/admin/pre"


def test_the_event_is_the_whole_request(client: Client, hook: str) -> None:
    answer = client.call("POST", hook + "?raw=true&x=1&x=2", b'{"a": [1]}', {**JSON, "X-Who": "me", "X-Twice": "1"})
    kind, size, who, event = answer.json()
    assert (kind, size, who) == ("webhook", 10, "me")
    assert (event["body"], event["raw_string"], event["query"]) == ({"a": [1]}, '{"a": [1]}', {"raw": "true", "x": "2"})
    headers = event["headers"]
    assert headers["authorization"] == "Bearer [hidden]"
    assert (headers["content-type"], headers["x-who"], headers["x-twice"]) == ("application/json", "me", "1")
    assert sorted(event) == ["body", "headers", "kind", "query", "raw_string"]


def test_other_bodies(client: Client, hook: str) -> None:
    def event(body: bytes | None, headers: dict[str, str], method: str = "POST", query: str = "") -> dict[str, object]:
        found: dict[str, object] = client.call(method, hook + query, body, headers).json()[3]
        return found

    assert event(b"[1]", JSON)["body"] == [1]
    text = event(b"hi", {"Content-Type": "text/plain"})
    assert (text["body"], text["raw_string"]) == ({}, "hi")
    assert event(b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"})["body"] == {"a": "1", "b": "2"}
    assert event(b"", {})["body"] == {}
    got = event(None, {}, "GET", "?payload=eyJhIjoxfQ")
    assert (got["body"], got["query"]) == ({"a": 1}, {"payload": "eyJhIjoxfQ"})


def test_the_job_shows_the_arguments_that_the_preprocessor_made(client: Client, hook: str) -> None:
    job_id = client.submit("u/admin/pre", {"a": 1})
    done = client.ended(job_id)
    assert done["preprocessed"] is True
    assert (done["args"]["kind"], done["args"]["all"]["body"]) == ("webhook", {"a": 1})
    assert done["logs"].endswith("preparing\nrunning\n")
    assert "preprocessed" not in client.job(client.submit("u/admin/echo"))


def test_it_can_be_skipped(client: Client, hook: str) -> None:
    answer = client.post(hook, {"kind": "direct"}, skip_preprocessor="true")
    assert answer.json() == ["direct", 0, None, None]


def test_previews_skip_it(client: Client) -> None:
    assert client.preview(PRE, {"kind": "preview"}).json() == ["preview", 0, None, None]


@pytest.mark.parametrize(
    ("code", "name", "text"),
    [
        ("def preprocessor(event):\n    raise LookupError('no such sender')", "LookupError", "no such sender"),
        ("def preprocessor(event):\n    return [1]", "TypeError", "preprocessor must return a dict"),
        ("def preprocessor(event):\n    pass", "TypeError", "preprocessor must return a dict"),
        ("if 0:\n    pass\n'''\ndef preprocessor(event):\n'''", "ValueError", "preprocessor function is missing"),
    ],
)
def test_one_that_fails_fails_the_job(client: Client, code: str, name: str, text: str) -> None:
    client.deploy("u/admin/pre_fails", f"{code}\n\ndef main():\n    return 'never'\n")
    error = client.run("u/admin/pre_fails").error
    assert (error["name"], error["message"].startswith(text)) == (name, True)
    done = client.ended(client.submit("u/admin/pre_fails", {"a": 1}))
    assert (done["success"], done["args"]["event"]["body"]) == (False, {"a": 1})


def test_async_ones_and_native_values(client: Client) -> None:
    code = (
        "import datetime\n\nasync def preprocessor(event):\n"
        "    return {'when': datetime.date(2024, 1, 2), 'data': b'x', 'set': {1}}\n\n"
        "def main(when: datetime.date, data: bytes, set):\n    return [type(v).__name__ for v in (when, data, set)]"
    )
    client.deploy("u/admin/pre_async", code)
    assert client.run("u/admin/pre_async").json() == ["date", "bytes", "set"]
    done = client.ended(client.submit("u/admin/pre_async"))
    assert done["args"] == {"when": "2024-01-02", "data": "eA==", "set": "{1}"}


def test_a_process_that_stays_preprocesses_every_job(client: Client) -> None:
    code = (
        "calls = 0\n\ndef preprocessor(event):\n    global calls\n    calls += 1\n    return {'n': event['body']['n']}\n\n"
        "def main(n):\n    return [n, calls]"
    )
    client.deploy("u/admin/pre_stays", code, dedicated_worker=True)
    answers = [client.run("u/admin/pre_stays", {"n": n}).json() for n in range(3)]
    assert [answer[0] for answer in answers] == [0, 1, 2]
    assert answers[2][1] > 1


def test_the_old_kind_gets_everything_spread_out(client: Client) -> None:
    client.deploy(
        "u/admin/pre_old",
        "def preprocessor(wm_trigger, a, q=None, **rest):\n"
        "    return {'made': [wm_trigger, a, q, rest['x-who'], rest['x_who']]}\n\ndef main(made):\n    return made",
    )
    answer = client.call(
        "POST",
        "/jobs/run_wait_result/p/u/admin/pre_old?q=1&include_header=X-Who",
        b'{"a":2}',
        {**JSON, "X-Who": "me"},
    )
    assert answer.json() == [{"kind": "webhook"}, 2, "1", "me", "me"]


def test_queued_ones_survive_a_restart(make_server) -> None:  # type: ignore[no-untyped-def]
    server = make_server("--workers", "1")
    client = server.start()
    client.deploy("u/admin/pre", PRE)
    client.deploy("u/admin/sleep", "import time\n\ndef main():\n    time.sleep(60)")
    blocker = client.submit("u/admin/sleep")
    client.running(blocker)
    job_id = client.submit("u/admin/pre", {"a": 1})
    server.kill()
    client = server.start()
    client.post(f"/jobs_u/queue/cancel/{blocker}")
    done = client.ended(job_id)
    assert (done["preprocessed"], done["result"][0]) == (True, "webhook")
