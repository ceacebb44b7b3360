"""Packages of npm, jsr and elsewhere in scripts of bun, deno and node, through the real server and registries made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minwebhook.runtimes.engines import find_engines
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.registry import Registry, registry
from tests.server import Client, Server, eventually, serving

#: Languages, and what stands before the code and before the names of packages.
ENGINES = {"bun": ("bun", "", ""), "node": ("bun", "//nodejs\n", ""), "deno": ("deno", "", "npm:")}


@pytest.fixture(scope="module")
def served() -> Iterator[Registry]:
    with registry() as made:
        made.add_npm("inner", "1.5.0", {"index.js": "export const value = 15;\n"}, type="module", main="index.js")
        made.add_npm("inner", "0.5.0", {"index.js": "export const value = 5;\n"}, type="module", main="index.js")
        made.add_npm("inner", "2.0.0", {"index.js": "export const value = 20;\n"}, type="module", main="index.js")
        made.add_npm(
            "@team/outer",
            "1.0.0",
            {"index.js": "export { value } from 'inner';\n", "more.js": "export const more = 'more';\n"},
            type="module",
            exports={".": "./index.js", "./more.js": "./more.js"},
            dependencies={"inner": "^1.0.0"},
            scripts={"preinstall": "touch /tmp/ran-outside", "postinstall": "touch /tmp/ran-outside"},
        )
        for name in ("JSONStream", "@Team/Capital"):
            made.add_npm(
                name, "1.0.0", {"index.js": f"export const name = '{name}';\n"}, type="module", main="index.js"
            )
        made.add_jsr("@team/jay", "1.2.0", "export const jay: string = 'jay';\n")
        made.add("/far.ts", "import { near } from './near.ts';\nexport const far = `far ${near}`;\n")
        made.add("/near.ts", "export const near: string = 'near';\n")
        yield made


def flags_for(served: Registry) -> tuple[str, ...]:
    return ("--workers", "2", "--package-jsr", served.url, "--package-hosts", served.url.removeprefix("http://"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, served: Registry) -> Iterator[Server]:
    for name, runtime in (("bun", "bun"), ("deno", "deno"), ("node", "nodejs")):
        if reason := find_engines(SandboxSettings()).missing(runtime):
            missing(f"{name}: {reason}")
    variables = {"MINWEBHOOK_PACKAGE_NPM": served.url}
    data = tmp_path_factory.mktemp("modules") / "data"
    with serving(data, *flags_for(served), environment=variables) as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def settled(client: Client, script_hash: str) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        shown: dict[str, Any] = client.get(f"/scripts/deployment_status/h/{script_hash}").json()
        return shown if shown["lock"] is not None or shown["lock_error_logs"] is not None else None

    found = eventually(probe, "the end of a deployment", 60)
    assert found is not None
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_packages_are_found_at_the_deployment_and_pinned(client: Client, engine: str) -> None:
    language, first, npm = ENGINES[engine]
    wanted = "^1" if engine == "deno" else "^1 || ^0"
    code = f"""{first}import {{ value }} from "{npm}@team/outer";
import {{ more }} from '{npm}@team/outer@1.0/more.js';
import {{ value as own }} from "{npm}inner@{wanted}";
import {{ writeFileSync }} from "node:fs";

export function main() {{
  let closed = false;
  try {{
    writeFileSync("/packages/node_modules/inner/index.js", "");
  }} catch {{
    closed = true;
  }}
  return [value, more, own, closed];
}}
"""
    script_hash = client.deploy(f"u/admin/{engine}", code, language)
    shown = settled(client, script_hash)
    assert shown["lock_error_logs"] is None, shown
    head, _, tail = shown["lock"].partition("\n//deno.lock\n" if engine == "deno" else "\n//bun.lock\n")
    assert json.loads(head) == (
        {"imports": ["npm:@team/outer", "npm:@team/outer@1.0/more.js", "npm:inner@^1"]}
        if engine == "deno"
        else {"dependencies": {"@team/outer": "1.0", "inner": wanted}}
    )
    assert "inner@1.5.0" in tail
    job = client.ended(shown["job_id"])
    assert (job["job_kind"], job["success"], job["tag"]) == ("dependencies", True, "dependency")
    assert client.run(f"u/admin/{engine}").json() == [15, "more", 15, True]
    assert not Path("/tmp/ran-outside").exists(), "scripts of packages have run outside"


@pytest.mark.parametrize("engine", ENGINES)
def test_several_versions_of_one_package(client: Client, engine: str) -> None:
    language, first, npm = ENGINES[engine]
    older = f"import {{ value }} from '{npm}inner@0.5.0';\nexport const old = value;\n"
    client.deploy(f"u/admin/older_{engine}", first + older, language)
    code = f"""{first}import {{ value as one }} from "{npm}inner@^1";
import {{ value as two }} from "{npm}inner@2.0.0";
import {{ old }} from "./older_{engine}.ts";
export const main = () => [old, one, two];
"""
    script_hash = client.deploy(f"u/admin/several_{engine}", code, language)
    shown = settled(client, script_hash)
    assert shown["lock_error_logs"] is None, shown
    assert client.run(f"u/admin/several_{engine}").json() == [5, 15, 20]
    again = client.deploy(f"u/admin/again_{engine}", code, language, lock=shown["lock"])
    assert client.get(f"/scripts/deployment_status/h/{again}").json()["lock"] == shown["lock"]
    assert client.run(f"u/admin/again_{engine}").json() == [5, 15, 20]


@pytest.mark.parametrize("engine", ENGINES)
def test_names_with_capitals(client: Client, engine: str) -> None:
    """Which deno keeps in folders of other names."""
    language, first, npm = ENGINES[engine]
    code = f"""{first}import {{ name as one }} from "{npm}JSONStream";
import {{ name as two }} from "{npm}@Team/Capital";
export const main = () => [one, two];
"""
    client.deploy(f"u/admin/capitals_{engine}", code, language)
    assert client.run(f"u/admin/capitals_{engine}").json() == ["JSONStream", "@Team/Capital"]


def test_modules_of_deno_from_elsewhere(client: Client, served: Registry) -> None:
    code = f"""import {{ jay }} from "jsr:@team/jay@1/sub";
import {{ far }} from "{served.url}/far.ts";
export const main = () => [jay, far];
"""
    script_hash = client.deploy("u/admin/elsewhere", code, "deno")
    assert settled(client, script_hash)["lock_error_logs"] is None
    asked = len(served.asked)
    assert client.run("u/admin/elsewhere").json() == ["jay", "far near"]
    assert len(served.asked) == asked, "something was fetched by the job"


def test_modules_that_others_fetched_are_in_no_other_set(client: Client, served: Registry) -> None:
    """Each script imports from the same host; none finds in its set what only others name."""
    names = ("one", "two")
    look = """const texts: string[] = [];
  for (const host of Deno.readDirSync("/packages/deno/remote/http"))
    for (const file of Deno.readDirSync(`/packages/deno/remote/http/${host.name}`))
      texts.push(Deno.readTextFileSync(`/packages/deno/remote/http/${host.name}/${file.name}`));
  return [own, texts.filter((text) => text.includes("only of ")).map((text) => text.split("'")[1])];"""
    for name in names:
        served.add(f"/{name}.ts", f"export const own: string = 'only of {name}';\n")
        served.add_jsr(f"@team/{name}", "1.0.0", f"export const jay: string = 'only of jay {name}';\n")
    for name in names:
        code = f"""import {{ own }} from "{served.url}/{name}.ts";
import "jsr:@team/{name}@1/sub";
export function main() {{
  {look}
}}
"""
        script_hash = client.deploy(f"u/admin/only_{name}", code, "deno")
        assert settled(client, script_hash)["lock_error_logs"] is None
    for name in names:
        own, found = client.run(f"u/admin/only_{name}").json()
        assert (own, sorted(found)) == (f"only of {name}", [f"only of jay {name}", f"only of {name}"])


def refused(client: Client, code: str, language: str, lock: str) -> list[str]:
    """What is answered to code with a lock that may not be installed: as a script, and in a flow."""
    new = {"path": "u/admin/refused", "summary": "", "description": ""}
    step = {"type": "rawscript", "content": code, "language": language, "lock": lock, "input_transforms": {}}
    answers = [
        client.post("/scripts/create", {**new, "content": code, "language": language, "lock": lock}),
        client.post("/flows/create", {**new, "value": {"modules": [{"id": "a", "value": step}]}}),
    ]
    assert [answer.status for answer in answers] == [400, 400]
    return [answer.text for answer in answers]


def test_a_lock_of_deno_may_not_name_directories(client: Client) -> None:
    code = "import 'npm:inner@1.5.0'; export const main = () => 1;"
    found = {"version": "5", "npm": {"../../../uv/secret@1.0.0": {"integrity": "sha512-x="}}}
    lock = f'{{"imports": ["npm:inner@1.5.0"]}}\n//deno.lock\n{json.dumps(found)}'
    reason = "the lock: '../../../uv/secret@1.0.0' in npm is no package with its version, and no module"
    assert refused(client, code, "deno", lock) == [f"Bad request: {reason}", f"Bad request: module a: {reason}"]


@pytest.mark.parametrize(
    ("language", "code", "reason"),
    [
        ("bun", "import x from 'absent';", "absent"),
        ("bun", "import x from 'https://127.0.0.1:1/x.ts';", "send the name of a package of npm"),
        ("deno", "import x from 'lodash';", "deno takes npm:name, jsr:@scope/name and https:// addresses"),
        ("deno", "import x from 'https://127.0.0.1:1/x.ts';", "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_had_is_said(client: Client, language: str, code: str, reason: str) -> None:
    script_hash = client.deploy(f"u/admin/refused{abs(hash(code))}", f"{code}\nexport const main = () => 1;", language)
    shown = settled(client, script_hash)
    assert shown["lock"] is None
    assert reason in shown["lock_error_logs"]


@pytest.mark.parametrize("engine", ["bun", "deno"])
def test_previews_and_locks_for_clients(client: Client, engine: str) -> None:
    language, first, npm = ENGINES[engine]
    code = f"{first}import {{ value }} from '{npm}inner@0.5.0';\nexport const main = () => value;\n"
    assert client.preview(code, language=language).json() == 5
    raw = [{"raw_code": code, "language": language, "script_path": "u/admin/x"}]
    job = client.post("/jobs/run/dependencies_async", {"raw_scripts": raw, "entrypoint": "u/admin/x"}).text
    lock = client.ended(job)["result"]["lock"]
    older = code.replace("inner@0.5.0", "inner" if engine == "bun" else "inner@0.5.0")
    script_hash = client.deploy(f"u/admin/given_{engine}", older, language, lock=lock)
    assert client.get(f"/scripts/deployment_status/h/{script_hash}").json()["lock"] == lock
    assert client.run(f"u/admin/given_{engine}").json() == 5


def test_a_lock_may_not_name_files_or_addresses(client: Client) -> None:
    code = "import 'inner'; export const main = () => 1;"
    for wanted, entry in (
        ("file:/etc", '["inner@file:/etc", {}]'),
        ("1.5.0", '["inner@https://127.0.0.1:1/x.tgz", "", {}, ""]'),
    ):
        lock = f'{{"dependencies": {{"inner": "{wanted}"}}}}\n//bun.lock\n{{"packages": {{"inner": {entry}}}}}'
        for text in refused(client, code, "bun", lock):
            assert "the lock: 'inner'" in text


def test_imported_scripts_bring_their_packages_along(client: Client) -> None:
    client.deploy("u/admin/lib", "import { value } from 'inner@1.5.0';\nexport const twice = 2 * value;\n", "bun")
    script_hash = client.deploy(
        "u/admin/uses", "import { twice } from './lib.ts';\nexport const main = () => twice;\n", "bun"
    )
    assert "inner@1.5.0" in settled(client, script_hash)["lock"]
    assert client.run("u/admin/uses").json() == 30


def test_a_private_registry_and_a_server_without_a_network(
    make_server: Callable[..., Server], served: Registry, tmp_path: Path
) -> None:
    """What was fetched with a password is all that a server without a network needs."""
    cache = tmp_path / "cache"
    codes = {
        engine: f"import {{ value }} from '{ENGINES[engine][2]}inner@0.5.0';\nexport const main = () => value;\n"
        for engine in ("bun", "deno")
    }
    flags = (*flags_for(served), "--package-cache", str(cache))
    served.password = "user:pa:ss"
    try:
        url = served.url.replace("//", "//user:pa%3Ass@")
        online = make_server(*flags, environment={"MINWEBHOOK_PACKAGE_NPM": url})
        client = online.start()
        for engine, code in codes.items():
            assert client.preview(code, language=engine).json() == 5
        online.stop()
        assert "pa:ss" not in online.log
        assert "pa%3Ass" not in online.log
    finally:
        served.password = ""
    asked = len(served.asked)
    offline = make_server(*flags, "--offline", environment={"MINWEBHOOK_PACKAGE_NPM": served.url})
    client = offline.start()
    for engine, code in codes.items():
        assert client.preview(code, language=engine).json() == 5
        absent = client.preview(code.replace("inner@0.5.0", "@team/outer@1.0.0"), language=engine).text
        assert "The server is offline: put what is missing into" in absent
        assert "@team/outer@1.0.0" in absent
    assert len(served.asked) == asked, "an offline server has asked for something"
