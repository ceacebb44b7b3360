"""Waiting children of one runtime.

A :class:`ChildPool` keeps some children ready; a job takes one and the pool asks for the next only when told to
(:meth:`ChildPool.refill`): forking competes with the job for the processor, so the caller does it after the answer is out.
How many wait follows from how many jobs come (demand.py). A pool becomes larger only when it is looked at
(:meth:`ChildPool.tend`), not behind an answer, when the next call may come at once and would share the processor with
several forks. Of a heavy runtime none waits before the first is needed, and none for long when none is.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from minwebhook.errors import SandboxError
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.demand import Demand, Room
from minwebhook.runtimes.zygote import LOST, Zygote

#: So many starts in a row must fail before waiting jobs fail; a lone failure (a fork refused) is tried again.
_MAX_FAILURES: Final = 3
#: More than ever wait.
_MAX_TAKEN: Final = 1024


class ChildPool:
    """Children of one runtime that wait for any script."""

    def __init__(
        self,
        zygote: Zygote,
        runtime: str,
        *,
        idle_target: int,
        target: int,
        idle_s: float = math.inf,
        room: Room | None = None,
        each_bytes: int = 1,
        on_taken: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keeps ``target`` children once the runtime was used, before that ``idle_target``; again after ``idle_s`` without use.

        With ``room``, ``target`` is the least, and more are kept as jobs come more often, each of ``each_bytes`` of it.
        ``on_taken``: a child was taken, or the first one is there, and :meth:`tend` should be called before long.
        """
        self._zygote = zygote
        self._runtime = runtime
        self._target = target
        self._idle_target = idle_target
        self._idle_s = idle_s
        self._used_s = 0.0
        self._room = room
        self._each_bytes = each_bytes
        self._on_taken = on_taken
        self._clock = clock
        self._demand = Demand()
        #: As many are replaced; :meth:`tend` makes it as many as are wanted.
        self._kept = idle_target
        #: When those were taken that have no successor yet, oldest first; as many as may be missing.
        self._taken: deque[float] = deque(maxlen=_MAX_TAKEN)
        self._used = False
        #: Whether a child was ready, ever.
        self.has_started = False
        self._ready: deque[Child] = deque()
        self._starting = 0
        self._failures = 0
        self._waiting: deque[_Waiter] = deque()
        self._delivered = trio.Event()

    @property
    def ready_count(self) -> int:
        """Children that wait for a job."""
        return len(self._ready)

    @property
    def starting_count(self) -> int:
        """Children that were asked for and are not ready."""
        return self._starting

    @property
    def waiting_count(self) -> int:
        """Jobs that wait for a child."""
        return len(self._waiting)

    @property
    def missing_count(self) -> int:
        """Children that :meth:`refill` would ask for."""
        return max(min(self._kept, self._wanted()) + len(self._waiting) - len(self._ready) - self._starting, 0)

    def refill(self) -> None:
        """Asks for the successors of those that were taken, and for one for each job that waits."""
        for _ in range(self.missing_count):
            self._starting += 1
            self._zygote.spawn(self._runtime, self._deliver)

    def expect(self) -> None:
        """A job will come: has as many children started as wait for one."""
        self._use()
        self._kept = self._wanted()
        self.refill()
        self._on_taken()

    async def settle(self) -> None:
        """Waits until a child is ready, or until none is being started."""
        while self._starting and not self._ready:
            await self._delivered.wait()

    def _use(self) -> None:
        self._used = True
        self._used_s = self._clock()

    def tend(self) -> bool:
        """Asks for children that are missing, or ends some that are too many.

        True if it is larger than it must be, which is to be looked at again later.
        """
        is_idle = self._used and self._clock() > self._used_s + self._idle_s
        if is_idle:
            self._used = False
        wanted = self._kept = self._wanted()
        self.refill()
        # A few too many stay: the rate goes up and down.
        if is_idle or len(self._ready) + self._starting > wanted + 1 + wanted // 4:
            while len(self._ready) > wanted:
                self._ready.pop().end()
        return len(self._ready) + self._starting > (self._idle_target if self._idle_s < math.inf else self._target)

    def _wanted(self) -> int:
        if not self._used:
            return self._idle_target
        if self._room is None:
            return self._target
        more = self._demand.wanted(self._clock()) - self._target
        return self._target + self._room.share(self, more, self._each_bytes)

    def take_ready(self) -> Child | None:
        """A ready child, or None if there is none just now."""
        self._use()
        while self._ready:
            child = self._ready.popleft()
            if child.exit is None:
                self._note_taken()
                return child
            child.end()
        return None

    def _note_taken(self) -> None:
        now = self._clock()
        self._demand.came(now)
        self._taken.append(now)
        self._on_taken()

    async def take(self) -> Child:
        """A ready child, waiting for one if there is none. Raises :class:`SandboxError` if none can be started."""
        child = self.take_ready()
        if child is not None:
            return child
        waiter = _Waiter()
        self._waiting.append(waiter)
        self._note_taken()
        self._failures = 0
        self.refill()
        try:
            await waiter.event.wait()
        except trio.Cancelled:
            if waiter.child is not None:
                self._ready.append(waiter.child)
            else:
                self._waiting.remove(waiter)
            raise
        if waiter.child is None:
            raise SandboxError(f"cannot start a {self._runtime} process: {waiter.reason}")
        return waiter.child

    def fail(self, reason: str) -> None:
        """No child will come any more: whoever waits for one is told so."""
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.reason = reason
            waiter.event.set()

    def close(self) -> None:
        """Ends the waiting children."""
        while self._ready:
            self._ready.popleft().end()
        if self._room is not None:
            self._room.leave(self)

    def _deliver(self, child: Child | None, reason: str) -> None:
        self._starting -= 1
        self._delivered.set()
        self._delivered = trio.Event()
        if child is None:
            self._failures += reason != LOST
            if self._failures < _MAX_FAILURES:
                self.refill()
            elif self._waiting:
                waiter = self._waiting.popleft()
                waiter.reason = reason
                waiter.event.set()
            return
        self._failures = 0
        if not self.has_started:
            self.has_started = True
            self._on_taken()
        if self._taken:
            self._demand.replaced(self._clock() - self._taken.popleft())
        if self._waiting:
            waiter = self._waiting.popleft()
            waiter.child = child
            waiter.event.set()
        else:
            self._ready.append(child)


class _Waiter:
    __slots__ = ("child", "event", "reason")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.child: Child | None = None
        self.reason = ""
