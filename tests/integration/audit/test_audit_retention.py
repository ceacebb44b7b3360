"""Old records go from the front of the chain, which then begins later; nothing else can be taken out unseen."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from minwebhook.audit.log import AuditLog, records, start
from minwebhook.audit.record import EXECUTED, Event, first_break
from minwebhook.cli.main import main
from minwebhook.db.database import Database

FILE = "minwebhook.db"


async def test_old_records_go_and_the_chain_goes_on(tmp_path: Path) -> None:
    db = Database.open(tmp_path / FILE)
    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        log = AuditLog(db)

        def fill(connection: sqlite3.Connection) -> None:
            log.append(connection, (Event("x", EXECUTED, "a", "demo", None, at_ms) for at_ms in range(2000)))

        assert await log.remove_before(100, 1) == 0
        await db.transact(fill)
        for before_ms, removed in ((1, 1), (1500, 1499), (1500, 0), (5000, 502)):
            assert await log.remove_before(before_ms, before_ms) == removed
            with closing(sqlite3.connect(tmp_path / FILE)) as connection:
                left = list(records(connection))
                assert first_break(left, *start(connection))[0] is None
                assert left[0].at_ms >= before_ms
                assert removed == 0 or left[-1].operation == "audit.remove_old"
                if removed:
                    began = start(connection)
                    assert f'"last":"{began[0]}:{began[1].hex()}"' in left[-1].parameters
                    assert first_break(left[1:], *began)[0] is not None or len(left) == 1
        nursery.cancel_scope.cancel()
    db.close()


def test_the_command_knows_where_the_chain_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def fill() -> None:
        db = Database.open(tmp_path / FILE)
        async with trio.open_nursery() as nursery:
            await nursery.start(db.run)
            log = AuditLog(db)
            for at_ms in range(6):
                event = Event("x", EXECUTED, "a", "demo", None, at_ms)
                await db.transact(lambda connection, event=event: log.append(connection, (event,)))  # type: ignore[misc]
            nursery.cancel_scope.cancel()
        db.close()

    async def remove() -> None:
        db = Database.open(tmp_path / FILE)
        async with trio.open_nursery() as nursery:
            await nursery.start(db.run)
            assert await AuditLog(db).remove_before(3, 9) == 3
            nursery.cancel_scope.cancel()
        db.close()

    def verify(*more: str) -> tuple[int, str]:
        code = main(["audit", "verify", "--data", str(tmp_path), *more])
        return code, capsys.readouterr().out.strip()

    trio.run(fill)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        known = {record.id: f"{record.id}:{record.hash.hex()}" for record in records(connection)}
    assert verify() == (0, f"6 records fit; the last one is {known[6]}")
    trio.run(remove)
    code, said = verify()
    assert (code, said.startswith("4 records fit; the last one is 7:")) == (0, True)
    assert verify("--expect", known[3])[0] == 0
    assert verify("--expect", known[5])[0] == 0
    assert verify("--expect", f"3:{0:064}")[0] == 1
    code, said = verify("--expect", known[2])
    assert (code, "those up to 3 were removed for their age" in said) == (1, True)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM audit WHERE id = 4")
    code, said = verify()
    assert (code, said.startswith("record 5 is broken: the records from 4 on")) == (1, True)
