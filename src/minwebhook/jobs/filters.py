"""Which jobs a list shows: the same filter over rows of the database and over jobs in the table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from minwebhook.errors import BadRequest
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobRecord

DEFAULT_PER_PAGE: Final = 1000
MAX_PER_PAGE: Final = 10_000

#: Query parameters that take a list of texts, with the column and the record's value.
_TEXTS: Final[dict[str, tuple[str, Callable[[JobRecord], str]]]] = {
    "script_path_exact": ("coalesce(script_path, '')", lambda job: job.path or ""),
    "created_by": ("created_by", lambda job: job.created_by),
    "job_kinds": ("kind", lambda job: job.kind),
    "tag": ("coalesce(tag, '')", lambda job: job.tag),
}
_SUCCESS: Final = (JobState.SUCCESS,)
_NO_SUCCESS: Final = (JobState.FAILURE, JobState.CANCELED)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What ``jobs/list`` was asked for."""

    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    order_desc: bool = True
    running: bool | None = None
    success: bool | None = None
    has_null_parent: bool = False
    parent_job: UUID | None = None
    path_start: str = ""
    texts: tuple[tuple[str, tuple[str, ...], bool], ...] = ()

    @classmethod
    def parse(cls, query: dict[str, str]) -> JobFilter:
        """From decoded query parameters; unknown ones are ignored. Raises :class:`BadRequest` naming the parameter.

        Lists are separated by commas; a leading ``!`` on the first item negates the whole list. Page 0 is page 1.
        """
        texts = []
        for name in _TEXTS:
            if value := query.get(name):
                negated = value.startswith("!")
                texts.append((name, tuple(value.removeprefix("!").split(",")), negated))
        running, success = _flag(query, "running"), _flag(query, "success")
        if running and success is not None:
            raise BadRequest("running=true and success exclude each other: a running job has not ended yet")
        return cls(
            page=max(_number(query, "page", 1), 1),
            per_page=min(max(_number(query, "per_page", DEFAULT_PER_PAGE), 1), MAX_PER_PAGE),
            order_desc=_flag(query, "order_desc") is not False,
            running=running,
            success=success,
            has_null_parent=bool(_flag(query, "has_null_parent")),
            parent_job=_uuid(query, "parent_job"),
            path_start=query.get("script_path_start", ""),
            texts=tuple(texts),
        )

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.page - 1) * self.per_page

    @property
    def wants_live(self) -> bool:
        """Whether jobs that have not ended can match."""
        return self.success is None

    @property
    def wants_ended(self) -> bool:
        """Whether jobs that have ended can match."""
        return self.running is None

    def matches(self, job: JobRecord) -> bool:
        """The filter on a job of the table."""
        if self.running is not None and (job.state is JobState.RUNNING) != self.running:
            return False
        if self.success is not None and job.state not in (_SUCCESS if self.success else _NO_SUCCESS):
            return False
        if self.has_null_parent and job.parent_job is not None:
            return False
        if self.parent_job is not None and job.parent_job != self.parent_job:
            return False
        if not (job.path or "").startswith(self.path_start):
            return False
        return all((_TEXTS[name][1](job) in values) != negated for name, values, negated in self.texts)

    def where(self, workspace: str) -> tuple[str, list[Any]]:
        """The filter as an SQL condition with its values."""
        conditions: list[str] = ["workspace_id = ?"]
        parameters: list[Any] = [workspace]
        if self.success is not None:
            states = _SUCCESS if self.success else _NO_SUCCESS
            conditions.append(f"status IN ({', '.join('?' * len(states))})")
            parameters += [state.value for state in states]
        if self.has_null_parent:
            conditions.append("parent_job IS NULL")
        if self.parent_job is not None:
            conditions.append("parent_job = ?")
            parameters.append(self.parent_job.bytes)
        if self.path_start:
            conditions.append("substr(script_path, 1, ?) = ?")
            parameters += [len(self.path_start), self.path_start]
        for name, wanted, negated in self.texts:
            conditions.append(f"{_TEXTS[name][0]} {'NOT ' if negated else ''}IN ({', '.join('?' * len(wanted))})")
            parameters += wanted
        return " AND ".join(conditions), parameters


def _flag(query: dict[str, str], name: str) -> bool | None:
    value = query.get(name)
    if value is None:
        return None
    if value not in ("true", "false"):
        raise BadRequest(f"{name}: send true or false, not {value!r}")
    return value == "true"


def _number(query: dict[str, str], name: str, default: int) -> int:
    value = query.get(name)
    if value is None:
        return default
    try:
        return min(int(value), 1 << 31)
    except ValueError:
        raise BadRequest(f"{name}: send a whole number, not {value!r}") from None


def _uuid(query: dict[str, str], name: str) -> UUID | None:
    value = query.get(name)
    try:
        return UUID(value) if value else None
    except ValueError:
        raise BadRequest(f"{name}: {value!r} is not a job id (UUID)") from None
