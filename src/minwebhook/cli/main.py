"""``minwebhook``: parses the command line and runs one command."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import minwebhook
from minwebhook.errors import MinwebhookError, SettingsError

#: Each is a module beside this one. Only the one that runs is imported: a server keeps in memory what it imports.
_COMMANDS: Final = (
    "serve", "backup", "restore", "check", "secrets", "audit", "doctor", "settings", "schema", "openapi",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives the exit code: 0 well, 1 it failed, 2 the command line or a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="minwebhook", description="Windmill-compatible webhooks in one standalone process."
    )
    parser.add_argument("--version", action="version", version=f"minwebhook {minwebhook.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = sys.argv[1:] if arguments is None else arguments
    gc.disable()  # importing makes many objects, and all of them stay
    for name in words[:1] if words and words[0] in _COMMANDS else _COMMANDS:
        import_module(f"minwebhook.cli.{name}").add_parser(commands)
    gc.enable()
    options = parser.parse_args(words)
    try:
        result: int = options.run(options)
    except SettingsError as error:
        print(f"minwebhook: {error}", file=sys.stderr)
        return 2
    except MinwebhookError as error:
        print(f"minwebhook: {error}", file=sys.stderr)
        return 1
    return result
