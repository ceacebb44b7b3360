"""``minwebhook serve``: runs the server until a signal ends it."""

from __future__ import annotations

import argparse
import os
import resource
from functools import partial
from typing import Any

import trio

from minwebhook.allocator import keep_freed_memory
from minwebhook.cli.flags import add_flags, settings_from
from minwebhook.cli.reasons import one_reason
from minwebhook.configuration import load_supervision
from minwebhook.observability import log


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("serve", help="run the server")
    add_flags(parser)
    parser.set_defaults(run=run)


def leave_no_core_dumps() -> None:
    """A dump of the memory would hold tokens, secrets and their key. Whoever wants one raises the limit of the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def run(options: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    supervision = load_supervision(os.getpid())
    settings = settings_from(options)
    from minwebhook import app  # noqa: PLC0415 - a setting that is wrong is told at once

    log.configure(settings.server.log_level)
    keep_freed_memory()
    leave_no_core_dumps()
    with one_reason():
        trio.run(partial(app.run, settings, read_settings=lambda: settings_from(options), supervision=supervision))
    return 0
