"""Query strings: decoding, and the parameters of run endpoints. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from minwebhook.errors import BadRequest
from minwebhook.times import parse_rfc3339

#: More pairs than any client sends, few enough to parse in well under a millisecond.
MAX_PAIRS: Final = 1000
#: Longer queries are not kept.
_MAX_KEPT_LENGTH: Final = 256
#: Control parameters; each may be given once, so that two readers of a URL cannot disagree on it.
CONTROL: Final = (
    "raw", "wrap_body", "include_header", "include_query", "payload", "token",
    "job_id", "parent_job", "root_job", "tag", "timeout", "scheduled_for", "scheduled_in_secs", "cache_ttl",
    "cache_ignore_s3_path", "skip_preprocessor", "invisible_to_owner", "queue_limit", "retry",
)  # fmt: skip


class Query:
    """Decoded query parameters, in order; never changed once made."""

    __slots__ = ("_values", "body_options", "is_kept", "run_options")

    def __init__(self, raw: str, *, is_kept: bool = False) -> None:
        """``raw`` is the query without ``?``. Raises :class:`BadRequest` if it is not UTF-8 or has too many pairs.

        ``is_kept``: it is used for many requests.
        """
        self._values: dict[str, list[str]] = {}
        self.is_kept: Final = is_kept
        #: What it has been read as, so that it is read once.
        self.body_options: BodyOptions | None = None
        self.run_options: RunOptions | None = None
        if not raw:
            return
        try:
            pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=MAX_PAIRS, errors="strict")
        except UnicodeDecodeError:
            raise BadRequest("the query is not percent-encoded UTF-8") from None
        except ValueError:
            raise BadRequest(f"the query has more than {MAX_PAIRS} parameters") from None
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)
        for name in CONTROL:
            if len(self._values.get(name, ())) > 1:
                raise BadRequest(f"{name}: give it once")

    @classmethod
    def of(cls, raw: str) -> Query:
        """As made from ``raw``. Senders call the same address again and again: theirs is decoded once."""
        # No secrets are kept, and nothing that is another in each request.
        if len(raw) > _MAX_KEPT_LENGTH or "token" in raw or "job" in raw:
            return cls(raw)
        return _kept(raw)

    @property
    def is_empty(self) -> bool:
        """Whether there are no parameters at all."""
        return not self._values

    def get(self, name: str) -> str | None:
        """The last value of ``name``, or None."""
        values = self._values.get(name)
        return values[-1] if values else None

    def last_values(self) -> dict[str, str]:
        """The last value of every parameter."""
        return {name: values[-1] for name, values in self._values.items()}

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, literally ``true`` or ``false``. Raises :class:`BadRequest` naming the parameter."""
        value = self.get(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise BadRequest(f"{name}: send true or false, not {value[:40]!r}")
        return value == "true"

    def number(self, name: str, *, low: int = 0, high: int = 2**31 - 1, unit: str = "") -> int | None:
        """A whole number, or None. Raises :class:`BadRequest` naming the parameter, its ``unit`` and its bounds."""
        value = self.get(name)
        if value is None:
            return None
        digits = value[1:] if value.startswith("-") else value
        number = int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else low - 1
        if not low <= number <= high:
            what = f"a whole number of {unit}" if unit else "a whole number"
            raise BadRequest(f"{name}: send {what} from {low} to {high}, not {value[:40]!r}")
        return number

    def uuid(self, name: str) -> UUID | None:
        """A UUID in its usual form, or None. Raises :class:`BadRequest` naming the parameter."""
        value = self.get(name)
        return None if value is None else parse_uuid(value, name)

    def time_ms(self, name: str) -> int | None:
        """An RFC 3339 time as Unix milliseconds, or None. Raises :class:`BadRequest` naming the parameter."""
        value = self.get(name)
        if value is None:
            return None
        try:
            return parse_rfc3339(value)
        except ValueError:
            raise BadRequest(
                f"{name}: send an RFC 3339 time such as 2030-01-31T12:00:00Z ('+' in a URL is %2B), not {value[:40]!r}"
            ) from None

    def json(self, name: str) -> Any:
        """A JSON text, or None. Raises :class:`BadRequest` naming the parameter."""
        value = self.get(name)
        if not value:
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"{name}: send JSON ({error})") from None

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names separated by commas, untrimmed."""
        value = self.get(name)
        return tuple(value.split(",")) if value else ()


@lru_cache(maxsize=256)
def _kept(raw: str) -> Query:
    return Query(raw, is_kept=True)


@dataclass(frozen=True, slots=True)
class BodyOptions:
    """How the request becomes arguments: the parameters ``raw``, ``wrap_body``, ``include_header``, ``include_query``."""

    raw: bool = False
    wrap_body: bool = False
    include_header: tuple[str, ...] = ()
    include_query: tuple[str, ...] = ()

    @classmethod
    def parse(cls, query: Query) -> BodyOptions:
        """Raises :class:`BadRequest` naming the parameter."""
        if query.is_empty:
            return _NO_OPTIONS
        if query.body_options is None:
            query.body_options = cls(
                raw=query.flag("raw"),
                wrap_body=query.flag("wrap_body"),
                include_header=query.names("include_header"),
                include_query=query.names("include_query"),
            )
        return query.body_options


_NO_OPTIONS: Final = BodyOptions()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run endpoint was asked besides the arguments. Which of it counts, the endpoint knows."""

    job_id: UUID | None = None
    parent_job: UUID | None = None
    root_job: UUID | None = None
    tag: str | None = None
    timeout_s: int | None = None
    scheduled_for_ms: int | None = None
    scheduled_in_s: int | None = None
    cache_ttl_s: int | None = None
    skip_preprocessor: bool = False
    invisible_to_owner: bool = False
    queue_limit: int | None = None
    #: The JSON value of ``retry``, unchecked.
    retry: Any = None
    #: Whether this very object is that of many requests.
    is_kept: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, query: Query) -> RunOptions:
        """Raises :class:`BadRequest` naming the parameter."""
        if query.is_empty:
            return NO_RUN_OPTIONS
        if query.run_options is None:
            query.run_options = cls._read(query)
        return query.run_options

    @classmethod
    def _read(cls, query: Query) -> RunOptions:
        query.flag("cache_ignore_s3_path")  # there are no cached results with S3 objects here, but the word is known
        return cls(
            job_id=query.uuid("job_id"),
            # Official clients send these empty outside of jobs.
            parent_job=query.uuid("parent_job") if query.get("parent_job") else None,
            root_job=query.uuid("root_job") if query.get("root_job") else None,
            tag=_tag(query.get("tag")),
            timeout_s=query.number("timeout", low=1, unit="seconds"),
            scheduled_for_ms=query.time_ms("scheduled_for"),
            scheduled_in_s=query.number("scheduled_in_secs", low=-(2**31), unit="seconds"),
            cache_ttl_s=query.number("cache_ttl", unit="seconds"),
            skip_preprocessor=query.flag("skip_preprocessor"),
            invisible_to_owner=query.flag("invisible_to_owner"),
            queue_limit=query.number("queue_limit", unit="jobs"),
            retry=query.json("retry"),
            is_kept=query.is_kept,
        )

    def scheduled_ms(self, now_ms: int) -> int | None:
        """The earliest time of the run; None for now. ``scheduled_for`` wins over ``scheduled_in_secs``."""
        if self.scheduled_for_ms is not None:
            return self.scheduled_for_ms
        return None if self.scheduled_in_s is None else now_ms + 1000 * self.scheduled_in_s


#: Of requests without a query: always this object.
NO_RUN_OPTIONS: Final = RunOptions(is_kept=True)
MAX_TAG_LENGTH: Final = 255


def _tag(value: str | None) -> str | None:
    if not value:
        return None
    if len(value) > MAX_TAG_LENGTH or "\0" in value:
        raise BadRequest(f"tag: send at most {MAX_TAG_LENGTH} characters, without NUL")
    return value


def parse_uuid(text: str, name: str) -> UUID:
    """A UUID in its usual form. Raises :class:`BadRequest` naming the parameter."""
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text.lower():
        raise BadRequest(f"{name}: {text[:60]!r} is not a UUID")
    return value
