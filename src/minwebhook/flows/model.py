"""What a flow is: OpenFlow as values. Pure; :mod:`minwebhook.flows.reading` makes them out of JSON.

The names are OpenFlow's own. A definition is kept and given back as the text that was sent; these values are what the
engine works with, and hold what it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from minwebhook.jobs.model import Concurrency
from minwebhook.scripts.model import Language

#: Ids of modules that are not in the list of modules.
FAILURE_ID: Final = "failure"
PREPROCESSOR_ID: Final = "preprocessor"

#: Seconds after which a suspended flow is not waited for any longer, unless it says.
DEFAULT_SUSPEND_TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Static:
    """A value as it is."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Javascript:
    """An expression."""

    expr: str


@dataclass(frozen=True, slots=True)
class Ai:
    """To be filled in by an agent: here it is left out."""


InputTransform: TypeAlias = Static | Javascript | Ai


@dataclass(frozen=True, slots=True)
class StopAfterIf:
    """When a flow, or a loop, ends early."""

    expr: str
    skip_if_stopped: bool
    #: Then the flow has failed; "" for a text that is made from the expression.
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Suspend:
    """That a flow waits, after a step, for messages from outside."""

    required_events: int
    timeout_s: float = DEFAULT_SUSPEND_TIMEOUT_S
    #: ``{"schema": {...}}`` of the form that is shown.
    resume_form: Mapping[str, Any] | None = None
    user_auth_required: bool = False
    user_groups_required: InputTransform | None = None
    self_approval_disabled: bool = False
    hide_cancel: bool = False
    continue_on_disapprove_timeout: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after which pauses, a failed step runs again. Attempts count the runs after the first."""

    constant_attempts: int = 0
    constant_s: float = 0
    exponential_attempts: int = 0
    multiplier: float = 1
    exponential_s: float = 0
    #: Pauses of exponential attempts are longer or shorter by a random percentage below it.
    random_factor: int = 0
    #: An expression over the error; None retries whatever it was.
    retry_if: str | None = None


@dataclass(frozen=True, slots=True)
class Mock:
    """A result instead of a run."""

    enabled: bool
    return_value: Any = None


Inputs: TypeAlias = Mapping[str, InputTransform]


@dataclass(frozen=True, slots=True)
class RawScript:
    """Code in the flow itself."""

    content: str
    language: Language
    input_transforms: Inputs = field(default_factory=dict)
    #: Its packages: "" for none, None if they have yet to be found.
    lock: str | None = ""
    path: str | None = None
    tag: str | None = None
    #: How many of its runs may run at a time; an empty key for that of its path.
    concurrency: Concurrency | None = None


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """A deployed script: its live version, or the one with this hash."""

    path: str
    hash: int | None = None
    input_transforms: Inputs = field(default_factory=dict)
    tag_override: str | None = None


@dataclass(frozen=True, slots=True)
class FlowStep:
    """Another deployed flow."""

    path: str
    input_transforms: Inputs = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """Passes on the previous result."""


@dataclass(frozen=True, slots=True)
class ForloopFlow:
    """Its modules, once for each item."""

    iterator: InputTransform
    modules: tuple[FlowModule, ...]
    skip_failures: bool = False
    parallel: bool = False
    #: How many iterations of a parallel loop run at a time.
    parallelism: InputTransform | None = None


@dataclass(frozen=True, slots=True)
class WhileloopFlow:
    """Its modules, until something stops them."""

    modules: tuple[FlowModule, ...]
    skip_failures: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """One of the branches of a step. ``expr`` is of ``branchone``, ``skip_failure`` of ``branchall``."""

    modules: tuple[FlowModule, ...]
    summary: str = ""
    expr: str = ""
    skip_failure: bool = False


@dataclass(frozen=True, slots=True)
class BranchOne:
    """The first branch whose predicate is true, else the default."""

    branches: tuple[Branch, ...]
    default: tuple[FlowModule, ...]


@dataclass(frozen=True, slots=True)
class BranchAll:
    """All branches."""

    branches: tuple[Branch, ...]
    parallel: bool = True


ModuleValue: TypeAlias = (
    RawScript | ScriptStep | FlowStep | Identity | ForloopFlow | WhileloopFlow | BranchOne | BranchAll
)


@dataclass(frozen=True)  # no slots: what is derived is derived once
class FlowModule:
    """One step."""

    id: str
    value: ModuleValue
    summary: str = ""
    stop_after_if: StopAfterIf | None = None
    stop_after_all_iters_if: StopAfterIf | None = None
    skip_if: str | None = None
    suspend: Suspend | None = None
    #: Seconds to wait after the step.
    sleep: InputTransform | None = None
    retry: Retry | None = None
    cache_ttl_s: int | None = None
    #: Seconds that a run of it may take.
    timeout: InputTransform | None = None
    mock: Mock | None = None
    priority: int | None = None
    delete_after_use: bool = False
    #: Its script's preprocessor makes the arguments of ``main`` out of those of the step.
    apply_preprocessor: bool = False
    continue_on_error: bool = False
    #: The arguments of the flow are the arguments of the step.
    pass_flow_input_directly: bool = False

    @cached_property
    def is_plain_script(self) -> bool:
        """Whether it is a script and nothing else is to be done about it."""
        if not isinstance(self.value, RawScript | ScriptStep):
            return False
        return self == FlowModule(self.id, self.value, self.summary, priority=self.priority)

    @property
    def inputs(self) -> Inputs | None:
        """What its arguments are made of; None for steps that have none."""
        value = self.value
        return value.input_transforms if isinstance(value, RawScript | ScriptStep | FlowStep) else None

    @property
    def is_loop(self) -> bool:
        """Whether its modules may run more than once."""
        return isinstance(self.value, ForloopFlow | WhileloopFlow)

    @property
    def children(self) -> tuple[tuple[FlowModule, ...], ...]:
        """The lists of modules inside it."""
        value = self.value
        if isinstance(value, ForloopFlow | WhileloopFlow):
            return (value.modules,)
        if isinstance(value, BranchOne):
            return (value.default, *(branch.modules for branch in value.branches))
        if isinstance(value, BranchAll):
            return tuple(branch.modules for branch in value.branches)
        return ()


def walk(modules: tuple[FlowModule, ...]) -> Iterator[FlowModule]:
    """These modules and all inside them, in the order of the document."""
    for module in modules:
        yield module
        for inner in module.children:
            yield from walk(inner)


@dataclass(frozen=True)
class FlowValue:
    """What a flow does (OpenFlow's ``value``)."""

    modules: tuple[FlowModule, ...]
    failure_module: FlowModule | None = None
    preprocessor_module: FlowModule | None = None
    same_worker: bool = False
    skip_expr: str | None = None
    cache_ttl_s: int | None = None
    flow_env: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    #: The step whose result answers a sync call.
    early_return: str | None = None
    #: How many of its runs may run at a time; an empty key for that of its path.
    concurrency: Concurrency | None = None

    @cached_property
    def wiped_steps(self) -> frozenset[str]:
        """The ids of steps of which nothing is left when the flow has ended (``delete_after_use``)."""
        return frozenset(module.id for module in self.all_modules if module.delete_after_use)

    @cached_property
    def all_modules(self) -> tuple[FlowModule, ...]:
        """Every module, inner ones, failure and preprocessor module too."""
        ends = tuple(module for module in (self.failure_module, self.preprocessor_module) if module is not None)
        return (*walk(self.modules), *walk(ends))
