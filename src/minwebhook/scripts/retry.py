"""When a failed run is tried again. Pure.

The form is that of Windmill's flow steps: ``{"constant": {"attempts", "seconds"}, "exponential": {"attempts", "multiplier",
"seconds", "random_factor"}, "retry_if": {"error_names"}}``. Attempts count runs after the first one; the constant ones come
first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from minwebhook.errors import BadRequest
from minwebhook.scripts.fields import array, integer, json_object, text

MAX_ATTEMPTS: Final = 1000
#: No pause is longer.
MAX_PAUSE_S: Final = 6 * 3600

_COUNT: Final = integer(0, MAX_ATTEMPTS)
_SECONDS: Final = integer(0, MAX_PAUSE_S)
_MEMBERS: Final = {
    "constant": {"attempts": _COUNT, "seconds": _SECONDS},
    "exponential": {
        "attempts": _COUNT,
        "multiplier": integer(1, MAX_PAUSE_S),
        "seconds": _SECONDS,
        "random_factor": integer(0, 100),
    },
    "retry_if": {"error_names": array(text)},
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which pauses."""

    constant_attempts: int = 0
    constant_s: int = 0
    exponential_attempts: int = 0
    multiplier: int = 1
    exponential_s: int = 0
    #: The pauses of exponential attempts are longer or shorter by up to so many per cent.
    random_factor: int = 0
    #: Only errors with one of these names are tried again; None for all.
    error_names: frozenset[str] | None = None

    @classmethod
    def parse(cls, name: str, value: Any) -> RetryPolicy:
        """Checks the JSON object of a policy. Raises :class:`BadRequest` naming the field."""
        parts = _members(name, value, _MEMBERS)
        constant = _members(f"{name}.constant", parts.get("constant", {}), _MEMBERS["constant"])
        exponential = _members(f"{name}.exponential", parts.get("exponential", {}), _MEMBERS["exponential"])
        only = _members(f"{name}.retry_if", parts.get("retry_if", {}), _MEMBERS["retry_if"])
        if exponential.get("attempts") and not exponential.get("seconds"):
            raise BadRequest(f"{name}.exponential.seconds must be 1 or more, or all pauses would be none")
        names = only.get("error_names")
        return cls(
            constant.get("attempts", 0),
            constant.get("seconds", 0),
            exponential.get("attempts", 0),
            exponential.get("multiplier", 1),
            exponential.get("seconds", 0),
            exponential.get("random_factor", 0),
            None if names is None else frozenset(names),
        )

    def to_json(self) -> dict[str, Any]:
        """The object that :meth:`parse` reads."""
        shown: dict[str, Any] = {}
        if self.constant_attempts:
            shown["constant"] = {"attempts": self.constant_attempts, "seconds": self.constant_s}
        if self.exponential_attempts:
            shown["exponential"] = {
                "attempts": self.exponential_attempts,
                "multiplier": self.multiplier,
                "seconds": self.exponential_s,
                "random_factor": self.random_factor,
            }
        if self.error_names is not None:
            shown["retry_if"] = {"error_names": sorted(self.error_names)}
        return shown

    def pause_ms(self, failures: int, error_name: str, random: Callable[[], float]) -> int | None:
        """How long to wait before the next run, in milliseconds; None if there is none.

        ``failures``: earlier runs that failed, without the one that just did. ``random`` gives numbers from 0 to 1.
        """
        if self.error_names is not None and error_name not in self.error_names:
            return None
        if failures < self.constant_attempts:
            return 1000 * self.constant_s
        if failures >= self.constant_attempts + self.exponential_attempts:
            return None
        # A large power is cut before it is made.
        pause_s: float = min(self.multiplier * float(self.exponential_s) ** min(failures + 1, 64), MAX_PAUSE_S)
        if self.random_factor:
            pause_s *= 1 + (2 * random() - 1) * self.random_factor / 100
        return round(1000 * min(pause_s, MAX_PAUSE_S))


def _members(name: str, value: Any, checks: Mapping[str, Any]) -> dict[str, Any]:
    """The known members of an object, checked; null ones are left out. An unknown one is a mistake."""
    obj = json_object(name, value)
    if unknown := sorted(set(obj) - set(checks)):
        raise BadRequest(f"{name}.{unknown[0]} is unknown here: send {', '.join(checks)}")
    found: dict[str, Any] = {}
    for member, check in checks.items():
        if (given := obj.get(member)) is not None:
            found[member] = check(f"{name}.{member}", given) if callable(check) else given
    return found
