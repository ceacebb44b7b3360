"""How many requests begin in one turn of the loop, and which of those that wait go first.

A loop that begins everything that has come answers nothing meanwhile: with hundreds of requests there, each turn takes tens of
milliseconds, and a job that was begun takes several turns. So only so many begin in each, and what has begun goes on in
between.

Those that wait go in the order in which they came, until that takes too long. From then on most that go are the newest: their
callers have not waited long yet, and will not have to, while in their order all would be late. Some are the oldest, so that none
waits for ever. ("Adaptive LIFO": Maurer, Fail at Scale, ACM Queue 13, 2015.)

A request that does not wait costs two comparisons, a turn of the loop one call.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

#: Requests that begin in one turn: about a millisecond.
AT_ONCE: Final = 8
#: Of them those that have waited. The rest are for those that come.
CALLED_AT_ONCE: Final = 6
#: From when on the oldest has waited too long, in seconds.
LATE_S: Final = 0.005
#: The same numbers from then on: shorter turns, for the jobs that have begun.
LATE_AT_ONCE: Final = 4
LATE_CALLED_AT_ONCE: Final = 3
#: Of these those that have waited longest.
LATE_OLDEST: Final = 1


class _Waiter(NamedTuple):
    since: float
    task: trio.lowlevel.Task


class Turnstile(trio.abc.Instrument):
    """One for all connections of a server. Lets everything through while :meth:`run` does not run."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._left = AT_ONCE
        self._is_late = False
        #: Those that begin in the next turn of the loop.
        self._called = 0
        self._waiting: deque[_Waiter] = deque()  # oldest first
        self._caller: trio.lowlevel.Task | None = None
        self._is_calling = False

    def enter_now(self) -> bool:
        """Whether a request may begin in this turn; it counts then. If not, :meth:`enter` is to be awaited."""
        if self._left > 0:
            self._left -= 1
            return True
        return self._caller is None

    async def enter(self) -> float:
        """Until it is the request's turn. How long that took, in seconds."""
        waiter = _Waiter(self._clock(), trio.lowlevel.current_task())
        self._waiting.append(waiter)
        if not self._is_calling and self._caller is not None:
            self._is_calling = True
            trio.lowlevel.reschedule(self._caller)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(waiter)  # whoever was called is scheduled, and not aborted any more
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return self._clock() - waiter.since

    def after_io_wait(self, timeout: float) -> None:
        """A turn of the loop begins (trio calls this)."""
        self._left = (LATE_AT_ONCE if self._is_late else AT_ONCE) - self._called
        self._called = 0

    async def run(self) -> None:
        """Calls those that wait, until cancelled; then all."""
        trio.lowlevel.add_instrument(self)
        self._caller = trio.lowlevel.current_task()
        try:
            while True:
                self._is_calling = False
                await trio.lowlevel.wait_task_rescheduled(self._stop)
                while self._waiting:
                    self._call()
                    await trio.lowlevel.checkpoint()  # one turn
                self._is_late = False
        finally:
            self._caller = None
            trio.lowlevel.remove_instrument(self)
            self._left = AT_ONCE
            while self._waiting:
                self._call()

    def _call(self) -> None:
        waiting = self._waiting
        is_late = self._is_late = self._clock() - waiting[0].since > LATE_S
        for number in range(min(LATE_CALLED_AT_ONCE if is_late else CALLED_AT_ONCE, len(waiting))):
            waiter = waiting.pop() if is_late and number >= LATE_OLDEST else waiting.popleft()
            trio.lowlevel.reschedule(waiter.task)
            self._called += 1

    def _stop(self, _: object) -> trio.lowlevel.Abort:
        self._is_calling = True  # nobody is to wake it once more
        return trio.lowlevel.Abort.SUCCEEDED
