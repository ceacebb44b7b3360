"""kill -9 under load: every job whose id was answered ends with its one result. ``bench/faults.py`` does it for longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import kills
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_nothing_that_was_answered_is_lost_or_done_twice_however_often_the_server_is_killed(
    make_server: Callable[..., Server],
) -> None:
    server = make_server("--workers", "2", "--crash-attempts", "100")
    server.start()
    kills.prepare(server)
    ledger = kills.kill_again_and_again(server, kills.kill_server, rounds=3, seed=7)
    verdict = kills.judge(server, ledger)
    assert (verdict.broken, verdict.failures) == ([], {})
    assert server.stop() == 0


@pytest.mark.parametrize("kill", [kills.kill_fork_server, kills.kill_child])
def test_each_job_has_one_result_whatever_of_its_server_is_killed(
    make_server: Callable[..., Server], kill: kills.Kill
) -> None:
    server = make_server("--workers", "2")
    server.start()
    kills.prepare(server)
    ledger = kills.kill_again_and_again(server, kill, rounds=6, seed=7, most_s=0.3)
    assert kills.judge(server, ledger).broken == []
    assert server.client().run("u/admin/same", {"number": 4}).json() == 4
    assert server.stop() == 0
