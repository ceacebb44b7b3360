"""What lists of things at paths have in common: their pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

DEFAULT_PER_PAGE: Final = 1000
MAX_PER_PAGE: Final = 10_000

T = TypeVar("T")


def page_of(items: Sequence[T], page: int, per_page: int) -> Sequence[T]:
    """One page; page 0 is page 1, official clients send it."""
    size = min(max(per_page, 1), MAX_PER_PAGE)
    start = (max(page, 1) - 1) * size
    return items[start : start + size]
