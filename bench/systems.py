"""The systems under measurement: how each is started, found ready, and called.

All of them do the same job: take ``{"a": 1, "b": "hello"}`` and give it back as JSON. A system is a row of ``SYSTEMS``;
starting one gives a :class:`Running`, whose endpoint has answered rightly once. What cannot be started here is named by
``missing`` and left out.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.loadclient import Request
from bench.paths import BARE_VENV, PEER_SOURCES, PEER_VENV
from bench.processes import POLL_S, free_port, plain_environment, running

READY_TIMEOUT_S: Final = 30.0
REQUEST_TIMEOUT_S: Final = 10.0
LOG_TAIL_CHARACTERS: Final = 1500

ARGUMENTS: Final[Mapping[str, Any]] = {"a": 1, "b": "hello"}
BODY: Final = json.dumps(ARGUMENTS, separators=(",", ":"))
JSON_HEADERS: Final = {"Content-Type": "application/json", "Accept": "*/*"}

SCRIPT_PATH: Final = "u/bench/echo"
SCRIPT: Final = """\
def main(a: int = 0, b: str = ""):
    return {"a": a, "b": b}
"""
READY_LINE: Final = re.compile(r"^minwebhook \S+ listening on http://127\.0\.0\.1:(\d+)\s*$", re.MULTILINE)


class StartError(Exception):
    """A system did not start, or did not answer as it must."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started system."""

    pid: int
    request: Request
    #: The body of its right answers, to the byte.
    expected_body: str
    #: When it listened, by ``time.perf_counter``; 0 if nobody looked.
    listening_at: float = 0.0


@dataclass(frozen=True, slots=True)
class System:
    """One row: a system, and how its results are to be read."""

    name: str
    label: str
    #: What keeps a job from the server and from other jobs.
    isolation: str
    #: Why it cannot be started here; ``None`` when it can.
    missing: Callable[[], str | None]
    #: Starts it with this directory of its own; it is ended when the block is left.
    start: Callable[[Path], AbstractContextManager[Running]]
    #: Bounds a run by count, for a system whose every call takes long; ``None`` = by time.
    requests_per_run: int | None = None


# ---- Calling and waiting ---------------------------------------------------------------------------------------------


def call(request: Request) -> tuple[int, bytes]:
    """Send the request once over a new connection; the status and the body. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(request.host, request.port, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request(request.method, request.path, request.body.encode(), dict(request.headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _log_tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip() or "(it wrote nothing)"


def _wait_for_answer(process: subprocess.Popen[bytes], request: Request, log: Path) -> str:
    """Call until the right answer comes; its body."""
    last = "no answer"
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"ended with status {process.returncode}: {_log_tail(log)}")
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            status, body = call(request)
            last = f"status {status}: {body[:200]!r}"
            if status // 100 == 2 and json.loads(body) == ARGUMENTS:
                return body.decode()
        time.sleep(POLL_S)
    raise StartError(f"no right answer within {READY_TIMEOUT_S:.0f} s, the last was {last}; its log: {_log_tail(log)}")


# ---- minwebhook ------------------------------------------------------------------------------------------------------


def _own_missing() -> str | None:
    if importlib.util.find_spec("minwebhook") is None:
        return f"minwebhook is not installed in {sys.prefix}"
    return None


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port of the server's ready line."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if found := READY_LINE.search(log.read_text(errors="replace")):
            return int(found[1])
        if process.poll() is not None:
            raise StartError(f"ended with status {process.returncode}: {_log_tail(log)}")
        time.sleep(POLL_S)
    raise StartError(f"no ready line within {READY_TIMEOUT_S:.0f} s; its log: {_log_tail(log)}")


def _deploy(port: int, headers: Mapping[str, str], *, dedicated: bool) -> None:
    script: dict[str, Any] = {
        "path": SCRIPT_PATH,
        "summary": "",
        "description": "",
        "content": SCRIPT,
        "language": "python3",
        # As clients send it. Without one the server reads the code, in a process that is there for a while.
        "schema": {"type": "object", "properties": {}, "required": []},
    }
    if dedicated:
        script["dedicated_worker"] = True
    try:
        status, body = call(Request(port, "/api/w/demo/scripts/create", json.dumps(script), headers))
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"the script could not be deployed: {error}") from error
    if status != 201:
        raise StartError(f"the script was not accepted: status {status}: {body[:500]!r}")


@contextmanager
def start_own(
    directory: Path,
    *,
    dedicated: bool = False,
    flags: Sequence[str] = (),
    program: str | None = None,
    deploys: bool = True,
) -> Iterator[Running]:
    """This server with its default settings and ``flags``, and one deployed script.

    ``program`` is Python code to run instead of the package's own entry point; without ``deploys`` the script is there.
    """
    token = secrets.token_urlsafe(24)
    log = directory / "log"
    command = [
        sys.executable,
        *(("-m", "minwebhook") if program is None else ("-c", program)),
        "serve",
        *flags,
        "--listen",
        "127.0.0.1:0",
        "--data",
        str(directory / "data"),
    ]
    environment = plain_environment() | {"MINWEBHOOK_ADMIN_TOKEN": token, "MINWEBHOOK_ACCESS_LOG": "false"}
    with running(command, directory=directory, environment=environment, log=log) as process:
        port = _wait_for_port(process, log)
        listening_at = time.perf_counter()
        headers = JSON_HEADERS | {"Authorization": f"Bearer {token}"}
        if deploys:
            _deploy(port, headers, dedicated=dedicated)
        request = Request(port, f"/api/w/demo/jobs/run_wait_result/p/{SCRIPT_PATH}", BODY, headers)
        yield Running(process.pid, request, _wait_for_answer(process, request, log), listening_at)


# ---- Debian's webhook ------------------------------------------------------------------------------------------------


#: The real binary in an environment without packages: neither a version manager's shim nor the start-up hooks
#: (``.pth``) of whatever is installed beside it slow its start. They can take longer than it.
BARE_PYTHON: Final = BARE_VENV / "bin" / "python"


def _webhook_missing(program: str) -> str | None:
    if shutil.which("webhook") is None:
        return "the webhook program is not installed (Debian package: webhook)"
    if not os.access(program, os.X_OK):
        return f"{program} does not exist (make bench-setup)"
    return None


def _webhook_hook(name: str, directory: Path) -> dict[str, Any]:
    """The hook's entry in hooks.json: run the job as a process, answer with what it prints."""
    payload = {"source": "entire-payload"}
    if name == "bash":
        program, arguments = str(PEER_SOURCES / "echo.sh"), [payload]
    else:
        program = str(BARE_PYTHON)
        arguments = [{"source": "string", "name": str(PEER_SOURCES / "echo.py")}, payload]
    return {
        "id": "echo",
        "execute-command": program,
        "command-working-directory": str(directory),
        "include-command-output-in-response": True,
        "pass-arguments-to-command": arguments,
    }


def _start_webhook(directory: Path, *, script: str) -> AbstractContextManager[Running]:
    """Debian's webhook, a Go server that starts a process per call, with its default settings."""
    hooks = directory / "hooks.json"
    hooks.write_text(json.dumps([_webhook_hook(script, directory)]))
    port = free_port()
    command = ["webhook", "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)]
    return start_peer(command, Request(port, "/hooks/echo", BODY, JSON_HEADERS), directory)


# ---- Python peers ----------------------------------------------------------------------------------------------------


def _peer_missing(program: str) -> str | None:
    if os.access(PEER_VENV / "bin" / program, os.X_OK):
        return None
    return f"{program} is not installed in the peers' environment (make bench-setup)"


def _start_fastapi(directory: Path) -> AbstractContextManager[Running]:
    """FastAPI under plain uvicorn, access log off."""
    port = free_port()
    program = str(PEER_VENV / "bin" / "uvicorn")
    command = [program, "fastapi_app:app", "--app-dir", str(PEER_SOURCES), "--host", "127.0.0.1", "--port", str(port)]
    command.append("--no-access-log")
    return start_peer(command, Request(port, "/echo", BODY, JSON_HEADERS), directory)


def _start_functions(directory: Path) -> AbstractContextManager[Running]:
    """Google's functions-framework with its default settings (gunicorn, one process, threads)."""
    port = free_port()
    program = str(PEER_VENV / "bin" / "functions-framework")
    command = [program, "--source", str(PEER_SOURCES / "functions_app.py"), "--target", "echo"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return start_peer(command, Request(port, "/", BODY, JSON_HEADERS), directory)


@contextmanager
def start_peer(command: list[str], request: Request, directory: Path) -> Iterator[Running]:
    """Start a peer and wait for its first right answer; raises StartError with its log."""
    log = directory / "log"
    with running(command, directory=directory, environment=plain_environment(), log=log) as process:
        yield Running(process.pid, request, _wait_for_answer(process, request, log))


# ---- The table -------------------------------------------------------------------------------------------------------

ONE_SHOT: Final = "minwebhook"
DEDICATED: Final = "minwebhook-dedicated"
WEBHOOK_BASH: Final = "webhook-bash"
WEBHOOK_PYTHON: Final = "webhook-python"
FASTAPI: Final = "fastapi"
FUNCTIONS: Final = "functions-framework"

SYSTEMS: Final = (
    System(
        ONE_SHOT,
        "minwebhook, one-shot",
        "sandbox, new process per job",
        _own_missing,
        partial(start_own, dedicated=False),
    ),
    System(
        DEDICATED,
        "minwebhook, dedicated worker",
        "sandbox per script",
        _own_missing,
        partial(start_own, dedicated=True),
    ),
    System(
        WEBHOOK_BASH,
        "webhook > bash",
        "new process per job",
        partial(_webhook_missing, "/bin/bash"),
        partial(_start_webhook, script="bash"),
    ),
    System(
        WEBHOOK_PYTHON,
        "webhook > python",
        "new process per job",
        partial(_webhook_missing, str(BARE_PYTHON)),
        partial(_start_webhook, script="python"),
        requests_per_run=24,
    ),
    System(FASTAPI, "FastAPI + uvicorn", "none, in process", partial(_peer_missing, "uvicorn"), _start_fastapi),
    System(
        FUNCTIONS,
        "functions-framework",
        "none, in process",
        partial(_peer_missing, "functions-framework"),
        _start_functions,
    ),
)
