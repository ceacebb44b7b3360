"""The rung without namespaces: what Landlock and the filter keep scripts off, for root's server and an ordinary user's."""

from __future__ import annotations

import ctypes
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minwebhook.child import landlock
from tests.conftest import missing
from tests.sandbox.conftest import ORDINARY_USER, folder_of, ordinary_environment, ordinary_interpreter, start
from tests.server import Client, Server, descendants, eventually


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Path]]:
    """A server on the rung, and a directory that it may read and scripts may not."""
    is_ordinary = request.param != "root"
    if os.geteuid() != 0:
        missing("tests of this rung start servers as two users: not running as root")
    if not (interpreter := ordinary_interpreter()):
        missing("an interpreter that ordinary users may read")
    more: dict[str, Any] = {}
    if is_ordinary:
        if landlock.version() < landlock.SCOPE_VERSION:
            missing("Landlock with scopes (Linux 6.12)")
        more = {"environment": ordinary_environment(), "interpreter": interpreter, "run_as": ORDINARY_USER}
    with folder_of(ORDINARY_USER if is_ordinary else None) as folder:
        server = start("landlock", folder / "data", "--python", interpreter, **more)
        yield server, folder
        server.close()


@pytest.fixture
def client(place: tuple[Server, Path]) -> Iterator[Client]:
    server, _ = place
    client = server.client()
    yield client
    assert client.preview("def main():\n    return 'well'").json() == "well"
    assert client.preview("echo well", language="bash").json() == "well"


def tried(client: Client, *statements: str) -> list[Any]:
    """What came of each statement: an errno, or "done"."""
    code = "import ctypes, os, resource, signal, socket, tempfile\ndef main():\n    out = []\n"
    for statement in statements:
        code += f"    try:\n        {statement}\n        out.append('done')\n"
        code += "    except OSError as error:\n        out.append(error.errno)\n"
    answer = client.preview(code + "    return out\n").json()
    assert isinstance(answer, list), answer
    return answer


def test_queues_semaphores_and_memory_of_the_machine(client: Client) -> None:
    """System V IPC that everybody may use, by its number: there is no IPC namespace here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if (queue := libc.msgget(0, 0o1666)) < 0:
        missing("System V message queues")
    try:
        calls: tuple[str, ...] = (
            f"msgctl({queue}, 2, room)",
            f"msgsnd({queue}, room, 8, 0o4000)",
            f"msgrcv({queue}, room, 8, 0, 0o4000)",
        )
        calls += ("semctl(0, 0, 2, room)", "semop(0, room, 1)", "shmctl(0, 2, room)", "shmat(0, None, 0)")
        code = "import ctypes\ndef main():\n    libc = ctypes.CDLL(None, use_errno=True)\n    out = []\n"
        code += "    room = ctypes.create_string_buffer(1024)\n"
        for call in calls:
            code += f"    libc.{call}\n    out.append(ctypes.get_errno())\n    ctypes.set_errno(0)\n"
        assert client.preview(code + "    return out\n").json() == [1] * len(calls)
    finally:
        libc.msgctl(queue, 0, None)


def test_nothing_is_left_in_the_directory_of_all() -> None:
    """Of root's server the jobs' directories are below one in /tmp: gone after it, and after the next start of a killed one."""
    if os.geteuid() != 0 or not (interpreter := ordinary_interpreter()):
        missing("root, and an interpreter that ordinary users may read")
    before = set(Path(tempfile.gettempdir()).glob(".minwebhook-*"))

    def made() -> set[Path]:
        return set(Path(tempfile.gettempdir()).glob(".minwebhook-*")) - before

    with folder_of(None) as folder:
        server = start("landlock", folder / "data", "--python", interpreter)
        try:
            server.client().preview("def main():\n    open('left', 'w').write('x')")
            (scratch,) = made()
            server.kill()
            assert scratch.exists()
            server.flags = ("--insecure", "--sandbox", "none")  # whatever the next one has
            server.start()
            assert not made()
            server.kill()
            server.flags = ("--sandbox", "landlock", "--python", interpreter)
            server.start()
            assert made() == {scratch}
            server.stop()
            assert not made()
        finally:
            server.close()


def test_files(client: Client, place: tuple[Server, Path]) -> None:
    server, folder = place
    secret, planted = folder / "secret", folder / "planted"
    secret.write_text("secret")
    secret.chmod(0o666)
    seen = tried(
        client,
        "open('/etc/shadow')",
        "open('/etc/passwd')",
        "os.listdir('/root')",
        "os.listdir('/tmp')",
        "os.listdir('/proc')",
        f"open('/proc/{server.pid}/environ')",
        f"open({str(secret)!r})",
        f"open({str(secret)!r}, 'a')",
        f"open({str(planted)!r}, 'w')",
        f"os.chmod({str(secret)!r}, 0o777)",
        f"os.unlink({str(secret)!r})",
        f"os.link({str(secret)!r}, 'linked')",
        f"os.listdir({str(server.data)!r})",
        "open('/usr/planted', 'w')",
        "os.mkdir('/dev/shm/planted')",
    )
    assert set(seen) <= {1, 13, 18}, seen  # EPERM, EACCES, EXDEV
    assert (secret.read_text(), secret.stat().st_mode & 0o777, planted.exists()) == ("secret", 0o666, False)
    mine = ("open('/usr/bin/env')", "open('/etc/hosts')", "open('own', 'w').write('x')", "tempfile.TemporaryFile()")
    assert tried(client, *mine, "open('/dev/null', 'w')", "os.mkdir('d'); os.rename('own', 'd/own')") == ["done"] * 6


def test_processes_of_others(client: Client, place: tuple[Server, Path]) -> None:
    server, _ = place
    other = client.post("/jobs/run/preview", {"content": "sleep 60", "language": "bash"}).text
    client.running(other)
    pids = [server.pid, os.getpid(), 1, *descendants(server.pid)]
    assert len(pids) > 6
    seen = tried(
        client,
        *(f"os.kill({pid}, 0)" for pid in pids),
        f"resource.prlimit({server.pid}, resource.RLIMIT_NOFILE, (0, 0))",
        f"os.setpriority(os.PRIO_PROCESS, {server.pid}, 19)",
        f"os.sched_setaffinity({server.pid}, [0])",
        f"os.pidfd_open({server.pid}) and signal.pidfd_send_signal(os.pidfd_open({server.pid}), 0)",
    )
    own = [index for index, pid in enumerate(pids) if seen[index] == "done"]
    # Its own process may be among those that waited.
    assert len(own) <= 1, [pids[index] for index in own]
    assert set(seen) <= {1, 3, "done"}, seen
    client.post(f"/jobs_u/queue/cancel/{other}")
    client.ended(other)


def test_sockets(client: Client, place: tuple[Server, Path]) -> None:
    server, folder = place
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        listening.listen()
        seen = tried(
            client, "socket.socket(socket.AF_UNIX)", "socket.socket(17, socket.SOCK_RAW)", "socket.socketpair()"
        )
        assert seen == [1, 1, "done"]
    port = int(server.addresses[0].rpartition(":")[2])
    assert tried(client, f"socket.create_connection(('127.0.0.1', {port}))") == ["done"]


def test_privileges(client: Client, place: tuple[Server, Path]) -> None:
    libc = "libc = ctypes.CDLL(None, use_errno=True)"
    calls = (
        "unshare(0x10000000)",
        "unshare(0x20000)",
        "mount(b'x', b'/tmp', b'tmpfs', 0, 0)",
        "prctl(36, 0, 0, 0, 0)",
        "setns(0, 0)",
    )
    for call in calls:
        assert tried(client, f"{libc}\n        if libc.{call}: raise OSError(ctypes.get_errno(), '')") == [1], call
    uid = int(client.preview("id -u > result.out", language="bash").json())
    _, folder = place
    assert uid == (folder.stat().st_uid or uid) != 0


def test_a_job_finds_nothing_of_another(client: Client) -> None:
    for _ in range(6):
        seen = client.preview("import os\ndef main():\n    open('left', 'w')\n    return os.listdir('.')").json()
        assert seen == ["left"]
    # Of two at one time neither looks into the other's directory.
    body = {"content": "echo secret > mine; pwd; sleep 60", "language": "bash"}
    job_id = client.post("/jobs/run/preview", body).text
    eventually(lambda: "/" in client.logs(job_id), "its directory")
    directory = client.logs(job_id).splitlines()[-1]
    assert tried(client, f"os.listdir({directory!r})", f"open({directory + '/mine'!r})") == [13, 13]
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    client.ended(job_id)


def test_without_a_network_there_is_none(place: tuple[Server, Path]) -> None:
    server, _ = place
    client = server.client()
    client.deploy("u/admin/none", "import socket\ndef main():\n    socket.socket()", network="none")
    assert client.run("u/admin/none").error["name"] == "PermissionError"
