"""How far a long command is: what it is told, by whoever does the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: The step in a word or two, how much of it is done, and of how much (0: nobody knows), in bytes or things.
OnProgress: TypeAlias = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """For those who do not want to know."""
