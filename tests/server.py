"""A real server in a process of its own, and a client for it on ``http.client``.

Every process is ended by its own id. Nothing sleeps for luck: :func:`eventually` polls a condition within a bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import resource
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from minwebhook.sandbox import cgroups

ADMIN_TOKEN: Final = "canary-admin-token-5d1f2a"  # looked for in files and environments by tests
WORKSPACE: Final = "demo"
#: Paths that are not below ``/api``.
OUTSIDE: Final = ("/readyz", "/metrics")
_START_TIMEOUT_S: Final = 30.0
_ANSWER_TIMEOUT_S: Final = 30.0
_FIRST_LINE: Final = re.compile(r"minwebhook (?P<version>\S+) listening on (?P<addresses>.+)\n")

T = TypeVar("T")


class StartFailed(Exception):
    """The process ended before it listened."""

    def __init__(self, code: int, errors: str) -> None:
        super().__init__(f"exit code {code}: {errors[-4000:]}")
        self.code = code
        self.errors = errors


def eventually(probe: Callable[[], T], what: str, timeout_s: float = 15.0) -> T:
    """The first true value that ``probe`` gives; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last: {value!r})")
        time.sleep(0.01)


@dataclass(frozen=True)
class Answer:
    """One response, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a failed job."""
        value = self.json()
        assert list(value) == ["error"], value
        error: dict[str, Any] = value["error"]
        return error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connects to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Client:
    """Calls one address, with a Bearer token unless ``token`` is empty; one connection per call."""

    address: str
    token: str = ADMIN_TOKEN
    workspace: str = WORKSPACE
    tls: ssl.SSLContext | None = None

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        data: Any = None,
        query: Mapping[str, Any] | None = None,
        read: Callable[[http.client.HTTPResponse], bytes] = http.client.HTTPResponse.read,
    ) -> Answer:
        """One request. ``data`` is sent as JSON; ``path`` is below the workspace, unless it is below ``/api`` or outside.

        ``read`` takes as much of the body as is wanted.
        """
        fields = dict(headers or {})
        if self.token and not any(name.lower() == "authorization" for name in fields):
            fields["Authorization"] = f"Bearer {self.token}"
        if data is not None:
            body = json.dumps(data).encode()
            fields.setdefault("Content-Type", "application/json")
        target = (
            path if path.startswith(("/api/", "/approve/")) or path in OUTSIDE else f"/api/w/{self.workspace}{path}"
        )
        if query:
            target += "?" + urllib.parse.urlencode(query)
        connection = self._connect()
        try:
            connection.request(method, target, body, fields)
            response = connection.getresponse()
            content = read(response)
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """GET."""
        return self.call("GET", path, None, headers, query=query)

    def post(self, path: str, data: Any = None, headers: Mapping[str, str] | None = None, **query: Any) -> Answer:
        """POST with a JSON body."""
        return self.call("POST", path, None, headers, data={} if data is None else data, query=query)

    def with_token(self, token: str, workspace: str | None = None) -> Client:
        """The same address with another token."""
        return Client(self.address, token, workspace or self.workspace, self.tls)

    # --- what most tests want -----------------------------------------------------------------------------------------

    def deploy(self, path: str, content: str, language: str = "python3", **more: Any) -> str:
        """A new version of a script; its hash."""
        new = {"path": path, "summary": "", "description": "", "content": content, "language": language}
        answer = self.post("/scripts/create", {**new, "auto_parent": True, **more})
        assert answer.status == 201, answer.text
        return answer.text

    def run(self, path: str, data: Any = None, **query: Any) -> Answer:
        """A sync run of the script at ``path``."""
        return self.post(f"/jobs/run_wait_result/p/{path}", data, **query)

    def preview(self, content: str, args: Any = None, language: str = "python3", **query: Any) -> Answer:
        """A sync run of code that comes with the request."""
        body = {"content": content, "language": language, "args": args or {}}
        return self.post("/jobs/run_wait_result/preview", body, **query)

    def submit(self, path: str, data: Any = None, **query: Any) -> str:
        """An async run; the job's id."""
        answer = self.post(f"/jobs/run/p/{path}", data, **query)
        assert answer.status == 201, answer.text
        return answer.text

    def job(self, job_id: str) -> dict[str, Any]:
        """The job object."""
        answer = self.get(f"/jobs_u/get/{job_id}")
        assert answer.status == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def ended(self, job_id: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The job object once the job has ended."""

        def probe() -> dict[str, Any] | None:
            shown = self.job(job_id)
            return shown if shown["type"] == "CompletedJob" else None

        done = eventually(probe, f"the end of job {job_id}", timeout_s)
        assert done is not None
        return done

    def running(self, job_id: str) -> None:
        """Waits until the job runs."""
        eventually(lambda: self.job(job_id).get("running"), f"the start of job {job_id}")

    def logs(self, job_id: str) -> str:
        """The job's log without the hint."""
        answer = self.get(f"/jobs_u/get_logs/{job_id}", remove_ansi_warnings="true")
        assert answer.status == 200, answer.text
        return answer.text

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which ``data`` was sent; the caller closes it."""
        parts = urllib.parse.urlsplit(self.address)
        connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_ANSWER_TIMEOUT_S)
        connection.sendall(data)
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return _UnixConnection(self.address.removeprefix("unix:"))
        parts = urllib.parse.urlsplit(self.address)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=_ANSWER_TIMEOUT_S, context=self.tls)
        return http.client.HTTPConnection(host, port, timeout=_ANSWER_TIMEOUT_S)


@dataclass
class Server:
    """``minwebhook serve`` on a data directory. May be started again after it ended."""

    data: Path
    flags: tuple[str, ...] = ()
    #: Settings by environment; the server gets nothing else of the test's environment but PATH.
    environment: dict[str, str] = field(default_factory=dict)
    admin_token: str = ADMIN_TOKEN
    listen: tuple[str, ...] = ("127.0.0.1:0",)
    #: What is run by the interpreter.
    program: tuple[str, ...] = ("-m", "minwebhook")
    interpreter: str = sys.executable
    #: User that the server runs as; None = that of the test.
    run_as: int | None = None
    #: Most files the server may have open; 0 = what the test has.
    open_files: int = 0
    #: Descriptors of ``cgroup.procs`` of control groups that it is started in.
    entrances: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    addresses: tuple[str, ...] = ()
    starts: int = 0

    def start(self) -> Client:
        """Starts it and waits for its first line. Raises :class:`StartFailed`."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), **self.environment}
        if self.admin_token:
            environment["MINWEBHOOK_ADMIN_TOKEN"] = self.admin_token
        listens = [part for address in self.listen for part in ("--listen", address)]
        self.starts += 1
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [self.interpreter, *self.program, "serve", "--data", str(self.data), *listens, *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                user=self.run_as,
                group=self.run_as,
                extra_groups=None if self.run_as is None else [],
                preexec_fn=self._prepare if self.open_files or self.entrances else None,  # noqa: PLW1509 - before there are threads
            )
        found = _FIRST_LINE.fullmatch(self._first_line())
        assert found, "the first line of output is not the announced one"
        self.addresses = tuple(found["addresses"].split())
        return self.client()

    def _prepare(self) -> None:
        for fd in self.entrances:
            os.write(fd, b"0")
        if self.open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))

    def _first_line(self) -> str:
        process = self.running
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], _START_TIMEOUT_S)[0]:
            self.kill()
            raise AssertionError(f"the server said nothing for {_START_TIMEOUT_S:g} s: {self.log}")
        line = process.stdout.readline().decode()
        if not line:
            code = process.wait(_START_TIMEOUT_S)
            self._close()
            raise StartFailed(code, self.log)
        return line

    def client(self, token: str | None = None, address: str | None = None) -> Client:
        """A client with the admin's token."""
        return Client(address or self.addresses[0], self.admin_token if token is None else token)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process; only while there is one."""
        assert self.process is not None, "the server does not run"
        return self.process

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.running.pid

    @property
    def log_file(self) -> Path:
        """What the last started process wrote to stderr."""
        return self.data.with_name(f"{self.data.name}-{self.starts}.log")

    @property
    def log(self) -> str:
        """The text of the log so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def execute(self, query: str, *values: Any) -> int:
        """Changes the database behind the server's back; how many rows."""
        with closing(sqlite3.connect(self.data / "minwebhook.db", timeout=10, isolation_level=None)) as connection:
            return connection.execute(query, values).rowcount

    def user(self, name: str, workspace: str = WORKSPACE) -> Client:
        """A new user who is no admin, as a client with a token of theirs."""
        email, token = f"{name}@localhost", f"token-of-{name}"
        self.execute("INSERT INTO usr (email, username, created_at) VALUES (?, ?, 1)", email, name)
        query = "INSERT INTO member (workspace_id, email, username, created_at) VALUES (?, ?, ?, 1)"
        self.execute(query, workspace, email, name)
        digest = hashlib.sha256(token.encode()).hexdigest()
        query = "INSERT INTO token (hash, prefix, email, created_at) VALUES (?, ?, ?, 1)"
        self.execute(query, digest, token[:10], email)
        return self.client(token).with_token(token, workspace)

    def signal(self, number: int) -> None:
        """Sends a signal to the server's process alone."""
        self.running.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Waits for the end; the exit code (negative: a signal)."""
        try:
            code = self.running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end within {timeout_s:g} s: {self.log[-4000:]}") from None
        self._close()
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process; waits for its end and that of everything it started."""
        started = descendants(self.pid)
        self.running.kill()
        self.running.wait(20)
        self._close()
        eventually(lambda: not any(is_alive(pid, born) for pid, born in started.items()), "the end of all processes")
        cgroups.sweep()  # as its next start would

    def close(self) -> None:
        """Ends it however it is."""
        if self.process is not None:
            self.kill()

    def _close(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None


@contextmanager
def serving(data: Path, *flags: str, **more: Any) -> Iterator[tuple[Server, Client]]:
    """A server that runs in the block, and a client."""
    server = Server(data, flags, **more)
    try:
        yield server, server.start()
    finally:
        server.close()


# --- looking at processes, by /proc -----------------------------------------------------------------------------------


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, … start time at 19."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def process_ids() -> list[int]:
    """All processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def descendants(pid: int) -> dict[int, str]:
    """Ids and start times of all descendants of ``pid``."""
    parents = {each: fields for each in process_ids() if (fields := _stat(each)) is not None}
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        frontier = {each for each, fields in parents.items() if int(fields[1]) in frontier and each not in found}
        found |= {each: parents[each][19] for each in frontier}
    return found


def children(pid: int) -> list[int]:
    """Ids of the living children of ``pid``."""
    return [
        each for each in process_ids() if (fields := _stat(each)) and int(fields[1]) == pid and fields[0] not in "ZX"
    ]


def fork_servers(pid: int) -> list[int]:
    """Ids of the outer processes of the fork servers of a server; it has other children, which read and compute."""
    found = []
    for each in children(pid):
        with contextlib.suppress(OSError):  # others may have ended
            if b"minwebhook.child.zygote" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(each)
    return found


def is_alive(pid: int, born: str) -> bool:
    """Whether the very process that started at ``born`` still lives (a zombie does not)."""
    fields = _stat(pid)
    return fields is not None and fields[19] == born and fields[0] not in "ZX"


def unique(name: str) -> str:
    """A process name of at most 15 bytes for :func:`named`, which another run of the tests does not use."""
    assert len(name) <= 8
    return f"m{os.getpid():x}{name}"


def named(name: str) -> list[int]:
    """Living processes of this name (as set by PR_SET_NAME, at most 15 bytes), or with it in their command line."""
    found = []
    for pid in process_ids():
        try:
            comm = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        fields = _stat(pid)
        if (comm == name or name.encode() in line) and fields is not None and fields[0] not in "ZX":
            found.append(pid)
    return found


def memory_bytes(pid: int, key: str = "VmHWM") -> int:
    """A line of /proc/PID/status, as bytes; ``VmHWM`` is the peak of resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found, status
    return int(found[1]) * 1024


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = _stat(pid)
    assert fields is not None, "it has ended"
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
