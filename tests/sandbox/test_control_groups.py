"""Control groups, on the real server: all processes of a job together have its limits, its figures are those of all of them,
and nothing is left. What version there is, the machine decides.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minwebhook.errors import SandboxError
from minwebhook.sandbox import hierarchies
from minwebhook.sandbox.cgroups import Groups
from minwebhook.sandbox.plan import LIMITS_OF_GROUPS
from tests.conftest import missing
from tests.sandbox.conftest import (
    ORDINARY_USER,
    folder_of,
    ordinary_environment,
    ordinary_interpreter,
    start,
)
from tests.server import Client, Server, eventually

MIB = 1 << 20
PATH = "u/admin/grouped"
#: No more than so much is ever taken, wherever that gets.
LIMIT, TAKEN = 192 * MIB, 320 * MIB


def folders() -> list[Path]:
    """What servers have made, in every tree where this process could."""
    found = hierarchies.find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    return [folder for each in found for folder in Path(each.folder).glob("minwebhook-*")]


def of(pid: int) -> list[Path]:
    """Those of one server."""
    return [folder for folder in folders() if folder.name.startswith(f"minwebhook-{pid}-")]


@pytest.fixture(scope="module")
def features() -> frozenset[str]:
    """What control groups can do here."""
    try:
        return Groups.open().features
    except SandboxError as error:
        missing(f"control groups: {error}")


@pytest.fixture(scope="module")
def server(features: frozenset[str], rung: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose jobs may have little memory."""
    sizes = ("--job-memory-bytes", str(LIMIT - 64 * MIB), "--job-tmp-bytes", str(64 * MIB), "--job-open-files", "32")
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", *sizes, "--job-max-memory-bytes", str(1024 * MIB))
    yield server
    server.close()


def run(client: Client, code: str, language: str = "python3", **more: Any) -> dict[str, Any]:
    """The job object of a run."""
    client.deploy(PATH, code, language, **more)
    return client.ended(client.submit(PATH))


#: Each process stays below the limit of one; the parent says so if all of them got through.
TOGETHER = f"""
import os, signal, time
def main():
    report, told = os.pipe()
    pids = []
    for _ in range({TAKEN} // {32 * MIB}):
        pid = os.fork()
        if pid == 0:
            kept = bytearray(b"x") * {32 * MIB}
            os.write(told, b"!")
            time.sleep(60)
        pids.append(pid)
    os.close(told)
    count = 0
    while count < len(pids) and os.read(report, 1):
        count += 1
        for pid in pids:
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise RuntimeError("one of mine was ended")
    return count
"""
#: Files in memory, which are in no process's address space.
FILES = f"""
import os
def main():
    kept = []
    while len(kept) < {TAKEN} // {16 * MIB}:
        kept.append(os.memfd_create("x"))
        for _ in range(16):
            os.write(kept[-1], bytes({MIB}))
    return len(kept)
"""


@pytest.mark.parametrize("code", [TOGETHER, FILES], ids=["processes", "files"])
def test_memory_of_all_processes(client: Client, features: frozenset[str], code: str) -> None:
    if "memory" not in features:
        missing("the memory controller")
    done = run(client, code)
    assert done["ended_by"] == "oom", done
    assert 0.8 * LIMIT < 1024 * done["mem_peak"] <= LIMIT
    if "all its processes" in done["result"]["error"]["message"]:
        assert done["result"]["error"]["name"] == "ExecutionErr"


def test_a_script_has_the_memory_that_it_asks_for(client: Client, features: frozenset[str]) -> None:
    if "memory" not in features:
        missing("the memory controller")
    assert run(client, TOGETHER, limits={"memory_bytes": 512 * MIB})["result"] == TAKEN // (32 * MIB)
    # The next one in the same group has the usual again.
    for _ in range(4):
        assert run(client, FILES)["ended_by"] == "oom"


COUNT = """
import os, time
def main():
    made = 0
    try:
        while made < 40:
            if os.fork() == 0:
                time.sleep(60)
            made += 1
    except BlockingIOError:
        pass
    return made
"""


def test_processes(client: Client, features: frozenset[str]) -> None:
    if "processes" not in features:
        missing("the pids controller")
    assert run(client, COUNT, limits={"processes": 7})["result"] == 6
    assert run(client, COUNT)["result"] == 40
    # A script that only says so is not believed.
    done = run(client, 'def main():\n    raise RuntimeError("can\'t start new thread")\n')
    assert "ended_by" not in done, done


def test_what_all_processes_used(client: Client, features: frozenset[str]) -> None:
    """Those that nobody waited for among them, which no process could tell of."""
    code = (
        "import os, signal, time\n"
        "def main():\n"
        "    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "    end, told = os.pipe()\n"
        "    for _ in range(3):\n"
        "        if os.fork() == 0:\n"
        "            kept = bytearray(b'x') * (20 << 20)\n"
        "            stop = time.process_time() + 0.2\n"
        "            while time.process_time() < stop:\n"
        "                pass\n"
        "            os.write(told, b'!')\n"
        "            time.sleep(60)\n"
        "    for _ in range(3):\n"
        "        os.read(end, 1)\n"
    )
    done = run(client, code)
    assert "cpu" not in features or 0.6 <= done["cpu_s"] < 3, done
    assert "memory" not in features or 60 << 10 <= done["mem_peak"] < 120 << 10, done
    again = run(client, "def main():\n    return 1\n")
    assert again["cpu_s"] < 0.1
    assert "memory" not in features or again["mem_peak"] < 30 << 10


def peaks_can_be_set_back() -> bool:
    """Of version 2 from Linux 6.12 on."""
    branch = Groups.open().branch()
    try:
        return branch.take(64 * MIB, 8).restart_peak()
    finally:
        branch.close()


def test_what_a_process_enters_it_enters_without_waiting_where_that_is_possible(features: frozenset[str]) -> None:
    """Of version 1 by its one thread. A tree that is good for killing alone is left out where nobody kills by groups."""
    groups = Groups.open()
    used: dict[bool, frozenset[str]] = {}
    for kills in (True, False):
        branch = groups.branch(kills=kills)
        try:
            group = branch.take(64 * MIB, 8)
            doors = [Path(f"/proc/self/fd/{fd}").readlink() for fd in group.entrances()]
            used[kills] = group.counts
            for door in doors:
                is_unified = (door.parent / "cgroup.events").exists()
                assert door.name == ("cgroup.procs" if is_unified else "tasks")
        finally:
            branch.close()
    assert used[True] == features
    assert used[False] >= features - {"kill"}


def test_each_job_of_a_process_that_stays_is_counted_by_itself(client: Client, features: frozenset[str]) -> None:
    code = (
        "import time\n"
        "def main(mib=1, seconds=0.0):\n"
        "    kept = bytearray(b'x') * (mib << 20)\n"
        "    stop = time.process_time() + seconds\n"
        "    while time.process_time() < stop:\n"
        "        pass\n"
    )
    client.deploy(PATH, code, dedicated_worker=True)
    big = client.ended(client.submit(PATH, {"mib": 60, "seconds": 0.3}))
    small = client.ended(client.submit(PATH))
    assert big["cpu_s"] >= 0.3
    assert small["cpu_s"] < 0.2
    if "memory" in features:
        assert big["mem_peak"] >= 60 << 10
        assert not peaks_can_be_set_back() or small["mem_peak"] < 40 << 10


def test_a_job_is_not_blamed_for_what_an_earlier_one_of_its_process_met(
    client: Client, features: frozenset[str]
) -> None:
    code = (
        "import os, signal, time\n"
        "def main(forks=False):\n"
        "    if not forks:\n"
        "        raise ValueError('no')\n"
        "    pids = []\n"
        "    try:\n"
        "        while len(pids) < 100:\n"
        "            pid = os.fork()\n"
        "            if pid == 0:\n"
        "                time.sleep(60)\n"
        "            pids.append(pid)\n"
        "    except OSError:\n"
        "        return len(pids)\n"
        "    finally:\n"
        "        for pid in pids:\n"
        "            os.kill(pid, signal.SIGKILL)\n"
        "            os.waitpid(pid, 0)\n"
    )
    client.deploy(PATH, code, dedicated_worker=True, limits={"processes": 8})
    first = client.ended(client.submit(PATH, {"forks": True}))
    assert first["success"] and first["result"] < 8, first
    failed = client.ended(client.submit(PATH))
    assert not failed["success"]
    assert failed.get("ended_by") is None, failed


def test_groups_are_used_again_and_removed(features: frozenset[str], rung: str, tmp_path: Path) -> None:
    server = start(rung, tmp_path / "data")
    try:
        client = server.client()
        for _ in range(20):
            client.preview("def main():\n    return 1")
        pid = server.pid
        (first, *_) = of(pid)
        groups = [folder for folder in first.glob("*/*") if folder.is_dir()]
        assert 0 < len(groups) < 20
        server.stop()
        assert not of(pid)
        # A killed one removes nothing; the next one does.
        server.start()
        pid = server.pid
        left = of(pid)
        os.kill(pid, signal.SIGKILL)
        server.wait()
        assert left
        server.start()
        assert not any(folder.exists() for folder in left)
        assert of(server.pid)
    finally:
        server.close()


@contextlib.contextmanager
def delegated(user: int) -> Iterator[tuple[int, ...]]:
    """A group in every tree that belongs to ``user``: descriptors by which a process gets there."""
    found = hierarchies.find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    made = [Path(each.folder) / f"delegated-{os.getpid()}" for each in found if os.access(each.folder, os.W_OK)]
    entrances: list[int] = []
    try:
        for folder in made:
            if "cpuset" in str(folder):
                continue  # it must be told its processors first
            folder.mkdir()
            for name in ("", "cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"):
                if (folder / name).exists():
                    os.chown(folder / name, user, user)
            entrances.append(os.open(folder / "cgroup.procs", os.O_WRONLY))
        yield tuple(entrances)
    finally:
        for fd in entrances:
            os.close(fd)
        for folder in made:
            eventually(partial(removed, folder), f"the end of {folder}", 5)


def removed(folder: Path) -> bool:
    """Removes a group and those in it; whether they are gone."""
    for below in [*folder.glob("*/*/*/"), *folder.glob("*/*/"), *folder.glob("*/"), folder]:
        with contextlib.suppress(OSError):
            below.rmdir()
    return not folder.exists()


@contextlib.contextmanager
def of_an_ordinary_user(entrances: tuple[int, ...] = ()) -> Iterator[Server]:
    """A server of one."""
    if os.geteuid() != 0:
        missing("root, to become an ordinary user")
    if not (program := ordinary_interpreter()):
        missing("an interpreter that ordinary users may run")
    with folder_of(ORDINARY_USER) as folder:
        server = start(
            "userns",
            folder / "data",
            environment=ordinary_environment(),
            interpreter=program,
            run_as=ORDINARY_USER,
            entrances=entrances,
        )
        try:
            yield server
        finally:
            server.close()


def told_missing(client: Client) -> set[str]:
    """What health says is missing of the sandbox."""
    return {each["name"] for each in client.get("/api/health/detailed").json()["checks"]["sandbox"]["missing"]}


def test_an_ordinary_user_to_whom_groups_are_delegated(features: frozenset[str]) -> None:
    with delegated(ORDINARY_USER) as entrances, of_an_ordinary_user(entrances) as server:
        client = server.client()
        assert not told_missing(client) & {name for key, name in LIMITS_OF_GROUPS.items() if key in features}
        if "processes" in features:
            assert run(client, COUNT, limits={"processes": 7})["result"] == 6
        if "memory" in features:
            client.deploy(PATH, FILES, limits={"memory_bytes": LIMIT - 64 * MIB})
            assert client.ended(client.submit(PATH))["ended_by"] == "oom"


def test_an_ordinary_user_to_whom_none_are_delegated() -> None:
    """All that is missing is said, and what nothing would count is not there."""
    with of_an_ordinary_user() as server:
        client = server.client()
        assert told_missing(client) >= set(LIMITS_OF_GROUPS.values())
        for name in LIMITS_OF_GROUPS.values():
            assert f"sandbox: {name} does not work here: " in server.log
        assert "Delegate=yes" in server.log
        assert "Function not implemented" in run(client, FILES)["result"]["error"]["message"]
