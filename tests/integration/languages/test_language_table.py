"""Every language does what every language must do (tests/language_table.py), through a real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, Final

import pytest

from minwebhook.child.programs import PROGRAMS
from minwebhook.runtimes.language import RUNTIMES
from tests.conftest import missing
from tests.language_table import CASES, SAMPLES, UNICODE, Samples
from tests.server import Client, serving

#: Those that can be had here: a program that is in no registry is not asked for, and tried where it is.
HERE = [samples for samples in SAMPLES if not samples.is_rare or shutil.which(samples.program)]


def languages_with(script: str) -> list[Any]:
    return [pytest.param(samples, id=samples.name) for samples in HERE if script in samples.scripts]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server with two workers, on which each script is deployed when it is needed first."""
    with serving(tmp_path_factory.mktemp("server") / "data", "--workers", "2") as (_, client):
        yield client


def deployed(client: Client, samples: Samples, script: str) -> str:
    """The path of a script."""
    if samples.program and shutil.which(samples.program) is None:
        missing(f"the program {samples.program} is not installed")
    path = f"u/admin/{script}_{samples.name}"
    if not client.get(f"/scripts/exists/p/{path}").json():
        client.deploy(path, samples.scripts[script], samples.language)
    return path


def test_every_language_is_in_the_table() -> None:
    assert {samples.name for samples in SAMPLES} == set(RUNTIMES)
    for samples in SAMPLES:
        assert set(samples.without) <= set(CASES)
        assert {case.script for name, case in CASES.items() if name not in samples.without} <= set(samples.scripts)


@pytest.mark.parametrize("samples", HERE, ids=lambda samples: samples.name)
@pytest.mark.parametrize("name", CASES)
def test_a_case(client: Client, name: str, samples: Samples) -> None:
    case = CASES[name]
    if name in samples.without:
        return
    answer = client.run(deployed(client, samples, case.script), case.arguments)
    assert (answer.status, answer.json()) == (200, case.result)


@pytest.mark.parametrize("samples", HERE, ids=lambda samples: samples.name)
def test_a_byte_order_mark_is_no_code(client: Client, samples: Samples) -> None:
    """As editors of Windows write it."""
    deployed(client, samples, "join")
    code = f"\ufeff{samples.scripts['join']}"
    assert client.preview(code, {"b": "2", "a": "1"}, language=samples.language).json() == "2-1"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("ruby", "def main\n  DATA.read\nend\n__END__\nbehind ü\n"),
        ("perl", "sub main { return scalar <DATA> }\n__DATA__\nbehind ü\n"),
    ],
)
def test_what_is_behind_the_code_is_data(client: Client, language: str, code: str) -> None:
    (samples,) = (each for each in HERE if each.language == language)
    deployed(client, samples, "echo")
    assert client.preview(code, language=language).json() == "behind ü\n"


@pytest.mark.parametrize("samples", languages_with("fail"))
def test_an_error(client: Client, samples: Samples) -> None:
    error = client.run(deployed(client, samples, "fail")).error
    if not samples.error:
        assert error["name"] == "ExecutionErr"
        assert error["exit_code"] == 1
        assert error["message"] == f'exit code for "{samples.language} run": 1, last log lines:\nboom'
        return
    assert (error["name"], error["message"].strip("'")) == (samples.error, "boom")
    assert samples.place in error["stack"]
    assert "inner" in error["stack"]
    # Nothing of what is ours, nor where it was run.
    assert not [word for word in (*OURS, "/tmp/") if word in error["stack"]]


#: What belongs to the ways in which scripts are run, and is in no error.
OURS: Final = (
    *("minwebhook", "Minwebhook", "/runtimes/", "run.mjs", "-e:", " -e ", "Command line code", "/build/main.go"),
    *("json/", "asyncio/", "importlib"),
)
_WAIT: Final = "await new Promise((done) => setTimeout(done, 9000));"
_UNCAUGHT: Final = f"export async function main() {{\n  Promise.reject(new RangeError('boom'));\n  {_WAIT}\n}}"
_LATER: Final = (
    f"export async function main() {{\n  setTimeout(() => {{ throw new RangeError('boom'); }});\n  {_WAIT}\n}}"
)
_ITSELF: Final = "export function main() {\n  const a: any = {};\n  a.a = a;\n  return a;\n}"
#: Errors that come about in what calls the script, or are told by the engine: the language, the code, and what is said.
AT_OUR_HANDS: Final = [
    ("python3", "def main():\n    return {(1, 2): 3}", "the result cannot be written as JSON: keys must be str"),
    (
        "python3",
        "class Thing:\n    def __str__(self):\n        raise KeyError('boom')\n\ndef main():\n    return Thing()",
        "boom",
    ),
    ("python3", "async def main():\n    yield 'a'\n    raise KeyError('boom')", "boom"),
    ("python3", "from datetime import date\n\ndef main(when: date):\n    return 1", "argument when: Invalid isoformat"),
    ("python3", "raise KeyError('boom')", 'File "main.py", line 1, in <module>'),
    *[
        (name, code, said)
        for name in ("bun", "deno", "nodejs")
        for code, said in ((_UNCAUGHT, "boom"), (_LATER, "boom"), (_ITSELF, "c"), ("throw new Error('boom')", "boom"))
    ],
    ("go", "func main() int {\n\tvar a []int\n\treturn a[1]\n}", "index out of range [1] with length 0"),
    ("go", 'func inner() {\n\tpanic("boom")\n}\n\nfunc main() {\n\tinner()\n}', "panic: boom"),
    (
        "perl",
        "sub main {\n    my $a = [];\n    push @$a, $a;\n    return $a;\n}",
        "the result holds itself, or is too deep",
    ),
    ("perl", "die 'boom';", "boom at main.pl line 1."),
    (
        "php",
        "function main() {\n    $a = new stdClass;\n    $a->a = $a;\n    return $a;\n}",
        "the result holds itself, or is too deep",
    ),
    ("php", "function main(DateTime $when) {\n    return 1;\n}", "Failed to parse time string (boom)"),
    ("ruby", "def main\n  a = []\n  a << a\nend", "stack level too deep"),
    ("bash", "boom_boom", "line 1: boom_boom: command not found"),
]


@pytest.mark.parametrize(("name", "code", "said"), AT_OUR_HANDS)
def test_no_error_shows_what_is_ours(client: Client, name: str, code: str, said: str) -> None:
    (samples,) = (each for each in HERE if each.name == name)
    if samples.program and shutil.which(samples.program) is None:
        missing(f"the program {samples.program} is not installed")
    code = f"//nodejs\n{code}" if name == "nodejs" else code
    error = client.preview(code, {"when": "boom"}, language=samples.language).error
    assert said in error["message"]
    assert not [word for word in OURS if word in str(error)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("php", "main(): Argument #1 ($x) must be of type int, string given"),
        ("go", "arguments: x: string does not fit int64"),
    ],
)
def test_an_argument_that_does_not_fit(client: Client, name: str, message: str) -> None:
    """Where the language checks types: it says which argument, and nothing of what is ours."""
    (samples,) = (each for each in HERE if each.name == name)
    assert client.run(deployed(client, samples, "big"), {"x": "no"}).error["message"].endswith(message)


@pytest.mark.parametrize("samples", languages_with("log"))
def test_the_log(client: Client, samples: Samples) -> None:
    shown = client.ended(client.submit(deployed(client, samples, "log")))
    lines = client.logs(shown["id"]).splitlines()
    assert lines[0].endswith("CODE EXECUTION ---")
    assert lines[1:] == [f"out {UNICODE}", "err"]
    assert shown["success"] is True


@pytest.mark.parametrize("samples", languages_with("exit"))
def test_an_exit_code(client: Client, samples: Samples) -> None:
    error = client.run(deployed(client, samples, "exit")).error
    assert (error["name"], error["exit_code"]) == ("ExecutionErr", 3)
    assert error["message"].startswith('exit code for "')


@pytest.mark.parametrize("samples", languages_with("broken"))
def test_code_that_cannot_be_run(client: Client, samples: Samples) -> None:
    answer = client.run(deployed(client, samples, "broken"))
    assert answer.status == 200
    assert answer.error["message"]


@pytest.mark.parametrize("samples", languages_with("no_main"))
def test_no_main(client: Client, samples: Samples) -> None:
    assert "main function is missing" in client.run(deployed(client, samples, "no_main")).error["message"]


@pytest.mark.parametrize("samples", languages_with("environment"))
def test_the_environment(client: Client, samples: Samples) -> None:
    assert client.run(deployed(client, samples, "environment")).json() == client.workspace


@pytest.mark.parametrize("samples", languages_with("sleep"))
def test_a_timeout(client: Client, samples: Samples) -> None:
    path = deployed(client, samples, "sleep")
    body = {"content": samples.scripts["sleep"], "language": samples.language, "args": {}}
    job = client.post("/jobs/run/preview", body, timeout=1).text
    shown = client.ended(job)
    assert "timeout after exceeding job-specific duration limit" in shown["result"]["error"]["message"]
    assert path


@pytest.mark.parametrize("samples", languages_with("sleep"))
def test_a_cancel(client: Client, samples: Samples) -> None:
    job = client.submit(deployed(client, samples, "sleep"))
    client.running(job)
    assert client.post(f"/jobs_u/queue/cancel/{job}", {"reason": "enough"}).status == 200
    assert client.ended(job)["result"]["error"]["name"] == "Canceled"


@pytest.mark.parametrize(
    "samples",
    [samples for samples in HERE if samples.language in PROGRAMS and samples.language != "exec"],
    ids=lambda samples: samples.name,
)
def test_a_limit_of_its_own(client: Client, samples: Samples) -> None:
    """A program that waits gets the limits of the job all the same."""
    deployed(client, samples, "echo")
    path = f"u/admin/limited_{samples.name}"
    client.deploy(
        path, samples.scripts["echo"], samples.language, limits={"open_files": 32, "memory_bytes": 256 * 1024 * 1024}
    )
    assert client.run(path, {"x": "y"}).json() == "y"
