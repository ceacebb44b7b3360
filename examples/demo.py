"""A tour in a few seconds: starts a server, calls the example scripts as the README does, stops it, cleans up.

Every answer is compared with what it should be. Exit code 0: all of it worked. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCRIPTS: Final = Path(__file__).resolve().parent / "scripts"
TOKEN: Final = "token-of-this-demo"  # of a server that lives for seconds, on the loopback interface
#: The constant in scripts/f/github/push.py.
GITHUB_SECRET: Final = b"demo-secret-that-everybody-knows"
WORKSPACE: Final = "/api/w/demo"
SYNC: Final = WORKSPACE + "/jobs/run_wait_result/p"
START_TIMEOUT_S: Final = 30.0
ANSWER_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 40.0
POLL_S: Final = 0.1


class Unexpected(Exception):
    """Something was not as this demo promises."""


@dataclass(frozen=True)
class Answer:
    """A status and a body; the body is decoded if it is JSON, else text."""

    status: int
    body: Any


class Caller:
    """Calls one server, and prints each request as a line for curl, the answer and the time it took."""

    def __init__(self, address: str) -> None:
        """``address`` is ``http://host:port``."""
        self._address = address
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=ANSWER_TIMEOUT_S)
        self._connection.connect()

    def get(self, path: str, *, is_shown: bool = True) -> Answer:
        """GET."""
        return self._call("GET", path, None, {}, is_shown=is_shown)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """POST with a JSON body."""
        text = json.dumps(body, separators=(",", ":"))
        return self._call("POST", path, text, dict(headers or {}), is_shown=True)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _call(self, method: str, path: str, body: str | None, headers: dict[str, str], *, is_shown: bool) -> Answer:
        fields = {**headers, "Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            fields["Content-Type"] = "application/json"
        started = time.perf_counter()
        self._connection.request(method, path, body, fields)
        response = self._connection.getresponse()
        text = response.read().decode()
        took_ms = (time.perf_counter() - started) * 1000
        if is_shown:
            print(f"$ {self._as_curl(path, body, headers)}\n{text}\n    {response.status}, {took_ms:.1f} ms\n")
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return Answer(response.status, json.loads(text) if is_json else text)

    def _as_curl(self, path: str, body: str | None, headers: Mapping[str, str]) -> str:
        words = ["curl", "-H", "Authorization: Bearer $TOKEN"]
        for name, value in headers.items():
            words += ["-H", f"{name}: {value}"]
        if body is not None:
            words += ["--json", body]
        # The one word that the shell must look into.
        return shlex.join([*words, self._address + path]).replace(
            "'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"'
        )


def expect(what: str, found: object, wanted: object) -> None:
    """Raises :class:`Unexpected` unless both are equal."""
    if found != wanted:
        raise Unexpected(f"{what}: expected {wanted!r}, got {found!r}")


def sync_post(call: Caller) -> None:
    """The answer is what the script returns."""
    answer = call.post(f"{SYNC}/u/demo/hello", {"name": "Ada"})
    expect("sync POST", answer, Answer(200, {"greeting": "Hello, Ada."}))


def sync_get(call: Caller) -> None:
    """Arguments of a GET travel in the URL, as base64 of a JSON object."""
    payload = base64.b64encode(b'{"name":"Ada","excited":true}').decode()
    answer = call.get(f"{SYNC}/u/demo/hello?{urllib.parse.urlencode({'payload': payload})}")
    expect("sync GET", answer, Answer(200, {"greeting": "Hello, Ada!"}))


def bash_script(call: Caller) -> None:
    """Bash: the last line of output is the result."""
    answer = call.post(f"{SYNC}/u/demo/greet", {"name": "Ada"})
    expect("bash", answer, Answer(200, "Hello from bash, Ada."))


def failing_script(call: Caller) -> None:
    """An exception becomes an error object. The status stays 200 unless sync_failure_status says otherwise."""
    answer = call.post(f"{SYNC}/u/demo/fails", {"order": 17})
    expect("status of a failed script", answer.status, 200)
    expect("name of the error", answer.body["error"]["name"], "LookupError")
    expect("message of the error", answer.body["error"]["message"], "there is no order 17")


def async_and_poll(call: Caller) -> None:
    """The id is answered once the job is on disk; the result is asked for later."""
    answer = call.post(f"{WORKSPACE}/jobs/run/p/u/demo/slow", {"seconds": 0.5})
    expect("status of an async call", answer.status, 201)
    path = f"{WORKSPACE}/jobs_u/completed/get_result_maybe/{answer.body}"
    polled = call.get(path)
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while not polled.body["completed"]:
        if time.monotonic() > deadline:
            raise Unexpected(f"the job did not end within {ANSWER_TIMEOUT_S:g} s")
        time.sleep(POLL_S)
        polled = call.get(path, is_shown=False)
    expect("result", polled.body["result"], "done")
    call.get(path)


def signed_webhook(call: Caller) -> None:
    """A webhook as GitHub sends it: the script sees the exact body and the signature, and checks them."""
    event = {"ref": "refs/heads/main", "commits": [{"id": "1"}, {"id": "2"}]}
    body = json.dumps(event, separators=(",", ":")).encode()
    signature = "sha256=" + hmac.new(GITHUB_SECRET, body, hashlib.sha256).hexdigest()
    path = f"{SYNC}/f/github/push?raw=true&include_header=X-Hub-Signature-256"
    answer = call.post(path, event, {"X-Hub-Signature-256": signature})
    expect("signed", answer, Answer(200, "2 commits on main"))
    tampered = {**event, "ref": "refs/heads/attack"}
    answer = call.post(path, tampered, {"X-Hub-Signature-256": signature})
    expect("tampered with", answer, Answer(401, "the signature does not fit the body"))


TOUR: Final[tuple[tuple[str, Callable[[Caller], None]], ...]] = (
    ("Call a Python script and wait for its result", sync_post),
    ("The same with GET", sync_get),
    ("A bash script", bash_script),
    ("A script that fails", failing_script),
    ("Start a job, ask for its result later", async_and_poll),
    ("A webhook with a signature: right, then tampered with", signed_webhook),
)


@contextmanager
def serving(data: str) -> Iterator[str]:
    """The address of a server that runs in the block. Raises :class:`Unexpected` if it does not start or end well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MINWEBHOOK_")}
    environment["MINWEBHOOK_ADMIN_TOKEN"] = TOKEN
    command = [sys.executable, "-m", "minwebhook", "serve", "--listen", "127.0.0.1:0"]
    command += ["--data", data, "--scripts", str(SCRIPTS), "--log-level", "warning"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)
    try:
        yield _address(process)
        process.send_signal(signal.SIGTERM)
        try:
            expect("exit status of the server", process.wait(STOP_TIMEOUT_S), 0)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"the server did not end within {STOP_TIMEOUT_S:g} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: subprocess.Popen[bytes]) -> str:
    """What the server's first line says: ``minwebhook VERSION listening on ADDRESS``."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_TIMEOUT_S)[0]:
        raise Unexpected(f"the server did not listen within {START_TIMEOUT_S:g} s")
    line = process.stdout.readline().decode()
    before, separator, address = line.strip().partition(" listening on ")
    if not before.startswith("minwebhook ") or not separator:
        raise Unexpected("the server did not start; what it said is above")
    return address


def main() -> int:
    """Runs the tour; the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="minwebhook-demo-") as data, serving(data) as address:
            call = Caller(address)
            try:
                for title, step in TOUR:
                    print(f"# {title}\n")
                    step(call)
            finally:
                call.close()
    except (Unexpected, OSError, http.client.HTTPException) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print("All answers were as expected. The server ended well and its data is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
