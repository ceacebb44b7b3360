"""The example scripts in TypeScript, as bun, deno and node run them, and those in Python that call other webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minwebhook.runtimes.engines import find_engines
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.server import Client, serving

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module", params=["bun", "deno", "nodejs", "python3"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the examples in one language."""
    engine = request.param
    folder = "scripts" if engine == "python3" else "typescript"
    if cure := find_engines(SandboxSettings()).missing(engine):
        missing(f"{engine}: {cure}")
    source = EXAMPLES / folder / "u" / "demo"
    scripts = tmp_path_factory.mktemp("examples") / "u" / "demo"
    scripts.mkdir(parents=True)
    for file in source.iterdir():
        name = file.name.replace(".ts", ".deno.ts") if engine == "deno" else file.name
        mark = "//nodejs\n" if engine == "nodejs" else ""
        (scripts / name).write_text(mark + file.read_text())
    data = tmp_path_factory.mktemp("server") / "data"
    with serving(data, "--scripts", str(scripts.parent.parent), "--workers", "2") as (_, client):
        yield client


def test_a_greeting(client: Client) -> None:
    assert client.run("u/demo/hello", {"name": "Ada", "excited": True}).json() == {"greeting": "Hello, Ada!"}


def test_a_preprocessor(client: Client) -> None:
    body = {"issue": {"title": "It is cold"}}
    answer = client.post("/jobs/run_wait_result/p/u/demo/ticket", body, {"X-Sender": "Ada"}, project="house")
    assert answer.json() == "Ada says of house: It is cold"


def test_an_answer_of_its_own(client: Client) -> None:
    answer = client.run("u/demo/csv")
    assert (answer.status, answer.headers["content-type"], answer.text) == (201, "text/csv", "Hello;World")


def test_triggering_another_webhook_and_waiting(client: Client) -> None:
    arguments = {"how": "sync", "path": "u/demo/hello", "args": {"name": "you"}}
    assert client.run("u/demo/trigger", arguments).json() == {"greeting": "Hello, you."}


def test_triggering_another_webhook_without_waiting(client: Client) -> None:
    arguments = {"how": "async", "path": "u/demo/hello", "args": {"name": "you"}}
    value = client.run("u/demo/trigger", arguments).json()
    assert value["result"] == {"greeting": "Hello, you."}
    assert client.ended(value["id"])["success"] is True


def test_triggering_another_webhook_and_reading_its_stream(client: Client) -> None:
    arguments = {"how": "stream", "path": "u/demo/tell", "args": {"words": "to be or"}}
    value = client.run("u/demo/trigger", arguments).json()
    assert value["result"] == "to be or "
    assert "".join(value["chunks"]) == "to be or "
