"""``minwebhook check``: whether the data directory is sound, and how large it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from minwebhook.cli import progress
from minwebhook.cli.flags import add_data_flags, settings_from
from minwebhook.upkeep.check import Report, check, repair


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("check", help="check the data directory, also while the server runs")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="First rebuild indexes and remove what has no owner; not while it is used.",
    )
    add_data_flags(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON for machines.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints what was found: 0 if nothing is wrong, else 1."""
    data = Path(settings_from(options).server.data)
    on_progress = progress.reporter(as_json=options.json)
    repaired = repair(data, on_progress=on_progress) if options.repair else []
    report = check(data, on_progress=on_progress)
    report.repaired += repaired
    if options.json:
        print(json.dumps(report.to_json()))
    else:
        progress.clear()
        _print(report)
    return 0 if report.is_sound else 1


def _print(report: Report) -> None:
    for text in report.repaired:
        print(f"repaired: {text}")
    for kind, findings in (("PROBLEM", report.problems), ("note", report.notes)):
        for finding in findings:
            number = f" ({finding.count})" if finding.count > 1 else ""
            print(f"{kind}: {finding.sentence}{number}")
    sizes = report.sizes
    for status, count in sizes.get("jobs", {}).items():
        print(f"jobs {status}: {count}")
    for table, size in sizes.get("table_bytes", {}).items():
        print(f"table {table}: {size} bytes")
    for workspace, found in sizes.get("objects", {}).items():
        print(f"objects of {workspace}: {found['count']}, {found['bytes']} bytes")
    print(f"database: {sizes.get('file_bytes', 0)} bytes, of which {sizes.get('free_bytes', 0)} are free")
    print(f"{report.data}: {'sound' if report.is_sound else 'NOT sound'}")
