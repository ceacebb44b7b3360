"""Query strings: decoding, and the parameters of run endpoints. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from minwebhook.errors import BadRequest

#: More pairs than any client sends, few enough to parse in well under a millisecond.
MAX_PAIRS: Final = 1000
#: Control parameters; each may be given once, so that two readers of a URL cannot disagree on it.
_CONTROL: Final = ("raw", "wrap_body", "include_header", "include_query", "payload", "job_id", "token")


class Query:
    """Decoded query parameters, in order."""

    __slots__ = ("_values",)

    def __init__(self, raw: str) -> None:
        """``raw`` is the query without ``?``. Raises :class:`BadRequest` if it is not UTF-8 or has too many pairs."""
        self._values: dict[str, list[str]] = {}
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
        for name in _CONTROL:
            if len(self._values.get(name, ())) > 1:
                raise BadRequest(f"{name}: give it once")

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

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names separated by commas, untrimmed."""
        value = self.get(name)
        return tuple(value.split(",")) if value else ()


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
        return cls(
            raw=query.flag("raw"),
            wrap_body=query.flag("wrap_body"),
            include_header=query.names("include_header"),
            include_query=query.names("include_query"),
        )


_NO_OPTIONS: Final = BodyOptions()
