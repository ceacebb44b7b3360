"""``minwebhook restore FILE``: puts a backup back into a data directory that no server uses."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from minwebhook.cli import progress
from minwebhook.cli.flags import add_data_flags, settings_from
from minwebhook.upkeep.restore import restore


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("restore", help="put a backup back; no server may use the data directory")
    parser.add_argument("file", type=Path, metavar="FILE", help="Backup to read.")
    parser.add_argument("--replace", action="store_true", help="Put aside what is in the data directory.")
    add_data_flags(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON for machines.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verifies it, puts it back, and says what was there before."""
    restored = restore(
        options.file,
        Path(settings_from(options).server.data),
        replace=options.replace,
        on_progress=progress.reporter(as_json=options.json),
    )
    if options.json:
        print(json.dumps(restored.to_json()))
        return 0
    progress.clear()
    objects = f"{restored.objects} objects" if restored.has_objects else "the objects stay as they were"
    print(f"{restored.data}: as of {restored.created_at}, schema {restored.schema_version}, {objects}")
    if restored.kept is not None:
        print(f"what was there is in {restored.kept}")
    return 0
