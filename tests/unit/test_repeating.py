"""Chores go on whatever happens."""

from __future__ import annotations

import sqlite3

import pytest
import trio
import trio.testing

from minwebhook.errors import Unavailable
from minwebhook.repeating import repeat


async def test_a_chore_that_fails_is_tried_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [
        None,
        Unavailable("locked"),
        sqlite3.OperationalError("no such table"),
        RuntimeError("no thread"),
        None,
        None,
    ]
    at: list[float] = []
    begin = trio.current_time()

    async def chore() -> None:
        at.append(trio.current_time() - begin)
        fault = faults[len(at) - 1]
        if fault is not None:
            raise fault

    with trio.move_on_after(26):
        await repeat(chore, "it cannot be done", pause_s=10, after_error_s=1)
    assert at == pytest.approx([0, 10, 11, 12, 13, 23])
    assert [record.getMessage() for record in caplog.records] == [
        "it cannot be done: locked",
        "it cannot be done",
        "it cannot be done",
    ]
