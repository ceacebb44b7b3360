"""A job finds nothing of another one, although all come from one warm process: no data, and no random number twice."""

from __future__ import annotations

import pytest

from tests.server import Client

LEAVE = """
import builtins, gc, json, os, random, sys, tempfile, threading, time
SECRET = "canary-" + "of-the-first-job"

def main(secret):
    kept = [secret.encode() * 1000, {"a": secret}]
    builtins.left = kept
    json.left = kept
    sys.modules["left"] = kept
    os.environ["LEFT"] = secret
    sys.path.append("/tmp/" + secret)
    sys.setrecursionlimit(5000)
    os.umask(0)
    os.chdir("/")
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        with open(folder + "/left-" + folder.replace("/", ""), "w") as file:
            file.write(secret)
    tempfile.tempdir = "/tmp/" + secret
    os.dup2(1, 77)
    os.open("/dev/null", os.O_RDONLY)
    threading.excepthook = lambda *_: None
    json.dumps = lambda *_, **__: '"forged"'
    builtins.print = lambda *_: None
    random.seed(7)
    time.tzset()
    return "left"
"""

FIND = """
import builtins, gc, json, os, sys, tempfile, threading

def main(half):
    secret = "canary-" + half
    found = []
    for name, is_there in {
        "builtins": hasattr(builtins, "left"),
        "json": hasattr(json, "left"),
        "modules": "left" in sys.modules,
        "environment": "LEFT" in os.environ,
        "path": any(secret in path for path in sys.path),
        "recursion": sys.getrecursionlimit() == 5000,
        "directory": os.getcwd() != "/tmp",
        "files": bool(os.listdir("/tmp") or os.listdir("/dev/shm") or os.listdir("/var/tmp")),
        "tempdir": tempfile.tempdir is not None,
        "descriptors": os.path.exists("/dev/fd/77"),
        "functions": json.dumps(1) != "1" or builtins.print.__name__ != "print",
    }.items():
        if is_there:
            found.append(name)
    umask = os.umask(0o22)
    if umask == 0:
        found.append("umask")
    for fd in range(4, 256):
        try:
            os.fstat(fd)
            found.append(f"descriptor {fd}")
        except OSError:
            pass
    for one in gc.get_objects():
        if type(one) is dict and any(type(value) is str and secret in value and value != secret for value in one.values()):
            found.append("heap")
    return found
"""


def test_a_job_finds_nothing_of_the_one_before(client: Client) -> None:
    for _ in range(8):  # more than there are places
        answer = client.preview(LEAVE, {"secret": "canary-of-the-first-job"})
        assert answer.text == '"forged"', answer.text
        assert client.preview(FIND, {"half": "of-the-first-job"}).json() == []
    shell = "ls -A /tmp /dev/shm /var/tmp | grep -c left- || true; env | grep -c LEFT > result.out || true"
    assert client.preview(shell, language="bash").json() == "0\n"


def test_keyrings_and_shared_memory_are_closed(client: Client) -> None:
    code = (
        "import ctypes\n"
        "def main():\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    out = []\n"
        "    keys = ((250, 0, -3, 1), (248, b'user', b'x', b'y', 1, -3))\n"
        "    shared = ((29, 1, 4096, 0o1600), (68, 1, 0o1600), (64, 1, 1, 0o1600))\n"
        "    for call in keys + shared:\n"
        "        ctypes.set_errno(0)\n"
        "        out.append((libc.syscall(*call), ctypes.get_errno()))\n"
        "    return out\n"
    )
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("the numbers of the calls are those of x86_64")
    assert client.preview(code).json() == [[-1, 1]] * 5


RANDOM = """
import hashlib, os, random, secrets, tempfile, uuid
import sys

def main():
    return [
        random.random(), random.getrandbits(64), str(uuid.uuid4()), secrets.token_hex(8), os.urandom(8).hex(),
        next(tempfile._get_candidate_names()), random.Random().random(), random.SystemRandom().random(),
    ]
"""


def test_no_random_number_comes_twice(client: Client) -> None:
    seen = [client.preview(RANDOM).json() for _ in range(30)]
    for values in zip(*seen, strict=True):
        assert len(set(values)) == len(seen)


def test_shells_neither(client: Client) -> None:
    seen = [client.preview("echo $RANDOM$RANDOM$RANDOM$SRANDOM", language="bash").text for _ in range(20)]
    assert len(set(seen)) == len(seen)


def test_what_reseeds_a_module_that_was_imported_before_the_fork() -> None:
    """In a process of its own: a module that keeps a random state, loaded by whoever forks."""
    import subprocess
    import sys

    code = (
        "import os, random, sys, types\n"
        "numpy = types.ModuleType('numpy'); numpy.random = types.ModuleType('numpy.random')\n"
        "state = random.Random(1)\n"
        "numpy.random.seed = lambda seed=None: state.seed(seed)\n"
        "numpy.random.random = state.random\n"
        "sys.modules['numpy'] = numpy; sys.modules['numpy.random'] = numpy.random\n"
        "from minwebhook.child import randomness\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        randomness.renew()\n"
        "        os.write(1, f'{random.random()} {numpy.random.random()}\\n'.encode())\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    own, others = zip(*(line.split() for line in ended.stdout.splitlines()), strict=True)
    assert len(set(own)) == len(set(others)) == 4
