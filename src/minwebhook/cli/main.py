"""``minwebhook``: parses the command line and runs one command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import minwebhook
from minwebhook.cli import audit, backup, check, doctor, openapi, restore, schema, secrets, serve, settings
from minwebhook.errors import MinwebhookError, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives the exit code: 0 well, 1 it failed, 2 the command line or a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="minwebhook", description="Windmill-compatible webhooks in one standalone process."
    )
    parser.add_argument("--version", action="version", version=f"minwebhook {minwebhook.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (serve, backup, restore, check, secrets, audit, doctor, settings, schema, openapi):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        result: int = options.run(options)
    except SettingsError as error:
        print(f"minwebhook: {error}", file=sys.stderr)
        return 2
    except MinwebhookError as error:
        print(f"minwebhook: {error}", file=sys.stderr)
        return 1
    return result
