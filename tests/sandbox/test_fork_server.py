"""The fork server itself: what it could do to the machine if somebody took it over, and which layers it can do without."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from minwebhook.child import wire
from minwebhook.runtimes.child import Child, Exchange
from minwebhook.runtimes.ladder import Reached, start_best
from minwebhook.runtimes.reports import Report
from minwebhook.sandbox.plan import FIRST_UID, NAMESPACED, UIDS_PER_ZYGOTE, USER_NAMESPACE
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.sandbox.conftest import CONTAINED
from tests.server import Client, Server, StartFailed, children, eventually, fork_servers

#: A user namespace with all ids of the machine in which no further one can be made, and the server in it.
WITHOUT_USER_NAMESPACES = """
import os, runpy, sys
from pathlib import Path
from minwebhook.child import kernel

go_read, go_write = os.pipe()
parent = os.getpid()
if (helper := os.fork()) == 0:
    os.read(go_read, 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{parent}/{name}").write_text("0 0 4294967295")
    os._exit(0)
kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
os.write(go_write, b"!")
assert os.waitpid(helper, 0)[1] == 0
Path("/proc/sys/user/max_user_namespaces").write_text("0")
runpy.run_module("minwebhook", run_name="__main__", alter_sys=True)
"""


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


@pytest.mark.parametrize("rung", ["root"], indirect=True, scope="module")
def test_on_root_the_fork_server_is_an_ordinary_user_of_the_machine(client: Client, server: Server, rung: str) -> None:
    (outer,) = fork_servers(server.pid)
    (inner,) = children(outer)
    for pid in (outer, inner):
        assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
        shown = status(pid)
        assert set(shown["Uid"].split()) == set(shown["Gid"].split()) == {str(FIRST_UID)}
        assert shown["Groups"].strip() == ""
        for name in ("net", "cgroup"):
            assert Path(f"/proc/{pid}/ns/{name}").readlink() == Path(f"/proc/self/ns/{name}").readlink()


@pytest.mark.parametrize("rung", ["root"], indirect=True, scope="module")
def test_on_root_a_job_has_its_uid_inside_and_outside(client: Client, server: Server, rung: str) -> None:
    code = CONTAINED + "import time\ndef main():\n    print(os.getuid(), flush=True)\n    time.sleep(60)\n"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "python3"}).text
    client.running(job_id)
    (outer,) = fork_servers(server.pid)
    (inner,) = children(outer)
    own = set(range(FIRST_UID + 1, FIRST_UID + UIDS_PER_ZYGOTE))

    def uids() -> set[int]:
        """Those of all, once none is between its fork and its confinement."""
        found = {int(status(pid)["Uid"].split()[0]) for pid in children(inner)}
        return found if found <= own else set()

    seen = eventually(uids, "each process has a uid of its own")
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    client.ended(job_id)
    assert int(client.logs(job_id).splitlines()[-1]) in seen


@pytest.mark.parametrize("name", ["vm/swappiness", "kernel/core_pattern", "kernel/modprobe"])
@pytest.mark.parametrize("language", ["python3", "bash"])
def test_what_the_kernel_is_told_cannot_be_changed(client: Client, language: str, name: str) -> None:
    """Writes nothing: it is enough that the file cannot be opened for writing, also not by who is uid 0 outside."""
    path = f"/proc/sys/{name}"
    code = {
        "python3": f"def main():\n    try:\n        return bool(open({path!r}, 'ab'))\n    except OSError:\n        return False",
        "bash": f"{{ : >> {path}; }} 2>/dev/null && echo true > result.json || echo false > result.json",
    }[language]
    assert client.preview(code, language=language).json() is False


def reach(directory: Path, **changes: Any) -> tuple[Reached, bool]:
    """What start_best gives, and whether the fork server has rights on the machine."""
    found: list[tuple[Reached, bool]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            zygote, reached = await start_best(nursery, replace(SandboxSettings(), **changes), directory)
            found.append((reached, zygote.has_host_rights))
            nursery.cancel_scope.cancel()

    trio.run(main)
    return found[0]


def test_the_server_knows_whether_the_fork_server_has_rights_on_the_machine(rung: str, tmp_path: Path) -> None:
    reached, has_rights = reach(tmp_path, sandbox=rung)
    assert reached.rung == rung
    assert not has_rights


def test_without_isolation_it_has_them(tmp_path: Path) -> None:
    reached, has_rights = reach(tmp_path, sandbox="none", insecure=True)
    assert (reached.rung, reached.missing, has_rights) == ("none", (), True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_without_user_namespaces_does_what_it_can(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", ("--workers", "1"), program=("-c", WITHOUT_USER_NAMESPACES))
    try:
        client = server.start()
        assert "sandbox root:" in server.log
        assert f"sandbox: {USER_NAMESPACE} does not work here: [Errno 28] unshare:" in server.log
        assert "user.max_user_namespaces" in server.log
        assert client.preview(CONTAINED + "def main():\n    return os.getuid()").json() > FIRST_UID
        assert client.preview("echo on", language="bash").json() == "on"
    except StartFailed as failed:
        missing(f"a user namespace with all ids: {failed.errors}")
    finally:
        server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_demand_that_cannot_be_met_says_what_would_help(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", ("--sandbox", "userns"), program=("-c", WITHOUT_USER_NAMESPACES))
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert "scripts cannot be isolated here (userns: [Errno 28] unshare:" in failed.value.errors
    assert "user.max_user_namespaces" in failed.value.errors
    assert "--insecure" in failed.value.errors


TELLS = """
import os

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True

def main(name):
    open(name, "w").close()
    return {"files": os.listdir("."), "open": [fd for fd in range(256) if is_open(fd)], "uid": os.getuid(), "pid": os.getpid()}
"""


def test_children_that_are_forked_together_share_nothing(rung: str, tmp_path: Path) -> None:
    count = 12
    told: dict[int, dict[str, Any]] = {}

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            zygote, _ = await start_best(nursery, replace(SandboxSettings(), sandbox=rung), tmp_path)
            children: list[Child] = []
            all_came = trio.Event()

            def deliver(child: Child | None, reason: str) -> None:
                assert child is not None, reason
                children.append(child)
                if len(children) == count:
                    all_came.set()

            for _ in range(count):
                zygote.spawn("python3", deliver)
            with trio.fail_after(30):
                await all_came.wait()

            async def run(number: int) -> None:
                job = os.urandom(8)
                header = wire.pack_header("u/a/b", {}, stays=True)
                exchange = Exchange(job, max_payload=10_000, on_log=lambda data: True, on_code=lambda code: None)
                arguments = json.dumps({"name": f"of {number}"}).encode()
                end = await children[number].run(wire.pack_job(header, TELLS.encode(), b"", arguments, job), exchange)
                assert isinstance(end, Report)
                told[number] = json.loads(end.payload)

            async with trio.open_nursery() as runs:  # they stay, so all are there at the same time
                for number in range(count):
                    runs.start_soon(run, number)
            for child in children:
                child.end()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert [told[number]["files"] for number in range(count)] == [[f"of {number}"] for number in range(count)]
    assert {tuple(each["open"]) for each in told.values()} == {(0, 1, 2, 3)}
    if rung == "root":
        assert len({each["uid"] for each in told.values()}) == count
    if rung in NAMESPACED:
        assert {each["pid"] for each in told.values()} == {1}
