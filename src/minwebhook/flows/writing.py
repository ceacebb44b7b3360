"""Has what flows have come to written: all together, or one by one if one of them cannot be."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from minwebhook.errors import Unavailable
from minwebhook.flows.live import LiveFlow
from minwebhook.jobs.flow_step import FlowStep
from minwebhook.jobs.model import Job
from minwebhook.jobs.store import JobStore

logger = logging.getLogger(__name__)

#: Until a disk that was full, or a database that was locked, is tried again.
DISK_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class Part:
    """What one flow has come to, and what follows once that is on disk; or only jobs that have ended."""

    step: FlowStep
    flow: LiveFlow | None = None
    new: Sequence[Job] = ()
    effects: Sequence[Callable[[], None]] = ()


async def write(store: JobStore, parts: Sequence[Part], *, on_broken: Callable[[LiveFlow], None]) -> None:
    """Returns when it is on disk, however long that takes: nothing may start before.

    A flow that cannot be written, whatever the reason, is told to ``on_broken`` and holds up no other: its part has no flow
    then, and nothing follows.
    """
    whole = FlowStep.joined(part.step for part in parts)
    try:
        await _until_written(partial(store.save_step, whole))
        return
    except Exception:
        logger.exception("the state of flows could not be written together")
    for job in whole.ended:
        await _until_written(partial(store.save_alone, job))
    for part in parts:
        try:
            await _until_written(partial(store.save_step, part.step.without_ends()))
        except Exception:
            job_id = None if part.flow is None else str(part.flow.job.id)
            logger.exception("the state of a flow could not be written", extra={"job_id": job_id})
            if part.flow is not None:
                on_broken(part.flow)
                part.flow = None


async def _until_written(save: Callable[[], Awaitable[None]]) -> None:
    """Raises what is wrong with what is written; a disk that is full, or a database that is locked, is waited for."""
    while True:
        try:
            await save()
            return
        except Unavailable as error:
            logger.warning("flows wait for the disk: %s", error.detail)
        await trio.sleep(DISK_PAUSE_S)
