"""Conditions on jobs that mean the same for a job in memory and for a row: a predicate and an SQL expression each. Pure.

An expression may give NULL where the predicate gives False, as in any WHERE.
"""

from __future__ import annotations

import enum
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from minwebhook.db.functions import json_contains
from minwebhook.jobs.record import JobRecord
from minwebhook.paths import Paths

_TO_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Field:
    """Something of a job that can be asked for, as an SQL expression and of a record. What is not there is NULL and None."""

    sql: str
    of: Callable[[JobRecord], Any]
    #: Whether it is several values: a JSON array in SQL, a tuple of the record.
    is_list: bool = False


class Condition(Protocol):
    """One thing that is asked of a job."""

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""

    def sql(self) -> tuple[str, list[Any]]:
        """The same as an expression over a row of the table ``job``, with its values."""


class Match(enum.Enum):
    """How a text is compared with what was asked for."""

    EXACT = "exact"
    PREFIX = "prefix"
    #: ``*`` stands for any characters, or none.
    WILDCARD = "wildcard"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field matches one of some values; negated: it does not, or is not there."""

    field: Field
    values: tuple[Any, ...]
    is_negated: bool = False
    match: Match = Match.EXACT

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        found = self.field.of(job)
        items = found if self.field.is_list else (found,)
        return any(item is not None and self._matches(item) for item in items) is not self.is_negated

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        if self.field.is_list:
            test, values = self._compare("item.value")
            test = f"EXISTS (SELECT 1 FROM json_each({self.field.sql}) AS item WHERE {test})"  # noqa: S608 - constants
        else:
            test, values = self._compare(self.field.sql)
        return (f"NOT coalesce({test}, 0)" if self.is_negated else test), values

    def _matches(self, item: Any) -> bool:
        if self.match is Match.EXACT:
            return item in self.values
        if self.match is Match.PREFIX:
            return any(item.startswith(value) for value in self.values)
        return any(fits_wildcard(value, item) for value in self.values)

    def _compare(self, item: str) -> tuple[str, list[Any]]:
        count = len(self.values)
        if self.match is Match.EXACT:
            return f"{item} IN ({', '.join('?' * count)})", list(self.values)
        if self.match is Match.PREFIX:
            test, values = f"substr({item}, 1, ?) = ?", [part for value in self.values for part in (len(value), value)]
        else:
            test, values = f"{item} GLOB ?", [_glob(value) for value in self.values]
        return f"({' OR '.join([test] * count) or '0'})", values


@dataclass(frozen=True, slots=True)
class Bound:
    """The field is there and at most, or at least, a number."""

    field: Field
    #: ``<=`` or ``>=``.
    operator: str
    limit: int

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        value = self.field.of(job)
        if value is None:
            return False
        return bool(value <= self.limit if self.operator == "<=" else value >= self.limit)

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        return f"{self.field.sql} {self.operator} ?", [self.limit]


@dataclass(frozen=True, slots=True)
class Missing:
    """The field is not there."""

    field: Field

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        return self.field.of(job) is None

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        return f"{self.field.sql} IS NULL", []


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is JSON that contains a JSON text (:func:`~minwebhook.db.functions.contains`)."""

    field: Field
    part: str

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        return json_contains(self.field.of(job), self.part)

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        return f"json_contains({self.field.sql}, ?)", [self.part]


@dataclass(frozen=True, slots=True)
class Mentions:
    """One of some texts has a piece in it; ASCII letters in whatever case."""

    fields: tuple[Field, ...]
    piece: str

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        piece = _lower(self.piece)
        return any(text is not None and piece in _lower(text) for text in (field.of(job) for field in self.fields))

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL. SQLite's ``lower`` knows ASCII only."""
        tests = [f"instr(lower({field.sql}), ?) > 0" for field in self.fields]
        return f"({' OR '.join(tests)})", [_lower(self.piece)] * len(tests)


def fits_wildcard(pattern: str, text: str) -> bool:
    """Whether ``text`` is like ``pattern``, in which ``*`` stands for any characters, or none. In linear time."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    last = middle.pop()
    if not text.startswith(first):
        return False
    position = len(first)
    for piece in middle:
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return position + len(last) <= len(text) and text.endswith(last)


def _glob(pattern: str) -> str:
    """The same pattern for GLOB, which knows more wildcards."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _lower(text: str) -> str:
    return text.translate(_TO_LOWER)


@dataclass(frozen=True, slots=True)
class Within:
    """Its path is one of some."""

    paths: Paths

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        return self.paths.has(job.path)

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        return self.paths.sql("job.script_path")


@dataclass(frozen=True, slots=True)
class OwnOrWithin:
    """It is somebody's, or its path is one of some and it is to be seen by those who may see its path."""

    permissioned_as: str
    paths: Paths

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        return job.permissioned_as == self.permissioned_as or (job.visible_to_owner and self.paths.has(job.path))

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        test, values = self.paths.sql("job.script_path")
        return f"(job.permissioned_as = ? OR (job.visible_to_owner AND {test}))", [self.permissioned_as, *values]


@dataclass(frozen=True, slots=True)
class Tagged:
    """It has one of some tags."""

    tags: frozenset[str]

    def holds(self, job: JobRecord) -> bool:
        """Whether it is so for the job."""
        return job.tag in self.tags

    def sql(self) -> tuple[str, list[Any]]:
        """The same in SQL."""
        return f"job.tag IN ({', '.join('?' * len(self.tags))})", sorted(self.tags)
