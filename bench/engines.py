"""bun, deno and node: a sync run that does nothing, paced, next to starting the engine for it, and next to Python.

Run alone: ``python bench/engines.py [RUNS]``. Prints a table of milliseconds: the median of paced runs in a process of their
own and in one that stays, the first deployment of a script of the engine, the first run after it, and the median of starting
the engine with the same script.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from minwebhook.runtimes.engines import find_engines
from minwebhook.settings import SandboxSettings
from tests.server import Client, serving

_RUNS: Final = 60
_STARTS: Final = 12
_PACE_S: Final = 0.2
_CODE: Final = "export async function main(a: number = 1) { return a; }\n"
_PYTHON: Final = "def main(a: int = 1):\n    return a\n"
_ALONE: Final = {
    "bun": ("run",),
    "deno": ("run", "--quiet", "--no-check", "--no-remote", "--no-lock", "--no-config"),
    "nodejs": (),
}


def paced(client: Client, path: str, runs: int) -> float:
    """The median of runs over one connection, in milliseconds."""
    address = client.address.removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        connection.request("POST", f"/api/w/{client.workspace}/jobs/run_wait_result/p/{path}", b"{}", headers)
        response = connection.getresponse()
        response.read()
        times.append(1000 * (time.perf_counter() - begin))
        assert response.status == 200
        time.sleep(_PACE_S)
    connection.close()
    return statistics.median(times)


def alone(engine: str, program: str, folder: Path) -> float:
    """The median of starting the engine to call the same function and print what it gives."""
    script = folder / "alone.ts"
    script.write_text(_CODE + "console.log(JSON.stringify(await main()));\n")
    (folder / "package.json").write_text('{"type": "module"}')
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "DENO_NO_UPDATE_CHECK": "1"}
    times = []
    for _ in range(_STARTS):
        begin = time.perf_counter()
        subprocess.run([program, *_ALONE[engine], str(script)], env=environment, check=True, capture_output=True)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    """Measures and prints."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else _RUNS
    engines = find_engines(SandboxSettings())
    with tempfile.TemporaryDirectory() as name, serving(Path(name) / "data", "--workers", "2") as (_, client):
        print(f"{'runtime':8} {'one-shot':>9} {'reuse':>9} {'deploy':>9} {'first':>9} {'start':>9}")
        client.deploy("u/admin/python", _PYTHON)
        client.deploy("u/admin/python_stays", _PYTHON, dedicated_worker=True)
        for path in ("u/admin/python", "u/admin/python_stays"):
            paced(client, path, 3)
        shots, reuse = (paced(client, path, runs) for path in ("u/admin/python", "u/admin/python_stays"))
        print(f"{'python3':8} {shots:9.1f} {reuse:9.1f}", flush=True)
        for engine, program in engines.paths.items():
            language, code = ("bun", "//nodejs\n" + _CODE) if engine == "nodejs" else (engine, _CODE)
            begin = time.perf_counter()
            client.deploy(f"u/admin/{engine}", code, language)
            deployed = time.perf_counter()
            client.run(f"u/admin/{engine}")
            first, deploy = 1000 * (time.perf_counter() - deployed), 1000 * (deployed - begin)
            client.deploy(f"u/admin/{engine}_stays", code, language, dedicated_worker=True)
            for path in (f"u/admin/{engine}", f"u/admin/{engine}_stays"):
                paced(client, path, 3)
            shots, reuse = (paced(client, f"u/admin/{path}", runs) for path in (engine, f"{engine}_stays"))
            start = alone(engine, program, Path(name))
            print(f"{engine:8} {shots:9.1f} {reuse:9.1f} {deploy:9.1f} {first:9.1f} {start:9.1f}", flush=True)


if __name__ == "__main__":
    main()
