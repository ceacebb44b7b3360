"""Runs the escape corpus in real jobs of a running fork server (``minwebhook doctor --sandbox``)."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import orjson
import trio

from minwebhook.child import wire
from minwebhook.errors import SandboxError
from minwebhook.runtimes.bait import processes_named
from minwebhook.runtimes.child import Child, Exchange
from minwebhook.runtimes.engines import Engines
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.programs import Programs
from minwebhook.runtimes.reports import Broken, Report, Vanished
from minwebhook.runtimes.zygote import Zygote
from minwebhook.sandbox.probes.corpus import NEIGHBOR, Finding, Probe, Seen, finding, job, judge
from minwebhook.sandbox.probes.inside import NOT_APPLICABLE, Facts
from minwebhook.settings import JobSettings

_PROBE_TIMEOUT_S: Final = 60.0
_START_TIMEOUT_S: Final = 20.0
#: How long what a job started may take to disappear after it.
_END_TIMEOUT_S: Final = 5.0


async def languages_to_probe(engines: Engines, programs: Programs) -> list[str]:
    """Runtimes that are there to run probes in. ``engines`` are those of the rung (:meth:`Engines.on`)."""
    return [
        runtime
        for runtime in RUNTIMES
        if not engines.missing(runtime) and not await programs.missing_after_check(runtime)
    ]


class Prober:
    """Runs probes one after the other, beside a job that they must not reach."""

    def __init__(self, zygote: Zygote, facts: Facts, settings: JobSettings) -> None:
        self._zygote = zygote
        self._facts = facts
        self._settings = settings
        self._neighbor: Child | None = None
        self._numbers = itertools.count()
        self._compiled: dict[tuple[str, str], bytes] = {}  # by language and source

    async def run(
        self, probes: Iterable[Probe], languages: Iterable[str], on_finding: Callable[[Finding], None]
    ) -> None:
        """Tells ``on_finding`` of each probe in each language. Raises :class:`SandboxError` if no job can be run at all."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_neighbor)
            for probe in probes:
                for language in languages:
                    reason = probe.why_not(language, self._facts.network)
                    outcome = (NOT_APPLICABLE, reason) if reason else judge(probe, await self._try(probe, language))
                    on_finding(finding(probe, language, outcome))
            nursery.cancel_scope.cancel(reason="all probes were run")

    async def _run_neighbor(self, *, task_status: trio.TaskStatus[None]) -> None:
        ready = trio.Event()

        def hear(data: bytes) -> bool:
            if b"ready" in data:
                ready.set()
            return True

        self._neighbor = await self._child("python3")
        arguments = {"name": self._facts.neighbor, "canary": self._facts.canary}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._converse, self._neighbor, "python3", NEIGHBOR, arguments, hear)
            with trio.move_on_after(_START_TIMEOUT_S) as waiting:
                await ready.wait()
            if waiting.cancelled_caught:
                raise SandboxError("the job that probes must not reach does not start")
            task_status.started()

    async def _try(self, probe: Probe, language: str) -> Seen:
        # What one probe left is not the fault of the next.
        facts = dataclasses.replace(self._facts, language=language, mark=f"{self._facts.mark}{next(self._numbers)}")
        zygote_pid = self._zygote.pid
        if probe.terms.first:
            earlier = await self._job(language, *job(probe, language, facts, first=True))
            if earlier.is_unstarted:
                return earlier
            facts = dataclasses.replace(facts, earlier=earlier.value)
        seen = await self._job(language, *job(probe, language, facts))
        damage = await self._damage(zygote_pid, facts.mark)
        return dataclasses.replace(seen, damage=damage) if damage else seen

    async def _damage(self, zygote_pid: int | None, mark: str) -> str:
        if self._zygote.pid != zygote_pid:
            return "the fork server was ended"
        if self._neighbor is None or self._neighbor.exit is not None:
            return "another job was ended"
        with trio.move_on_after(_END_TIMEOUT_S):
            while processes_named(mark):  # noqa: ASYNC110 - nothing tells of processes of others
                await trio.sleep(0.01)
            return ""
        return f"{len(processes_named(mark))} processes outlive the job"

    async def _job(self, language: str, source: str, arguments: dict[str, Any]) -> Seen:
        """Runs one job. What has to be compiled is compiled before, by another: compilers use up the ids of processes."""
        if RUNTIMES[language].builds and (language, source) not in self._compiled:
            await self._run_job(language, source, {**arguments, "python": "/bin/false"})
        return await self._run_job(language, source, arguments)

    async def _run_job(self, language: str, source: str, arguments: dict[str, Any]) -> Seen:
        """Runs one job to the end of all its processes."""
        try:
            child = await self._child(language)
        except SandboxError as error:
            return Seen(error=str(error), is_unstarted=True)
        written = 0

        def take(data: bytes) -> bool:
            nonlocal written
            written += len(data)
            return written <= self._settings.max_log_bytes

        gone = trio.Event()
        try:
            with trio.move_on_after(_PROBE_TIMEOUT_S) as waiting:
                end = await self._converse(child, language, source, arguments, take)
            return Seen(error="it took too long") if waiting.cancelled_caught else _seen(end)
        finally:
            child.on_exit = gone.set
            was_gone = child.exit is not None
            child.end()
            if not was_gone:
                with trio.move_on_after(_END_TIMEOUT_S, shield=True):
                    await gone.wait()

    async def _child(self, language: str) -> Child:
        delivered = trio.Event()
        children: list[Child | None] = []
        reasons: list[str] = []

        def deliver(child: Child | None, reason: str) -> None:
            children.append(child)
            reasons.append(reason)
            delivered.set()

        self._zygote.spawn(language, deliver)
        with trio.move_on_after(_START_TIMEOUT_S):
            await delivered.wait()
        if not children or children[0] is None:
            raise SandboxError(f"cannot start a {language} process: {(reasons or ['no answer'])[0]}")
        return children[0]

    async def _converse(
        self, child: Child, language: str, source: str, arguments: dict[str, Any], on_log: Callable[[bytes], bool]
    ) -> Report | Vanished | Broken:
        number = os.urandom(8)
        header = wire.pack_header("probe", {}, stays=False)
        compiled = self._compiled.get((language, source), b"")
        return await child.run(
            wire.pack_job(header, source.encode(), compiled, orjson.dumps(arguments), number),
            Exchange(
                number,
                max_payload=self._settings.max_result_bytes,
                on_log=on_log,
                on_code=None if compiled else partial(self._compiled.__setitem__, (language, source)),
            ),
        )


def _seen(end: Report | Vanished | Broken) -> Seen:
    if isinstance(end, Broken):
        return Seen(error=f"the server ended it: {end.reason}")
    if isinstance(end, Vanished):
        return Seen(error=f"it ended with signal {end.signal}" if end.signal else f"it ended with code {end.code}")
    try:
        value = orjson.loads(end.payload)
        if end.kind == wire.EXIT:  # a program: its result is JSON in JSON
            text = value.get("result_json") or ""
            return Seen(value=orjson.loads(text)) if text.strip() else Seen(error=f"it ended with code {value['code']}")
    except (orjson.JSONDecodeError, AttributeError, KeyError) as error:
        return Seen(error=f"its result is not JSON: {error}")
    if end.kind == wire.ERROR:
        return Seen(error=f"{value.get('name')}: {value.get('message')}")
    return Seen(value=value)
