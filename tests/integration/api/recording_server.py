"""``minwebhook`` that writes each query parameter its code asks for into the file ``$ASKED``, one a line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from minwebhook.cli.main import main
from minwebhook.webhooks.query import Query

_get, _last_values = Query.get, Query.last_values


def note(name: str) -> None:
    """Writes the name down."""
    with Path(os.environ["ASKED"]).open("a", encoding="utf-8") as asked:
        asked.write(f"{name}\n")


class NotedValues(dict[str, str]):
    """All parameters at once; what is taken out of them is noted, too."""

    def get(self, name: str, default: Any = None) -> Any:
        """Notes and looks up."""
        note(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        note(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        note(str(name))
        return super().__contains__(name)


def get(query: Query, name: str) -> str | None:
    """Notes and looks up; flags and lists of names come through here, too."""
    note(name)
    return _get(query, name)


def last_values(query: Query) -> dict[str, str]:
    """All of them, noting."""
    return NotedValues(_last_values(query))


def of(cls: type[Query], raw: str) -> Query:
    """Each anew: what was read for a call before would not be asked for."""
    return cls(raw)


if __name__ == "__main__":
    Query.of = classmethod(of)  # type: ignore[method-assign, assignment]
    Query.get = get  # type: ignore[method-assign, assignment]
    Query.last_values = last_values  # type: ignore[method-assign, assignment]
    sys.exit(main())
