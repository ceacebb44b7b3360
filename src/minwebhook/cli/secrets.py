"""``minwebhook secrets``: the keys that seal secrets."""

from __future__ import annotations

import argparse
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from minwebhook.cli.flags import add_data_flags, settings_from
from minwebhook.db import copies
from minwebhook.db.migrations import MIGRATIONS
from minwebhook.errors import UpkeepError
from minwebhook.vault.columns import discard, rotate, used_keys
from minwebhook.vault.keys import KeyRing, new_key
from minwebhook.vault.seal import SealError


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("secrets", help="the keys that seal secrets in the database")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, run, sentence in (
        ("status", _status, "which keys there are, and how many secrets each has sealed"),
        ("rotate", _rotate, "seal all secrets with a new key; the server must not run"),
        ("discard", _discard, "remove the secrets whose key is lost; the server must not run"),
    ):
        action = actions.add_parser(name, help=sentence)
        add_data_flags(action)
        action.set_defaults(run=run)
    actions.add_parser("new-key", help="print a new key, for the setting secret_key").set_defaults(run=_new_key)


def _new_key(options: argparse.Namespace) -> int:
    print(new_key().to_text())
    return 0


def _status(options: argparse.Namespace) -> int:
    """1 if keys are missing."""
    data, keys = _keys(options)
    path = data / copies.FILE_NAME
    if not path.is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        _check_schema(connection)
        used = used_keys(connection)
    for number, key_id in enumerate(keys.ids):
        print(f"{key_id}: {used.pop(key_id, 0)} secrets{', seals' if number == 0 else ''}")
    for key_id, count in used.items():
        print(f"{key_id}: {count} secrets, MISSING")
    return 1 if used else 0


def _rotate(options: argparse.Namespace) -> int:
    data, keys = _keys(options)
    with _alone(data) as connection:
        try:
            done = rotate(connection, keys)
        except SealError as error:
            raise UpkeepError(f"nothing was changed, because a secret cannot be opened: {error}") from error
    print(f"{done.resealed} secrets are sealed with the key {done.key_id}{' (resumed)' if done.was_resumed else ''}")
    if keys.is_from_settings:
        print("the other keys of the setting secret_key are not needed any more, except for older backups")
    return 0


def _discard(options: argparse.Namespace) -> int:
    data, keys = _keys(options)
    with _alone(data) as connection:
        print(f"{discard(connection, keys)} secrets that no key opens are gone")
    return 0


def _keys(options: argparse.Namespace) -> tuple[Path, KeyRing]:
    settings = settings_from(options)
    data = Path(settings.server.data)
    return data, KeyRing.load(data, settings.secrets.secret_key)


@contextmanager
def _alone(data: Path) -> Iterator[sqlite3.Connection]:
    """The database, which nobody else uses meanwhile."""
    path = data.absolute() / copies.FILE_NAME
    if not path.is_file():
        raise UpkeepError(f"there is no database in {data}: is --data right?")
    lock = copies.lock(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            _check_schema(connection)
            yield connection
    finally:
        os.close(lock)


def _check_schema(connection: sqlite3.Connection) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != len(MIGRATIONS):
        raise UpkeepError(f"the database has schema version {version}, not {len(MIGRATIONS)}: start the server once")
