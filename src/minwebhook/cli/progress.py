"""Showing on stderr how far a long command is: in place at a terminal, else a line now and then; JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from minwebhook.upkeep.progress import OnProgress

_TERMINAL_S: Final = 0.1
_LINES_S: Final = 10.0


def reporter(*, as_json: bool) -> OnProgress:
    """What tells the user; it is called as often as one likes."""
    at_terminal = sys.stderr.isatty() and not as_json
    pause_s = _TERMINAL_S if at_terminal else _LINES_S
    next_s = time.monotonic() + (0 if at_terminal else pause_s)  # short work is not worth a line

    def on_progress(step: str, done: int, total: int) -> None:
        nonlocal next_s
        now = time.monotonic()
        if now < next_s:
            return
        next_s = now + pause_s
        if as_json:
            text = json.dumps({"step": step, "done": done, "total": total or None}) + "\n"
        else:
            text = f"{step}{_share(done, total)}"
            text = f"\r\033[K{text}" if at_terminal else f"{text}\n"
        print(text, end="", file=sys.stderr, flush=True)

    return on_progress


def _share(done: int, total: int) -> str:
    if total:
        return f": {100 * done // total} % of {total / 1e6:.1f} MB"
    return f": {done}" if done else " …"


def clear() -> None:
    """Takes the line at the terminal away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
