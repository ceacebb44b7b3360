"""The load client from Python: compiles ``load.c`` and runs it once per measurement.

The client is its own process in C, so that what is measured is the server and not an interpreter on the measuring
side. It refuses every address outside 127.0.0.0/8.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.paths import LOAD_SOURCE

COMPILE_TIMEOUT_S: Final = 120.0

#: Beyond warm-up, window and the last answer's time-out.
EXTRA_TIMEOUT_S: Final = 20.0


class LoadError(Exception):
    """The load client could not be built, or refused to measure."""


@dataclass(frozen=True, slots=True)
class Request:
    """The one request that is sent again and again."""

    port: int
    path: str
    body: str = ""
    headers: Mapping[str, str] | None = None
    host: str = "127.0.0.1"
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the requests are sent, and for how long."""

    #: Each has at most one request under way.
    connections: int = 1
    #: Pause between an answer and the next request of the same connection.
    pace_us: int = 0
    #: Requests per second of an open loop, at fixed times; ``None`` = a closed loop.
    rate: float | None = None
    #: Of an open loop: what is due while all connections are busy is not sent, and counted.
    leaves_out: bool = False
    #: Length of the measured window.
    seconds: float = 2.0
    #: Ends the window sooner; ``None`` = time alone ends it.
    requests: int | None = None
    #: Requests before the window, not measured.
    warmup_s: float = 0.0
    #: Longest wait for one answer; a later one is an error.
    timeout_s: float = 10.0
    #: Gives up after so many.
    max_errors: int = 100

    @property
    def longest_s(self) -> float:
        """Seconds after which the client must have ended."""
        return self.warmup_s + self.seconds + 2 * self.timeout_s + EXTRA_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured.

    The keys of ``latency_us``: min, mean, p50, p90, p99, p99.9, max; none when there was no answer.
    """

    n: int
    rps: float
    elapsed_s: float
    latency_us: Mapping[str, float]
    errors: int
    error_kinds: Mapping[str, int]
    first_error: str
    #: More than the connections asked for: the server closes them.
    connections_opened: int
    #: Requests of an open loop that were not sent because all connections were busy.
    left_out: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Load:
        """Read the line that the client prints."""
        return cls(
            n=value["n"],
            rps=value["rps"],
            elapsed_s=value["elapsed_s"],
            latency_us=value["latency_us"] or {},
            errors=value["errors"],
            error_kinds=value["error_kinds"],
            first_error=value["first_error"],
            connections_opened=value["connections_opened"],
            left_out=value["left_out"],
        )


def build(binary: Path, *, compiler: str = "cc") -> None:
    """Compile the client to ``binary``; raises LoadError with the compiler's words."""
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-std=c11", "-Wall", "-Wextra", "-o", str(binary), str(LOAD_SOURCE)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    except FileNotFoundError as error:
        raise LoadError(f"no C compiler: {compiler} not found") from error
    except subprocess.CalledProcessError as error:
        raise LoadError(f"{LOAD_SOURCE.name} does not compile:\n{error.stderr}") from error


def run(
    binary: Path,
    request: Request,
    shape: Shape,
    *,
    expect_body: str | None = None,
    expect_contains: str | None = None,
    dump: Path | None = None,
) -> Load:
    """Measure once. With ``dump``, every latency in nanoseconds is written to that file; raises LoadError."""
    command = [str(binary), "--host", request.host, "--port", str(request.port), "--path", request.path]
    command += ["--method", request.method]
    if request.body:
        command += ["--body", request.body]
    for name, value in (request.headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    command += ["--connections", str(shape.connections), "--pace-us", str(shape.pace_us)]
    command += ["--seconds", str(shape.seconds), "--warmup-seconds", str(shape.warmup_s)]
    command += ["--timeout-seconds", str(shape.timeout_s)]
    command += ["--max-errors", str(shape.max_errors)]
    if shape.rate is not None:
        command += ["--rate", str(shape.rate)]
    if shape.leaves_out:
        command.append("--leave-out")
    if shape.requests is not None:
        command += ["--requests", str(shape.requests)]
    if expect_body is not None:
        command += ["--expect-body", expect_body]
    if expect_contains is not None:
        command += ["--expect-contains", expect_contains]
    if dump is not None:
        command += ["--dump", str(dump)]
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=shape.longest_s)
    except FileNotFoundError as error:
        raise LoadError(f"{binary} does not exist: run the set-up of the benchmark first") from error
    except subprocess.CalledProcessError as error:
        raise LoadError(error.stderr.strip() or f"the load client ended with status {error.returncode}") from error
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"the load client did not end within {shape.longest_s:.0f} s") from error
    return Load.from_json(json.loads(result.stdout))


def read_dump(path: Path) -> list[float]:
    """The latencies of a dump in microseconds, in order of completion."""
    return [int(line) / 1000 for line in path.read_text("ascii").splitlines()]
