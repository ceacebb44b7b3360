"""How many jobs may wait, and what a caller is told when there are too many. Pure; times are Unix milliseconds.

A queue without a bound only turns an overload into timeouts. A full one is answered at once, with the time after which
trying again makes sense: what is queued, divided by the rate at which jobs have ended lately.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, NoReturn

from minwebhook.errors import TooManyRequests, Unavailable
from minwebhook.jobs.model import DEPENDENCIES, DEPLOYED_KINDS, JobSpec

#: The rate is that of so many last seconds.
_WINDOW_S: Final = 16
#: What a caller is told while no job has ended lately, and at most.
_UNKNOWN_S: Final = 10
_LONGEST_S: Final = 600
#: Requests that waited longer to be looked at do not get one of the last places.
_LATE_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Jobs that may wait at once; 0 for no limit of its own."""

    instance: int
    workspace: int = 0
    script: int = 0
    token: int = 0


class ServiceRate:
    """How many jobs end per second."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # [second, jobs that ended in it], oldest first

    def count(self, now_ms: int) -> None:
        """A job has ended."""
        second = now_ms // 1000
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += 1
            return
        self._forget(second)
        self._seconds.append([second, 1])

    def retry_after_s(self, queued: int, now_ms: int) -> int:
        """Whole seconds until so many jobs will have ended, if they go on as they did lately."""
        second = now_ms // 1000
        self._forget(second)
        ended = sum(count for _, count in self._seconds)
        if not ended:
            return _UNKNOWN_S
        rate = ended / (second - self._seconds[0][0] + 1)
        return max(1, min(math.ceil(queued / rate), _LONGEST_S))

    def _forget(self, second: int) -> None:
        # Seconds of the future are from before the clock was set back.
        while self._seconds and not second - _WINDOW_S < self._seconds[0][0] <= second:
            self._seconds.popleft()


class Pressure:
    """Counts the jobs that wait, and refuses one too many."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._has_shares = bool(limits.workspace or limits.script or limits.token)
        self._rate = ServiceRate()
        self._total = 0
        self._counts: dict[tuple[str, str], int] = {}

    def enter(self, spec: JobSpec, now_ms: int) -> None:
        """One more job waits. Raises what :meth:`check` raises."""
        self.check(spec, now_ms)
        self.enter_anyway(spec)

    def check(self, spec: JobSpec, now_ms: int) -> None:
        """Whether one more job may come. Raises what :meth:`check_share` raises."""
        self.check_share(spec.workspace, _counted_as(spec), spec.owner, now_ms)

    def check_share(self, workspace: str, path: str, owner: str, now_ms: int, *, waited_s: float = 0.0) -> None:
        """Whether one more job of a script (of none, if the ``path`` is empty) may come. Raises 503 if the server, or the
        workspace, is full and 429 if the script, or the token, is.

        Once half of the server's places are taken, a request that has ``waited_s`` too long to be looked at gets none: it
        would be answered late, and another one that has just come early.
        """
        limit = self._limits.instance
        if self._total >= limit:
            self._refuse_all("", now_ms)
        if waited_s > _LATE_S and 2 * (self._total + 1) >= limit:
            self._refuse_all("; requests that had to wait to be looked at get none of the last places", now_ms)
        if not self._has_shares:
            return
        for what, name, limit in self._bounds(workspace, path, owner):
            count = self._counts.get((what, name), 0)
            if count >= limit:
                after_s = self._rate.retry_after_s(count, now_ms)
                error = Unavailable if what == "workspace" else TooManyRequests
                raise error(
                    f"{count} jobs of this {what} are queued, the limit is {limit} (max_queued_jobs_per_{what})",
                    retry_after_s=after_s,
                    headers=_rate_limit(what, limit, after_s),
                )

    def _refuse_all(self, why: str, now_ms: int) -> NoReturn:
        limit = self._limits.instance
        after_s = self._rate.retry_after_s(self._total, now_ms)
        raise Unavailable(
            f"{self._total} jobs are queued, the limit is {limit} (max_queued_jobs){why}",
            retry_after_s=after_s,
            headers=_rate_limit("instance", limit, after_s),
        )

    def enter_anyway(self, spec: JobSpec) -> None:
        """One more job waits, that was acknowledged long ago."""
        self._total += 1
        if not self._has_shares:
            return
        for what, name, _ in self._bounds(spec.workspace, _counted_as(spec), spec.owner):
            self._counts[what, name] = self._counts.get((what, name), 0) + 1

    def leave(self, spec: JobSpec) -> None:
        """A job does not wait any more."""
        self._total -= 1
        if not self._has_shares:
            return
        for what, name, _ in self._bounds(spec.workspace, _counted_as(spec), spec.owner):
            left = self._counts[what, name] - 1
            if left:
                self._counts[what, name] = left
            else:
                del self._counts[what, name]

    def ended(self, now_ms: int) -> None:
        """A job has run to its end."""
        self._rate.count(now_ms)

    def retry_after_s(self, now_ms: int) -> int:
        """Whole seconds until what waits now will have ended."""
        return self._rate.retry_after_s(self._total, now_ms)

    def _bounds(self, workspace: str, path: str, owner: str) -> list[tuple[str, str, int]]:
        """Which counts a job is in, and the limit of each."""
        limits = self._limits
        bounds = []
        if limits.workspace:
            bounds.append(("workspace", workspace, limits.workspace))
        if limits.script and path:
            bounds.append(("script", f"{workspace}/{path}", limits.script))
        if limits.token:
            bounds.append(("token", owner, limits.token))
        return bounds


def _counted_as(spec: JobSpec) -> str:
    """The path of the script that a job counts for. That of a preview is what its sender says: it counts for the sender."""
    is_deployed = spec.kind in DEPLOYED_KINDS or (spec.kind == DEPENDENCIES and spec.script_hash is not None)
    return spec.path if is_deployed or not spec.path else f"preview/{spec.permissioned_as}/{spec.path}"


def _rate_limit(policy: str, limit: int, after_s: int) -> tuple[tuple[str, str], ...]:
    """The fields of draft-ietf-httpapi-ratelimit-headers: ``limit`` places in the queue, none left."""
    return (("RateLimit-Policy", f'"{policy}";q={limit}'), ("RateLimit", f'"{policy}";r=0;t={after_s}'))
