"""``minwebhook backup FILE``: a backup of the data directory in one file, also while the server runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from minwebhook.cli import progress
from minwebhook.cli.flags import add_data_flags, settings_from
from minwebhook.upkeep.backup import back_up


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("backup", help="make a backup of the data directory, also while the server runs")
    parser.add_argument("file", type=Path, metavar="FILE", help="File to write, a tar archive, mode 0600.")
    parser.add_argument("--objects", action="store_true", help="Put the local objects into it, too.")
    parser.add_argument("--replace", action="store_true", help="Replace FILE if it exists.")
    add_data_flags(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON for machines.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Makes it, and says what is in it."""
    made = back_up(
        Path(settings_from(options).server.data),
        options.file,
        with_objects=options.objects,
        replace=options.replace,
        on_progress=progress.reporter(as_json=options.json),
    )
    if options.json:
        print(json.dumps(made.to_json()))
        return 0
    progress.clear()
    objects = f"{made.objects} objects" if made.has_objects else "no objects"
    print(f"{made.file}: {made.file_bytes} bytes, schema {made.schema_version}, {objects}, {made.took_s:g} s")
    print("what it holds of secrets is sealed; the key (DATA/secret.key or secret_key) is not in it: keep that, too")
    for name in made.changed:
        print(f"changed while it was copied: {name}")
    return 0
