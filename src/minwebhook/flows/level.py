"""A level of a flow: the modules that one flow job runs one after the other, and what counts for all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from minwebhook.errors import BadRequest
from minwebhook.flows.model import FAILURE_ID, FlowModule, FlowValue, Identity
from minwebhook.flows.status import FlowStatus, ModuleStatus, State


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


def restarted(level: Level, before: FlowStatus, step_id: str, job_id: UUID) -> FlowStatus:
    """The status of a flow that goes on at a step with the results of another job, which has ended.

    Steps are told apart by their ids. Raises :class:`BadRequest` if there is no such step, or one before it has no result.
    """
    status = level.new_status()
    known = {module.id: module for module in before.modules if module.state is State.SUCCESS}
    for place, module in enumerate(level.modules):
        if module.id == step_id:
            status.step = place
            status.restarted_from = (job_id, step_id)
            return status
        if module.id not in known:
            raise BadRequest(f"step_id: step {module.id}, before {step_id}, did not succeed in job {job_id}")
        status.modules[place] = known[module.id]
    raise BadRequest(f"step_id: the flow has no step {step_id!r}")


def _with_end(modules: tuple[FlowModule, ...]) -> tuple[FlowModule, ...]:
    """Waiting comes before the next step: where the last one wants it, a step that does nothing follows."""
    if not modules:
        return modules
    last = modules[-1]
    is_suspending = last.suspend is not None and last.suspend.required_events > 0
    if last.sleep is None and not is_suspending:
        return modules
    return (*modules, FlowModule(f"{last.id}-v", Identity()))
