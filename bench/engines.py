"""bun, deno and node: a sync run that does nothing, paced, next to starting the engine for each call, and next to Python.

    python bench/engines.py [--runs N] [--only NAME,NAME]

Prints the medians in milliseconds, by the pause between an answer and the next request: of runs in a process of their own
and in one that stays, and of Debian's webhook, which starts the engine for each call, without a sandbox. Then what the first
deployment of a script of the engine takes, the first run after it, and starting the engine once in a row of others.

The pause is half of the figure: what nobody used for a fifth of a second has left the processor's caches, and everything,
an echo of FastAPI as well, takes several times as long as it does every 4 ms. So only figures of one column can be compared.
A pause shorter than an engine needs for its start (README.md) measures these starts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import loadclient
from bench.loadclient import Request, Shape
from bench.paths import LOAD_BINARY
from bench.processes import free_port
from bench.systems import JSON_HEADERS, start_peer
from minwebhook.runtimes.engines import find_engines
from minwebhook.settings import SandboxSettings
from tests.server import Client, serving

_RUNS: Final = 10
_ROUNDS: Final = 3
_STARTS: Final = 12
_WARMUP_S: Final = 0.1
_LONGEST_S: Final = 60.0
_PACES_MS: Final = (20, 200)
#: For the processes that the calls before have used up.
_SETTLE_S: Final = 0.6
_BODY: Final = '{"a":1,"b":"hello"}'
_CODE: Final = 'export async function main(a: number = 0, b: string = "") {\n  return { a, b };\n}\n'
_PYTHON: Final = 'def main(a: int = 0, b: str = ""):\n    return {"a": a, "b": b}\n'
#: The same function as a program, for whoever starts the engine itself.
_ALONE: Final = f"""\
{_CODE}
const given = JSON.parse(globalThis.Deno ? Deno.args[0] : process.argv[2]);
console.log(JSON.stringify(await main(given.a, given.b)));
"""
_FLAGS: Final = {
    "bun": ("run",),
    "deno": ("run", "--quiet", "--no-check", "--no-remote", "--no-lock", "--no-config"),
    "nodejs": (),
}


@contextmanager
def per_call(directory: Path, programs: dict[str, str]) -> Iterator[dict[str, Request]]:
    """Debian's webhook, which starts an engine for each call; the request for each. None without it."""
    if which("webhook") is None or not programs:
        yield {}
        return
    script = directory / "alone.ts"
    hooks = [
        {
            "id": engine,
            "execute-command": program,
            "command-working-directory": str(directory),
            "include-command-output-in-response": True,
            "pass-arguments-to-command": [
                *({"source": "string", "name": word} for word in (*_FLAGS[engine], str(script))),
                {"source": "entire-payload"},
            ],
        }
        for engine, program in programs.items()
    ]
    (directory / "hooks.json").write_text(json.dumps(hooks))
    port = free_port()
    command = ["webhook", "-hooks", str(directory / "hooks.json"), "-ip", "127.0.0.1", "-port", str(port)]
    requests = {engine: Request(port, f"/hooks/{engine}", _BODY, JSON_HEADERS) for engine in programs}
    with start_peer(command, next(iter(requests.values())), directory):
        yield requests


def own(client: Client, path: str) -> Request:
    """The request for a script of this server."""
    headers = JSON_HEADERS | {"Authorization": f"Bearer {client.token}"}
    port = int(client.address.rpartition(":")[2])
    return Request(port, f"/api/w/{client.workspace}/jobs/run_wait_result/p/{path}", _BODY, headers)


def paced(request: Request, pace_ms: int, runs: int, dump: Path) -> list[float]:
    """What calls over one connection take, with a pause between them, in milliseconds."""
    time.sleep(_SETTLE_S)
    shape = Shape(pace_us=1000 * pace_ms, seconds=_LONGEST_S, requests=runs, warmup_s=_WARMUP_S)
    load = loadclient.run(LOAD_BINARY, request, shape, expect_contains='"hello"', dump=dump)
    if load.errors:
        raise SystemExit(f"{request.path}: {load.errors} errors, the first: {load.first_error}")
    return [us / 1000 for us in loadclient.read_dump(dump)]


def alone(engine: str, program: str, directory: Path) -> float:
    """The median of starting the engine again and again to call the same function and print what it gives."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "DENO_NO_UPDATE_CHECK": "1"}
    command = [program, *_FLAGS[engine], str(directory / "alone.ts"), _BODY]
    times = []
    for _ in range(_STARTS):
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def measure(client: Client, runtime: str, peer: Request | None, runs: int, dump: Path) -> list[float | None]:
    """Deploys the scripts of one runtime and measures; the figures in the order of the table, without the start alone.

    What is compared takes turns: the machine is a fast one now, and a slow one in the next minute.
    """
    language, code = {"python3": ("python3", _PYTHON), "nodejs": ("bun", f"//nodejs\n{_CODE}")}.get(
        runtime, (runtime, _CODE)
    )
    begin = time.perf_counter()
    client.deploy(f"u/admin/{runtime}", code, language)
    deployed = time.perf_counter()
    client.run(f"u/admin/{runtime}", {"a": 1, "b": "hello"})
    first = time.perf_counter()
    client.deploy(f"u/admin/{runtime}_stays", code, language, dedicated_worker=True)
    client.run(f"u/admin/{runtime}_stays")
    requests = (own(client, f"u/admin/{runtime}"), own(client, f"u/admin/{runtime}_stays"), peer)
    taken: dict[tuple[int, int], list[float]] = {}
    for _ in range(_ROUNDS):
        for pace_ms in _PACES_MS:
            for kind, request in enumerate(requests):
                if request is not None:
                    taken.setdefault((pace_ms, kind), []).extend(paced(request, pace_ms, runs, dump))
    cells = [(pace_ms, kind) for pace_ms in _PACES_MS for kind in range(len(requests))]
    figures = [statistics.median(taken[cell]) if cell in taken else None for cell in cells]
    return [*figures, 1000 * (deployed - begin), 1000 * (first - deployed)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="engines.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=_RUNS, help=f"calls of each kind and round (default {_RUNS})")
    parser.add_argument("--only", default="", help="runtimes, separated by commas: python3, bun, deno, nodejs")
    options = parser.parse_args()
    engines = find_engines(SandboxSettings())
    wanted = [name for name in options.only.split(",") if name] or ["python3", *engines.paths]
    if not LOAD_BINARY.exists():
        loadclient.build(LOAD_BINARY)
    titles = [f"{kind} {pace} ms" for pace in _PACES_MS for kind in ("one-shot", "reuse", "per call")]
    print(" | ".join(["runtime ", *titles, "deploy", "first", "start"]))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "alone.ts").write_text(_ALONE)
        (directory / "package.json").write_text('{"type": "module"}')
        programs = {engine: path for engine, path in engines.paths.items() if engine in wanted}
        with (
            per_call(directory, programs) as peers,
            serving(directory / "data", "--workers", "2") as (_, client),
        ):
            for runtime in wanted:
                figures = measure(client, runtime, peers.get(runtime), options.runs, directory / "latencies")
                figures.append(alone(runtime, programs[runtime], directory) if runtime in programs else None)
                cells = ["-" if figure is None else f"{figure:.1f}" for figure in figures]
                widths = [*map(len, titles), 6, 5, 5]
                print(" | ".join([f"{runtime:8}", *map(str.rjust, cells, widths)]), flush=True)


if __name__ == "__main__":
    main()
