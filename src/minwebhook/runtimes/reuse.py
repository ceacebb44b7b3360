"""Processes that stay with one script: those of dedicated workers.

::

    give_back ──► waits ──► take ──► its next job ──► give_back …
        │           │
        │           └──► ended: too many wait, or all are closed
        └──► refused: it has served its time, and the next job of the script begins in a fresh process
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from minwebhook.runtimes.child import Child, Served

#: Memory grows slowly, and to look costs as much as a short job.
_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a process stays; 0 = no limit. What leaks in a script ends with its process, before it hurts."""

    max_jobs: int = 0
    max_s: float = 0.0
    max_memory_bytes: int = 0


_FOR_GOOD: Final = Lifetime()


class ReusePool:
    """Children that have run a script with ``dedicated_worker`` and wait for its next job.

    Keyed by script version, so a new version never meets an old process. Bounded: the one unused for longest is ended.
    """

    def __init__(
        self, max_idle: int, lifetime: Lifetime = _FOR_GOOD, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_idle = max_idle
        self._lifetime = lifetime
        self._clock = clock
        self._idle: OrderedDict[Child, str] = OrderedDict()
        self._by_key: dict[str, list[Child]] = {}

    def __len__(self) -> int:
        """Children that wait."""
        return len(self._idle)

    def take(self, key: str) -> Child | None:
        """A waiting child of this script version, the one used last; None if there is none."""
        while children := self._by_key.get(key):
            child = children.pop()
            self._forget(child, key, children)
            if child.exit is None:
                return child
            child.end()
        return None

    def give_back(self, key: str, child: Child) -> bool:
        """The child ended its job well and may run another one of the same script version.

        False if it has served its time: then it is the caller's to end.
        """
        if not self._may_stay(child):
            return False
        self._idle[child] = key
        self._by_key.setdefault(key, []).append(child)
        if len(self._idle) > self._max_idle:
            oldest, its_key = next(iter(self._idle.items()))
            children = self._by_key[its_key]
            children.remove(oldest)
            self._forget(oldest, its_key, children)
            oldest.end()
        return True

    def _may_stay(self, child: Child) -> bool:
        limits, now, served = self._lifetime, self._clock(), child.served
        if served is None:
            served = child.served = Served(now, now)
        served.jobs += 1
        if (limits.max_jobs and served.jobs >= limits.max_jobs) or (
            limits.max_s and now - served.since_s >= limits.max_s
        ):
            return False
        if limits.max_memory_bytes and now >= served.look_s:
            served.look_s = now + _LOOK_EVERY_S
            return child.memory_bytes() <= limits.max_memory_bytes
        return True

    def _forget(self, child: Child, key: str, rest: list[Child]) -> None:
        del self._idle[child]
        if not rest:
            del self._by_key[key]

    def close(self) -> None:
        """Ends all."""
        for child in self._idle:
            child.end()
        self._idle.clear()
        self._by_key.clear()
