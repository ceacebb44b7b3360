"""``minwebhook audit``: whether the audit log is whole, and the log for other programs. Beside a running server, too."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

from minwebhook.audit.log import records, start
from minwebhook.audit.record import first_break
from minwebhook.cli.flags import add_data_flags, settings_from
from minwebhook.db import copies
from minwebhook.errors import UpkeepError


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("audit", help="verify or print the audit log")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="whether no record was changed, added or taken out")
    verify.add_argument(
        "--expect",
        metavar="ID:HASH",
        help="What an earlier verification printed; tells whether records were taken from the end.",
    )
    verify.add_argument("--json", action="store_true", help="Print JSON for machines.")
    export = actions.add_parser("export", help="print all records, one JSON object a line")
    for action, run in ((verify, _verify), (export, _export)):
        add_data_flags(action)
        action.set_defaults(run=run)


def _verify(options: argparse.Namespace) -> int:
    """0 if every record fits; else 1, and which one is the first that does not."""
    expected = _parse(options.expect) if options.expect else None
    with _database(options) as connection:
        started, start_hash = start(connection)
        broken, count, last = first_break(records(connection), started, start_hash)
        reason = None if broken is None else f"record {broken.id} is broken: {broken.reason}"
        if reason is None and expected is not None:
            number, digest = expected
            row = connection.execute("SELECT hash FROM audit WHERE id = ?", (number,)).fetchone()
            if row is None and number == started:
                row = (start_hash,)
            if row is None and number < started:
                reason = f"record {number} cannot be looked at: those up to {started} were removed for their age"
            elif row is None:
                reason = f"record {number} is missing: there are {count}"
            elif row[0].hex() != digest:
                reason = f"record {number} is another one than that of --expect"
    if options.json:
        print(
            json.dumps(
                {
                    "whole": reason is None,
                    "records": count - started,
                    "last": f"{count}:{last.hex()}",
                    "problem": reason,
                }
            )
        )
    elif reason is None:
        print(f"{count - started} records fit; the last one is {count}:{last.hex()}")
    else:
        print(f"{reason}; the {count - started} records before it fit")
    return 0 if reason is None else 1


def _export(options: argparse.Namespace) -> int:
    with _database(options) as connection:
        for record in records(connection):
            print(orjson.dumps(record.to_json(with_hash=True)).decode())
    return 0


def _parse(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 19 and len(digest) == 64):
        raise UpkeepError("--expect wants what 'minwebhook audit verify' printed: ID:HASH")
    return int(number), digest.lower()


@contextmanager
def _database(options: argparse.Namespace) -> Iterator[sqlite3.Connection]:
    data = Path(settings_from(options).server.data)
    path = data.absolute() / copies.FILE_NAME
    if not path.is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise UpkeepError(
            f"the audit log cannot be read: {error}; start the server once, or restore a backup"
        ) from error
