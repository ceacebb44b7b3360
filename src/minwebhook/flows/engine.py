"""The step machine of one level of a flow, without input and output: events in, commands out.

::

    Started ──► preprocessor ──► enter step 0
                                    │ wait for approvals and sleep, if the step before wants that
                                    │ mock, skip_if
                                    ▼
                                  run: arguments, iterator or predicates ──► StartJob …
                                    │ ChildEnded: next iteration, branch, or the end of the module
                                    ▼
              succeeded ──► stop_after_if ──► enter the next step, or Finish
              failed ──► retry ──► continue_on_error ──► error handler ──► Finish

Whoever drives it tells :meth:`Engine.advance` what happens and does what comes back: an ``Evaluate`` at once, everything
else once the status is on disk. While an evaluation is under way nothing is written, so that what is on disk is always a
status that waits for jobs, for messages or for nothing; :meth:`Engine.resume` goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from minwebhook.flows import events
from minwebhook.flows.events import (
    Canceled,
    ChildEnded,
    Command,
    Disapproved,
    Evaluated,
    EvaluationFailed,
    Event,
    ReplaceArguments,
    Resumed,
    Started,
    TimedOut,
)
from minwebhook.flows.model import (
    BranchAll,
    BranchOne,
    FlowModule,
    ForloopFlow,
    Identity,
    StopAfterIf,
    WhileloopFlow,
)
from minwebhook.flows.results import error_result, pause_s, with_step_id
from minwebhook.flows.status import NO_JOB, NO_LIST, ModuleStatus, State
from minwebhook.flows.waiting import Waiting
from minwebhook.http.codecs import json_text

#: Iterations that run beside each other at most, and bytes of their arguments; the others follow.
_MAX_BESIDE: Final = 256
_MAX_BESIDE_BYTES: Final = 64 * 1024 * 1024
_SKIPPED: Final = b'"stopped early"'


class Engine(Waiting):
    """One level and where it is. ``status`` is changed in place."""

    __slots__ = ()

    # --- from outside -------------------------------------------------------------------------------------------------

    def advance(self, event: Event) -> list[Command]:
        """What is to be done after ``event``. Events about what is over change nothing."""
        self._commands = []
        match event:
            case ChildEnded():
                self._child_ended(event)
            case Evaluated() if self._then is not None:
                then, self._then, self._asked = self._then[0], None, None
                then(event.values)
            case EvaluationFailed() if self._then is not None:
                fail, self._then, self._asked = self._then[1], None, None
                fail(error_result(event.name, event.message))
            case Started():
                self._start()
            case Resumed() | Disapproved():
                self._message(event)
            case TimedOut() if self.suspended is not None:
                self._timed_out()
            case Canceled():
                self._cancel(event.result)
            case _:
                pass
        while self._is_entering:  # not by recursion: there may be many steps that have no job
            self._is_entering = False
            self._enter()
        return self._said()

    def _said(self) -> list[Command]:
        commands, self._commands = self._commands, NO_LIST
        return commands

    def resume(self) -> list[Command]:
        """What a stored status waits for, besides its jobs: after a restart."""
        self._commands = []
        step = self.status.step
        if self.suspended is not None:
            self._wait(self.level.modules[step - 1], self.level.modules[step - 1].suspend)
        return self._said()

    # --- the way through the modules ------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._is_restarted = self.status.restarted_from is not None  # what it would wait for was waited for then
        if self.level.skip_expr is not None:

            def then(values: Mapping[str, Any]) -> None:
                if values["skip_expr"]:
                    self.status.stopped = self.status.skipped = True
                    self._finish(True, _SKIPPED)
                else:
                    self._begin()

            self._evaluate({"skip_expr": self.level.skip_expr}, events.SKIP_NAMES, then, predicate=True)
        else:
            self._begin()

    def _begin(self) -> None:
        module, status = self.level.preprocessor_module, self.status.preprocessor_module
        if module is None or status is None:
            self._is_entering = True
            return
        self._start_leaf(module, status, self.arguments, None)

    def _enter(self) -> None:
        """The next module, after what the one before wants awaited; the end if there is none."""
        self.status.failed_jobs = []
        self.approvals = NO_LIST
        self._delay_s = 0
        self.step_arguments = None
        step = self.status.step
        if step >= len(self.level.modules):
            self._finish(True, self.previous_result())
            return
        before = self.level.modules[step - 1] if step else None
        has_run = step > 0 and self.status.modules[step - 1].state is State.SUCCESS
        is_first = self._is_restarted
        self._is_restarted = False
        if before is None or not has_run or is_first or self.status.modules[step - 1].skipped:
            self._choose()
        elif before.suspend is not None and before.suspend.required_events:
            self._suspend(before)
        else:
            self._sleep()

    def _after_waiting(self) -> None:
        self._sleep()

    def _sleep(self) -> None:
        before = self.level.modules[self.status.step - 1]
        if before.sleep is None:
            self._choose()
            return

        def then(value: Any) -> None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                self._abort(error_result("BadSleep", f"module {before.id}: sleep must be a number of seconds"))
                return
            self._delay_s = value
            self._choose()

        self._value(before.sleep, "sleep", events.TIMING_NAMES, then)

    def _choose(self) -> None:
        """Whether the module runs at all."""
        step = self.status.step
        module, status = self.level.modules[step], self.status.modules[step]
        status.state, status.count, status.job = State.WAITING, 0, None
        if module.mock is not None and module.mock.enabled:
            self._start_nothing(module, status, json_text(module.mock.return_value))
        elif module.skip_if is not None:

            def then(values: Mapping[str, Any]) -> None:
                if values["skip_if"]:
                    status.skipped = True
                    self._start_nothing(module, status, self.previous_result())
                else:
                    self._run(module, status)

            self._evaluate({"skip_if": module.skip_if}, events.PREDICATE_NAMES, then, predicate=True)
        else:
            self._run(module, status)

    def _run(self, module: FlowModule, status: ModuleStatus) -> None:
        value = module.value
        if isinstance(value, Identity):
            self._start_nothing(module, status, self.previous_result())
        elif isinstance(value, ForloopFlow):
            self._run_forloop(module, status, value)
        elif isinstance(value, WhileloopFlow):
            self._open(status, None)
            status.is_iterator = status.while_loop = True
            self._start_iteration(module, status)
        elif isinstance(value, BranchOne):
            self._run_branchone(module, status, value, 0)
        elif isinstance(value, BranchAll):
            self._run_branchall(module, status, value)
        else:
            self._run_leaf(module, status)

    def _run_leaf(self, module: FlowModule, status: ModuleStatus) -> None:
        """A script or a flow, once its arguments are known."""
        if module.pass_flow_input_directly:
            self._timed(module, status, self.arguments)
            return
        # The arguments of a step are its own business: it fails, and is retried and handled as if it had run.
        self._make_arguments(
            module,
            lambda arguments: self._timed(module, status, arguments),
            lambda error: self._start_nothing(module, status, error, is_success=False),
        )

    # --- loops --------------------------------------------------------------------------------------------------------

    def _run_forloop(self, module: FlowModule, status: ModuleStatus, loop: ForloopFlow) -> None:
        def then(value: Any) -> None:
            if not isinstance(value, list):
                found = json_text(value)[:200].decode("utf-8", "replace")
                text = f"Expected an array value in the iterator expression, found: {found}"
                self._abort(error_result("ExecutionErr", text))
                return
            self.items = [json_text(item) for item in value]
            if loop.parallel and loop.parallelism is not None:
                self._value(loop.parallelism, "parallelism", events.TIMING_NAMES, begin)
            else:
                begin(len(self.items))

        def begin(parallelism: Any) -> None:
            is_number = isinstance(parallelism, int | float) and not isinstance(parallelism, bool)
            if not is_number or (parallelism < 1 and self.items):
                self._abort(error_result("BadParallelism", f"module {module.id}: parallelism must be 1 or more"))
                return
            if status.flow_jobs is not None and len(status.flow_jobs) >= len(self.items):
                text = f"restarted at iteration {len(status.flow_jobs)}, but the iterator gives {len(self.items)} items"
                self._abort(error_result("BadRestart", text))
                return
            self._open(status, len(self.items), parallel=loop.parallel)
            status.is_iterator = True
            if not self.items:
                status.job = NO_JOB
                self._loop_ended(module, status)
                return
            room = max(_MAX_BESIDE_BYTES // (len(self.arguments) + 1), 1)  # each iteration has its own copy
            count = min(int(parallelism), len(self.items), _MAX_BESIDE, room) if loop.parallel else 1
            for _ in range(count):
                self._start_iteration(module, status)

        self._value(loop.iterator, "iterator", events.ITERATOR_NAMES, then)

    def _iteration_ended(self, module: FlowModule, status: ModuleStatus, ended: ChildEnded) -> None:
        """Of a loop whose iterations run one after the other."""
        loop = module.value
        skips = isinstance(loop, ForloopFlow | WhileloopFlow) and loop.skip_failures
        if not ended.is_success and not skips:
            self._failed_module(module, status, self._failed_results(module, status), handled=ended.handled)
            return
        if ended.stopped and ended.is_success:
            self._loop_ended(module, status)
            return
        stop = module.stop_after_if
        if stop is None:
            self._next_iteration(module, status)
            return

        def then(values: Mapping[str, Any]) -> None:
            if values["stop_after_if"]:
                self._loop_ended(module, status)
            else:
                self._next_iteration(module, status)

        # To join them after each iteration takes as long as all iterations before.
        joined = self._all_results(status) if "all_iters" in stop.expr else None
        self._evaluate_stop(stop, ended.result, then, all_iters=joined)

    def _next_iteration(self, module: FlowModule, status: ModuleStatus) -> None:
        self._delay_s = 0
        if not status.while_loop and len(status.flow_jobs or ()) >= len(self.items):
            self._loop_ended(module, status)
        else:
            self._start_iteration(module, status)

    def _parallel_ended(self, module: FlowModule, status: ModuleStatus) -> None:
        """A job of a module whose jobs run beside each other."""
        jobs = status.flow_jobs or []
        if isinstance(module.value, ForloopFlow) and len(jobs) < len(self.items):
            self._delay_s = 0
            self._start_iteration(module, status)
            return
        if self.has_open_jobs:
            return
        value = module.value
        if isinstance(value, BranchAll):
            is_failed = any(
                not ok and not branch.skip_failure
                for ok, branch in zip(status.flow_jobs_success, value.branches, strict=True)
            )
        else:
            is_failed = False in status.flow_jobs_success and not (
                isinstance(value, ForloopFlow) and value.skip_failures
            )
        if is_failed:
            self._failed_module(module, status, self._all_results(status), handled=status.handled)
        else:
            self._loop_ended(module, status)

    def _loop_ended(self, module: FlowModule, status: ModuleStatus) -> None:
        """All iterations, or branches, are through."""
        result = self._all_results(status)
        stop = module.stop_after_all_iters_if
        if stop is None or not module.is_loop:
            self._succeeded(module, status, result)
            return
        status.state = State.SUCCESS
        self.outputs[module.id] = result
        self._stop_if(stop, module, status, result)

    # --- branches -----------------------------------------------------------------------------------------------------

    def _run_branchone(self, module: FlowModule, status: ModuleStatus, value: BranchOne, index: int) -> None:
        """Predicates in their order, each only if those before are false."""
        if index == len(value.branches):
            self._take_branch(module, status, 0)
            return

        def then(values: Mapping[str, Any]) -> None:
            if values["predicate"]:
                self._take_branch(module, status, index + 1)
            else:
                self._run_branchone(module, status, value, index + 1)

        self._evaluate({"predicate": value.branches[index].expr}, events.PREDICATE_NAMES, then, predicate=True)

    def _take_branch(self, module: FlowModule, status: ModuleStatus, chosen: int) -> None:
        status.branch_chosen = chosen
        if module.children[chosen]:
            self._start_level(module, status, self.arguments, chosen, None, f"branchone-{chosen}")
        else:
            status.job = NO_JOB
            self._succeeded(module, status, self.previous_result())

    def _run_branchall(self, module: FlowModule, status: ModuleStatus, value: BranchAll) -> None:
        self._open(status, len(value.branches), parallel=value.parallel)
        status.is_branchall = True
        if not value.branches:
            status.job = NO_JOB
            self._succeeded(module, status, b"[]")
            return
        for _ in value.branches if value.parallel else value.branches[:1]:  # of a restarted flow the next one
            self._start_branch(module, status)

    def _branch_ended(self, module: FlowModule, status: ModuleStatus, value: BranchAll, ended: ChildEnded) -> None:
        """Of branches that run one after the other."""
        done = len(status.flow_jobs or ())
        self._delay_s = 0
        if not ended.is_success and not value.branches[done - 1].skip_failure:
            self._failed_module(module, status, self._all_results(status), handled=ended.handled)
        elif ended.stopped and ended.is_success:
            self._stopped(module, status, self._all_results(status), skipped=ended.skipped)
        elif done < len(value.branches):
            self._start_branch(module, status)
        else:
            self._loop_ended(module, status)

    # --- ends of jobs ---------------------------------------------------------------------------------------------------

    def _child_ended(self, ended: ChildEnded) -> None:
        current = self._current()
        if current is None:
            return
        module, status = current
        timing = ended.timing
        if status.flow_jobs is not None:
            place = self._place(status.flow_jobs, ended.job)
            if place is None or status.flow_jobs_success[place] is not None:
                return
            status.flow_jobs_success[place] = ended.is_success
            self._open_count -= 1
            self._note(status, place)
            status.started_at_ms[place] = timing.started_at_ms
            status.durations_ms[place] = round(timing.run_ms)
            status.handled |= status.parallel and ended.handled and not ended.is_success
            self._collect(status, ended.job, self._result_of(module, ended.result, ended.is_success))
        elif ended.job not in self.open_jobs():
            return
        else:
            status.timing = (timing.queue_ms, timing.start_ms, timing.run_ms)
        if self._canceled is not None:
            status.state = State.FAILURE
            self._end_if_canceled()
        elif status.flow_jobs is None:
            self._single_ended(module, status, ended)
        elif status.oversized:
            if not self.has_open_jobs:
                self._failed_module(module, status, self._oversized(module))
        elif status.parallel:
            self._parallel_ended(module, status)
        elif isinstance(module.value, BranchAll):
            self._branch_ended(module, status, module.value, ended)
        else:
            self._iteration_ended(module, status, ended)

    def _single_ended(self, module: FlowModule, status: ModuleStatus, ended: ChildEnded) -> None:
        """The job of a script, a flow or a chosen branch."""
        if module is self.level.preprocessor_module:
            self._preprocessed(status, ended)
        elif not ended.is_success:
            handled = ended.handled and status.branch_chosen is not None
            self._failed_module(module, status, self._error_of(module, ended.result), handled=handled)
        elif ended.stopped and status.branch_chosen is not None:
            self._stopped(module, status, ended.result, skipped=ended.skipped)
        else:
            self._succeeded(module, status, ended.result)

    def _preprocessed(self, status: ModuleStatus, ended: ChildEnded) -> None:
        if not ended.is_success:
            status.state = State.FAILURE
            self._finish(False, with_step_id(ended.result, status.id))
            return
        value = orjson.loads(ended.result)
        if isinstance(value, dict):
            self.arguments = ended.result
        else:
            self.arguments = b"{}" if value is None else b'{"value":%b}' % ended.result
        self._commands.append(ReplaceArguments(self.arguments))
        status.state = State.SUCCESS
        self.status.step = 0
        self._is_entering = True

    # --- ends of modules ------------------------------------------------------------------------------------------------

    def _succeeded(self, module: FlowModule, status: ModuleStatus, result: bytes) -> None:
        status.state = State.SUCCESS
        self.outputs[module.id] = result
        if module is self.level.failure_module:
            value = orjson.loads(result)
            self._finish(isinstance(value, dict) and value.get("recover") is True, result)
            return
        self._return_early(module, result, is_success=True)
        if module.stop_after_if is None or module.is_loop or status.skipped:
            self._go_on()
        else:
            self._stop_if(module.stop_after_if, module, status, result)

    def _go_on(self) -> None:
        self.status.step += 1
        self._is_entering = True

    def _stop_if(self, stop: StopAfterIf, module: FlowModule, status: ModuleStatus, result: bytes) -> None:
        """Ends the flow if its condition says so, else goes on."""

        def then(values: Mapping[str, Any]) -> None:
            if not values["stop_after_if"]:
                if stop is module.stop_after_all_iters_if:
                    self._return_early(module, result, is_success=True)
                self._go_on()
            elif stop.error_message is None:
                self._stopped(module, status, result, skipped=stop.skip_if_stopped)
            else:
                text = stop.error_message or f"stop after if: {stop.expr}"
                self.status.stopped, self.status.skipped = True, stop.skip_if_stopped
                self.status.step += 1
                self._finish(stop.skip_if_stopped, error_result("EarlyStopError", text))

        self._evaluate_stop(stop, result, then)

    def _stopped(self, module: FlowModule, status: ModuleStatus, result: bytes, *, skipped: bool) -> None:
        status.state = State.SUCCESS
        self.outputs[module.id] = result
        self.status.stopped, self.status.skipped = True, skipped
        self.status.step += 1
        self._finish(True, result)

    def _failed_module(self, module: FlowModule, status: ModuleStatus, result: bytes, *, handled: bool = False) -> None:
        retry = module.retry
        pause = None if retry is None else pause_s(retry, len(self.status.failed_jobs), self._random)
        if retry is None or pause is None:
            self._failed_for_good(module, status, result, handled=handled)
            return
        if retry.retry_if is None:
            self._repeat(module, status, pause)
            return

        def then(values: Mapping[str, Any]) -> None:
            if values["retry_if"]:
                self._repeat(module, status, pause)
            else:
                self._failed_for_good(module, status, result, handled=handled)

        own = {"previous_result": result, "result": result}
        self._evaluate({"retry_if": retry.retry_if}, events.RETRY_NAMES, then, values=own, predicate=True)

    def _repeat(self, module: FlowModule, status: ModuleStatus, pause_s: float) -> None:
        if status.job is not None:
            self.status.failed_jobs = [*self.status.failed_jobs, status.job]
            status.failed_retries = [*status.failed_retries, status.job]
        self._delay_s = pause_s
        status.flow_jobs = status.branch_chosen = None
        if module.inputs is not None and self.step_arguments is not None:
            self._timed(module, status, self.step_arguments)
        else:
            self._run(module, status)

    def _failed_for_good(self, module: FlowModule, status: ModuleStatus, result: bytes, *, handled: bool) -> None:
        status.state = State.FAILURE
        self.outputs[module.id] = result
        level = self.level
        if module is level.failure_module:
            self._finish(False, result)
            return
        self.status.handled = handled
        if level.failure_module is None or module.continue_on_error:
            self._return_early(module, result, is_success=False)
        if module.continue_on_error:
            self.status.step += 1
            if level.is_behind_last(self.status.step):
                self._finish(False, result)
            else:
                self.status.handled = False
                self._is_entering = True
        elif level.failure_module is not None and not handled:
            self._handle(module, result)
        else:
            self._finish(False, result)

    def _handle(self, module: FlowModule, result: bytes) -> None:
        """The error handler."""
        failure, status = self.level.failure_module, self.status.failure_module
        assert failure is not None  # noqa: S101 - asked by the caller
        self.status.handled = True
        self.status.step = len(self.level.modules)
        self.status.failed_jobs = []
        self._failed = result
        self._delay_s = 0
        self.step_arguments = None
        status.parent_module = module.id
        self._run(failure, status)

    def _cancel(self, result: bytes) -> None:
        if self._canceled is None:
            self._canceled = result
            self._then = None
            self._end_if_canceled()

    def _end_if_canceled(self) -> None:
        if self._canceled is not None and not self.has_open_jobs:
            current = self._current()
            if current is not None and not current[1].state.is_final:
                current[1].state = State.FAILURE
                current[1].job = current[1].job or NO_JOB
            self._finish(False, self._canceled, is_canceled=True)
