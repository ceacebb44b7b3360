"""The order in which jobs start. Pure; times are Unix milliseconds.

A higher priority goes first. Within one, the owners of the jobs (whoever's token started them) take turns, so that one who
sends thousands does not hold up the others; each owner's jobs go by due time, then arrival.

Jobs that are not due yet wait in a heap of their own. So do jobs over the limit of their concurrency key, until a place of
that key is free; then they are in line as early as they would have been. A job that was cancelled while it waited is
skipped when its turn comes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import insort
from collections import OrderedDict, deque
from typing import Final, NamedTuple, TypeAlias

from minwebhook.jobs.model import Concurrency, Job, JobState


class _Entry(NamedTuple):
    due_ms: int
    arrival: int
    job: Job


#: Entries of one owner and priority, earliest first.
_Line: TypeAlias = list[_Entry]

#: With so many concurrency keys it is worth looking for idle ones to forget.
_MIN_KEYS: Final = 1024


class JobQueue:
    """Queued jobs, and how many of each concurrency key run."""

    def __init__(self) -> None:
        #: By negative priority; the owners of each in the order of their turns.
        self._due: dict[int, OrderedDict[str, _Line]] = {}
        self._order: list[int] = []  # the keys of _due, sorted
        self._later: list[_Entry] = []
        self._arrival = itertools.count()
        self._keys: dict[str, _Key] = {}
        self._max_keys = _MIN_KEYS
        #: When keys for which somebody waits may have room again because an ended run does not count any more: (time, a number,
        #: key). What is not the key's own ``freed_ms`` any more is passed over.
        self._freed: list[tuple[float, int, _Key]] = []
        self._freed_count = itertools.count()
        #: When the first of them may.
        self.release_ms: float = math.inf
        self._seen_ms = 0

    def is_next(self, job: Job, now_ms: int) -> bool:
        """Whether a job that is due would be the one to start if it were pushed: nobody is in line, and no key limits it."""
        return (
            not self._order
            and job.spec.concurrency is None
            and not (self._later and self._later[0].due_ms <= now_ms)
            and self._seen_ms <= now_ms < self.release_ms
        )

    def push(self, job: Job, now_ms: int) -> None:
        """Adds a queued job."""
        entry = _Entry(job.scheduled_for_ms, next(self._arrival), job)
        if entry.due_ms <= now_ms:
            self._push_due(entry)
        else:
            heapq.heappush(self._later, entry)

    def pop(self, now_ms: int) -> Job | None:
        """Removes and gives the job to start next, or None if none may start now. Counts it as running."""
        if self._later:
            self.ripen(now_ms)
        if now_ms >= self.release_ms or now_ms < self._seen_ms:  # due, or the clock was set back
            self._release(now_ms)
        self._seen_ms = now_ms
        while self._order:
            entry = self._next()
            job = entry.job
            limit = job.spec.concurrency
            if job.state is not JobState.QUEUED:
                if limit is not None:  # the place that it was let go for is another's
                    self._let_go(self._key(limit, now_ms), now_ms)
                continue
            if limit is None:
                return job
            key = self._key(limit, now_ms)
            if key.places(limit, now_ms) > 0:
                key.running += 1
                return job
            heapq.heappush(key.held, (-(job.spec.priority or 0), entry))
            self._watch(key)
        return None

    def begin(self, job: Job, now_ms: int) -> None:
        """A job runs that :meth:`pop` has not given: an earlier server had begun it. It counts, whatever its limit."""
        if job.spec.concurrency is not None:
            self._key(job.spec.concurrency, now_ms).running += 1

    def end(self, job: Job, now_ms: int) -> None:
        """A job that :meth:`pop` gave does not run any more."""
        limit = job.spec.concurrency
        if limit is None:
            return
        key = self._key(limit, now_ms)
        key.running -= 1
        if limit.window_ms:
            key.ended.append(now_ms)
        self._let_go(key, now_ms)

    def count_ended(self, limit: Concurrency, ended_ms: int, now_ms: int) -> None:
        """A run that an earlier server ended counts as well; to be told oldest first, before any other."""
        self._key(limit, now_ms).ended.append(ended_ms)

    def ripen(self, now_ms: int) -> None:
        """Puts the jobs that have become due in line with the others."""
        while self._later and self._later[0].due_ms <= now_ms:
            self._push_due(heapq.heappop(self._later))

    def later_count(self, now_ms: int) -> int:
        """Queued jobs that are not due yet."""
        self.ripen(now_ms)
        return sum(entry.job.state is JobState.QUEUED for entry in self._later)

    def next_due_ms(self) -> float:
        """When the next job may start that only has to wait for the time: when it is due, or its key's window over.

        Infinite if there is none.
        """
        while self._later and self._later[0].job.state is not JobState.QUEUED:
            heapq.heappop(self._later)
        return min(self._later[0].due_ms if self._later else math.inf, self.release_ms)

    def _next(self) -> _Entry:
        """The first entry of the owner whose turn it is."""
        priority = self._order[0]
        owners = self._due[priority]
        owner, line = next(iter(owners.items()))
        entry = heapq.heappop(line)
        if line:
            owners.move_to_end(owner)
        else:
            del owners[owner]
            if not owners:
                del self._due[priority]
                del self._order[0]
        return entry

    def _push_due(self, entry: _Entry) -> None:
        spec = entry.job.spec
        priority = -(spec.priority or 0)
        owners = self._due.get(priority)
        if owners is None:
            owners = self._due[priority] = OrderedDict()
            insort(self._order, priority)
        line = owners.get(spec.owner)
        if line is None:
            owners[spec.owner] = [entry]
        else:
            heapq.heappush(line, entry)

    def _key(self, limit: Concurrency, now_ms: int) -> _Key:
        key = self._keys.get(limit.key)
        if key is None:
            if len(self._keys) >= self._max_keys:
                self._keys = {name: key for name, key in self._keys.items() if not key.is_idle(now_ms)}
                self._max_keys = 2 * len(self._keys) + _MIN_KEYS
            key = self._keys[limit.key] = _Key()
        return key

    def _release(self, now_ms: int) -> None:
        """Lets go what waited for the end of a window: of keys that may have room now, or of all if the clock was set back."""
        if now_ms < self._seen_ms:
            for key in self._keys.values():
                self._let_go(key, now_ms)
        while self._freed and self._freed[0][0] <= now_ms:
            at_ms, _, key = heapq.heappop(self._freed)
            if key.freed_ms == at_ms:
                key.freed_ms = math.inf
                self._let_go(key, now_ms)
        self.release_ms = self._freed[0][0] if self._freed else math.inf

    def _watch(self, key: _Key) -> None:
        """Notes when the key may have room again."""
        at_ms = key.next_free_ms
        if at_ms != key.freed_ms:
            key.freed_ms = at_ms
            if at_ms < math.inf:
                heapq.heappush(self._freed, (at_ms, next(self._freed_count), key))
                self.release_ms = min(self.release_ms, at_ms)

    def _let_go(self, key: _Key, now_ms: int) -> None:
        """Puts jobs in line whose key has room again: as many as there are places."""
        places: int | None = None
        while key.held:
            entry = key.held[0][1]
            job = entry.job
            if job.state is JobState.QUEUED:
                assert job.spec.concurrency is not None  # noqa: S101 - it would not be held
                if places is None:
                    places = key.places(job.spec.concurrency, now_ms)
                if places <= 0:
                    break
                places -= 1
                self._push_due(entry)
            heapq.heappop(key.held)
        self._watch(key)


class _Key:
    """The runs of one concurrency key."""

    __slots__ = ("ended", "freed_ms", "held", "running", "window_ms")

    def __init__(self) -> None:
        self.running = 0
        #: When runs ended that may still count, oldest first.
        self.ended: deque[int] = deque()
        #: By negative priority, as the lines are.
        self.held: list[tuple[int, _Entry]] = []
        self.window_ms = 0
        #: The time that the queue has noted for it; infinite for none.
        self.freed_ms: float = math.inf

    def is_idle(self, now_ms: int) -> bool:
        """Whether forgetting it changes nothing."""
        return not (self.running or self.held or (self.ended and self.ended[-1] + self.window_ms > now_ms))

    def places(self, limit: Concurrency, now_ms: int) -> int:
        """How many more jobs may start: those that run count, and those that ended within the window."""
        self.window_ms = limit.window_ms
        # What seems to have ended in the future did so before the clock was set back.
        while self.ended and not now_ms - self.window_ms < self.ended[0] <= now_ms:
            self.ended.popleft()
        return limit.limit - self.running - len(self.ended)

    @property
    def next_free_ms(self) -> float:
        """When the oldest ended run stops counting, if somebody waits for that."""
        return self.ended[0] + self.window_ms if self.held and self.ended else math.inf
