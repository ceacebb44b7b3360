"""Runs jobs: a fixed number of workers, each takes a job, gives it a child, judges what comes back.

One task owns one running job, so "how many run at once" is "how many workers there are". Whatever ends a run from
outside (timeout, cancellation, shutdown) cancels the worker's scope for that job; the child is then killed with
everything it started.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import orjson
import trio

from minwebhook.auth.job_tokens import JobIdentity, JobTokens
from minwebhook.child import wire
from minwebhook.errors import SandboxError
from minwebhook.jobs import outcomes
from minwebhook.jobs.environment import job_environment
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Job
from minwebhook.jobs.table import JobTable
from minwebhook.runtimes.child import Broken, Child, Report, Vanished
from minwebhook.runtimes.language import RUNTIMES, Runtime
from minwebhook.runtimes.pool import ChildPool, ReusePool
from minwebhook.settings import JobSettings

logger = logging.getLogger(__name__)

#: Compiled scripts kept in memory, by script version; the one unused for longest goes.
_MAX_COMPILED = 512


class Executor:
    """The workers and what they share."""

    def __init__(
        self,
        table: JobTable,
        pools: dict[str, ChildPool],
        reuse: ReusePool,
        settings: JobSettings,
        *,
        python_version: str,
        base_url: Callable[[], str],
        tokens: JobTokens,
    ) -> None:
        """``pools`` by language; ``base_url`` gives the server's address once it is known."""
        self._table = table
        self._pools = pools
        self._reuse = reuse
        self._settings = settings
        self._base_url = base_url
        self._tokens = tokens
        self._banners = {
            name: runtime.banner.format(version=python_version.rpartition(".")[0]) for name, runtime in RUNTIMES.items()
        }
        self._compiled: OrderedDict[str, bytes] = OrderedDict()
        self._used: list[tuple[Child, ChildPool]] = []
        self._sweep = trio.Event()

    async def run(self, workers: int) -> None:
        """Runs jobs until cancelled; the jobs that run then are put back into the queue."""
        for pool in self._pools.values():
            pool.refill()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._clean_up)
                for _ in range(workers):
                    nursery.start_soon(self._work)
        finally:
            for child, _ in self._used:
                child.end()
            self._reuse.close()
            for pool in self._pools.values():
                pool.close()

    async def _clean_up(self) -> None:
        """Ends used children and orders new ones, behind the answers.

        A child's end and the next one's fork would compete with the answer for the processor, so it is left to go out
        first: whoever waits for the job sends it in the turn of the loop that also wakes this task.
        """
        while True:
            await self._sweep.wait()
            self._sweep = trio.Event()
            await trio.lowlevel.checkpoint()
            used, self._used = self._used, []
            for child, _ in used:
                child.end()
            for pool in {id(pool): pool for _, pool in used}.values():
                pool.refill()

    async def _work(self) -> None:
        while True:
            await self._run(await self._table.take())

    async def _run(self, job: Job) -> None:
        runtime = RUNTIMES[job.spec.language]
        log = job.log = JobLog(self._banners[runtime.language], self._settings.max_log_bytes)
        limit_s, is_own = self._limit(job)
        started = trio.current_time()
        token = self._tokens.issue(JobIdentity(job.spec.email, job.spec.workspace))
        held: list[Child] = []
        end: Report | Vanished | Broken | None = None
        try:
            with trio.CancelScope(deadline=started + limit_s) as scope:
                job.stop = scope.cancel
                end = await self._converse(job, runtime, log, token, held)
        except SandboxError as error:
            outcome = outcomes.execution_error(str(error))
        except trio.Cancelled:
            self._tokens.revoke(token)
            self._table.requeue(job)
            for child in held:
                child.end()
            raise
        except Exception:
            logger.exception("a job could not be run", extra={"job_id": str(job.id)})
            outcome = outcomes.execution_error("internal error; the server's log says more")
        else:
            if end is not None:
                outcome = outcomes.judge(end, log, runtime.program)
            elif job.cancellation is not None:
                outcome = outcomes.canceled(job.cancellation)
            else:
                outcome = outcomes.timed_out(limit_s, is_own_limit=is_own)
        job.stop = None
        self._tokens.revoke(token)
        self._table.finish(job, outcome, round((trio.current_time() - started) * 1000))
        can_stay = isinstance(end, Report) and end.kind in (wire.RESULT, wire.ERROR)
        for child in held:
            if can_stay and job.spec.dedicated and runtime.reusable:
                self._reuse.give_back(_version_key(job), child)
            else:
                self._used.append((child, self._pools[runtime.language]))
                self._sweep.set()

    def _limit(self, job: Job) -> tuple[float, bool]:
        own, instance = job.spec.timeout_s, self._settings.job_timeout_s
        if own is not None and 0 < own < instance:
            return own, True
        return instance, False

    async def _converse(
        self, job: Job, runtime: Runtime, log: JobLog, token: str, held: list[Child]
    ) -> Report | Vanished | Broken:
        """Gives the job to a child and waits for its report. ``held`` gets the child."""
        key = _version_key(job)
        stays = job.spec.dedicated and runtime.reusable
        child = self._reuse.take(key) if stays else None
        if child is None:
            child = await self._pools[runtime.language].take()
        held.append(child)
        base_url = self._base_url()
        environment = job_environment(job, base_url=base_url, internal_url=base_url, token=token)
        header = orjson.dumps({"path": job.spec.path, "env": environment, "reuse": stays})
        frame = wire.pack_job(header, job.spec.source, self._compiled_of(key), job.spec.arguments)
        return await child.run(
            frame,
            max_payload=self._settings.max_result_bytes,
            on_log=log.write,
            on_code=lambda code: self._keep_compiled(job, key, code),
        )

    def _compiled_of(self, key: str) -> bytes:
        code = self._compiled.get(key)
        if code is None:
            return b""
        self._compiled.move_to_end(key)
        return code

    def _keep_compiled(self, job: Job, key: str, code: bytes) -> None:
        """Only ever sent back to jobs of the same script version: a script can lie to nobody but itself."""
        if job.spec.script_hash is None:
            return
        self._compiled[key] = code
        if len(self._compiled) > _MAX_COMPILED:
            self._compiled.popitem(last=False)


def _version_key(job: Job) -> str:
    """Identifies the code of a job: its workspace and script version, or nothing that repeats for previews."""
    spec = job.spec
    return f"{spec.workspace}/{spec.script_hash}" if spec.script_hash is not None else f"preview/{job.id}"
