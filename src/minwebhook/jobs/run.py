"""What the executor knows of a run: what it took for it, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from minwebhook.jobs.limits import JobLimits
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Job, Outcome
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.fleet import Family
from minwebhook.runtimes.language import Runtime
from minwebhook.runtimes.pool import ChildPool
from minwebhook.runtimes.reports import Broken, Report, Vanished


@dataclass(slots=True, eq=False)
class Run:
    """One run of a job, from its start to its end."""

    job: Job
    runtime: Runtime
    limits: JobLimits
    log: JobLog
    #: Where its result is kept for others; None if it is not.
    cache_key: bytes | None
    limit_s: float
    is_own_limit: bool
    #: The job's, as long as it runs.
    token: str
    family: Family
    pool: ChildPool
    #: By time.perf_counter: when it began, and when its process had the job.
    started: float
    given: float
    child: Child | None = None
    end: Report | Vanished | Broken | None = None
    outcome: Outcome | None = None
