"""Which jobs a list shows: query parameters become states and conditions, the same for rows and for jobs in the table. Pure.

Each parameter is described once, in the tables below: what it looks at (column expression and record) and how it compares.
Whatever this version does not know of a job (schedules, worker names, flow steps) is a field without a value, so that the
parameters that ask for it give what they would give if no job had one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson

from minwebhook.errors import BadRequest
from minwebhook.jobs.conditions import AnyOf, Bound, Condition, Contains, Field, Match, Mentions, Missing
from minwebhook.jobs.model import JobState
from minwebhook.jobs.record import JobRecord
from minwebhook.scripts.model import hash_from_hex
from minwebhook.times import parse_rfc3339

T = TypeVar("T")

DEFAULT_PER_PAGE: Final = 1000
MAX_PER_PAGE: Final = 10_000
#: Items of one list of values, and values inside one ``args`` or ``result``.
MAX_ITEMS: Final = 200

_PATH: Final = Field("job.script_path", lambda job: job.path)
_TAG: Final = Field("nullif(job.tag, '')", lambda job: job.tag or None)
_PARENT: Final = Field("job.parent_job", lambda job: job.parent_job.bytes if job.parent_job else None)
_CREATED: Final = Field("job.created_at", lambda job: job.created_at_ms)
_STARTED: Final = Field("job.started_at", lambda job: job.started_at_ms)
_COMPLETED: Final = Field("job.completed_at", lambda job: job.completed_at_ms)
_CREATED_OR_STARTED: Final = Field(
    "coalesce(job.started_at, job.created_at)",
    lambda job: job.created_at_ms if job.started_at_ms is None else job.started_at_ms,
)
_SCHEDULED: Final = Field("job.scheduled_for", lambda job: job.scheduled_for_ms)
_UNKNOWN: Final = Field("NULL", lambda job: None)

#: Lists of texts, separated by commas; a leading ``!`` negates the list.
_LISTS: Final[dict[str, Field]] = {
    "script_path_exact": _PATH,
    "script_path_start": _PATH,
    "script_hash": Field("job.script_hash", lambda job: job.script_hash),
    "created_by": Field("job.created_by", lambda job: job.created_by),
    "worker": _UNKNOWN,
    "tag": _TAG,
    "label": Field("job.labels", lambda job: job.labels, is_list=True),
    "job_kinds": Field("job.kind", lambda job: job.kind),
    "trigger_kind": Field("CASE job.kind WHEN 'script' THEN 'webhook' END", lambda job: job.trigger_kind),
    "trigger_path": _UNKNOWN,
    "schedule_path": _UNKNOWN,
}
#: How the texts of a list are compared, if not exactly; the second only with ``allow_wildcards=true``.
_MATCHES: Final = {"script_path_start": Match.PREFIX}
_WILDCARDS: Final = ("worker", "tag", "label")

#: Times, with both ends included: ``{name}_before``, ``{name}_after``.
_TIMES: Final[dict[str, Field]] = {
    "created": _CREATED,
    "started": _STARTED,
    "completed": _COMPLETED,
    "created_or_started": _CREATED_OR_STARTED,
}
#: JSON that contains other JSON.
_DOCUMENTS: Final[dict[str, Field]] = {
    "args": Field("job.args", lambda job: job.arguments),
    "result": Field("job.result", lambda job: job.result),
}
#: Flags that ask for jobs without something; false restricts nothing.
_WITHOUT: Final[dict[str, Field]] = {"has_null_parent": _PARENT, "is_not_schedule": _UNKNOWN}
#: Flags that few jobs have: false restricts nothing.
_WITH: Final[dict[str, Field]] = {
    "suspended": Field("job.suspend_until IS NOT NULL", lambda job: job.suspend_until_ms is not None),
    "is_flow_step": Field("job.flow_step_id IS NOT NULL", lambda job: bool(job.step_id)),
}

_LIVE: Final = frozenset(state for state in JobState if not state.is_final)
_ENDED: Final = frozenset(state for state in JobState if state.is_final)
_STATUSES: Final = ("success", "failure", "canceled", "skipped")
#: What is asked of ended jobs only, or limits a list at its end: not together with ``running=true``.
_NOT_OF_RUNNING: Final = (
    "success",
    "status",
    "label",
    "result",
    "completed_before",
    "completed_after",
    "created_before",
    "started_before",
    "created_or_started_before",
)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a list of jobs was asked for."""

    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    newest_first: bool = True
    with_arguments: bool = False
    states: frozenset[JobState] = _LIVE | _ENDED
    #: What jobs must fulfil that have not ended, and those that have.
    live: tuple[Condition, ...] = ()
    ended: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, query: Mapping[str, str], now_ms: int, *, per_page: int = DEFAULT_PER_PAGE) -> JobFilter:
        """From decoded query parameters; unknown ones are ignored. Raises :class:`BadRequest` naming the parameter.

        Page 0 is page 1. ``per_page`` is what counts if the query says nothing.
        """
        reader = _Reader(query)
        states = _states(reader)
        for_all = [*_texts(reader), *_documents(reader), *_flags(reader, now_ms)]
        # Lists of live jobs have bounds of their own, so that one query can page through the ended ones alone.
        live_times = {"created_before": "created_before_queue", "created_after": "created_after_queue"}
        return cls(
            page=max(reader.number("page", 1), 1),
            per_page=min(max(reader.number("per_page", per_page), 1), MAX_PER_PAGE),
            newest_first=reader.flag("order_desc") is not False,
            with_arguments=bool(reader.flag("include_args")),
            states=states,
            live=(*for_all, *_times(reader, live_times)),
            ended=(*for_all, *_times(reader, {})),
        )

    def ended_since(self, time_ms: int) -> JobFilter:
        """The same, of jobs that have ended since then."""
        return replace(self, states=self.states & _ENDED, ended=(*self.ended, Bound(_COMPLETED, ">=", time_ms)))

    def limited_to(self, conditions: tuple[Condition, ...]) -> JobFilter:
        """The same, of jobs that fulfil more."""
        return replace(self, live=(*self.live, *conditions), ended=(*self.ended, *conditions))

    @property
    def offset(self) -> int:
        """Jobs before this page."""
        return (self.page - 1) * self.per_page

    @property
    def wants_ended(self) -> bool:
        """Whether jobs that have ended can match."""
        return bool(self.states & _ENDED)

    def matches(self, job: JobRecord) -> bool:
        """The filter on a job of the table."""
        conditions = self.ended if job.state.is_final else self.live
        return job.state in self.states and all(condition.holds(job) for condition in conditions)

    def where(self, workspace: str | None) -> tuple[str, list[Any]]:
        """The filter on rows of ended jobs, of one workspace or of all: an SQL condition with its values."""
        # As in the partial indexes, so that they are used.
        tests, values = ["job.status != 'queued'"], list[Any]()
        if workspace is not None:
            tests.append("job.workspace_id = ?")
            values.append(workspace)
        wanted = self.states & _ENDED
        if wanted != _ENDED:
            tests.append(f"job.status IN ({', '.join('?' * len(wanted))})")
            values += sorted(state.value for state in wanted)
        for condition in self.ended:
            test, more = condition.sql()
            tests.append(test)
            values += more
        return " AND ".join(tests), values


def _states(reader: _Reader) -> frozenset[JobState]:
    running, success, status = reader.flag("running"), reader.flag("success"), reader.text("status")
    skipped = reader.flag("is_skipped")
    if running:
        for name in _NOT_OF_RUNNING:
            if reader.text(name):
                raise BadRequest(f"running=true and {name} exclude each other: a running job has not ended yet")
    if status is not None and status not in _STATUSES:
        raise BadRequest(f"status: send one of {', '.join(_STATUSES)}, not {status[:40]!r}")
    states = _LIVE | _ENDED
    if running is not None:
        states &= {JobState.RUNNING if running else JobState.QUEUED}
    if success is not None:
        states &= _named("success", "skipped") if success else _named("failure", "canceled")
    if status is not None:
        states &= _named(status)
    if skipped is not None:
        states = states & _named("skipped") if skipped else states - _named("skipped")
    return states


def _named(*names: str) -> frozenset[JobState]:
    return frozenset(state for state in JobState if state.value in names)


def _texts(reader: _Reader) -> Iterable[Condition]:
    wildcards = reader.flag("allow_wildcards")
    for name, field in _LISTS.items():
        text = reader.text(name)
        if text:
            items = text.removeprefix("!").split(",")
            if len(items) > MAX_ITEMS:
                raise BadRequest(f"{name}: send at most {MAX_ITEMS} values")
            match = Match.WILDCARD if wildcards and name in _WILDCARDS else _MATCHES.get(name, Match.EXACT)
            # An empty item is no value: it does not mean "any", nor "none".
            values = tuple(hash_from_hex(item, name) if name == "script_hash" else item for item in items if item)
            yield AnyOf(field, values, text.startswith("!"), match)
    if piece := reader.text("broad_filter"):
        yield Mentions((_PATH, _TAG), piece)
    if parent := reader.uuid("parent_job"):
        yield AnyOf(_PARENT, (parent.bytes,))


def _documents(reader: _Reader) -> Iterable[Condition]:
    for name, field in _DOCUMENTS.items():
        if part := reader.json(name):
            yield Contains(field, part)


def _flags(reader: _Reader, now_ms: int) -> Iterable[Condition]:
    for name, field in _WITHOUT.items():
        if reader.flag(name):
            yield Missing(field)
    for name, field in _WITH.items():
        if reader.flag(name):
            yield AnyOf(field, (True,))
    if reader.flag("scheduled_for_before_now"):
        yield Bound(_SCHEDULED, "<=", now_ms)


def _times(reader: _Reader, instead: Mapping[str, str]) -> Iterable[Condition]:
    """Bounds; a name for which there is one ``instead`` gives way to it."""
    for name, field in _TIMES.items():
        for end, operator in (("before", "<="), ("after", ">=")):
            asked = f"{name}_{end}"
            limit = reader.time_ms(instead[asked]) if asked in instead else None
            general = reader.time_ms(asked)
            limit = general if limit is None else limit
            if limit is not None:
                yield Bound(field, operator, limit)


class _Reader:
    """Reads query parameters; what is wrong is a :class:`BadRequest` that names the parameter."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query

    def text(self, name: str) -> str | None:
        """As it is."""
        value = self._query.get(name)
        if value is not None and "\0" in value:
            raise BadRequest(f"{name}: send a text without NUL characters")
        return value

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``."""
        value = self._query.get(name)
        if value is None:
            return None
        if value not in ("true", "false"):
            raise BadRequest(f"{name}: send true or false, not {value[:40]!r}")
        return value == "true"

    def number(self, name: str, default: int) -> int:
        """A whole number, also a negative one; capped where no list is that long."""
        value = self._query.get(name)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 1000:
            raise BadRequest(f"{name}: send a whole number, not {value[:40]!r}")
        return min(int(value), 1 << 31)

    def uuid(self, name: str) -> UUID | None:
        """A job id."""
        return self._parsed(name, UUID, "is not a job id (UUID)")

    def time_ms(self, name: str) -> int | None:
        """A time (RFC 3339)."""
        problem = "is not a time such as 2030-01-31T12:00:00Z (a '+' must be percent-encoded)"
        return self._parsed(name, parse_rfc3339, problem)

    def json(self, name: str) -> str | None:
        """A JSON text of bounded size."""
        value = self._parsed(name, orjson.loads, "is not JSON")
        text = self._query.get(name)
        if text and _size(value) > MAX_ITEMS:
            raise BadRequest(f"{name}: send at most {MAX_ITEMS} values")
        return text

    def _parsed(self, name: str, parse: Callable[[str], T], problem: str) -> T | None:
        value = self._query.get(name)
        if not value:
            return None
        try:
            return parse(value)
        except ValueError:
            raise BadRequest(f"{name}: {value[:40]!r} {problem}") from None


def _size(value: Any) -> int:
    """Values in a JSON value, itself included; counts no further than it must."""
    count, waiting = 0, [value]
    while waiting and count <= MAX_ITEMS:
        count += 1
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    return count
