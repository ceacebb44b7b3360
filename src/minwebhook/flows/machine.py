"""What one level of a flow holds, and the single things it does: starting jobs, asking for values, ending. Pure.

:mod:`minwebhook.flows.engine` puts them in order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from minwebhook.flows import events
from minwebhook.flows.events import Command, Evaluate, Finish, ReturnEarly, Run, StartJob, WaitForEvents
from minwebhook.flows.expressions import references_of
from minwebhook.flows.level import Level
from minwebhook.flows.model import (
    FlowModule,
    FlowStep,
    InputTransform,
    Javascript,
    RawScript,
    ScriptStep,
    Static,
    StopAfterIf,
    WhileloopFlow,
)
from minwebhook.flows.results import IterationArguments, error_result, joined, with_step_id
from minwebhook.flows.status import NO_JOB, NO_LIST, FlowStatus, ModuleStatus, State
from minwebhook.http.codecs import json_text
from minwebhook.jobs.flow_step import Iteration

#: Is given the values of expressions by their keys, or the one value of a transform.
Values = Callable[[Mapping[str, Any]], None]
Then = Callable[[Any], None]


#: A timeout that no job reaches; the database has no room for any larger one.
_MAX_TIMEOUT_S: Final = 366 * 24 * 3600


class Machine:
    """One level and where it is. ``status`` is changed in place."""

    __slots__ = (
        "_asked",
        "_canceled",
        "_commands",
        "_delay_s",
        "_failed",
        "_is_entering",
        "_is_restarted",
        "_iterations",
        "_max_result_bytes",
        "_messages",
        "_new_id",
        "_open_count",
        "_places",
        "_random",
        "_result_bytes",
        "_then",
        "approvals",
        "arguments",
        "changed",
        "id",
        "items",
        "level",
        "outputs",
        "results",
        "status",
        "step_arguments",
    )

    def __init__(
        self,
        id: UUID,
        level: Level,
        status: FlowStatus,
        arguments: bytes,
        *,
        new_id: Callable[[], UUID],
        random: Callable[[], float],
        max_result_bytes: int = sys.maxsize,
    ) -> None:
        """``id`` is that of the flow job, ``arguments`` JSON text of an object; ``max_result_bytes``: of one result, so
        also of all iterations of a loop together."""
        self.id = id
        self.level = level
        self.status = status
        self.arguments = arguments
        #: Results of modules that have ended, by id; of the error handler's step, too.
        self.outputs: dict[str, bytes] = {}
        #: Results of iterations and branches of the module that runs, and their length.
        self.results: dict[UUID, bytes] = {}
        self._result_bytes = 0
        self._max_result_bytes = max_result_bytes
        #: Iterations and branches that have begun or ended since :meth:`take_changed`: module and place.
        self.changed: list[tuple[ModuleStatus, int]] = NO_LIST
        #: What the loop that runs goes through, as JSON texts.
        self.items: list[bytes] = []
        #: The arguments that the module runs with: a retry has the same.
        self.step_arguments: bytes | None = None
        #: Payloads and names of those who resumed the flow before this step: ``(payload, name)``.
        self.approvals: list[tuple[Any, str]] = NO_LIST
        self._new_id = new_id
        #: The list of jobs of the module that runs, and where in it each of them is.
        self._places: tuple[list[UUID], dict[UUID, int]] | None = None
        self._random = random
        self._delay_s = 0.0
        self._asked: Evaluate | None = None
        self._then: tuple[Values, Callable[[bytes], None]] | None = None
        self._messages: set[int] | None = None
        self._iterations: IterationArguments | None = None
        self._canceled: bytes | None = None
        #: The result of the step that the error handler is about.
        self._failed: bytes | None = None
        self._commands: list[Command] = []
        #: The next module is to be entered.
        self._is_entering = False
        self._is_restarted = False
        current = self._current()
        #: Jobs of the loop, or the branches, that runs that have not ended: not to be counted each time, there may be thousands.
        self._open_count = 0 if current is None else sum(ok is None for ok in current[1].flow_jobs_success)

    @property
    def is_evaluating(self) -> bool:
        """Whether the value of an expression is waited for, so that the status is not to be stored."""
        return self._then is not None

    def awaits(self, command: Evaluate) -> bool:
        """Whether the values of these expressions are still waited for."""
        return self._then is not None and self._asked is command

    @property
    def suspended(self) -> ModuleStatus | None:
        """The module that waits for approvals."""
        step = self.status.step
        if 0 <= step < len(self.status.modules) and self.status.modules[step].state is State.SUSPENDED:
            return self.status.modules[step]
        return None

    @property
    def current(self) -> FlowModule | None:
        """The module that runs or comes next, the error handler's and the preprocessor, too."""
        found = self._current()
        return None if found is None else found[0]

    def open_jobs(self) -> list[UUID]:
        """Jobs whose end is waited for."""
        current = self._current()
        if current is None:
            return []
        status = current[1]
        if status.flow_jobs is not None:
            return [job for job, ok in zip(status.flow_jobs, status.flow_jobs_success, strict=True) if ok is None]
        is_open = status.state is State.QUEUED or status.state is State.RUNNING
        return [status.job] if is_open and status.job is not None else []

    @property
    def has_open_jobs(self) -> bool:
        """Whether the end of a job is waited for."""
        current = self._current()
        if current is not None and current[1].flow_jobs is not None:
            return self._open_count > 0
        return bool(self.open_jobs())

    def keep(self, stored: Container[str] = ()) -> None:
        """All iterations count as changed, but not those of modules whose iterations are ``stored``."""
        for status in (*self.status.modules, self.status.failure_module):
            if status.flow_jobs and status.id not in stored:
                self.changed = [*self.changed, *((status, place) for place in range(len(status.flow_jobs)))]

    def take_changed(self) -> list[tuple[str, Iteration]]:
        """Iterations and branches that are to be stored, by module, each once and as it is now."""
        if not self.changed:
            return NO_LIST
        changed, self.changed = {(status.id, place): status for status, place in self.changed}, NO_LIST
        return [
            (module, status.iteration(place))
            for (module, place), status in changed.items()
            if place < len(status.flow_jobs or ())  # else the module is repeated
        ]

    def _collect(self, status: ModuleStatus, job: UUID, result: bytes) -> None:
        """The result of an iteration or a branch; all of them are let go when they are more than a result may be."""
        self._result_bytes += len(result) + 1
        if self._result_bytes > self._max_result_bytes:
            status.oversized = True
            self.results.clear()
        if not status.oversized:
            self.results[job] = result

    def _oversized(self, module: FlowModule) -> bytes:
        """What a module gives whose results are."""
        text = f"the results of all iterations or branches are larger than {self._max_result_bytes} bytes (max_result_bytes)"
        return with_step_id(error_result("ExecutionErr", f"execution error:\n{text}"), module.id)

    def _note(self, status: ModuleStatus, place: int) -> None:
        self.changed = self.changed or []
        self.changed.append((status, place))

    def _place(self, jobs: list[UUID], job: UUID) -> int | None:
        """Where a job is among those of a loop; None if it is none of them. There may be thousands."""
        if self._places is None or self._places[0] is not jobs:
            self._places = (jobs, {})
        places = self._places[1]
        for number in range(len(places), len(jobs)):
            places[jobs[number]] = number
        return places.get(job)

    def previous_result(self) -> bytes:
        """That of the step before; of the first step the arguments of the flow, of the error handler what went wrong."""
        if self._failed is not None:
            return self._failed
        step = min(self.status.step, len(self.level.modules))
        return self.outputs.get(self.level.modules[step - 1].id, b"null") if step > 0 else self.arguments

    def ended_jobs(self) -> list[UUID]:
        """Jobs that have ended and whose results :meth:`restore` needs."""
        pairs = [*self._pairs()]
        if (current := self._current()) is not None:  # also of one that a restarted flow has kept a part of
            pairs.append(current)
        found = list[UUID]()
        for _, status in pairs:
            if status.flow_jobs is not None and not status.oversized:
                found += [
                    job for job, ok in zip(status.flow_jobs, status.flow_jobs_success, strict=True) if ok is not None
                ]
            elif status.flow_jobs is None and status.state.is_final and status.job not in (None, NO_JOB):
                assert status.job is not None  # noqa: S101 - as asked
                found.append(status.job)
        return found

    def restore(self, results: Mapping[UUID, bytes], items: list[bytes], step_arguments: bytes | None) -> None:
        """After a restart: what the status does not hold. A result that is not known any more is null."""
        self.items, self.step_arguments = items, step_arguments
        for module, status in self._pairs():
            if status.flow_jobs is not None and status.oversized:
                output = self._oversized(module)
            elif status.flow_jobs is not None:
                known = {
                    job: self._result_of(module, results.get(job, b"null"), ok)
                    for job, ok in zip(status.flow_jobs, status.flow_jobs_success, strict=True)
                }
                is_failure = status.state is State.FAILURE
                output = _failed_jobs(module, status, known) if is_failure else _all_jobs(status, known)
            elif status.job is None or status.job == NO_JOB:
                output = self._last_output(module)
            else:
                output = results.get(status.job, b"null")
                if status.state is State.FAILURE:
                    output = self._error_of(module, output)
            self.outputs[module.id] = output
        failed = self.status.failure_module.parent_module
        if self.status.handled and failed is not None:
            self._failed = self.outputs.get(failed, b"null")
        current = self._current()
        if current is not None and current[1].flow_jobs is not None and not current[1].state.is_final:
            for job, ok in zip(current[1].flow_jobs, current[1].flow_jobs_success, strict=True):
                if job in results:
                    self._collect(current[1], job, self._result_of(current[0], results[job], ok))

    def _pairs(self) -> Iterator[tuple[FlowModule, ModuleStatus]]:
        """Modules that have ended."""
        for module, status in zip(self.level.modules, self.status.modules, strict=True):
            if status.state.is_final:
                yield module, status

    def _last_output(self, module: FlowModule) -> bytes:
        """What a module passed on that had no job: that of the one before it."""
        place = self.level.modules.index(module)
        return self.outputs.get(self.level.modules[place - 1].id, b"null") if place else self.arguments

    def _current(self) -> tuple[FlowModule, ModuleStatus] | None:
        status, level = self.status, self.level
        if status.handled and level.failure_module is not None:
            return level.failure_module, status.failure_module
        if status.step < 0 and level.preprocessor_module is not None and status.preprocessor_module is not None:
            return level.preprocessor_module, status.preprocessor_module
        if 0 <= status.step < len(level.modules):
            return level.modules[status.step], status.modules[status.step]
        return None

    def _timed(self, module: FlowModule, status: ModuleStatus, arguments: bytes) -> None:
        if module.timeout is None:
            self._start_leaf(module, status, arguments, None)
            return

        def then(value: Any) -> None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                self._abort(error_result("BadTimeout", f"module {module.id}: timeout must be a number of seconds"))
                return
            self._start_leaf(module, status, arguments, min(value, _MAX_TIMEOUT_S))

        self._value(module.timeout, "timeout", events.TIMING_NAMES, then)

    def _start_leaf(self, module: FlowModule, status: ModuleStatus, arguments: bytes, timeout_s: float | None) -> None:
        self.step_arguments = arguments
        status.state, status.job = State.QUEUED, self._new_id()
        self._commands.append(
            StartJob(
                status.job,
                Run.FLOW if isinstance(module.value, FlowStep) else Run.SCRIPT,
                module,
                arguments,
                path=status.id,
                delay_s=self._delay_s,
                timeout_s=timeout_s,
                is_preprocessor=module is self.level.preprocessor_module,
            )
        )

    def _start_nothing(
        self, module: FlowModule, status: ModuleStatus, result: bytes, *, is_success: bool = True
    ) -> None:
        status.state, status.job, status.flow_jobs = State.QUEUED, self._new_id(), None
        self._commands.append(
            StartJob(
                status.job,
                Run.NOTHING,
                module,
                b"{}",
                path=status.id,
                delay_s=self._delay_s,
                result=result,
                is_success=is_success,
            )
        )

    def _start_level(
        self,
        module: FlowModule,
        status: ModuleStatus,
        arguments: bytes,
        inner: int,
        index: int | None,
        ending: str,
    ) -> None:
        job = self._next_job(status)
        self._commands.append(
            StartJob(job, Run.LEVEL, module, arguments, inner, index, f"{status.id}/{ending}", self._delay_s)
        )

    def _next_job(self, status: ModuleStatus) -> UUID:
        """The id of a job of a module that may have several."""
        job = self._new_id()
        if status.flow_jobs is not None:
            status.flow_jobs.append(job)
            status.flow_jobs_success.append(None)
            status.started_at_ms.append(None)
            status.durations_ms.append(None)
            self._open_count += 1
            self._note(status, len(status.flow_jobs) - 1)
        status.job = self.id if status.parallel else job
        status.state = State.RUNNING
        return job

    def _open(self, status: ModuleStatus, length: int | None, *, parallel: bool = False) -> None:
        """The module has several jobs from now on. Those that a restarted flow has kept of it stay."""
        if status.flow_jobs is None:
            status.flow_jobs, status.flow_jobs_success = [], []
            status.started_at_ms, status.durations_ms = [], []
            self.results.clear()
            self._open_count = self._result_bytes = 0
            status.oversized = False
        status.length, status.parallel, status.job, status.handled = length, parallel, self.id, False
        status.state = State.RUNNING
        self._iterations = None

    def _start_iteration(self, module: FlowModule, status: ModuleStatus) -> None:
        if self._iterations is None:
            self._iterations = IterationArguments(self.arguments)
        index = len(status.flow_jobs or ())
        value = b"%d" % index if status.while_loop else self.items[index]
        arguments = self._iterations.of(index, value)
        script = self.level.only_script(module)
        if script is not None:
            self._start_script(module, status, script, arguments, f"{status.id}/loop-{index}")
            return
        ending = f"forloop-{index}" if status.parallel else f"loop-{index}"
        self._start_level(module, status, arguments, 0, index, ending)

    def _start_script(
        self, loop: FlowModule, status: ModuleStatus, script: FlowModule, arguments: bytes, path: str
    ) -> None:
        """An iteration that is the job of a script: its expressions see what those of a level would."""

        def start(made: bytes) -> None:
            job = self._next_job(status)
            self._commands.append(StartJob(job, Run.SCRIPT, script, made, path=path, delay_s=self._delay_s, loop=loop))

        def fail(error: bytes) -> None:
            job = self._next_job(status)
            self._commands.append(
                StartJob(
                    job, Run.NOTHING, script, b"{}", path=path, delay_s=self._delay_s,
                    result=error, is_success=False, loop=loop,
                )
            )  # fmt: skip

        seen = {"flow_input": arguments, "previous_result": arguments}
        self._make_arguments(script, start, fail, values=seen)

    def _make_arguments(
        self,
        module: FlowModule,
        then: Callable[[bytes], None],
        failed: Callable[[bytes], None],
        *,
        values: Mapping[str, bytes] | None = None,
    ) -> None:
        """The arguments of a script or a flow, as JSON text, out of its inputs."""
        inputs = module.inputs or {}
        # What a script is to be told is looked up when it runs: until then, and in its row, it is a reference.
        named = {} if isinstance(module.value, FlowStep) or module.apply_preprocessor else references_of(inputs)
        expressions = {
            name: each.expr for name, each in inputs.items() if isinstance(each, Javascript) and name not in named
        }

        def made(found: Mapping[str, Any]) -> None:
            arguments = {
                name: each.value if isinstance(each, Static) else named.get(name) or found[name]
                for name, each in inputs.items()
                if isinstance(each, Static | Javascript)
            }
            then(json_text(arguments))

        if expressions:
            self._evaluate(expressions, events.INPUT_NAMES, made, values=values, failed=failed)
        else:
            made({})

    def _result_of(self, module: FlowModule, result: bytes, ok: bool | None) -> bytes:
        """That of an iteration or a branch; of one that is the job of a script, it says which step failed, as a level does."""
        script = None if ok is not False else self.level.only_script(module)
        return result if script is None else with_step_id(result, script.id)

    def _all_results(self, status: ModuleStatus) -> bytes:
        return _all_jobs(status, self.results)

    def _failed_results(self, module: FlowModule, status: ModuleStatus) -> bytes:
        return _failed_jobs(module, status, self.results)

    @staticmethod
    def _error_of(module: FlowModule, result: bytes) -> bytes:
        """The result of a module with one job, which failed: a script's says which step it was, a flow's or a branch's knows."""
        return with_step_id(result, module.id) if isinstance(module.value, RawScript | ScriptStep) else result

    def _start_branch(self, module: FlowModule, status: ModuleStatus) -> None:
        index = len(status.flow_jobs or ())
        self._start_level(module, status, self.arguments, index, index, f"branchall-{index}")

    def _return_early(self, module: FlowModule, result: bytes, *, is_success: bool) -> None:
        if module.id == self.level.early_return:
            self._commands.append(ReturnEarly(is_success, result))

    def _abort(self, result: bytes) -> None:
        """Something of the flow itself is wrong: it ends without a job that could be retried."""
        current = self._current()
        if current is not None:
            module, status = current
            result = with_step_id(result, module.id)
            status.state = State.FAILURE
            status.job = status.job or NO_JOB
        self._finish(False, result)

    def _finish(self, is_success: bool, result: bytes, *, is_canceled: bool = False) -> None:
        self.results.clear()
        self._is_entering = False
        self._commands.append(Finish(is_success, result, is_canceled))

    def _wait(self, before: FlowModule, suspend: Any) -> None:
        status = self.status.modules[self.status.step]
        status.count = suspend.required_events
        assert status.job is not None  # noqa: S101 - the step before has had one
        self._commands.append(WaitForEvents(status.job, status.count, suspend.timeout_s, before))

    def _value(self, transform: InputTransform, key: str, names: frozenset[str], then: Then) -> None:
        """The value of a transform; the flow fails if it has none."""
        if isinstance(transform, Static):
            then(transform.value)
        elif isinstance(transform, Javascript):
            self._evaluate({key: transform.expr}, names, lambda values: then(values[key]))
        else:
            then(None)

    def _evaluate_stop(
        self,
        stop: StopAfterIf,
        result: bytes,
        then: Values,
        *,
        all_iters: bytes | None = None,
    ) -> None:
        values = {"previous_result": result, "result": result}
        if all_iters is not None:
            values["all_iters"] = all_iters
        self._evaluate({"stop_after_if": stop.expr}, events.STOP_NAMES, then, values=values, predicate=True)

    def _evaluate(
        self,
        expressions: Mapping[str, str],
        names: frozenset[str],
        then: Values,
        *,
        values: Mapping[str, bytes] | None = None,
        predicate: bool = False,
        failed: Callable[[bytes], None] | None = None,
    ) -> None:
        self._then = (then, failed or self._abort)
        if values is None:
            previous = self.previous_result()
            values = {"previous_result": previous, "result": previous}
        known = {name: value for name, value in values.items() if name in names}
        self._asked = Evaluate(expressions, names, known, predicate)
        self._commands.append(self._asked)


def _all_jobs(status: ModuleStatus, results: Mapping[UUID, bytes]) -> bytes:
    """The array of what the iterations or branches gave."""
    return joined(results[job] for job in status.flow_jobs or () if job in results)


def _failed_jobs(module: FlowModule, status: ModuleStatus, results: Mapping[UUID, bytes]) -> bytes:
    """What a module with several jobs gives that failed: a while loop the error of its last iteration, others the array."""
    if isinstance(module.value, WhileloopFlow) and status.flow_jobs:
        return results[status.flow_jobs[-1]]
    return _all_jobs(status, results)
