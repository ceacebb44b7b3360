"""What happens to a running flow, and what it wants done: the words between the engine and whoever drives it. Pure.

One *level* is one flow job: the flow itself, a subflow, an iteration of a loop or a branch. Each has an engine and a status
of its own; an inner level is a job of the outer one, which learns of its end as of the end of any other job.

JSON travels as text (``bytes``), so that results keep the order of their keys and are not read unless an expression asks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from uuid import UUID

from minwebhook.flows.model import FlowModule

# --- what happens ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The flow job has started."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a job went, in milliseconds."""

    started_at_ms: int = 0
    queue_ms: float = 0
    start_ms: float = 0
    run_ms: float = 0


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A job of the flow has ended. ``result`` is JSON text, of a failed one ``{"error": {...}}`` or an array with such."""

    job: UUID
    is_success: bool
    result: bytes
    timing: Timing = Timing()
    #: Of an inner level: a ``stop_after_if`` in it has ended it.
    stopped: bool = False
    #: Of an inner level: and that counts as skipped.
    skipped: bool = False
    #: Of an inner level: its error handler has run.
    handled: bool = False


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The values of what the last :class:`Evaluate` asked for, by its keys."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationFailed:
    """One of its expressions could not be evaluated."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Somebody approved. The same ``resume_id`` counts once. Told again after a restart, oldest first."""

    resume_id: int
    payload: Any = None
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class Disapproved:
    """Somebody refused."""

    resume_id: int
    payload: Any = None
    approver: str | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nobody said enough in time (:attr:`WaitForEvents.timeout_s`)."""


@dataclass(frozen=True, slots=True)
class Canceled:
    """The flow job is to end; its jobs were told. Its result is the error object of :mod:`minwebhook.jobs.outcomes`."""

    result: bytes


Event: TypeAlias = Started | ChildEnded | Evaluated | EvaluationFailed | Resumed | Disapproved | TimedOut | Canceled

# --- what is to be done ---------------------------------------------------------------------------------------------------

#: Names that expressions may use, by where they stand; ``results``, ``variable``, ``resource`` … are functions of the context.
INPUT_NAMES: Final = frozenset(
    {"flow_input", "flow_env", "results", "previous_result", "resume", "resumes", "approvers", "params", "error"}
)
ITERATOR_NAMES: Final = (INPUT_NAMES - {"params"}) | {"result"}
PREDICATE_NAMES: Final = ITERATOR_NAMES
STOP_NAMES: Final = frozenset({"flow_input", "results", "previous_result", "result", "all_iters", "error"})
RETRY_NAMES: Final = frozenset({"flow_input", "flow_env", "previous_result", "result", "error"})
TIMING_NAMES: Final = frozenset({"flow_input", "flow_env", "results", "previous_result", "result", "error"})
SKIP_NAMES: Final = frozenset({"flow_input", "flow_env", "WM_SCHEDULED_FOR"})


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Evaluate expressions and tell :class:`Evaluated`, or :class:`EvaluationFailed` with the first error.

    One at a time is under way in a level; nothing has to be on disk before it, and after a restart it is asked for again.
    """

    #: By a key that comes back with the value: the name of an argument, ``iterator``, ``predicate`` …
    expressions: Mapping[str, str]
    #: Which names they may use.
    names: frozenset[str]
    #: Values of names as JSON text, where they are not those of the level: ``previous_result``, ``result``, ``all_iters``.
    values: Mapping[str, bytes] = field(default_factory=dict)
    #: Whether only the truth of the values is asked for.
    is_predicate: bool = False


class Run(enum.Enum):
    """What a job of a flow is."""

    #: The code or the deployed script of the module.
    SCRIPT = "script"
    #: The deployed flow of the module.
    FLOW = "flow"
    #: Modules inside the module: an iteration or a branch.
    LEVEL = "level"
    #: Nothing: its result is known.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class StartJob:
    """Start a job and tell :class:`ChildEnded` when it has ended. The status must be on disk before, with the job."""

    job: UUID
    run: Run
    module: FlowModule
    #: JSON text of an object.
    arguments: bytes
    #: Which modules of it, for :attr:`Run.LEVEL`: the index in ``module.children``.
    inner: int = 0
    #: The number of the iteration or branch.
    index: int | None = None
    #: The end of the job's path, behind that of the flow: ``a``, ``a/loop-3``, ``a/branchone-0``.
    path: str = ""
    #: Seconds to wait before.
    delay_s: float = 0
    timeout_s: float | None = None
    #: For :attr:`Run.NOTHING`: how it ends.
    result: bytes = b"null"
    is_success: bool = True
    #: Whether its code is the preprocessor of the flow.
    is_preprocessor: bool = False
    #: The loop whose iteration it is, of a script that is its only step (:meth:`~minwebhook.flows.level.Level.only_script`).
    loop: FlowModule | None = None


@dataclass(frozen=True, slots=True)
class WaitForEvents:
    """Tell what is known of a suspended step: every message for its job so far and from now on, or :class:`TimedOut`."""

    job: UUID
    #: How many more approvals it needs.
    count: int
    timeout_s: float
    module: FlowModule


@dataclass(frozen=True, slots=True)
class ReplaceArguments:
    """The preprocessor has made the arguments of the flow."""

    arguments: bytes


@dataclass(frozen=True, slots=True)
class ReturnEarly:
    """Whoever waits for the flow gets this; the flow goes on."""

    is_success: bool
    result: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """The level has ended."""

    is_success: bool
    result: bytes
    is_canceled: bool = False


Command: TypeAlias = Evaluate | StartJob | WaitForEvents | ReplaceArguments | ReturnEarly | Finish
