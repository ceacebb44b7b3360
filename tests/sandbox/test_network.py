"""Scripts without a network reach this server, and nothing else; all scripts are kept off the sockets of the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minwebhook.child import landlock
from tests.conftest import missing
from tests.sandbox.conftest import start
from tests.server import Client, Server, eventually, fork_servers, unique

PATH = "u/admin/cut_off"

CALL = """
import json, os, urllib.request

def call(path, data=None):
    request = urllib.request.Request(
        os.environ["BASE_INTERNAL_URL"] + "/api/w/" + os.environ["WM_WORKSPACE"] + path,
        data=None if data is None else json.dumps(data).encode(),
        headers={"Authorization": "Bearer " + os.environ["WM_TOKEN"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)

def main():
    job = call("/jobs_u/get/" + os.environ["WM_JOB_ID"])
    return [job["script_path"], job["running"], os.environ["BASE_INTERNAL_URL"], os.environ["BASE_URL"]]
"""

CONNECT = """
import socket
def main(family, address, kind=1):
    try:
        with socket.socket(family, kind) as end:
            end.settimeout(3)
            end.connect(address if isinstance(address, str) else tuple(address))
            return "connected"
    except OSError as error:
        return error.errno
"""


@pytest.fixture(params=["script", "instance"], scope="module")
def cut_off(request: pytest.FixtureRequest, rung: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Deploys a script that has no network: because it says so, or because nobody has."""
    is_own = request.param == "script"
    flags = () if is_own else ("--sandbox-network", "none")
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", *flags)
    client = server.client()

    def deploy(code: str, language: str = "python3", **more: Any) -> Client:
        # Where nobody has one a script cannot have one either.
        client.deploy(PATH, code, language, network="none" if is_own else "host", **more)
        return client

    yield deploy
    server.close()


def test_it_calls_its_server(cut_off: Any) -> None:
    path, running, internal, base = cut_off(CALL).run(PATH).json()
    assert (path, running, internal) == (PATH, True, "http://127.0.0.1:8000")
    assert base != internal
    client = cut_off(
        'exec 3<>/dev/tcp/127.0.0.1/8000; printf "GET /api/version HTTP/1.0\\r\\n\\r\\n" >&3; head -1 <&3', "bash"
    )
    assert client.run(PATH).json().startswith("HTTP/1.")
    client = cut_off(CALL, dedicated_worker=True)
    assert [client.run(PATH).json()[1] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_services_of_the_machine_are_out_of_reach(cut_off: Any, family: socket.AddressFamily, kind: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with contextlib.ExitStack() as stack:
        try:
            listening = stack.enter_context(socket.socket(family, kind))
            listening.bind((host, 0))
            if kind == socket.SOCK_STREAM:
                listening.listen()
        except OSError as error:
            missing(f"the loopback address {host}: {error}")
        address = list(listening.getsockname()[:2])
        client = cut_off(CONNECT)
        assert client.run(PATH, {"family": int(family), "address": address, "kind": kind}).json() != "connected"
    far = {"family": int(socket.AF_INET), "address": ["192.0.2.1", 8000], "kind": kind}
    assert client.run(PATH, far).json() in (1, 13, 101)  # EPERM, EACCES, ENETUNREACH


def test_abstract_sockets_of_the_machine_are_out_of_reach_of_all(cut_off: Any, client: Client) -> None:
    if landlock.version() < landlock.SCOPE_VERSION:
        missing("Landlock with scopes (Linux 6.12)")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{unique('abstract'[:8])}")
        listening.listen()
        asked = {"family": int(socket.AF_UNIX), "address": listening.getsockname().decode()}
        assert cut_off(CONNECT).run(PATH, asked).json() in (1, 111)
        client.deploy(PATH, CONNECT)  # with a network
        assert client.run(PATH, asked).json() == 1


LISTEN = """
import socket, threading, time
def main(port, name, wait):
    tcp = socket.create_server(("127.0.0.1", port))
    own = socket.create_connection(tcp.getsockname(), 5).getpeername()
    local = socket.socket(socket.AF_UNIX)
    local.bind("\\0" + name)
    local.listen()
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        print(own[1] == port, error.errno, flush=True)
    time.sleep(wait)
"""


def test_jobs_cannot_talk_to_each_other(cut_off: Any) -> None:
    """Each may listen to itself."""
    client, name = cut_off(LISTEN), unique("between")
    job_id = client.submit(PATH, {"port": 9000, "name": name, "wait": 60})
    eventually(lambda: client.logs(job_id).endswith("True 1\n"), "the first job listens")
    client = cut_off(CONNECT)
    for family, address in ((socket.AF_INET, ["127.0.0.1", 9000]), (socket.AF_UNIX, f"\0{name}")):
        assert client.run(PATH, {"family": int(family), "address": address}).json() == 111
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    client.ended(job_id)


@pytest.mark.parametrize("rung", ["root"], indirect=True, scope="module")
def test_the_address_is_there_again_after_the_fork_server_died(
    rung: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", "--sandbox-network", "none")
    try:
        client = server.client()
        client.deploy(PATH, CALL)
        for _ in range(3):
            eventually(lambda: client.run(PATH).text.startswith("["), "a call of the server")
            (outer,) = fork_servers(server.pid)
            os.kill(outer, signal.SIGKILL)
        eventually(lambda: client.run(PATH).text.startswith("["), "a call of the server")
        kinds = []
        for fd in Path(f"/proc/{server.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # one may be closed meanwhile
                kinds.append(str(fd.readlink()))
        assert len([kind for kind in kinds if kind.startswith("socket:")]) < 60
        assert server.stop() == 0
    finally:
        server.close()


def test_there_are_two_fork_servers_at_most(client: Client, server: Server) -> None:
    client.deploy(PATH, CALL, network="none")
    for _ in range(5):
        assert client.run(PATH).json()[1] is True
    assert len(fork_servers(server.pid)) == 2
