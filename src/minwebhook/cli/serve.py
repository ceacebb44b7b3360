"""``minwebhook serve``: runs the server until a signal ends it."""

from __future__ import annotations

import argparse
from typing import Any

import trio

from minwebhook import app
from minwebhook.allocator import keep_freed_memory
from minwebhook.cli.flags import add_flags, settings_from
from minwebhook.errors import MinwebhookError
from minwebhook.observability import log


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("serve", help="run the server")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    settings = settings_from(options)
    log.configure(settings.server.log_level)
    keep_freed_memory()
    try:
        trio.run(app.run, settings)
    except BaseExceptionGroup as group:
        # Nurseries wrap; a start that failed has one reason.
        reasons, rest = group.split(MinwebhookError)
        if reasons is None or rest is not None:
            raise
        reason: BaseException = reasons
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
        raise reason from None
    return 0
