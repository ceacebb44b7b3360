"""A level of a flow: the modules that one flow job runs one after the other, and what counts for all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from minwebhook.errors import BadRequest
from minwebhook.flows.model import FAILURE_ID, BranchAll, FlowModule, FlowValue, ForloopFlow, Identity, WhileloopFlow
from minwebhook.flows.status import FlowStatus, ModuleStatus, State
from minwebhook.jobs.model import RestartPoint

#: Of a level without an error handler: nothing happens to it.
_NO_HANDLER: Final = ModuleStatus(FAILURE_ID)


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
    #: Of a deployed flow, and not of one that came with a request.
    is_deployed: bool = False

    @classmethod
    def of(cls, flow: FlowValue, *, preprocess: bool = False, is_deployed: bool = False) -> Level:
        """The outermost one."""
        return cls(
            _with_end(flow.modules),
            flow.failure_module,
            flow.preprocessor_module if preprocess else None,
            flow.skip_expr,
            flow.early_return,
            flow.flow_env,
            flow.same_worker,
            is_deployed,
        )

    def inner(self, module: FlowModule, inner: int, index: int | None = None) -> Level:
        """The one of an iteration or a branch of ``module``: the list of modules ``inner`` of it."""
        failure = self.failure_module
        if failure is not None:
            step = next((number for number, each in enumerate(self.modules) if each is module), 0)
            ending = f"-{step}" if index is None else f"-{step}-{index}"
            failure = replace(failure, id=f"{failure.id}{ending}")
        return Level(
            _with_end(module.children[inner]),
            failure,
            flow_env=self.flow_env,
            same_worker=self.same_worker,
            is_deployed=self.is_deployed,
        )

    def is_behind_last(self, step: int) -> bool:
        """Whether nothing that the author wrote comes at this place any more: what follows a wait at the end does nothing."""
        modules = self.modules
        if step != len(modules) - 1 or step == 0:
            return step >= len(modules)
        return _wants_waiting(modules[-2]) and modules[-1] == FlowModule(f"{modules[-2].id}-v", Identity())

    def only_script(self, module: FlowModule) -> FlowModule | None:
        """The step of a loop whose iterations are the jobs of that step, without levels of their own: upstream does so where
        there is one script in it, its iterations follow each other, and no error handler would run in them."""
        value = module.value
        if (
            not isinstance(value, ForloopFlow | WhileloopFlow)
            or self.failure_module is not None
            or len(value.modules) != 1
        ):
            return None
        if isinstance(value, ForloopFlow) and (value.parallel or not self.is_deployed):
            return None
        return value.modules[0] if value.modules[0].is_plain_script else None

    def new_status(self) -> FlowStatus:
        """That of a flow which has not begun."""
        preprocessor = self.preprocessor_module
        return FlowStatus(
            step=0 if preprocessor is None else -1,
            modules=[ModuleStatus(module.id) for module in self.modules],
            failure_module=_NO_HANDLER if self.failure_module is None else ModuleStatus(self.failure_module.id),
            preprocessor_module=None if preprocessor is None else ModuleStatus(preprocessor.id),
        )


def restarted(level: Level, before: FlowStatus, point: RestartPoint) -> FlowStatus:
    """The status of a flow that goes on at a step with the results of another job, which has ended.

    Steps are told apart by their ids. Raises :class:`BadRequest` if there is no such step, one before it has no result, or
    it has not so many iterations or branches that could be kept.
    """
    status = level.new_status()
    known = {module.id: module for module in before.modules}
    for place, module in enumerate(level.modules):
        if module.id == point.step_id:
            status.step = place
            status.restarted_from = point
            if point.kept:
                _keep_first(status.modules[place], module, known.get(module.id), point.kept)
            return status
        if module.id not in known or known[module.id].state is not State.SUCCESS:
            raise BadRequest(
                f"step_id: step {module.id}, before {point.step_id}, did not succeed in job {point.flow_job}"
            )
        status.modules[place] = known[module.id]
    raise BadRequest(f"step_id: the flow has no step {point.step_id!r}")


def _keep_first(status: ModuleStatus, module: FlowModule, before: ModuleStatus | None, count: int) -> None:
    """The first iterations or branches of a step have been run already."""
    value = module.value
    is_sequential = isinstance(value, ForloopFlow | BranchAll) and not value.parallel
    if not is_sequential:
        raise BadRequest(
            f"branch_or_iteration_n: step {module.id} is neither a for loop nor branches that run one after the other"
        )
    jobs = before.flow_jobs if before is not None else None
    ended = 0 if before is None else sum(1 for ok in before.flow_jobs_success if ok is not None)
    if before is None or jobs is None or count > ended:
        raise BadRequest(f"branch_or_iteration_n: {ended} iterations or branches of step {module.id} have ended")
    if isinstance(value, BranchAll) and count >= len(value.branches):
        raise BadRequest(f"branch_or_iteration_n: step {module.id} has {len(value.branches)} branches")
    status.flow_jobs, status.flow_jobs_success = jobs[:count], before.flow_jobs_success[:count]
    status.started_at_ms, status.durations_ms = before.started_at_ms[:count], before.durations_ms[:count]


def _with_end(modules: tuple[FlowModule, ...]) -> tuple[FlowModule, ...]:
    """Waiting comes before the next step: where the last one wants it, a step that does nothing follows."""
    if not modules or not _wants_waiting(modules[-1]):
        return modules
    return (*modules, FlowModule(f"{modules[-1].id}-v", Identity()))


def _wants_waiting(module: FlowModule) -> bool:
    is_suspending = module.suspend is not None and module.suspend.required_events > 0
    return module.sleep is not None or is_suspending
