"""What is counted while the server works: plain numbers, because most of it is counted once per request.

Whoever does the work owns its figures and adds to them; :mod:`~minwebhook.observability.metrics` makes text of them when
somebody asks. A count costs some 0.1 µs, a time in a histogram 0.3 µs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

#: Upper bounds in seconds, for what takes from a fraction of a millisecond to minutes.
SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 900.0,
)  # fmt: skip

K = TypeVar("K", bound=Hashable)


class Histogram:
    """How often a value was in each of some ranges, and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        """``bounds`` are the upper ends, included, of all ranges but the last, which has none."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[int]:
        """How many values were at most each bound, and then how many there were."""
        counts, sums = 0, []
        for count in self.counts:
            counts += count
            sums.append(counts)
        return sums


class Tally(Generic[K]):
    """How often something of each kind happened, and how many seconds it took."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        #: Count and seconds, by kind.
        self.entries: dict[K, list[float]] = {}

    def add(self, kind: K, seconds: float) -> None:
        """It happened once more. Kinds must be few, and cheap to hash."""
        entry = self.entries.get(kind)
        if entry is None:
            entry = self.entries[kind] = [0, 0.0]
        entry[0] += 1
        entry[1] += seconds


class CommitFigures:
    """Transactions of the database."""

    __slots__ = ("commits", "failures", "writes")

    def __init__(self) -> None:
        #: How long each took that was committed, in seconds.
        self.commits = Histogram()
        self.failures = 0
        #: Writes in them.
        self.writes = 0


class JobFigures:
    """Jobs that ended."""

    __slots__ = ("by_state", "queue_s", "run_s", "start_s")

    def __init__(self) -> None:
        #: How many ended in each state.
        self.by_state: dict[str, int] = {}
        #: Until it was their turn, until a process had them, until their end was known.
        self.queue_s = Histogram()
        self.start_s = Histogram()
        self.run_s = Histogram()

    def ended(self, state: str) -> None:
        """One ended."""
        self.by_state[state] = self.by_state.get(state, 0) + 1


class TrafficFigures:
    """Connections and what is on them."""

    __slots__ = ("accepted", "connections", "streams", "websockets")

    def __init__(self) -> None:
        self.accepted = 0
        self.connections = 0
        self.streams = 0
        self.websockets = 0
