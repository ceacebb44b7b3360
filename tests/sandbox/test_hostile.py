"""Scripts that mean harm or are broken: the answer is an error object, the server lives, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import CONTAINED, start
from tests.server import (
    Client,
    Server,
    children,
    descendants,
    eventually,
    fork_servers,
    is_alive,
    memory_bytes,
    named,
    unique,
)

MIB = 1024 * 1024

#: Gives every process of the job a name that can be found from outside.
NAMED = (
    CONTAINED
    + """
import ctypes, signal, sys, time

def rename(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)

def leave_behind(name):
    '''A child, a grandchild in a session of its own, and one that ignores every signal it can.'''
    rename(name)
    if os.fork() == 0:
        time.sleep(300)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except OSError:
                    pass
            for fd in range(64):
                try:
                    os.close(fd)
                except OSError:
                    pass
            while True:
                time.sleep(300)
        os._exit(0)
    if os.fork() == 0:
        while True:
            pass
"""
)


def ended(name: str) -> None:
    eventually(lambda: not named(name), f"the end of every {name}", timeout_s=5)


@pytest.fixture(scope="module", autouse=True)
def bounded(server: Server) -> Any:
    """Behind the module the server's memory is bounded, whatever the scripts did."""
    yield
    assert memory_bytes(server.pid) < 250 * MIB


@pytest.mark.parametrize(
    ("name", "ending", "check"),
    [
        ("return", "return 'answer'", lambda value: value == "answer"),
        ("raise", "raise ValueError('x')", lambda value: value["error"]["name"] == "ValueError"),
        ("exit", "os._exit(5)", lambda value: value["error"]["exit_code"] == 5),
        ("segv", "ctypes.string_at(0)", lambda value: value["error"]["signal"] == 11),
        # The others keep the socket open: only the timeout ends them.
        ("close", "os.close(3); time.sleep(60)", lambda value: "timeout" in value["error"]["message"]),
    ],
)
def test_processes_left_behind_are_gone_after_the_end(client: Client, name: str, ending: str, check: Any) -> None:
    name = unique(name)
    code = f"{NAMED}\ndef main():\n    leave_behind({name!r})\n    {ending}\n"
    before = time.monotonic()
    value = client.preview(code, timeout=2).json()
    assert time.monotonic() - before < 10
    assert check(value), value
    ended(name)


def test_a_timeout_ends_all_processes(client: Client) -> None:
    code = f"{NAMED}\ndef main():\n    leave_behind({unique('timeout')!r})\n    while True:\n        pass\n"
    answer = client.preview(code, timeout=1)
    assert "timeout after exceeding job-specific duration limit" in answer.error["message"]
    ended(unique("timeout"))


def test_a_cancellation_ends_all_processes(client: Client) -> None:
    code = f"{NAMED}\ndef main():\n    leave_behind({unique('cancel')!r})\n    time.sleep(300)\n"
    job_id = client.post("/jobs/run/preview", {"content": code, "language": "python3"}).text
    eventually(lambda: len(named(unique("cancel"))) >= 4, "its processes")
    client.post(f"/jobs_u/queue/cancel/{job_id}")
    assert client.ended(job_id)["result"]["error"]["name"] == "Canceled"
    ended(unique("cancel"))


def test_bash_leaves_nothing_behind(client: Client) -> None:
    name = unique("bash")
    code = f"exec -a {name} sleep 300 & (setsid bash -c 'exec -a {name} sleep 300' &) ; echo on"
    code = 'test "$$" -lt 10 && test ! -e /etc/shadow || exit 99\n' + code
    assert client.preview(code, language="bash").json() == "on"
    ended(unique("bash"))


def test_python_ignoring_sigterm_is_killed(client: Client) -> None:
    code = f"{NAMED}\nfor n in (1, 2, 15):\n    signal.signal(n, signal.SIG_IGN)\nrename({unique('deaf')!r})\n"
    answer = client.preview(code + "def main():\n    while True:\n        time.sleep(1)\n", timeout=1)
    assert "timeout" in answer.error["message"]
    ended(unique("deaf"))


@pytest.mark.parametrize("language", ["python3", "bash"])
def test_a_gigabyte_of_output(client: Client, server: Server, language: str) -> None:
    before = memory_bytes(server.pid)
    code = {
        "python3": "import os\ndef main():\n    piece = b'x' * 65536\n    for _ in range(16384):\n        os.write(1, piece)\n",
        "bash": "head -c 1073741824 /dev/zero",
    }[language]
    error = client.preview(code, language=language).error
    assert error == {
        "message": "execution error:\njob process terminated due to a log above max_log_bytes",
        "name": "ExecutionErr",
    }
    assert memory_bytes(server.pid) - before < 64 * MIB


#: Writes frames as the runner does. The number of the job is a secret of the process, and so the script's own.
FRAMES = (
    CONTAINED
    + """
import sys

def frame(kind, payload=b"", length=None):
    caller = sys._getframe()
    while caller.f_code.co_name != "run_one":
        caller = caller.f_back
    number = caller.f_locals["self"]._job
    return kind + (len(payload) if length is None else length).to_bytes(4, "little") + number + payload
"""
)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("b'garbage' * 1000", "unexpected frame kind"),
        ("frame(b'J')", "unexpected frame kind"),
        ("frame(b'Y')", "unexpected frame kind"),
        ("b'R' + bytes(12)", "a frame of another job"),
        ("b'R' + bytes(4) + b'x' * 8", "a frame of another job"),
        ("frame(b'R', length=2 ** 32 - 1)", "is over the limit of"),
        ("frame(b'R', b'{x}')", "the result is not valid JSON"),
        ("frame(b'R', b'\\xff\\xff')", "the result is not valid JSON"),
        ("frame(b'R', b'[' * 2500 + b']' * 2500)", "the result is not valid JSON"),
        ("frame(b'R')", "the result is not valid JSON"),
        ("frame(b'E', b'1')", "the error is not a JSON object"),
        ("frame(b'E', b'{')", "the error is not valid JSON"),
        ("frame(b'X', b'{}')", "unreadable report"),
        ("frame(b'X', b'[]')", "unreadable report"),
        ("frame(b'X', b'{\"code\":null}')", "unreadable report"),
        ("frame(b'X', b'{\"code\":999999999}')", ""),
        ("frame(b'C', b'x' * 100) + b'Q' + bytes(12)", "unexpected frame kind"),
        ("frame(b'A', b'{}')", "arguments that nobody asked for"),
        ("frame(b'M', b'{}') + frame(b'A', b'{}')", "arguments that nobody asked for"),
        ("frame(b'R')[:1]", ""),
        ("frame(b'R', b'x', 100)", ""),
    ],
)
def test_what_is_written_to_the_servers_socket(client: Client, frame: str, message: str) -> None:
    code = f"{FRAMES}\ndef main():\n    os.write(3, {frame})\n    os.close(3)\n    while True:\n        pass\n"
    answer = client.preview(code, timeout=10)
    assert answer.status == 200
    assert answer.error["name"] == "ExecutionErr"
    assert message in answer.error["message"]


def test_a_script_may_lie_about_its_own_result_only(client: Client) -> None:
    code = f"{FRAMES}\ndef main():\n    os.write(3, frame(b'R', b'666'))\n    return 1\n"
    assert client.preview(code).json() == 666
    assert client.preview("def main():\n    return 1").json() == 1


def test_a_dedicated_script_cannot_answer_the_next_job(client: Client) -> None:
    """What an earlier job left on the socket, or sends late from a thread, is no answer to a later one."""
    code = (
        FRAMES
        + "import threading, time\n"
        + "def late(data):\n"
        + "    for _ in range(200):\n"
        + "        time.sleep(0.01)\n"
        + "        os.write(3, data)\n"
        + "def main(n, lie=False):\n"
        + "    if lie:\n"
        + "        threading.Thread(target=late, args=[frame(b'R', b'666')], daemon=True).start()\n"
        + "    time.sleep(0.05)\n"
        + "    return n\n"
    )
    client.deploy("u/admin/liar", code, dedicated_worker=True)
    assert client.run("u/admin/liar", {"n": 0, "lie": True}).json() in (0, 666)
    for n in range(1, 6):
        answer = client.run("u/admin/liar", {"n": n})
        assert answer.json() == n or "a frame of another job" in answer.error["message"]
    assert client.run("u/admin/liar", {"n": 7}).json() == 7


def test_compiled_code_that_nobody_asked_for_ends_the_job(client: Client) -> None:
    code = f"{FRAMES}\ndef main():\n    os.write(3, frame(b'C', b'garbage'))\n    return 'poisoned'\n"
    client.deploy("u/admin/poison", code)
    client.deploy("u/admin/innocent", "def main():\n    return 'innocent'\n")
    for _ in range(3):
        assert "nobody asked for" in client.run("u/admin/poison").error["message"]
    assert client.run("u/admin/innocent").json() == "innocent"
    assert client.run("u/admin/innocent").json() == "innocent"


@pytest.mark.parametrize("mask", [b"{", b"true", b'{"0":true}', b'{"a":{"b":true},"9":7}', b"[" * 2500, b"\xff"])
def test_a_mask_that_does_not_fit_changes_nothing(client: Client, mask: bytes) -> None:
    code = f"{FRAMES}\ndef main():\n    os.write(3, frame(b'M', {mask!r}) + frame(b'R', b'[1,\"?\"]'))\n    os.read(3, 1)\n"
    client.deploy("u/admin/masked", code)
    assert client.run("u/admin/masked").json() == [1, "?"]
    answer = client.post("/jobs/run_wait_result/p/u/admin/masked", {}, {"Accept": "application/cbor"})
    assert (answer.status, answer.body) == (200, b"\x82\x01\x61?")


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        ("frame(b'A', b'[]')", "event"),
        ("frame(b'A', b'{')", "event"),
        ("frame(b'M', b'{') + frame(b'A', b'{}')", "event"),
        ("frame(b'A', b'{\"forged\": 1}')", "forged"),
    ],
)
def test_a_preprocessor_may_lie_about_its_own_arguments_only(client: Client, frames: str, shown: str) -> None:
    """The first frame counts; the honest one behind it is one too many."""
    code = (
        f"{FRAMES}\ndef preprocessor(event):\n    os.write(3, {frames})\n    return {{}}\n\ndef main():\n    return 1\n"
    )
    client.deploy("u/admin/forger", code)
    done = client.ended(client.submit("u/admin/forger"))
    assert list(done["args"]) == [shown]
    assert "arguments that nobody asked for" in done["result"]["error"]["message"]


def test_a_huge_result(client: Client, server: Server) -> None:
    error = client.preview("def main():\n    return 'x' * (40 * 1024 * 1024)").error
    assert "over the limit of 33554432" in error["message"]
    assert client.preview("def main():\n    return 'x' * (8 * 1024 * 1024)").json() == "x" * (8 * MIB)
    error = client.preview("head -c 40000000 /dev/zero | tr '\\0' x > result.out", language="bash").error
    assert error["name"] == "ExecutionErr"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("deep", "RecursionError"),
        ("cyclic", "ValueError"),
        ("{(1, 2): 3}", "TypeError"),
        ("Unprintable()", "ZeroDivisionError"),
    ],
)
def test_what_is_no_json(client: Client, value: str, name: str) -> None:
    code = (
        "deep = []\n"
        "for _ in range(100_000):\n"
        "    deep = [deep]\n"
        "cyclic = {}\n"
        "cyclic['x'] = cyclic\n"
        "class Unprintable:\n"
        "    def __str__(self):\n"
        "        1/0\n"
        f"def main():\n    return {value}\n"
    )
    assert client.preview(code).error["name"] == name


@pytest.mark.parametrize(
    "text",
    ["raise Broken()", "raise type('x' * 100_000, (Exception,), {})('y' * 1_000_000)", "raise KeyboardInterrupt"],
)
def test_exceptions_that_cannot_be_shown(client: Client, text: str) -> None:
    code = "class Broken(Exception):\n    def __str__(self):\n        raise Broken()\n    __repr__ = __str__\n"
    answer = client.preview(f"{code}def main():\n    {text}\n")
    assert set(answer.error) >= {"message", "name"}


def test_memory_is_bounded(client: Client) -> None:
    error = client.preview("def main():\n    return len(bytearray(3 * 1024 ** 3))").error
    assert error["name"] == "MemoryError"
    code = "def main():\n    kept = []\n    while True:\n        kept.append(bytearray(16 * 1024 ** 2))\n"
    assert client.preview(CONTAINED + code).error["name"] == "MemoryError"


def test_recursion_ends_itself(client: Client) -> None:
    assert client.preview("def main():\n    return main()").error["name"] == "RecursionError"
    error = client.preview("import sys\nsys.setrecursionlimit(10**9)\ndef main():\n    return main()", timeout=2).error
    assert error["name"] in ("ExecutionErr", "MemoryError", "RecursionError")


def test_space_is_bounded(client: Client) -> None:
    code = (
        CONTAINED
        + "def main():\n"
        + "    written = 0\n"
        + "    try:\n"
        + "        for n in range(64):\n"
        + "            with open(f'/tmp/{n}', 'wb') as file:\n"
        + "                for _ in range(8):\n"
        + "                    written += file.write(bytes(1024 ** 2))\n"
        + "    except OSError as error:\n"
        + "        return [written >> 20, error.errno]\n"
    )
    written, errno = client.preview(code).json()
    assert errno == 28  # ENOSPC
    assert written <= 65
    # The next job has all of its space again.
    assert client.preview(code).json() == [written, 28]


def test_the_size_of_a_file_and_the_number_of_files_are_bounded(client: Client) -> None:
    code = (
        CONTAINED
        + "import resource, signal\n"
        + "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        + "def main():\n"
        + "    out = []\n"
        + "    try:\n"
        + "        os.truncate(os.open('/tmp/big', os.O_CREAT | os.O_RDWR), 1 << 40)\n"
        + "    except OSError as error:\n"
        + "        out.append(error.errno)\n"
        + "    try:\n"
        + "        for n in range(100_000):\n"
        + "            os.mkdir(f'/tmp/d{n}')\n"
        + "    except OSError as error:\n"
        + "        out.append(error.errno)\n"
        + "    try:\n"
        + "        while True:\n"
        + "            os.open('/dev/null', os.O_RDONLY)\n"
        + "    except OSError as error:\n"
        + "        out.append(error.errno)\n"
        + "    return out\n"
    )
    assert client.preview(code).json() == [27, 28, 24]  # EFBIG, ENOSPC, EMFILE


def test_threads_are_bounded(client: Client) -> None:
    code = (
        CONTAINED
        + "import threading\n"
        + "def main():\n"
        + "    stop = threading.Event()\n"
        + "    started = []\n"
        + "    try:\n"
        + "        for n in range(300):\n"
        + "            thread = threading.Thread(target=stop.wait, daemon=True)\n"
        + "            thread.start()\n"
        + "            started.append(thread)\n"
        + "    except RuntimeError as error:\n"
        + "        return len(started)\n"
        + "    finally:\n"
        + "        stop.set()\n"
        + "    return len(started)\n"
    )
    assert client.preview(code).json() < 300


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only run by root every job has a uid, and so a process limit, of its own"
)
def test_a_bomb_of_forks(client: Client, server: Server) -> None:
    """At most 200 forks, and only where the script itself has seen that it is contained and counted on its own."""
    code = (
        NAMED
        + "import resource\n"
        + "assert os.geteuid() >= 1_879_000_000\n"
        + "assert resource.getrlimit(resource.RLIMIT_NPROC)[1] <= 256\n"
        + "def main():\n"
        + "    assert_contained()\n"
        + f"    rename({unique('bomb')!r})\n"
        + "    made = 0\n"
        + "    for _ in range(200):\n"
        + "        try:\n"
        + "            if os.fork() == 0:\n"
        + "                time.sleep(300)\n"
        + "                os._exit(0)\n"
        + "        except OSError as error:\n"
        + "            return [made, error.errno]\n"
        + "        made += 1\n"
        + "    return [made, 0]\n"
    )
    before = descendants(server.pid)
    made, errno = client.preview(code).json()
    assert (0 < made < 200, errno) == (True, 11)  # EAGAIN
    ended(unique("bomb"))
    # Other jobs were not in the way of the limit, nor are they now.
    eventually(
        lambda: len([pid for pid, born in descendants(server.pid).items() if is_alive(pid, born)]) <= len(before) + 8,
        "the number of processes of before",
    )


def test_a_job_in_full_load_does_not_hold_back_the_other(client: Client) -> None:
    burner = client.post("/jobs/run/preview", {"content": "while :; do :; done", "language": "bash"}).text
    client.running(burner)
    for _ in range(5):
        assert client.preview("def main():\n    return 1").json() == 1
    client.post(f"/jobs_u/queue/cancel/{burner}")
    client.ended(burner)


def test_children_that_die_while_they_wait_are_replaced(client: Client, server: Server) -> None:
    """Every waiting process is shot from outside: the next jobs run all the same."""
    (outer,) = fork_servers(server.pid)
    (inner,) = children(outer)
    waiting = children(inner)
    assert waiting
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # The job that is given to a dying process before the server knows fails; the one after it must not.
    eventually(lambda: client.preview("def main():\n    return 1").text == "1", "a Python job")
    eventually(lambda: client.preview("echo 1", language="bash").text == '"1"', "a bash job")
    for _ in range(8):
        assert client.preview("def main():\n    return 1").json() == 1
        assert client.preview("echo 1", language="bash").json() == "1"


def test_many_short_jobs_leave_no_process_and_no_descriptor(rung: str, tmp_path: Path) -> None:
    server = start(rung, tmp_path / "data", "--warm-children", "4")
    try:
        client = server.client()
        client.deploy("u/admin/one", "def main():\n    return 1")
        for _ in range(20):
            client.run("u/admin/one")

        def counts() -> tuple[int, int, int]:
            """Processes, descriptors of all but control groups, and control groups of which files are open."""
            living = [pid for pid, born in descendants(server.pid).items() if is_alive(pid, born)]
            groups, others = set(), 0
            for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    file = descriptor.readlink()
                    if not file.is_relative_to("/sys/fs/cgroup"):
                        others += 1
                    elif file.parent.name.isdigit():  # of a process; the same in each hierarchy
                        groups.add(file.parent.name)
            return len(living), others, len(groups)

        settled = counts()
        for _ in range(200):
            client.run("u/admin/one")
        # Processes of Python and bash that wait, and jobs at work; as many again on their way; what one job in twenty left.
        most = 2 * (4 + 1 + 2) + 200 // 20
        eventually(
            # A process has a socket, a pipe and a pidfd. Its control group is kept open, and is the next one's.
            lambda: (now := counts())[0] <= settled[0] + 3 and now[1] <= settled[1] + 15 and now[2] <= most,
            f"about the numbers of before {settled}, and no more than {most} control groups",
        )
    finally:
        server.close()
