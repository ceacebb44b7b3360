"""How many processes should wait for jobs: the rate at which jobs come, times the time until a process is replaced. Pure.

Between a job's taking a process and its successor's being ready, further jobs come: as many as rate times that time on
average, and sometimes more. So many processes, and some to spare, must wait that a job seldom finds none. Times are seconds
on a clock that only goes forward.
"""

from __future__ import annotations

import math
from typing import Final

#: A burst counts at once, and is remembered for a while.
_FAST_S: Final = 0.5
_SLOW_S: Final = 20.0
#: What the last replacements took, each weighing so much.
_WEIGHT: Final = 0.1
_LONGEST_S: Final = 2.0
_FIRST_GUESS_S: Final = 0.02


class Rate:
    """Events per second, the older the less they count."""

    __slots__ = ("_at", "_memory_s", "_value")

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._value = 0.0
        self._at = -math.inf

    def count(self, now: float) -> None:
        """There was one."""
        self._value = self.at(now) + 1 / self._memory_s
        self._at = now

    def at(self, now: float) -> float:
        """What the rate is now."""
        return self._value * math.exp((self._at - now) / self._memory_s) if self._value else 0.0


class Demand:
    """Of one kind of process."""

    __slots__ = ("_fast", "_replacement_s", "_slow")

    def __init__(self) -> None:
        self._fast, self._slow = Rate(_FAST_S), Rate(_SLOW_S)
        self._replacement_s = _FIRST_GUESS_S

    def came(self, now: float) -> None:
        """A job has come."""
        self._fast.count(now)
        self._slow.count(now)

    def replaced(self, took_s: float) -> None:
        """So long after a job took a process, another one is ready."""
        self._replacement_s += _WEIGHT * (min(took_s, _LONGEST_S) - self._replacement_s)

    def wanted(self, now: float) -> int:
        """How many should wait. Arrivals are taken to be random: twice the square root is seldom exceeded."""
        mean = max(self._fast.at(now), self._slow.at(now)) * self._replacement_s
        return math.ceil(mean + 2 * math.sqrt(mean))


class Room:
    """The memory for those that wait beyond the least, shared by all kinds."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held: dict[object, int] = {}

    def share(self, who: object, wished: int, each_bytes: int = 1) -> int:
        """How many of that size one may have of what the others leave; held until the next call, or until it leaves."""
        others = sum(held for other, held in self._held.items() if other is not who)
        granted = max(0, min(wished, (self._most_bytes - others) // each_bytes))
        self._held[who] = granted * each_bytes
        return granted

    def leave(self, who: object) -> None:
        """It wants nothing any more."""
        self._held.pop(who, None)
