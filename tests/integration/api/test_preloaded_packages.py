"""Packages are imported before jobs come: once for all jobs where that does no harm, and never so that jobs share secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.server import Client, Server, serving
from tests.wheels import download, make_wheel

#: What a job of a module says of its import: a number that was drawn then.
STAMP = "import os\n\nSTAMP = os.urandom(8).hex()\n"
MODULES = {
    "plain": STAMP,
    "loud": STAMP + "print('loud at import')\nimport sys\nprint('louder', file=sys.stderr)\n",
    "threaded": STAMP
    + "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
    "opener": STAMP + "FILE = open('/dev/null')\n",
    "deadly": STAMP + "import os\nif not os.environ.get('WM_JOB_ID'):\n    os._exit(3)\n",
    "endless": STAMP + "import os, time\nwhile not os.environ.get('WM_JOB_ID'):\n    time.sleep(0.01)\n",
    "reader": STAMP + "JOB = os.environ.get('WM_JOB_ID')\n",
    "failing": "raise RuntimeError('not today')\n",
    "tls": "import ssl\n\nssl.RAND_bytes(8)\n\ndef draw():\n    return ssl.RAND_bytes(16).hex()\n",
    "hostile": STAMP
    + """
import os, socket
for number in range(3, 64):
    for text in (b'{"spawned": 1, "pid": 1}', b'{"exited": 1}', b'[]', b'{', b'{"refused": {}, "reason": 1}', b'{"ready": true}'):
        try:
            os.write(number, text)
        except OSError:
            pass
    try:
        pair = socket.socket(fileno=os.dup(number))
        socket.send_fds(pair, [b'{"spawned": 1, "pid": 1}'], [0, 1, 2])
    except OSError:
        pass
""",
}


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheels")
    for name, code in MODULES.items():
        make_wheel(place, name, "1.0", {f"{name}.py": code})
    if reason := download(place, "numpy==2.4.6", "requests==2.32.5"):
        missing(f"the wheels of numpy and requests: {reason}")
    return place


@pytest.fixture(scope="module", params=["root", "userns"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path
) -> Iterator[Server]:
    rung = request.param
    if rung == "root" and os.geteuid() != 0:
        missing("the sandbox rung root: not running as root")
    flags = ("--sandbox", rung, "--offline", "--package-wheelhouse", str(wheelhouse), "--workers", "2")
    with serving(tmp_path_factory.mktemp(rung) / "data", *flags) as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


def stamps(client: Client, module: str, count: int = 3) -> list[str]:
    path = f"u/admin/{module}"
    client.deploy(path, f"import {module}\n\ndef main():\n    return {module}.STAMP\n")
    answers = [client.run(path) for _ in range(count)]
    assert all("error" not in answer.text for answer in answers), answers[0].text
    return [answer.json() for answer in answers]


@pytest.mark.parametrize("module", ["plain", "loud"])
def test_a_module_is_imported_once_for_all_jobs(client: Client, module: str) -> None:
    assert len(set(stamps(client, module))) == 1


@pytest.mark.parametrize("module", ["threaded", "opener", "deadly", "endless"])
def test_what_no_fork_takes_along_is_imported_by_each_job(client: Client, module: str) -> None:
    assert len(set(stamps(client, module))) == 3


def test_what_a_module_prints_is_in_no_log_of_a_job_that_did_not_import_it(client: Client) -> None:
    stamps(client, "loud", 1)
    job = client.submit("u/admin/loud")
    assert client.ended(job)["success"]
    assert "loud" not in client.logs(job)


def test_a_module_that_cannot_be_imported_fails_in_the_script(client: Client) -> None:
    error = client.preview("import failing\n\ndef main():\n    pass\n").error
    assert "not today" in error["message"]
    code = (
        "def main():\n    try:\n        import failing\n    except RuntimeError as error:\n        return str(error)\n"
    )
    assert client.preview(code).json() == "not today"


def test_no_two_jobs_draw_the_same_numbers(client: Client) -> None:
    code = """
import numpy
import random
import requests
import tls

def main():
    return [float(numpy.random.rand()), int(numpy.random.default_rng().integers(2**62)), random.random(), tls.draw()]
"""
    client.deploy("u/admin/draw", code)
    drawn = [client.run("u/admin/draw").json() for _ in range(8)]
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == len(drawn)


def test_numpy_works_in_jobs(client: Client) -> None:
    code = """
import numpy as np

def main():
    a = np.arange(1_000_000.0).reshape(1000, 1000)
    return float((a @ a)[1, 1])
"""
    client.deploy("u/admin/matrix", code)
    expected = sum((1000 + k) * (1000 * k + 1) for k in range(1000))
    assert [client.run("u/admin/matrix").json() for _ in range(3)] == [expected] * 3


def test_jobs_see_nothing_of_how_packages_were_loaded(client: Client) -> None:
    code = (
        "import os, plain\n\ndef main():\n    return os.getpid(), [name for name in os.environ if 'THREADS' in name]\n"
    )
    client.deploy("u/admin/seen", code)
    answer = client.run("u/admin/seen")
    assert answer.json() == [1, []], answer.text


READ_AT_IMPORT = (
    "import os, reader\n\ndef main():\n    return reader.JOB in ('', None), reader.JOB == os.environ['WM_JOB_ID']\n"
)


def test_a_package_that_reads_the_environment_when_it_is_imported_finds_no_job(client: Client) -> None:
    client.deploy("u/admin/reading", READ_AT_IMPORT)
    assert client.run("u/admin/reading").json() == [True, False]


def test_imports_are_left_to_scripts(tmp_path: Path, wheelhouse: Path) -> None:
    flags = ("--no-package-preload", "--offline", "--package-wheelhouse", str(wheelhouse), "--workers", "1")
    with serving(tmp_path / "data", *flags) as (_, client):
        client.deploy("u/admin/reading", READ_AT_IMPORT)
        assert client.run("u/admin/reading").json() == [False, True]
        assert len(set(stamps(client, "plain", 2))) == 2


def test_a_package_that_talks_to_the_server_harms_its_own_jobs_at_most(client: Client, server: Server) -> None:
    client.deploy("u/admin/hostile", "import hostile\n\ndef main():\n    return hostile.STAMP\n")
    jobs = [client.submit("u/admin/hostile") for _ in range(3)]
    for _ in range(5):
        assert client.preview("def main():\n    return 1").json() == 1
    for job in jobs:
        client.post(f"/jobs_u/queue/cancel/{job}")
    assert server.running.poll() is None
    assert stamps(client, "plain", 1)


def test_scripts_that_import_the_same_of_the_same_packages_share_a_fork_server(client: Client) -> None:
    block = "# requirements:\n# plain\n# opener\n\n"
    client.deploy("u/admin/one", block + "import plain\n\ndef main():\n    return plain.STAMP\n")
    client.deploy("u/admin/two", block + "import plain\n\ndef main():\n    return plain.STAMP # two\n")
    client.deploy("u/admin/three", block + "import plain, opener\n\ndef main():\n    return plain.STAMP\n")
    one, two, three = (client.run(f"u/admin/{name}").json() for name in ("one", "two", "three"))
    assert one == two
    assert three != one  # whose modules may change others: nothing of it is where the other two run
    assert client.run("u/admin/one").json() == one
