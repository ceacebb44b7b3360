"""Limits that scripts set for themselves, on the real sandbox, and what jobs say of how they ended and what they used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minwebhook.errors import SandboxError
from minwebhook.sandbox.cgroups import Groups
from tests.sandbox.conftest import CONTAINED, start
from tests.server import Client, Server

MIB = 1024 * 1024
PATH = "u/admin/limited"


@pytest.fixture(scope="module")
def server(rung: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose scripts may have twice the memory and space of others, but no more."""
    maxima: tuple[str, ...] = ("--job-memory-bytes", str(512 * MIB), "--job-max-memory-bytes", str(1024 * MIB))
    maxima += ("--job-max-tmp-bytes", str(128 * MIB), "--job-max-file-bytes", str(128 * MIB))
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", *maxima)
    yield server
    server.close()


def run(client: Client, code: str, limits: dict[str, Any], language: str = "python3", **more: Any) -> dict[str, Any]:
    """The job object of a run with these limits."""
    client.deploy(PATH, code, language, limits=limits, **more)
    return client.ended(client.submit(PATH))


RLIMITS = """
import os, resource
def main():
    names = ("AS", "NOFILE", "FSIZE", "CPU")
    return {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}
"""


def test_a_script_may_lower_and_raise_its_limits(client: Client) -> None:
    usual = run(client, RLIMITS, {})["result"]
    assert (usual["AS"], usual["NOFILE"]) == ([512 * MIB] * 2, [256] * 2)
    asked = {"memory_bytes": 4096 * MIB, "open_files": 32, "file_bytes": 1000, "processes": 7, "cpu_s": 2}
    shown = run(client, RLIMITS, asked)["result"]
    assert shown["AS"] == [1024 * MIB] * 2  # the maximum
    assert (shown["NOFILE"], shown["FSIZE"], shown["CPU"]) == ([32] * 2, [1000] * 2, [3] * 2)


def test_bash_has_them_too(client: Client) -> None:
    code = "echo $(ulimit -Hv) $(ulimit -Hn) $(ulimit -Hf) $(ulimit -Ht)"
    done = run(client, code, {"memory_bytes": 128 * MIB, "open_files": 20, "file_bytes": 4096, "cpu_s": 1}, "bash")
    assert done["result"] == f"{128 * 1024} 20 4 2"


def test_the_script_shows_them(client: Client) -> None:
    client.deploy(PATH, "def main(): ...", limits={"cpu_s": 1.5})
    assert client.get(f"/scripts/get/p/{PATH}").json()["limits"] == {"cpu_s": 1.5}
    body = {"path": PATH, "summary": "", "description": "", "content": "", "language": "python3"}
    answer = client.post("/scripts/create", {**body, "limits": {"cpu": 1}})
    assert (answer.status, "limits.cpu is no limit" in answer.text) == (400, True)


SPACE = """
import os
def main():
    written = 0
    try:
        for number in range(3):
            with open(f"/tmp/{number}", "wb") as file:
                for _ in range(48):
                    file.write(bytes(1024 * 1024))
                    file.flush()
                    written += 1
    except OSError as error:
        return [written, error.errno]
    return [written, 0]
"""


@pytest.mark.parametrize(("size", "least", "most"), [(4, 3, 4), (128, 120, 128), (1000, 120, 128)])
def test_space(client: Client, size: int, least: int, most: int) -> None:
    written, errno = run(client, SPACE, {"tmp_bytes": size * MIB})["result"]
    assert (least <= written <= most, errno) == (True, 28)
    # The next job in the same place has the usual space again.
    for _ in range(3):
        written, errno = run(client, SPACE, {})["result"]
        assert (60 <= written <= 64, errno) == (True, 28)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python3", "def main():\n    while True:\n        pass\n"),
        (
            "python3",  # no process of it uses much
            CONTAINED + "import time\ndef main():\n    while True:\n        if os.fork() == 0:\n"
            "            end = time.process_time() + 0.05\n            while time.process_time() < end:\n"
            "                pass\n            os._exit(0)\n        os.wait()\n",
        ),
        (
            "python3",  # out of sight of its parent
            CONTAINED
            + "import time\ndef main():\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
            "            while True:\n                pass\n        os._exit(0)\n    time.sleep(60)\n",
        ),
        ("bash", "while :; do :; done"),
        ("bash", "(while :; do :; done) & (while :; do :; done) & wait"),
    ],
)
def test_processor_time_of_all_processes(client: Client, language: str, code: str) -> None:
    done = run(client, code, {"cpu_s": 0.4}, language, timeout=30)
    assert done["ended_by"] == "cpu", done
    assert "more than 0.4 s of processor time" in done["result"]["error"]["message"]
    assert done["duration_ms"] < 10_000


def test_a_dedicated_process_has_its_time_for_each_job(client: Client) -> None:
    code = (
        "import os, time\n"
        "def main(seconds=0.2):\n"
        "    end = time.process_time() + seconds\n"
        "    while time.process_time() < end:\n"
        "        pass\n"
        "    return os.getpid()\n"
    )
    client.deploy(PATH, code, limits={"cpu_s": 0.7}, dedicated_worker=True)
    for _ in range(6):
        assert client.run(PATH).json() == 1
    assert client.ended(client.submit(PATH, {"seconds": 30}))["ended_by"] == "cpu"
    assert client.run(PATH).json() == 1


@pytest.mark.parametrize(
    ("language", "code", "more", "ended_by"),
    [
        ("python3", "def main():\n    while True:\n        pass\n", {"timeout": 1}, "timeout"),
        ("python3", "def main():\n    print('x' * 5000)\n", {"limits": {"log_bytes": 2000}}, "log"),
        ("python3", "def main():\n    return 'x' * 5000\n", {"limits": {"result_bytes": 2000}}, "result"),
        ("python3", "def main():\n    return len(bytearray(200 * 1024 ** 2))\n", {"limits": {"memory_bytes": 128 * MIB}}, "oom"),
        ("python3", "import os\ndef main():\n    os.kill(os.getpid(), 9)\n    os.abort()\n", {}, "signal 11"),
        ("bash", "kill -USR1 $$", {}, "signal 10"),
        ("python3", "def main():\n    return 1\n", {"limits": {"log_bytes": 2000}}, None),
        ("python3", "def main():\n    raise ValueError('x')\n", {}, None),
    ],
)  # fmt: skip
def test_a_job_says_which_limit_ended_it(
    client: Client, language: str, code: str, more: dict[str, Any], ended_by: str | None
) -> None:
    client.deploy(PATH, code, language, **more)
    done = client.ended(client.submit(PATH))
    assert done.get("ended_by") == ended_by, done
    if ended_by == "log":
        assert "limits.log_bytes of the script" in done["result"]["error"]["message"]


@pytest.mark.parametrize(
    "make",
    [
        "os.fork() or time.sleep(60)",
        "subprocess.Popen(['sleep', '60'])",
        "threading.Thread(target=time.sleep, args=[60], daemon=True).start()",
    ],
)
def test_too_many_processes(client: Client, make: str) -> None:
    code = f"{CONTAINED}import subprocess, threading, time\ndef main():\n    for _ in range(20):\n        {make}\n"
    assert run(client, code, {"processes": 6})["ended_by"] == "pids"


def test_what_a_job_used(client: Client) -> None:
    code = (
        "import time\n"
        "def main():\n"
        "    kept = bytearray(b'x') * (100 * 1024 ** 2)\n"
        "    end = time.process_time() + 0.3\n"
        "    while time.process_time() < end:\n"
        "        pass\n"
    )
    done = run(client, code, {})
    assert 0.3 <= done["cpu_s"] < 3
    assert 100 * 1024 < done["mem_peak"] < 300 * 1024
    small = run(client, "def main():\n    return 1\n", {})
    assert small["cpu_s"] < 0.1
    assert small["mem_peak"] < 60 * 1024
    shell = run(client, "for n in 1 2 3; do head -c 30000000 /dev/zero | sha256sum; done", {}, "bash")
    assert shell["cpu_s"] > 0.05
    killed = run(client, "def main():\n    while True:\n        pass\n", {}, timeout=1)
    assert killed["cpu_s"] > 0.1


def test_what_a_job_used_outlives_the_server(rung: str, tmp_path: Path) -> None:
    server = start(rung, tmp_path / "data")
    try:
        client = server.client()
        client.deploy(PATH, "import os\ndef main():\n    os.abort()\n")
        before = client.ended(client.submit(PATH))
        server.stop()
        after = server.start().job(before["id"])
        assert (after["cpu_s"], after["mem_peak"], after["ended_by"]) == (
            before["cpu_s"], before["mem_peak"], "signal 11",
        )  # fmt: skip
    finally:
        server.close()


def test_a_job_that_lies_about_what_it_used(client: Client) -> None:
    from tests.sandbox.test_hostile import FRAMES

    for payload in ("b''", "b'x' * 7", "b'x' * 100"):
        code = f"{FRAMES}\ndef main():\n    os.write(3, frame(b'U', {payload}))\n    os.read(3, 1)\n"
        assert "unreadable figures" in run(client, code, {})["result"]["error"]["message"]
    code = f"{FRAMES}\ndef main():\n    os.write(3, frame(b'U', b'\\xff' * 8) + frame(b'R', b'1'))\n    os.read(3, 1)\n"
    told = run(client, code, {})["mem_peak"]
    try:
        is_counted = "memory" in Groups.open().features
    except SandboxError:
        is_counted = False
    assert told < 60 << 10 if is_counted else told == 2**32 - 1
