"""``minwebhook settings``: lists every setting with its value and where the value comes from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minwebhook.cli.flags import add_flags, settings_from
from minwebhook.configuration import CATALOGUE


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("settings", help="list all settings, their values and origins")
    add_flags(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON for machines.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the list."""
    settings = settings_from(options)
    rows = []
    for info in CATALOGUE.values():
        value = getattr(getattr(settings, info.topic), info.name)
        rows.append(
            {
                "name": info.name,
                "value": "(hidden)" if info.secret and value else value,
                "default": info.default,
                "unit": info.unit,
                "origin": settings.origins[info.name],
                "environment": info.environment_name,
                "flag": info.flag if info.has_flag else None,
                "help": info.sentence,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        value = ",".join(row["value"]) if isinstance(row["value"], tuple) else row["value"]
        unit = f" {row['unit']}" if row["unit"] else ""
        print(f"{row['name']} = {value}{unit}  ({row['origin']})\n    {row['help']}")
    return 0
