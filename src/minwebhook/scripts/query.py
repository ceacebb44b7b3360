"""What ``scripts/list`` may be asked: the query string, checked, as a condition in SQL. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.errors import BadRequest
from minwebhook.paths import Paths
from minwebhook.scripts.model import hash_from_hex, hash_to_hex

DEFAULT_PER_PAGE: Final = 30
MAX_PER_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class ScriptQuery:
    """Filters and paging of a list of scripts; None and empty mean "any"."""

    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    path_start: str | None = None
    path_exact: str | None = None
    created_by: str | None = None
    first_parent_hash: int | None = None
    last_parent_hash: int | None = None
    parent_hash: int | None = None
    show_archived: bool = False
    order_desc: bool = True
    is_template: bool | None = None
    dedicated_worker: bool | None = None
    kinds: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    starred_only: bool = False
    include_without_main: bool = False
    include_draft_only: bool = False
    with_deployment_msg: bool = False
    without_description: bool = False
    #: Only paths that are in each of these; from the caller's rights, not from the query.
    within: tuple[Paths, ...] = ()

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> ScriptQuery:
        """Read a decoded query string; parameters not known here are ignored. Raises :class:`BadRequest`."""
        values = {name: read(name, query[name]) for name, read in _READERS.items() if query.get(name, "") != ""}
        return cls(**values)

    def where(self, workspace: str) -> tuple[str, list[Any]]:
        """The condition on ``script AS s`` and its values."""
        parts = ["s.workspace_id = ?", "s.deleted = 0"]
        values: list[Any] = [workspace]

        def also(condition: str, *more: Any) -> None:
            parts.append(condition)
            values.extend(more)

        if self.show_archived:
            # Only paths without a live version: their newest one is archived.
            also("s.archived = 1")
            also(
                "s.created_at = (SELECT max(n.created_at) FROM script AS n"
                " WHERE n.workspace_id = s.workspace_id AND n.path = s.path)"
            )
        else:
            also("s.archived = 0")
        if self.path_start is not None:
            # A range, so that the index on the path serves it; no text sorts after the last code point.
            also("s.path >= ? AND s.path < ?", self.path_start, self.path_start + "\U0010ffff")
        for paths in self.within:
            condition, more = paths.sql("s.path")
            also(condition, *more)
        if self.path_exact is not None:
            also("s.path = ?", self.path_exact)
        if self.created_by is not None:
            also("s.created_by = ?", self.created_by)
        if self.first_parent_hash is not None:
            also("s.parent_hash = ?", self.first_parent_hash)
        if self.last_parent_hash is not None:
            also("json_extract(s.parent_hashes, '$[#-1]') = ?", hash_to_hex(self.last_parent_hash))
        if self.parent_hash is not None:
            also("EXISTS (SELECT 1 FROM json_each(s.parent_hashes) WHERE value = ?)", hash_to_hex(self.parent_hash))
        for name, wanted in (("is_template", self.is_template), ("dedicated_worker", self.dedicated_worker)):
            if wanted is not None:
                also(f"ifnull(json_extract(s.settings, '$.{name}'), 0) = ?", int(wanted))
        for column, choices in (("kind", self.kinds), ("language", self.languages)):
            if choices:
                also(f"s.{column} IN ({', '.join('?' * len(choices))})", *choices)
        if self.starred_only:
            also("0")
        if not self.include_without_main:
            also("s.no_main_func IS NULL")
        if not self.include_draft_only:
            also("ifnull(json_extract(s.settings, '$.draft_only'), 0) = 0")
        return " AND ".join(parts), values

    @property
    def order(self) -> str:
        """The terms of ORDER BY."""
        direction = "DESC" if self.order_desc else "ASC"
        return f"s.created_at {direction}, s.rowid {direction}"

    @property
    def offset(self) -> int:
        """Rows before the page; page 0 is page 1, official clients begin there."""
        return min((max(self.page, 1) - 1) * self.per_page, 2**62)


def _number(low: int, high: int) -> Callable[[str, str], int]:
    def read(name: str, value: str) -> int:
        if not value.isascii() or not value.isdigit() or len(value) > 15:
            raise BadRequest(f"{name} must be a whole number")
        return min(max(int(value), low), high)

    return read


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"{name} must be true or false")
    return value == "true"


def _text(name: str, value: str) -> str:
    if not value.isprintable():
        raise BadRequest(f"{name} must be printable text")
    return value


def _list(name: str, value: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in _text(name, value).split(",") if item.strip())
    if len(items) > 100:
        raise BadRequest(f"{name} has too many entries")
    return items


def _hash(name: str, value: str) -> int:
    return hash_from_hex(value, name)


_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "page": _number(0, 10**9),
    "per_page": _number(1, MAX_PER_PAGE),
    "path_start": _text,
    "path_exact": _text,
    "created_by": _text,
    "first_parent_hash": _hash,
    "last_parent_hash": _hash,
    "parent_hash": _hash,
    "show_archived": _boolean,
    "order_desc": _boolean,
    "is_template": _boolean,
    "dedicated_worker": _boolean,
    "kinds": _list,
    "languages": _list,
    "starred_only": _boolean,
    "include_without_main": _boolean,
    "include_draft_only": _boolean,
    "with_deployment_msg": _boolean,
    "without_description": _boolean,
}
