"""What expressions see: values by name, of the level they stand in and of those around it. Pure.

Only what the texts mention is put together: arguments and results may be large.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol
from uuid import UUID

from minwebhook.flows.engine import Engine
from minwebhook.flows.events import Evaluate
from minwebhook.flows.expressions import error_of, mentioned_names, mentioned_steps
from minwebhook.flows.parsed import Parsed
from minwebhook.times import rfc3339


class Scope(Protocol):
    """A level that runs, and the one around it."""

    engine: Engine

    @property
    def outer(self) -> Scope | None:
        """The level around it."""

    @property
    def started_at_ms(self) -> int:
        """When its job started."""

    @property
    def scheduled_for_ms(self) -> int:
        """When it was due."""

    @property
    def flow_id(self) -> UUID:
        """The id of its job."""


def context_of(scope: Scope, command: Evaluate, parsed: Parsed) -> dict[str, Any]:
    """The values that the expressions of ``command`` may use, by name."""
    text = "\n".join(command.expressions.values())
    mentioned = mentioned_names(text)
    engine = scope.engine
    context: dict[str, Any] = {}
    for name in command.names:
        if mentioned is not None and name not in mentioned:
            continue
        if name in command.values:
            context[name] = parsed.of(command.values[name])
        elif name == "flow_input":
            context[name] = parsed.of(engine.arguments)
        elif name == "flow_env":
            context[name] = engine.level.flow_env
        elif name == "results":
            context[name] = _results(scope, mentioned_steps(text), parsed)
        elif name == "error":
            context[name] = error_of(parsed.of(command.values.get("previous_result", b"null")))
        elif name == "resume":
            context[name] = engine.approvals[-1][0] if engine.approvals else None
        elif name == "resumes":
            context[name] = [payload for payload, _ in engine.approvals]
        elif name == "approvers":
            context[name] = [approver for _, approver in engine.approvals]
        elif name == "params":
            context[name] = {}
        elif name == "WM_SCHEDULED_FOR":
            context[name] = rfc3339(scope.scheduled_for_ms)
    if engine.status.handled:
        context["started_at"] = rfc3339(scope.started_at_ms)
        context["flow_job_id"] = str(scope.flow_id)
    return context


def _results(scope: Scope, steps: frozenset[str] | None, parsed: Parsed) -> dict[str, Any]:
    """Results of steps by id: those of the same level first, then of the levels around it. None: of all steps."""
    found: dict[str, bytes] = {}
    for engine in _around(scope):
        wanted = engine.outputs.keys() if steps is None else steps & engine.outputs.keys()
        for step in wanted - found.keys():
            found[step] = engine.outputs[step]
    return {step: parsed.of(result) for step, result in found.items()}


def _around(scope: Scope) -> Iterator[Engine]:
    level: Scope | None = scope
    while level is not None:
        yield level.engine
        level = level.outer
