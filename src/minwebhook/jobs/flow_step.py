"""What is written when flows go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import UUID

from minwebhook.jobs.model import Job

#: A job among those of a loop or of branches: its place, its id, whether it succeeded, when it started (Unix milliseconds), how
#: long it took (milliseconds).
Iteration: TypeAlias = tuple[int, UUID, bool | None, int | None, int | None]


@dataclass(slots=True)
class FlowStep:
    """What is written together when flows go on."""

    #: Jobs that start then.
    new: list[Job] = field(default_factory=list)
    #: Jobs that have ended.
    ended: list[Job] = field(default_factory=list)
    #: Flow jobs whose status has changed.
    moved: list[Job] = field(default_factory=list)
    #: Flow jobs whose arguments have changed, too.
    changed: list[Job] = field(default_factory=list)
    #: What their loops go through.
    items: list[tuple[Job, bytes]] = field(default_factory=list)
    #: What has become of iterations and branches, by module.
    iterations: list[tuple[Job, Sequence[tuple[str, Iteration]]]] = field(default_factory=list)
    #: Flows, and of which of their steps nothing is left of arguments and results.
    wiped: list[tuple[UUID, frozenset[str]]] = field(default_factory=list)

    @classmethod
    def joined(cls, steps: Iterable[FlowStep]) -> FlowStep:
        """All of them as one."""
        whole = cls()
        for step in steps:
            whole.new += step.new
            whole.ended += step.ended
            whole.moved += step.moved
            whole.changed += step.changed
            whole.items += step.items
            whole.iterations += step.iterations
            whole.wiped += step.wiped
        return whole

    def without_ends(self) -> FlowStep:
        """What is left if the jobs that have ended are stored already."""
        return replace(self, ended=[])
