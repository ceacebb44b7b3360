"""The files that the steps of a flow hand on, on every rung: each step has the rights of its own job, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import missing
from tests.flows import js, py, step
from tests.sandbox.conftest import ordinary_interpreter, start
from tests.server import Client


@pytest.fixture(params=["root", "userns", "landlock", "none"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server on each rung."""
    rung: str = request.param
    flags: tuple[str, ...] = ("--insecure",) if rung == "none" else ()
    if rung == "root" and os.geteuid() != 0:
        missing("the sandbox rung root: not running as root")
    if rung == "landlock" and os.geteuid() == 0:
        if not (interpreter := ordinary_interpreter()):
            missing("an interpreter that ordinary users may read")
        flags = ("--python", interpreter)
    server = start(rung, tmp_path_factory.mktemp(rung) / "data", *flags)
    yield server.client()
    server.close()


#: What is packed and unpacked may lead anywhere; nothing is followed out of the place of the job.
HOSTILE = """
import os
def main():
    os.symlink("/etc/passwd", "shared/outside")
    os.symlink("..", "shared/up")
    os.mkfifo("shared/pipe")
    with open("shared/mine", "w") as file: file.write("x")
    return os.geteuid()
"""
LOOK = """
import os, stat
def main(before):
    found = sorted(os.listdir("shared"))
    own = os.stat("shared/mine").st_uid == os.geteuid()
    return [found, own, os.readlink("shared/outside"), stat.S_ISFIFO(os.lstat("shared/pipe").st_mode), open("shared/mine").read()]
"""


def test_files_are_handed_on_with_the_rights_of_each_step(client: Client) -> None:
    bash = {"type": "rawscript", "language": "bash", "content": "cat shared/mine", "input_transforms": {}}
    last = {**py(LOOK), "input_transforms": {"before": js("results.a")}}
    value = {"modules": [step("a", py(HOSTILE)), step("b", bash), step("c", last)], "same_worker": True}
    job = client.ended(client.post("/jobs/run/preview_flow", {"value": value}).text)
    assert job["success"], job["result"]
    assert job["result"] == [["mine", "outside", "pipe", "up"], True, "/etc/passwd", True, "x"]
