"""A level of a flow: the modules that one flow job runs one after the other, and what counts for all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from minwebhook.flows.model import FAILURE_ID, FlowModule, FlowValue, Identity
from minwebhook.flows.status import FlowStatus, ModuleStatus


@dataclass(frozen=True, slots=True)
class Level:
    """What a flow job runs. An inner one (an iteration, a branch) has the flow's error handler, under a name of its own."""

    modules: tuple[FlowModule, ...]
    failure_module: FlowModule | None = None
    preprocessor_module: FlowModule | None = None
    skip_expr: str | None = None
    early_return: str | None = None
    flow_env: Mapping[str, Any] = field(default_factory=dict)
    same_worker: bool = False

    @classmethod
    def of(cls, flow: FlowValue, *, preprocess: bool = False) -> Level:
        """The outermost one."""
        return cls(
            _with_end(flow.modules),
            flow.failure_module,
            flow.preprocessor_module if preprocess else None,
            flow.skip_expr,
            flow.early_return,
            flow.flow_env,
            flow.same_worker,
        )

    def inner(self, module: FlowModule, inner: int, index: int | None = None) -> Level:
        """The one of an iteration or a branch of ``module``: the list of modules ``inner`` of it."""
        failure = self.failure_module
        if failure is not None:
            step = next((number for number, each in enumerate(self.modules) if each is module), 0)
            ending = f"-{step}" if index is None else f"-{step}-{index}"
            failure = replace(failure, id=f"{failure.id}{ending}")
        return Level(_with_end(module.children[inner]), failure, flow_env=self.flow_env, same_worker=self.same_worker)

    def new_status(self) -> FlowStatus:
        """That of a flow which has not begun."""
        preprocessor = self.preprocessor_module
        return FlowStatus(
            step=0 if preprocessor is None else -1,
            modules=[ModuleStatus(module.id) for module in self.modules],
            failure_module=ModuleStatus(self.failure_module.id if self.failure_module is not None else FAILURE_ID),
            preprocessor_module=None if preprocessor is None else ModuleStatus(preprocessor.id),
        )


def _with_end(modules: tuple[FlowModule, ...]) -> tuple[FlowModule, ...]:
    """Waiting comes before the next step: where the last one wants it, a step that does nothing follows."""
    if not modules:
        return modules
    last = modules[-1]
    is_suspending = last.suspend is not None and last.suspend.required_events > 0
    if last.sleep is None and not is_suspending:
        return modules
    return (*modules, FlowModule(f"{last.id}-v", Identity()))
