"""Sets of paths, written like resources of scopes: ``*``, ``f/team/*``, ``u/alice/report``. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

#: The character after "/": what sorts before it and from "X/" on lies below X.
_AFTER_SLASH: Final = "0"


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern is, or holds, ``path``; ``f/team/*`` holds ``f/team``, too."""
    if pattern.endswith("/*"):
        base = pattern[:-2]
        return path == base or path.startswith(f"{base}/")
    return pattern in ("*", path)


def contains(pattern: str, other: str) -> bool:
    """Whether every path that the pattern ``other`` matches is matched by ``pattern``."""
    if pattern in ("*", other):
        return True
    return other != "*" and pattern.endswith("/*") and matches(pattern, other.removesuffix("/*"))


@dataclass(frozen=True, slots=True)
class Paths:
    """Every path that one of the patterns matches."""

    patterns: tuple[str, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Paths | None:
        """None for all paths."""
        kept = tuple(dict.fromkeys(patterns))
        return None if "*" in kept else cls(kept)

    def has(self, path: str | None) -> bool:
        """Whether it is one of them. What has no path is not."""
        return path is not None and any(matches(pattern, path) for pattern in self.patterns)

    def sql(self, column: str) -> tuple[str, list[Any]]:
        """The same as an expression over a column, with its values."""
        tests, values = [], list[Any]()
        for pattern in self.patterns:
            if pattern.endswith("/*"):
                base = pattern[:-2]
                tests.append(f"{column} = ? OR ({column} >= ? AND {column} < ?)")
                values += [base, f"{base}/", f"{base}{_AFTER_SLASH}"]
            else:
                tests.append(f"{column} = ?")
                values.append(pattern)
        return (f"({' OR '.join(tests)})" if tests else "0"), values
