"""Under a service manager: passed sockets, notifications, reloads by SIGHUP, and restarts that no client notices."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.server import ADMIN_TOKEN, Client, Server, StartFailed, eventually

MakeServer = Callable[..., Server]

ADD = "def main(a: int):\n    return a + 1\n"

#: Becomes the server with the descriptors that the test passes at 3 and on, and its own pid in LISTEN_PID, as systemd does.
LAUNCHER = """
import os, sys
count = int(sys.argv[1])
moved = [os.dup2(int(fd), 100 + number) for number, fd in enumerate(sys.argv[3:3 + count])]
for number, fd in enumerate(moved):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "minwebhook", *sys.argv[3 + count:]])
"""


@contextmanager
def listening(*, backlog: int = 1024) -> Iterator[socket.socket]:
    """A socket as a service manager opens it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        yield sock


def start_with(
    sockets: list[socket.socket], names: str, data: Path, *flags: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    fds = [sock.fileno() for sock in sockets]
    with data.with_name(f"{data.name}.log").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                LAUNCHER,
                str(len(fds)),
                names,
                *map(str, fds),
                "serve",
                "--data",
                str(data),
                *flags,
            ],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"PATH": os.environ["PATH"], "MINWEBHOOK_ADMIN_TOKEN": ADMIN_TOKEN, **(environment or {})},
        )


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()


def ended(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    code = process.wait(30)
    process.stdout.close()
    return code


# --- passed sockets ---------------------------------------------------------------------------------------------------


def test_passed_sockets_are_served_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening() as web, listening() as metrics, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(path))
        local.listen()
        process = start_with([web, metrics, local], "web:metrics:local", tmp_path / "data", "--listen", "127.0.0.1:1")
        try:
            port = web.getsockname()[1]
            assert f"listening on http://127.0.0.1:{port} unix:{path}\n" in first_line(process)
            assert Client(f"http://127.0.0.1:{port}").get("/api/users/whoami").status == 200
            assert Client(f"unix:{path}").get("/api/users/whoami").status == 200
            probes = Client(f"http://127.0.0.1:{metrics.getsockname()[1]}", token="")
            assert probes.get("/readyz").status == 200
            assert probes.get("/api/version").status == 404
            process.send_signal(signal.SIGTERM)
            assert ended(process) == 0
            assert path.exists()  # it belongs to whoever made it
        finally:
            process.kill()
            ended(process)


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket() as unbound, (tmp_path / "file").open("wb") as file:
        for fd in (unbound, file):
            process = start_with([fd], "web", tmp_path / "data")  # type: ignore[list-item]
            assert ended(process) == 2
        log = (tmp_path / "data.log").read_text()
    assert "socket 'web' does not listen" in log
    assert "descriptor 3 is no socket" in log
    assert "Traceback" not in log


def test_sockets_of_another_process_are_not_ours(make_server: MakeServer) -> None:
    server = make_server(environment={"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"})
    assert server.start().get("/api/version").status == 200


# --- notifications ----------------------------------------------------------------------------------------------------


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)

    def next(self) -> dict[str, str]:
        """The next message that is not a sign of life."""
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if "WATCHDOG" not in message:
                return message


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_the_manager_is_told(make_server: MakeServer, tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "file" else f"@minwebhook-test-{os.getpid()}"
    manager = Manager(address)
    server = make_server("--grace-s", "3", environment={"NOTIFY_SOCKET": address})
    with manager.socket:
        client = server.start()
        message = manager.next()
        assert (message["READY"], message["STATUS"]) == ("1", f"listening on {server.addresses[0]}")
        server.signal(signal.SIGHUP)
        message = manager.next()
        assert message["RELOADING"] == "1"
        assert 0 < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 - int(message["MONOTONIC_USEC"]) < 20_000_000
        assert manager.next()["READY"] == "1"
        environment = client.preview("import os\ndef main():\n    return dict(os.environ)").json()
        assert not [name for name in environment if name.startswith(("NOTIFY", "LISTEN", "WATCHDOG"))]
        server.signal(signal.SIGTERM)
        message = manager.next()
        assert message["STOPPING"] == "1"
        assert int(message["EXTEND_TIMEOUT_USEC"]) >= 3_000_000
        assert server.wait() == 0


def test_signs_of_life(make_server: MakeServer, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    server = make_server(environment=environment)
    with manager.socket:
        server.start()
        seen = 0
        while seen < 5:
            seen += manager.socket.recv(4096) == b"WATCHDOG=1"
        os.kill(server.pid, signal.SIGSTOP)  # the loop does not turn any more
        try:
            manager.socket.settimeout(1.0)
            with pytest.raises(TimeoutError):
                for _ in range(10):  # what was on its way
                    manager.socket.recv(4096)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        manager.socket.settimeout(20)
        assert manager.socket.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["/nothing/is/here", "vsock:2:1234"])
def test_a_manager_that_cannot_be_told_is_no_reason_to_fail(make_server: MakeServer, address: str) -> None:
    server = make_server(environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert server.start().get("/api/version").status == 200
    assert server.stop() == 0
    assert "Traceback" not in server.log


# --- reloading --------------------------------------------------------------------------------------------------------


def reloaded(server: Server, number: int = 1) -> None:
    server.signal(signal.SIGHUP)
    eventually(lambda: server.log.count('"message":"reloaded: ') == number, "the reload")


def test_what_can_change_live_does_and_the_rest_is_said(make_server: MakeServer, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("sync_failure_status = '200'\nworkers = 1\n")
    server = make_server("--config", str(config))
    client = server.start()
    failing = "def main():\n    raise ValueError"
    assert client.preview(failing).status == 200
    config.write_text("sync_failure_status = '422'\nworkers = 2\naccess_log = false\nmax_body_bytes = 1000\n")
    reloaded(server)
    assert client.preview(failing).status == 422
    assert client.post("/jobs/run_wait_result/preview", {"content": "x" * 2000, "language": "bash"}).status == 413
    assert "sync_failure_status has changed" in server.log
    assert "workers has another value now, which counts from the next start on" in server.log
    before = server.log.count('"message":"request"')
    assert client.get("/api/version").status == 200
    assert server.log.count('"message":"request"') == before
    config.write_text("nonsense = 1\n")
    reloaded(server, 2)
    assert "unknown setting 'nonsense'" in server.log
    assert client.preview(failing).status == 422
    assert server.stop() == 0


def test_scripts_and_secrets_are_read_again(make_server: MakeServer, tmp_path: Path) -> None:
    root, secrets = tmp_path / "scripts", tmp_path / "secrets.toml"
    (root / "u/admin").mkdir(parents=True)
    (root / "u/admin/one.py").write_text("def main():\n    return 1")
    secrets.write_text('a = "first"\n')
    secrets.chmod(0o600)
    server = make_server("--scripts", str(root), "--hook-secrets", str(secrets))
    client = server.start()
    assert client.run("u/admin/one").json() == 1
    (root / "u/admin/one.py").write_text("def main():\n    return 'new'")
    (root / "u/admin/two.sh").write_text("echo two")
    reloaded(server)
    assert (client.run("u/admin/one").json(), client.run("u/admin/two").json()) == ("new", "two")
    (root / "u/admin/bad.txt").write_text("no script")
    (root / "u/admin/one.py").write_text("def main():\n    return 'never'")
    secrets.chmod(0o644)
    reloaded(server, 2)
    assert "scripts stay as they are: cannot deploy u/admin/bad.txt" in server.log
    assert "hook_secrets stay as they are" in server.log
    assert client.run("u/admin/one").json() == "new"


def write_certificate(authority: trustme.CA, folder: Path, name: str, **how: object) -> None:
    certificate = authority.issue_cert(name, **how)  # type: ignore[arg-type]
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


def test_certificates_change_under_open_connections(make_server: MakeServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    write_certificate(authority, tmp_path, "localhost")
    server = make_server("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    server.start()
    port = int(server.addresses[0].rpartition(":")[2])
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def serial() -> object:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            return (tls.getpeercert() or {})["serialNumber"]

    first = serial()
    kept = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    kept.request("GET", "/api/version")
    kept.getresponse().read()
    # Of another kind of key: OpenSSL would keep both.
    write_certificate(authority, tmp_path, "localhost", key_type=trustme.KeyType.RSA)
    reloaded(server)
    second = serial()
    assert second != first
    kept.request("GET", "/api/version")  # on the connection of before
    assert kept.getresponse().read().startswith(b"CE v")
    kept.close()
    (tmp_path / "key.pem").write_text("not a key")
    reloaded(server, 2)
    assert "certificates stay as they are: tls_cert" in server.log
    assert serial() == second


def test_the_grace_can_change_live(make_server: MakeServer, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("grace_s = 600\n")
    server = make_server("--config", str(config), "--workers", "1")
    client = server.start()
    client.deploy("u/admin/sleep", "import time\ndef main():\n    time.sleep(600)\n")
    client.running(client.submit("u/admin/sleep"))
    config.write_text("grace_s = 0\n")
    reloaded(server)
    assert server.stop() == 0
    assert "draining, at most 0 s" in server.log


# --- restarts ---------------------------------------------------------------------------------------------------------


class Callers:
    """Threads that call again and again, each on a connection of its own per call; what became of every call."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        body = json.dumps({"a": number})
        paths = ("/api/w/demo/jobs/run_wait_result/p/u/admin/add", "/api/w/demo/jobs/run/p/u/admin/add", "/api/version")
        while not self.stop.is_set():
            for path in paths:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=40)
                try:
                    method = "GET" if path == "/api/version" else "POST"
                    connection.request(
                        method,
                        path,
                        body if method == "POST" else None,
                        {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"},
                    )
                    response = connection.getresponse()
                    response.read()
                    outcome = str(response.status)
                    if response.status == 503:
                        outcome += f" {response.headers.get('Retry-After') is not None}"
                except OSError as error:
                    outcome = f"{type(error).__name__}: {error}"
                except http.client.HTTPException as error:
                    outcome = f"{type(error).__name__}: {error}"
                finally:
                    connection.close()
                self.outcomes[outcome] += 1

    def join(self) -> Counter[str]:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.outcomes


@pytest.mark.timeout(120)
def test_restarts_under_load_refuse_no_connection(tmp_path: Path) -> None:
    """The socket stays open all the time: clients wait in its backlog, or are answered; none is refused or cut."""
    data = tmp_path / "data"
    with listening() as web:
        port = web.getsockname()[1]
        process = start_with([web], "web", data, "--workers", "2")
        try:
            assert "listening" in first_line(process)
            client = Client(f"http://127.0.0.1:{port}")
            client.deploy("u/admin/add", ADD)
            callers = Callers(port, 6)
            for _ in range(4):
                before = sum(callers.outcomes.values())
                eventually(lambda before=before: sum(callers.outcomes.values()) > before + 60, "some calls", 30)  # type: ignore[misc]
                process.send_signal(signal.SIGTERM)
                assert ended(process) == 0
                process = start_with([web], "web", data, "--workers", "2")
                assert "listening" in first_line(process)
            outcomes = callers.join()
            # Told to come back: calls whose job could not start any more.
            assert set(outcomes) <= {"200", "201", "503 True"}, outcomes
            assert outcomes["200"] > 100
            process.send_signal(signal.SIGTERM)
            assert ended(process) == 0
        finally:
            process.kill()
            ended(process)


def test_a_taken_data_directory_with_passed_sockets(make_server: MakeServer, tmp_path: Path) -> None:
    first = make_server()
    first.start()
    with listening() as web:
        process = start_with([web], "web", first.data)
        assert ended(process) == 2
    with pytest.raises(StartFailed):
        make_server(data=first.data).start()
