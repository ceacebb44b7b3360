"""Schemas of scripts through a server: read at the deployment, shown, used for checks; and the processes that read them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from minwebhook.schemas.model import SchemaError
from minwebhook.schemas.reader import SchemaReader
from tests.language_table import SAMPLES
from tests.server import Client, Server, eventually, serving

STRING = {"type": "string", "originalType": "string"}
CHECKED = "# schema_validation\ndef main(n: int, unit: str = 'm'): return f'{n} {unit}'"
#: Within which everything is over, on a busy machine.
AT_MOST_S = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def schema_of(client: Client, path: str) -> Any:
    return client.get(f"/scripts/get/p/{path}").json()["schema"]


def test_a_script_without_a_schema_gets_that_of_its_signature(client: Client) -> None:
    client.deploy("u/admin/read", "def main(b: str, a: int = 2): pass")
    assert schema_of(client, "u/admin/read") == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"b": STRING, "a": {"type": "integer", "default": 2}},
        "required": ["b"],
        "order": ["b", "a"],
    }
    sent = {"type": "object", "properties": {"z": {"type": "string"}}}
    client.deploy("u/admin/sent", "def main(b: str): pass", schema=sent)
    assert schema_of(client, "u/admin/sent") == sent
    client.deploy("u/admin/unread", "def main(:")
    assert schema_of(client, "u/admin/unread") is None
    client.deploy("u/admin/executable", "#!/bin/sh\n", "exec")
    assert schema_of(client, "u/admin/executable") is None


def test_the_same_again_is_no_new_version(client: Client) -> None:
    new = {
        "path": "u/admin/same",
        "summary": "",
        "description": "",
        "content": "def main(a): pass",
        "language": "python3",
    }
    first = client.post("/scripts/create", new)
    again = client.post("/scripts/create?skip_if_noop=true", {**new, "auto_parent": True})
    assert (first.status, again.status, again.text) == (201, 201, first.text)


@pytest.mark.parametrize("samples", [each for each in SAMPLES if each.language != "exec"], ids=lambda each: each.name)
def test_the_order_of_a_schema_is_that_in_which_main_gets_its_arguments(client: Client, samples: Any) -> None:
    answer = client.post("/scripts/schema", {"language": samples.language, "content": samples.scripts["join"]})
    assert answer.json()["order"] == ["b", "a"]
    assert answer.json()["properties"]["a"].get("default", "d") == "d"


def test_what_cannot_be_read_is_told(client: Client) -> None:
    for body, problem in (
        ({"language": "python3", "content": "x = 1\ndef main(:"}, "content: line 2: "),
        ({"language": "exec", "content": "#!/bin/sh"}, "content: scripts in exec have no signature"),
        ({"language": "cobol", "content": ""}, "language must be the name of a language"),
        ({"language": "python3"}, "content"),
        ([], "send a JSON object"),
    ):
        answer = client.post("/scripts/schema", body)
        assert answer.status == 400
        assert problem in answer.text


def test_arguments_that_do_not_fit_are_refused_where_a_script_asks_for_it(client: Client) -> None:
    client.deploy("u/admin/checked", CHECKED)
    client.deploy("u/admin/unchecked", CHECKED.replace("# schema_validation", ""))
    hash = client.get("/scripts/get/p/u/admin/checked").json()["hash"]
    assert client.run("u/admin/checked", {"n": 5}).json() == "5 m"
    assert client.run("u/admin/unchecked", {"n": "5"}).json() == "5 m"
    wrong = {"n": "5"}
    for path in (
        "/jobs/run_wait_result/p/u/admin/checked",
        "/jobs/run/p/u/admin/checked",
        "/jobs/run_and_stream/p/u/admin/checked",
        f"/jobs/run_wait_result/h/{hash}",
        f"/jobs/run/h/{hash}",
    ):
        answer = client.post(path, wrong)
        assert answer.status == 400
        assert answer.text == "Bad request: argument n: must be a whole number, and is the text '5'"
    assert client.post("/jobs/run_wait_result/p/u/admin/checked", {}).text == "Bad request: argument n: is missing"
    assert client.get("/jobs/list?script_path_exact=u/admin/checked&success=false").json() == []


def test_code_that_comes_with_the_request_is_checked_too(client: Client) -> None:
    body = {"language": "python3", "content": CHECKED, "args": {"n": "5"}}
    answer = client.post("/jobs/run_wait_result/preview", body)
    assert (answer.status, answer.text) == (400, "Bad request: argument n: must be a whole number, and is the text '5'")
    assert client.post("/jobs/run_wait_result/preview", {**body, "args": {"n": 5}}).json() == "5 m"
    answer = client.post("/jobs/run_wait_result/preview", {**body, "content": "# schema_validation\ndef main(:"})
    assert (answer.status, "schema_validation: the signature of main cannot be read" in answer.text) == (400, True)


def test_a_step_of_a_flow_fails_by_arguments_that_do_not_fit(client: Client) -> None:
    client.deploy("u/admin/step", CHECKED)
    step = {
        "type": "script",
        "path": "u/admin/step",
        "input_transforms": {"n": {"type": "javascript", "expr": "flow_input.n"}},
    }
    body = {"value": {"modules": [{"id": "a", "value": step}]}}
    assert client.post("/jobs/run_wait_result/preview_flow", {**body, "args": {"n": 1}}).json() == "1 m"
    error = client.post("/jobs/run_wait_result/preview_flow", {**body, "args": {"n": "x"}}).error
    assert "argument n: must be a whole number" in error["message"]


def test_who_asks_for_checks_needs_a_signature_that_can_be_read(client: Client) -> None:
    new = {"path": "u/admin/x", "summary": "", "description": "", "language": "python3"}
    new["content"] = "# schema_validation\ndef main(:"
    answer = client.post("/scripts/create", new)
    assert answer.status == 400
    assert "schema_validation: the signature of main cannot be read, send a schema: line 2" in answer.text
    assert client.post("/scripts/create", {**new, "schema": {"type": "object"}}).status == 201


def test_arguments_that_a_preprocessor_makes_are_not_checked(client: Client) -> None:
    code = "# schema_validation\ndef preprocessor(event): return {'n': 'x'}\ndef main(n: int): return n"
    client.deploy("u/admin/prepared", code)
    assert client.run("u/admin/prepared", {"n": "y"}).json() == "x"
    assert client.post("/jobs/run_wait_result/p/u/admin/prepared?skip_preprocessor=true", {"n": "y"}).status == 400


def test_files_of_a_directory_keep_what_people_added_to_their_schema(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    (scripts / "u/admin").mkdir(parents=True)
    file = scripts / "u/admin/hello.py"
    file.write_text("def main(a: str): pass")
    with serving(tmp_path / "data", "--scripts", str(scripts)) as (server, client):
        shown = client.get("/scripts/get/p/u/admin/hello").json()
        assert shown["schema"]["properties"] == {"a": STRING}
        shown["schema"]["properties"]["a"]["description"] = "by hand"
        new = {name: shown[name] for name in ("path", "summary", "description", "content", "language", "schema")}
        assert client.post("/scripts/create", {**new, "parent_hash": shown["hash"]}).status == 201
        file.write_text("def main(a: str, b: int = 1): pass")
        server.signal(signal.SIGHUP)
        eventually(lambda: "b" in schema_of(client, "u/admin/hello")["properties"], "the reload")
        assert schema_of(client, "u/admin/hello")["properties"] == {
            "a": {**STRING, "description": "by hand"},
            "b": {"type": "integer", "default": 1},
        }


# --- the processes ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def reader(timeout_s: float = AT_MOST_S) -> AsyncIterator[SchemaReader]:
    it = SchemaReader(timeout_s=timeout_s, insecure=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        yield it
        nursery.cancel_scope.cancel()


async def problem(it: SchemaReader, language: str, source: str) -> str:
    with trio.fail_after(2 * AT_MOST_S), pytest.raises(SchemaError) as caught:
        await it.read(language, source)
    return str(caught.value)


async def test_reading_happens_in_a_process_that_ends_after_a_large_source() -> None:
    async with reader() as it:
        assert "no signature" in await problem(it, "exec", "")
        assert it.process_count == 0  # nobody needed one
        assert (await it.read("python3", "def main(a): pass"))["order"] == ["a"]
        assert (await it.read("bun", "export function main(a) {}"))["order"] == ["a"]
        assert (await it.read("go", "func main(a int) {}"))["order"] == ["a"]
        assert it.process_count == 1
        assert await problem(it, "python3", "def main(:") == "line 1: invalid syntax"
        assert it.process_count == 1
        assert (await it.read("bun", "(" * 900_000))["order"] == []
        assert it.process_count == 0


async def test_reading_that_takes_too_long_is_ended_and_holds_nobody_up() -> None:
    async with reader(timeout_s=0.1) as it:
        source = f"x = [{'1,' * 450_000}]\ndef main(a): pass"
        assert await problem(it, "python3", source) == "not read within 0.1 s (schema_timeout_s)"
        assert it.process_count == 0
        assert await it.read_or_none("python3", source) is None


async def test_a_process_that_is_killed_fails_one_reading_only() -> None:
    async with reader() as it:
        await it.read("python3", "def main(a): pass")
        (pid,) = _children()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                assert "to an end" in await problem(it, "python3", f"x = [{'1,' * 450_000}]")

            while _cpu_ticks(pid) < 5:  # noqa: ASYNC110 - it has begun
                await trio.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
        assert (await it.read("python3", "def main(a): pass"))["order"] == ["a"]


def _children() -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"schemas.helper" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _cpu_ticks(pid: int) -> int:
    """Processor time beyond that of a process that has just started, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) - 15
