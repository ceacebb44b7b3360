"""kill -9 under load: every job whose id was answered ends with its one result. ``bench/faults.py`` does it for longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.faults import SCRIPT, broken_promises, kill_again_and_again
from tests.server import Server


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_acknowledged_job_ends_with_one_result_however_often_the_server_is_killed(
    make_server: Callable[..., Server],
) -> None:
    server = make_server("--workers", "2")
    server.start().deploy("u/admin/same", SCRIPT)
    acknowledged = kill_again_and_again(server, rounds=3, seed=7)
    assert len(acknowledged) > 20
    assert broken_promises(server, acknowledged) == []
    assert server.stop() == 0
