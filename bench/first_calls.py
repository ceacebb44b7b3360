"""The first calls of scripts that nobody has called before, and of scripts that import packages.

    python bench/first_calls.py [--scripts N]

Each script is deployed, called once, and then called at a slow pace. A script that nobody has called was never compiled, so
its first call pays for that; one that imports a package pays for the import once per fork server. Needs the network, or a
package index of one's own, for numpy (`MINWEBHOOK_PACKAGE_INDEX`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import machine, report
from bench.systems import JSON_HEADERS, Running, start_own

_PLAIN: Final = "def main(a: int = 0, b: str = ''):\n    # {number}\n    return {{'a': a, 'b': b}}\n"
_NUMPY: Final = "import numpy\n\ndef main(a: int = 0, b: str = ''):\n    # {number}\n    return int(numpy.int64(a))\n"
_PACE_S: Final = 0.004
_PACED: Final = 200
_LOCK_TIMEOUT_S: Final = 120.0


class _Client:
    """One connection that stays."""

    def __init__(self, running: Running) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", running.request.port, timeout=60)
        self._headers = {**JSON_HEADERS, **(running.request.headers or {})}

    def call(self, method: str, path: str, data: Any = None) -> tuple[int, bytes]:
        """One request below the workspace."""
        body = None if data is None else json.dumps(data)
        self._connection.request(method, f"/api/w/demo{path}", body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def deploy(self, path: str, content: str) -> None:
        """A new script, ready to run."""
        script = {"path": path, "summary": "", "description": "", "content": content, "language": "python3"}
        status, answer = self.call("POST", "/scripts/create", script)
        if status != 201:
            raise SystemExit(f"{path} was not accepted: {answer!r}")
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while time.monotonic() < deadline:
            found = json.loads(self.call("GET", f"/scripts/deployment_status/h/{answer.decode()}")[1])
            if found.get("lock") is not None:
                return
            if found.get("lock_error_logs"):
                raise SystemExit(f"{path}: {found['lock_error_logs']}")
            time.sleep(0.05)
        raise SystemExit(f"{path} has no lock after {_LOCK_TIMEOUT_S:g} s")

    def run(self, path: str) -> float:
        """A sync call; microseconds."""
        started = time.perf_counter()
        status, answer = self.call("POST", f"/jobs/run_wait_result/p/{path}", {"a": 1, "b": "hello"})
        took = (time.perf_counter() - started) * 1e6
        if status != 200 or b'"error"' in answer:
            raise SystemExit(f"{path} answered {status}: {answer[:300]!r}")
        return took


def _paced(client: _Client, path: str) -> list[float]:
    found = []
    for _ in range(_PACED):
        time.sleep(_PACE_S)
        found.append(client.run(path))
    return found


def measure(running: Running, count: int, content: str, name: str) -> dict[str, Any]:
    """First, second and paced calls of ``count`` scripts."""
    client = _Client(running)
    first, second = [], []
    for number in range(count):
        path = f"u/bench/{name}{number}"
        client.deploy(path, content.format(number=number))
        time.sleep(0.2)
        first.append(client.run(path))
        time.sleep(0.2)
        second.append(client.run(path))
    paced = _paced(client, f"u/bench/{name}0")
    return {"first": median(first), "slowest first": max(first), "second": median(second), "paced p50": median(paced)}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="first_calls.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scripts", type=int, default=10, help="scripts of each kind (default 10)")
    options = parser.parse_args(arguments)
    if not 1 <= options.scripts <= 100:
        parser.error("--scripts from 1 to 100")
    index = os.environ.get("MINWEBHOOK_PACKAGE_INDEX", "")
    flags = ("--package-index", index) if index else ()
    found = machine.describe()
    print(f"{found.cores} cores, {found.cpu}, {found.kernel}, {found.python}")
    with (
        TemporaryDirectory(prefix="minwebhook-bench-") as temporary,
        start_own(Path(temporary), flags=flags) as running,
    ):
        results = {
            "no packages": measure(running, options.scripts, _PLAIN, "plain"),
            "import numpy": measure(running, options.scripts, _NUMPY, "numpy"),
        }
    header = ("", *results["no packages"])
    rows = [(name, *(report.duration(value) for value in result.values())) for name, result in results.items()]
    print(report.table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
