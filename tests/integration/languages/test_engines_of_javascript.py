"""TypeScript in bun, deno and node: what is special about it (tests/language_table.py has what every language does)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from minwebhook.runtimes.engines import Engines, find_engines
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.server import Answer, Client, Server, eventually, serving

ENGINES = ("bun", "deno", "nodejs")


@dataclass(frozen=True)
class Engine:
    """One engine of a running server."""

    name: str
    client: Client

    @property
    def language(self) -> str:
        """Of its scripts."""
        return "bun" if self.name == "nodejs" else self.name

    def code(self, code: str) -> str:
        """A script for it."""
        return f"//nodejs\n{code}" if self.name == "nodejs" else code

    def preview(self, code: str, arguments: Any = None) -> Answer:
        """What a script gives."""
        body = {"content": self.code(code), "language": self.language, "args": arguments or {}}
        return self.client.post("/jobs/run_wait_result/preview", body)

    def deploy(self, path: str, code: str, **settings: Any) -> str:
        """The path of a script."""
        self.client.deploy(path, self.code(code), self.language, **settings)
        return path


@pytest.fixture(scope="module")
def found() -> Engines:
    """What this machine has."""
    return find_engines(SandboxSettings())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (server, _):
        yield server


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, server: Server, found: Engines) -> Engine:
    """Each engine in turn."""
    if cure := found.missing(request.param):
        missing(f"{request.param}: {cure}")
    return Engine(request.param, server.client())


# --- arguments --------------------------------------------------------------------------------------------------------


def test_arguments_come_in_the_order_of_the_signature(engine: Engine) -> None:
    code = "export async function main(a: string, b: Record<string, [number, string]>, c = 5) { return [a, b, c]; }"
    assert engine.preview(code, {"b": {"x": [1, "y"]}, "a": "z", "more": 1}).json() == ["z", {"x": [1, "y"]}, 5]


def test_what_is_missing_is_undefined_and_null_is_null(engine: Engine) -> None:
    code = "export function main(a?: string, b: any = 7, c: any = 8) { return [typeof a, b, c]; }"
    assert engine.preview(code, {"b": None}).json() == ["undefined", None, 8]


@pytest.mark.parametrize(
    ("code", "arguments", "result"),
    [
        (
            "export const main = async (x: Map<string, number>, y = Math.max(1, 2)) => [typeof x, y]",
            {},
            ["undefined", 2],
        ),
        ("async function main(b: number, a: number) { return a - b; }\nexport { main };", {"a": 5, "b": 2}, 3),
        ("export function main({ a, b }: { a: number; b: string }) { return [a, b]; }", {"a": 1, "b": "q"}, [1, "q"]),
        ("export const main = x => x", {"x": "lone"}, "lone"),
        (
            "export function main(a: string /* b: the next, */, // or c: (d\n b = ',)}', c = `${[1, 2]},`, d?: string) {\n"
            "  return [a, b, c, d];\n}",
            {"d": "4", "a": "1"},
            ["1", ",)}", "1,2,", "4"],
        ),
        (
            "export function main(f: (x: number) => string = (x) => `${x}`, b = 2) { return [f(1), b]; }",
            {"b": 3},
            ["1", 3],
        ),
        (
            "export async function main<T extends { a: 1 }>(a: T, ...rest: any[]) { return [a, rest]; }",
            {"a": 1},
            [1, []],
        ),
        ("function run(q: string) { return q; }\nexport { run as main };", {"q": "renamed"}, "renamed"),
    ],
)
def test_every_way_to_write_main(engine: Engine, code: str, arguments: dict[str, Any], result: Any) -> None:
    assert engine.preview(code, arguments).json() == result


def test_dates_are_dates(engine: Engine) -> None:
    code = (
        "export function main(a: Date, b?: Date, c?: Date | null, d?: string) {\n"
        "  return [a, b, c, d].map((x) => [typeof x, x]);\n}"
    )
    when = "2024-02-29T12:30:00.000Z"
    given = {"a": "2024-02-29T12:30:00Z", "b": "", "c": when, "d": when}
    assert engine.preview(code, given).json() == [
        ["object", when],
        ["undefined", None],
        ["object", when],
        ["string", when],
    ]


def test_natively_they_stay_texts(engine: Engine) -> None:
    code = "export function main(a: Date) { return typeof a; }"
    if engine.name == "nodejs":
        return
    for language in ("nativets", "bunnative"):
        body = {"content": f"//native\n{code}", "language": language, "args": {"a": "2024-02-29T12:30:00Z"}}
        assert engine.client.post("/jobs/run_wait_result/preview", body).json() == "string"


def test_bigints_keep_their_digits_both_ways(engine: Engine) -> None:
    code = "export function main(a: bigint, b?: bigint, c: bigint = 3n) { return { a: a + 2n, b: typeof b, c }; }"
    assert engine.preview(code, {"a": 9007199254740993, "b": "12"}).json() == {
        "a": "9007199254740995",
        "b": "bigint",
        "c": "3",
    }


def test_byte_strings(engine: Engine) -> None:
    code = "export function main() { return { a: new Uint8Array([0, 255]), b: [Buffer.from('hi')] }; }"
    assert engine.preview(code).json() == {"a": "AP8=", "b": ["aGk="]}


# --- results ----------------------------------------------------------------------------------------------------------


def test_results_are_what_json_can_hold(engine: Engine) -> None:
    code = (
        "export function main() {\n"
        "  return { z: undefined, y: [undefined], n: NaN, d: new Date(0), s: 'a\\ud800b', f: () => 1, e: new Map() };\n}"
    )
    expected: dict[str, Any] = {
        "z": None,
        "y": [None],
        "n": None,
        "d": "1970-01-01T00:00:00.000Z",
        "s": "a\ufffdb",
        "e": {},
    }
    assert engine.preview(code).json() == expected
    assert engine.preview("export function main() {}").json() is None


def test_a_large_result(engine: Engine) -> None:
    code = "export function main(x: string) { return { x, n: x.length }; }"
    text = "ü" * 1_000_000
    assert engine.preview(code, {"x": text}).json() == {"x": text, "n": len(text)}


@pytest.mark.parametrize(
    "code",
    [
        "export async function* main() { yield 'a\\nb'; yield 'c'; }",
        "export function* main() { yield 'a\\nb'; yield 'c'; }",
        "export async function main() { return (async function* () { yield 'a\\nb'; yield 'c'; })(); }",
        "export function main() { return new Response('a\\nbc').body; }",
    ],
)
def test_what_can_be_read_once_is_streamed(engine: Engine, code: str) -> None:
    assert engine.preview(code).json() == "a\nbc"


def test_a_stream_is_text(engine: Engine) -> None:
    error = engine.preview("export function* main() { yield 1; }").error
    assert (error["name"], error["message"]) == ("TypeError", "a streaming main must yield strings, not number")


# --- ends -------------------------------------------------------------------------------------------------------------

FAILING = """class Refused extends Error {
  code = 7;
  constructor(message: string) {
    super(message);
    this.name = "Refused";
  }
}
function inner() {
  throw new Refused("no");
}
export async function main() {
  inner();
}
"""


def test_errors(engine: Engine) -> None:
    error = engine.client.run(engine.deploy(f"u/admin/failing_{engine.name}", FAILING)).error
    stack = error.pop("stack")
    assert error == {"message": "no", "name": "Refused", "extra": {"code": 7}}
    assert "at inner (u/admin/failing_" in stack
    assert not [word for word in ("run.mjs", "node:internal", "/tmp/", "file:") if word in stack]


def test_what_is_no_error_is_shown(engine: Engine) -> None:
    assert engine.preview("export function main() { throw 'plain'; }").error == {"message": "plain", "name": "Error"}
    assert engine.preview("export function main() { throw { a: 1 }; }").error["message"] == '{"a":1}'


def test_an_error_that_cannot_be_shown(engine: Engine) -> None:
    code = "export function main() { const e: any = new Error('x'); e.self = e; throw e; }"
    error = engine.preview(code).error
    assert error["message"] == "x"
    assert "extra" not in error


def test_no_main(engine: Engine) -> None:
    assert engine.preview("export function other() {}").error["message"] == "main function is missing"


def test_what_the_engine_cannot_read(engine: Engine) -> None:
    assert "Expected" in engine.preview("export function main( { return 1; }").error["message"]


def test_a_rejection_that_nobody_handles(engine: Engine) -> None:
    code = (
        "export async function main() {\n"
        "  Promise.reject(new Error('lost'));\n"
        "  await new Promise((resolve) => setTimeout(resolve, 30000));\n}"
    )
    error = engine.preview(code).error
    assert (error["name"], error["exit_code"]) == ("ExecutionErr", 1)
    assert "lost" in error["message"]


@pytest.mark.parametrize("code", [0, 3])
def test_exit(engine: Engine, code: int) -> None:
    error = engine.preview(f"export function main() {{ console.log('bye'); process.exit({code}); }}").error
    assert (error["name"], error["exit_code"]) == ("ExecutionErr", code)
    assert "bye" in error["message"]


def test_a_promise_that_nothing_will_keep(engine: Engine) -> None:
    error = engine.preview("export async function main() { await new Promise(() => {}); }").error
    assert error["message"] == "main waits for something that will never happen"


def test_nobody_waits_for_timers_behind_the_result(engine: Engine) -> None:
    assert engine.preview("export function main() { setTimeout(() => {}, 60000); return 'done'; }").json() == "done"


def test_memory_is_bounded(engine: Engine) -> None:
    code = "export function main() { const all = []; for (;;) all.push(new Uint8Array(16 << 20).fill(1)); }"
    error = engine.preview(code).error
    assert error["name"] in ("RangeError", "ExecutionErr")


def test_all_that_is_printed_is_in_the_log_in_order(engine: Engine) -> None:
    code = (
        "export function main() {\n"
        "  for (let i = 0; i < 2000; i++) (i % 2 ? console.log : console.error)(`line ${i} ` + '.'.repeat(100));\n}"
    )
    path = engine.deploy(f"u/admin/chatty_{engine.name}", code)
    job = engine.client.submit(path)
    engine.client.ended(job)
    lines = engine.client.logs(job).splitlines()
    assert lines[0].endswith("CODE EXECUTION ---")
    assert [line.split()[1] for line in lines[1:]] == [str(number) for number in range(2000)]


# --- processes --------------------------------------------------------------------------------------------------------

COUNTER = """let count = 0;
export function main(exit = false, fail = false) {
  count++;
  if (exit) process.exit(4);
  if (fail) throw new Error("asked for");
  return [count, process.env.WM_JOB_ID];
}
"""


def test_every_job_has_a_process_of_its_own(engine: Engine) -> None:
    path = engine.deploy(f"u/admin/fresh_{engine.name}", COUNTER)
    assert [engine.client.run(path).json()[0] for _ in range(3)] == [1, 1, 1]


def test_a_dedicated_process_stays(engine: Engine) -> None:
    path = engine.deploy(f"u/admin/staying_{engine.name}", COUNTER, dedicated_worker=True)
    answers = [engine.client.run(path).json() for _ in range(3)]
    assert [count for count, _ in answers] == [1, 2, 3]
    assert len({job for _, job in answers}) == 3
    assert engine.client.run(path, {"fail": True}).error["message"] == "asked for"
    assert engine.client.run(path).json()[0] == 5
    assert engine.client.run(path, {"exit": True}).error["exit_code"] == 4
    assert engine.client.run(path).json()[0] == 1


def test_a_limit_of_its_own(engine: Engine) -> None:
    code = (
        "import { execSync } from 'node:child_process';\n"
        "export function main() { return String(execSync('ulimit -Sn; ulimit -Hn')).trim().split('\\n'); }"
    )
    path = engine.deploy(f"u/admin/limited_{engine.name}", code, limits={"open_files": 64})
    assert engine.client.run(path).json() == ["64", "64"]


def test_a_preprocessor_makes_the_arguments(engine: Engine) -> None:
    code = (
        "export async function preprocessor(event: { kind: string; body: any; headers: any; query: any }) {\n"
        "  return { kind: event.kind, n: event.body.n + 1, q: event.query.q };\n}\n"
        "export function main(n: number, kind: string, q: Date) { return { n, kind, q: typeof q }; }"
    )
    path = engine.deploy(f"u/admin/preprocessed_{engine.name}", code)
    answer = engine.client.run(path, {"n": 1}, q="x")
    assert answer.json() == {"n": 2, "kind": "webhook", "q": "string"}


def test_a_preprocessor_must_make_an_object(engine: Engine) -> None:
    code = "export function preprocessor(event: any) { return 1; }\nexport function main() {}"
    path = engine.deploy(f"u/admin/misprocessed_{engine.name}", code)
    error = engine.client.run(path).error
    assert error["message"] == "preprocessor must return an object, the arguments of main"


def test_everything_a_job_started_ends_with_it(engine: Engine) -> None:
    code = (
        "import { spawn } from 'node:child_process';\n"
        "export async function main() {\n"
        "  spawn('sleep', ['600'], { detached: true, stdio: 'ignore' }).unref();\n"
        "  console.log('started');\n"
        "  await new Promise((resolve) => setTimeout(resolve, 600000));\n}"
    )
    path = engine.deploy(f"u/admin/spawning_{engine.name}", code)
    job = engine.client.submit(path)
    eventually(lambda: "started" in engine.client.logs(job), "it runs")
    engine.client.post(f"/jobs_u/queue/cancel/{job}")
    assert engine.client.ended(job)["result"]["error"]["name"] == "Canceled"


def test_the_permissions_of_deno_are_those_of_the_sandbox(server: Server, found: Engines) -> None:
    if cure := found.missing("deno"):
        missing(cure)
    client = server.client()
    code = (
        "export async function main(port: number) {\n"
        "  const asked: Deno.PermissionDescriptor[] = [\n"
        "    { name: 'ffi' }, { name: 'net' }, { name: 'net', host: `127.0.0.1:${port}` },\n"
        "    { name: 'write', path: '/etc' }, { name: 'write', path: Deno.cwd() },\n  ];\n"
        "  return await Promise.all(asked.map(async (each) => (await Deno.permissions.query(each)).state));\n}"
    )
    port = {"port": int(client.address.rpartition(":")[2])}
    expected = ["denied", "granted", "granted", "prompt", "granted"]
    client.deploy("u/admin/permissions_host", code, "deno")
    assert client.run("u/admin/permissions_host", port).json() == expected
    client.deploy("u/admin/permissions_none", code, "deno", network="none")
    # Its server is at an address of its own there; nobody answers a prompt.
    assert client.run("u/admin/permissions_none", {"port": 1}).json() == [
        "denied",
        "prompt",
        "prompt",
        "prompt",
        "granted",
    ]


# --- imports ----------------------------------------------------------------------------------------------------------


def test_scripts_of_the_workspace_are_imported_as_they_were_at_the_deployment(engine: Engine) -> None:
    top, name = "f/shared", f"imports_{engine.name}"
    engine.deploy(f"{top}/deep/base_{engine.name}", "export const word = (n: number): string => 'v1 ' + n;")
    engine.deploy(
        f"{top}/near_{engine.name}",
        f"import {{ word }} from './deep/base_{engine.name}.ts';\nexport const twice = (n: number) => word(2 * n);",
    )
    code = (
        f"import {{ twice }} from '../../{top}/near_{engine.name}.ts';\n"
        f'import * as base from "/{top}/deep/base_{engine.name}.ts";\n'
        "export async function main(n: number) {\n"
        f"  const late = await import('/{top}/near_{engine.name}.ts');\n"
        "  return [twice(n), base.word(n), late.twice(n)];\n}"
    )
    path = engine.deploy(f"u/admin/{name}", code)
    assert engine.client.run(path, {"n": 2}).json() == ["v1 4", "v1 2", "v1 4"]
    engine.deploy(f"{top}/deep/base_{engine.name}", "export const word = (n: number): string => 'v2 ' + n;")
    assert engine.client.run(path, {"n": 2}).json() == ["v1 4", "v1 2", "v1 4"]
    code = f"import {{ word }} from '/{top}/deep/base_{engine.name}.ts';\nexport const main = () => word(1);"
    assert engine.preview(code).json() == "v2 1"
    # Deployed again it imports the new version, and so does, since both are one file, what it imports.
    engine.deploy(path, code.replace("word(1)", "word(3)"))
    assert engine.client.run(path).json() == "v2 3"


def test_what_may_not_be_read_is_not_imported(server: Server, found: Engines) -> None:
    if cure := found.missing("bun"):
        missing(cure)
    client = server.client()
    client.deploy("u/admin/secret", "export const secret = 1;", "bun")
    other = server.user("reader")
    code = "import { secret } from '/u/admin/secret.ts';\nexport const main = () => secret;"
    body = {"content": code, "language": "bun", "path": "u/reader/x"}
    answer = other.post("/jobs/run_wait_result/preview", body)
    assert answer.status == 400
    assert "the code imports u/admin/secret, which is no script in TypeScript that you may read" in answer.text
    assert other.post("/scripts/create", {**body, "summary": "", "description": ""}).status == 400
    assert client.post("/jobs/run_wait_result/preview", body).json() == 1


# --- the server -------------------------------------------------------------------------------------------------------


def test_native_marks_decide_between_bun_and_bunnative(server: Server) -> None:
    client = server.client()
    for path, language, code, stored in (
        ("u/admin/marked", "bun", "//native\nexport function main() {}", "bunnative"),
        ("u/admin/unmarked", "bunnative", "export function main() {}", "bun"),
    ):
        client.deploy(path, code, language)
        assert client.get(f"/scripts/get/p/{path}").json()["language"] == stored


def test_a_language_that_is_not_installed_is_refused_with_what_to_install(tmp_path: Any) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v20.1.0\n")
    node.chmod(0o755)
    with serving(tmp_path / "data", "--node", str(node)) as (_, client):
        body = {"content": "//nodejs\nexport function main() {}", "language": "bun"}
        answer = client.post("/jobs/run_wait_result/preview", body)
        assert answer.status == 400
        assert "v20.1.0, which does not run TypeScript" in answer.text
        assert "pip install 'minwebhook[node]'" in answer.text
        script = {"path": "u/admin/x", "summary": "", "description": "", **body}
        assert client.post("/scripts/create", script).status == 400


def waiting(client: Client, runtime: str) -> float:
    """How many processes of a runtime wait for a job."""
    text = client.get("/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("minwebhook_children{") and f'"{runtime}"' in line and '"ready"' in line
    )


def test_the_first_run_finds_the_process_that_the_deployment_had_started(tmp_path: Any, found: Engines) -> None:
    folder = tmp_path / "scripts" / "u" / "admin"
    folder.mkdir(parents=True)
    (folder / "first.ts").write_text("export function main() { return 1; }")
    with serving(tmp_path / "data", "--scripts", str(tmp_path / "scripts")) as (_, client):
        if not found.missing("bun"):
            eventually(lambda: waiting(client, "bun") == 1, "a process of bun waits")
        for engine in ("deno", "nodejs"):
            if cure := found.missing(engine):
                missing(cure)
            assert waiting(client, engine) == 0
            Engine(engine, client).deploy(f"u/admin/{engine}", "export function main() { return 2; }")
            assert waiting(client, engine) == 1
            assert client.run(f"u/admin/{engine}").json() == 2


def test_a_file_of_the_directory_says_its_language(tmp_path: Any, found: Engines) -> None:
    if cure := found.missing("bun") or found.missing("deno"):
        missing(cure)
    folder = tmp_path / "scripts" / "u" / "admin"
    folder.mkdir(parents=True)
    code = "export function main() { return [typeof Bun, typeof Deno]; }"
    for name in ("one.ts", "two.bun.ts", "three.deno.ts", "four.native.ts"):
        (folder / name).write_text(code)
    with serving(tmp_path / "data", "--scripts", str(tmp_path / "scripts")) as (_, client):
        languages = {each["path"]: each["language"] for each in client.get("/scripts/list").json()}
        assert languages == {
            "u/admin/one": "bun",
            "u/admin/two": "bun",
            "u/admin/three": "deno",
            "u/admin/four": "nativets",
        }
        assert client.run("u/admin/one").json() == ["object", "undefined"]
        assert client.run("u/admin/three").json() == ["undefined", "object"]
        assert client.get("/scripts/raw/p/u/admin/three.deno.ts").text == code


def test_what_deno_has_compiled_of_itself_is_copied_to_each_process(server: Server) -> None:
    """It is made by no script, and none reaches that of another."""
    client = server.client()
    code = """export function main(mark: string) {
  const file = [...Deno.readDirSync("/tmp/.deno")].map(({ name }) => name).find((name) => name.startsWith("v8_"));
  if (!file) return null;
  let closed = 0;
  for (const place of [Deno.env.get("DENO_DIR"), "/runtimes/code_cache", "/runtimes/code_cache/x"]) {
    try {
      Deno.writeTextFileSync(place, "x");
    } catch {
      closed++;
    }
  }
  const before = Deno.readTextFileSync(`/tmp/.deno/${file}`).includes(mark);
  Deno.writeTextFileSync(`/tmp/.deno/${file}`, mark, { append: true });
  return [before, closed];
}
"""
    arguments = {"mark": "0a1b2c3d4e5f"}
    eventually(lambda: client.preview(code, arguments, language="deno").json() is not None, "the cache", 30)
    for _ in range(3):
        assert client.preview(code, arguments, language="deno").json() == [False, 3]
    (file,) = (server.data / "engines").glob("*/v8_*")
    assert b"0a1b2c3d4e5f" not in file.read_bytes()
