"""The engine against a naive interpreter of the same definitions, which recurses where the engine waits for events.

Steps are made up: a step's *kind* of result is written in its content. Whatever the order in which parallel jobs end, both
must give the same result and the same success, and run the same steps in an order that fits.
"""

from __future__ import annotations

import itertools
import random as randoms
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minwebhook.flows.engine import Engine
from minwebhook.flows.events import (
    Canceled,
    ChildEnded,
    Command,
    Disapproved,
    Evaluate,
    Evaluated,
    Event,
    Finish,
    Resumed,
    Run,
    Started,
    StartJob,
    TimedOut,
    WaitForEvents,
)
from minwebhook.flows.level import Level, restarted
from minwebhook.flows.model import FlowModule, FlowStep, FlowValue, ForloopFlow, RawScript, ScriptStep, Static, Suspend
from minwebhook.flows.reading import read_value
from minwebhook.flows.status import FlowStatus, State
from minwebhook.jobs.flow_step import Iteration
from minwebhook.jobs.model import RestartPoint
from tests.flows import IDENTITY, JSON, branchall, branchone, forloop, js, static, step, stop, whileloop

# --- what steps and expressions mean here ------------------------------------------------------------------------------
#
# A script's content is "ok" (its result is its id), "fail" (it fails), "count" (how often it was run, over all), "flaky" (it
# fails when run for an odd time) or "iter" (the index of the iteration around it). A deployed script does what the last part
# of its path says, or what its hash does; deployed flows come with the definition. Expressions are Python over ``previous``,
# ``result`` and ``resumes``. What becomes of a wait for approvals is its timeout: :data:`_FATES`.

_CONTENTS = ("ok", "count", "iter", "fail", "flaky")
_DEPLOYED = dict(enumerate(_CONTENTS, start=1))


#: By the seconds of its timeout: everybody agrees, somebody refuses, nobody says enough, the flow is cancelled.
_AGREED, _REFUSED, _IGNORED, _CANCELED = range(1, 5)
_FATES = {
    _REFUSED: {"error": {"name": "SuspendedDisapproved", "message": "Disapproved by ruben"}},
    _IGNORED: {"error": {"name": "SuspendedTimedOut", "message": "Timed out waiting to be resumed"}},
}
_CANCELED_RESULT = {"error": {"name": "Canceled", "message": "enough"}}


class FlowCanceled(Exception):
    """The whole flow ends."""


def said(suspend: Suspend) -> list[Resumed | Disapproved]:
    """What comes for a wait; some of it twice, which counts once."""
    enough = suspend.required_events if suspend.timeout_s == _AGREED else suspend.required_events - 1
    messages: list[Resumed | Disapproved] = []
    for number in range(enough):
        messages += [Resumed(number, number, "ada")] * (1 if number == enough - 1 else 2)
    return [*messages, Disapproved(99, None, "ruben")] if suspend.timeout_s == _REFUSED else messages


@dataclass
class World:
    """What is deployed, and what steps have done."""

    flows: dict[str, FlowValue] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def run(self, module: FlowModule, arguments: JSON) -> tuple[bool, Any]:
        """Success and result of a script."""
        value = module.value
        assert isinstance(value, RawScript | ScriptStep)
        if isinstance(value, RawScript):
            content = value.content
        else:
            content = _DEPLOYED[value.hash] if value.hash is not None else value.path.rpartition("/")[2]
        id = module.id.partition("-")[0]  # the error handler has another name in each level
        self.ran.append(id)
        number = self.counts[id] = self.counts.get(id, 0) + 1
        if content == "fail" or (content == "flaky" and number % 2):
            error = {"name": "E", "message": id}
            # Which step failed is said by the engine, unless the script says so.
            return False, {"error": error if isinstance(value, ScriptStep) else {**error, "step_id": id}}
        if content == "count":
            return True, number
        if content == "iter":
            return True, arguments.get("iter", {}).get("index", -1)
        return True, id


def evaluate(expr: str, names: JSON) -> Any:
    """An expression of these tests."""
    return eval(expr, {"__builtins__": {"isinstance": isinstance, "int": int, "len": len, "list": list}}, names)  # noqa: S307


# --- the naive interpreter -----------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """How a level ended."""

    ok: bool
    result: Any
    stopped: bool = False
    handled: bool = False


class Naive:
    """Runs a definition by recursion."""

    def __init__(self, flow: FlowValue, world: World) -> None:
        self._flow = flow
        self._world = world
        self._resumes: list[Any] = []

    def run(self, arguments: JSON) -> Ended:
        """All of it."""
        if self._flow.skip_expr is not None and evaluate(self._flow.skip_expr, {}):
            return Ended(True, "stopped early")
        return self.level(self._flow.modules, arguments)

    def level(self, modules: tuple[FlowModule, ...], arguments: JSON) -> Ended:
        """One list of modules."""
        previous: Any = arguments
        before: FlowModule | None = None  # the last one, if it succeeded and was not skipped
        for number, module in enumerate(modules):
            is_last = number == len(modules) - 1
            is_mocked = module.mock is not None and module.mock.enabled
            self._resumes, refused = self._wait(before)
            before = None
            if refused is not None:
                return refused
            if module.mock is not None and is_mocked:
                ended = Ended(True, module.mock.return_value)
            elif module.skip_if is not None and evaluate(module.skip_if, self._names(previous)):
                continue
            else:
                ended = self._tries(module, arguments, previous)
            if not ended.ok:
                if module.continue_on_error:
                    if is_last:
                        return Ended(False, ended.result, handled=ended.handled)
                    previous = ended.result
                    continue
                return self._failed(ended, arguments)
            previous, before = ended.result, module
            if ended.stopped and module.children and not module.is_loop:
                return Ended(True, previous, stopped=True)
            condition = module.stop_after_all_iters_if if module.is_loop else module.stop_after_if
            if is_mocked and module.is_loop:  # there are no iterations that it could come after
                condition = None
            if condition is not None and evaluate(condition.expr, {"previous": previous, "result": previous}):
                if condition.error_message is None:
                    return Ended(True, previous, stopped=True)
                text = condition.error_message or f"stop after if: {condition.expr}"
                return Ended(
                    condition.skip_if_stopped, {"error": {"name": "EarlyStopError", "message": text}}, stopped=True
                )
        _, refused = self._wait(before)
        return refused or Ended(True, previous)

    def _wait(self, before: FlowModule | None) -> tuple[list[Any], Ended | None]:
        """For approvals after a step: their payloads, and how the level ends if it does not go on."""
        suspend = before.suspend if before is not None else None
        if suspend is None or not suspend.required_events:
            return [], None
        if suspend.timeout_s == _CANCELED:
            raise FlowCanceled
        payloads = [each.payload for each in dict.fromkeys(said(suspend)) if isinstance(each, Resumed)]
        if suspend.timeout_s == _AGREED:
            return payloads, None
        error = _FATES[int(suspend.timeout_s)]
        if suspend.continue_on_disapprove_timeout:
            return [*payloads, error], None
        return [], Ended(False, error)

    def _names(self, previous: Any) -> JSON:
        return {"previous": previous, "resumes": self._resumes}

    def _failed(self, ended: Ended, arguments: JSON) -> Ended:
        handler = self._flow.failure_module
        if handler is None or ended.handled:
            return Ended(False, ended.result, handled=ended.handled)
        last = self._tries(handler, arguments, ended.result)
        recovered = last.ok and isinstance(last.result, dict) and last.result.get("recover") is True
        return Ended(recovered, last.result, handled=True)

    def _tries(self, module: FlowModule, arguments: JSON, previous: Any) -> Ended:
        attempts = 1 + (module.retry.constant_attempts if module.retry is not None else 0)
        retry_if = module.retry.retry_if if module.retry is not None else None
        for _ in range(attempts):
            ended = self._once(module, arguments, previous)
            if ended.ok or (retry_if is not None and not evaluate(retry_if, {"previous": ended.result})):
                break
        return ended

    def _once(self, module: FlowModule, arguments: JSON, previous: Any) -> Ended:
        kind = type(module.value).__name__
        if kind == "RawScript":
            return Ended(*self._world.run(module, arguments))
        if kind == "ScriptStep":
            ok, result = self._world.run(module, arguments)
            return Ended(True, result) if ok else Ended(False, {"error": {**result["error"], "step_id": module.id}})
        if isinstance(module.value, FlowStep):
            given = arguments if module.pass_flow_input_directly else _arguments_of(module.value, arguments, previous)
            ended = Naive(self._world.flows[module.value.path], self._world).run(given)
            return Ended(ended.ok, ended.result)  # what stops or handles there is no business of this one
        if kind == "Identity":
            return Ended(True, previous)
        if kind == "BranchOne":
            return self._branchone(module, arguments, previous)
        if kind == "BranchAll":
            return self._branchall(module, arguments)
        return self._loop(module, arguments)

    def _branchone(self, module: FlowModule, arguments: JSON, previous: Any) -> Ended:
        value: Any = module.value
        for branch in value.branches:
            if evaluate(branch.expr, self._names(previous)):
                chosen = branch.modules
                break
        else:
            chosen = value.default
        return self.level(chosen, arguments) if chosen else Ended(True, previous)

    def _branchall(self, module: FlowModule, arguments: JSON) -> Ended:
        value: Any = module.value
        results = []
        is_failed = is_handled = False
        for branch in value.branches:
            ended = self.level(branch.modules, arguments)
            results.append(ended.result)
            is_failed |= not ended.ok and not branch.skip_failure
            is_handled |= not ended.ok and ended.handled
            if not value.parallel:
                if is_failed:
                    return Ended(False, results, handled=ended.handled)
                if ended.ok and ended.stopped:
                    return Ended(True, results, stopped=True)
        return Ended(not is_failed, results, handled=is_failed and is_handled and value.parallel)

    def _loop(self, module: FlowModule, arguments: JSON) -> Ended:
        value: Any = module.value
        is_for = isinstance(module.value, ForloopFlow)
        items: Any = value.iterator.value if is_for else itertools.count()
        is_parallel = is_for and value.parallel
        results = []
        is_failed = is_handled = False
        for index, item in enumerate(items):
            outer = {f"{name}_parent" if name.startswith("iter") else name: each for name, each in arguments.items()}
            ended = self.level(value.modules, {**outer, "iter": {"index": index, "value": item}})
            results.append(ended.result)
            is_failed |= not ended.ok and not value.skip_failures
            if is_parallel:
                is_handled |= not ended.ok and ended.handled
                continue
            if is_failed:
                shown = results if is_for else ended.result
                return Ended(False, shown, handled=ended.handled)
            if ended.ok and ended.stopped:
                break
            condition = module.stop_after_if
            if condition is not None and evaluate(condition.expr, {"previous": ended.result, "result": ended.result}):
                break
        return Ended(not is_failed, results, handled=is_failed and is_handled)


def _arguments_of(value: FlowStep, arguments: JSON, previous: Any) -> JSON:
    names = {"flow_input": arguments, "previous": previous}
    return {
        name: each.value if isinstance(each, Static) else evaluate(getattr(each, "expr", ""), names)
        for name, each in value.input_transforms.items()
    }


# --- a driver for the engine ---------------------------------------------------------------------------------------------


class Driver:
    """Runs an engine in memory: jobs end in a random order, and now and then, or each time, all is forgotten but the status."""

    def __init__(self, flow: FlowValue, arguments: JSON, world: World, seed: int) -> None:
        self._world = world
        self._random = randoms.Random(seed)
        self._ids = (UUID(int=number) for number in itertools.count(1))
        self._levels: dict[UUID, Engine] = {}
        self._parents: dict[UUID, UUID] = {}
        #: Jobs that have not ended, in the order in which they were started.
        self._jobs: dict[UUID, tuple[UUID, StartJob]] = {}
        #: Results of jobs that have ended, as rows would have them, and what is stored of iterations beside the status.
        self._rows: dict[UUID, bytes] = {}
        self._iterations: dict[UUID, dict[str, dict[int, Iteration]]] = {}
        #: What is still to be said to levels that wait, and what has been said.
        self._unsaid: dict[UUID, list[Event]] = {}
        self._said: dict[UUID, list[Event]] = {}
        self._finished: dict[UUID, Finish] = {}
        self.root = next(self._ids)
        self._restart_odds = self._random.choice((0.1, 1.0))
        self._open(self.root, Level.of(flow, is_deployed=self._random.random() < 0.5), orjson.dumps(arguments))

    def _open(self, id: UUID, level: Level, arguments: bytes) -> None:
        engine = Engine(
            id, level, level.new_status(), arguments, new_id=lambda: next(self._ids), random=self._random.random
        )
        self._levels[id] = engine
        self._tell(id, Started())

    def _tell(self, id: UUID, event: Event) -> None:
        waiting = [event]
        while waiting:
            engine = self._levels[id]
            for command in engine.advance(waiting.pop(0)):
                if isinstance(command, Evaluate):
                    waiting.append(self._evaluated(id, command))
                else:
                    self._do(id, command)
        stored = self._iterations.setdefault(id, {})
        for module, iteration in self._levels[id].take_changed():
            stored.setdefault(module, {})[iteration[0]] = iteration

    def _evaluated(self, id: UUID, command: Evaluate) -> Evaluated:
        names = {name: orjson.loads(value) for name, value in command.values.items()}
        names["previous"] = names.get("previous_result")
        names["resumes"] = [payload for payload, _ in self._levels[id].approvals]
        names.setdefault("flow_input", orjson.loads(self._levels[id].arguments))
        found = {key: evaluate(expr, names) for key, expr in command.expressions.items()}
        return Evaluated({key: bool(value) for key, value in found.items()} if command.is_predicate else found)

    def _do(self, id: UUID, command: Command) -> None:
        if isinstance(command, StartJob):
            self._jobs[command.job] = (id, command)
        elif isinstance(command, Finish):
            self._finished[id] = command
            self._rows[id] = command.result
        else:
            assert isinstance(command, WaitForEvents)
            suspend = command.module.suspend
            assert suspend is not None
            self._said[id], self._unsaid[id] = [], [*said(suspend)]
            if suspend.timeout_s == _IGNORED:
                self._unsaid[id].append(TimedOut())
            elif suspend.timeout_s == _CANCELED:
                self._unsaid[id].append(Canceled(orjson.dumps(_CANCELED_RESULT)))

    def run(self) -> Finish:
        """Until the flow has ended."""
        while self.root not in self._finished:
            ready = [job for job in self._jobs if job not in self._levels or job in self._finished]
            job = self._random.choice([*ready, *(id for id, unsaid in self._unsaid.items() if unsaid)])
            if self._unsaid.get(job):
                event = self._unsaid[job].pop(0)
                if isinstance(event, Canceled):
                    return self._cancel(event)
                self._said[job].append(event)
                self._tell(job, event)
            else:
                owner, command = self._jobs[job]
                self._step(job, owner, command)
            if self._random.random() < self._restart_odds:
                self._restart()
        return self._finished[self.root]

    def _cancel(self, event: Canceled) -> Finish:
        """All of it: levels are told, jobs that run nothing but a script end, as the table does it."""
        for id in [id for id in self._levels if id not in self._finished]:
            self._tell(id, event)
        while self.root not in self._finished:
            ready = [job for job in self._jobs if job not in self._levels or job in self._finished]
            job = self._random.choice(ready)
            owner, _ = self._jobs.pop(job)
            self._tell(owner, ChildEnded(job, False, self._rows.setdefault(job, event.result)))
        return self._finished[self.root]

    def _step(self, job: UUID, owner: UUID, command: StartJob) -> None:
        if command.run is Run.LEVEL and job not in self._levels:
            level = self._levels[owner].level.inner(command.module, command.inner, command.index)
            self._open(job, level, command.arguments)
            return
        if command.run is Run.FLOW and job not in self._levels:
            assert isinstance(command.module.value, FlowStep)
            flow = self._world.flows[command.module.value.path]
            self._open(job, Level.of(flow, is_deployed=True), command.arguments)
            return
        del self._jobs[job]
        if command.run in (Run.LEVEL, Run.FLOW):
            finish, status = self._finished[job], self._levels.pop(job).status
            ended = ChildEnded(
                job, finish.is_success, finish.result,
                stopped=status.stopped, skipped=status.skipped, handled=status.handled,
            )  # fmt: skip
        elif command.run is Run.NOTHING:
            ended = ChildEnded(job, command.is_success, command.result)
        else:
            ok, result = self._world.run(command.module, orjson.loads(command.arguments).get("seen", {}))
            ended = ChildEnded(job, ok, orjson.dumps(result))
        self._rows[job] = ended.result
        self._tell(owner, ended)

    def _restart(self) -> None:
        """Every engine is made anew from its stored status."""
        for id, engine in list(self._levels.items()):
            if id in self._finished:
                continue
            stored = {module: rows.values() for module, rows in self._iterations[id].items()}
            status = FlowStatus.parse(engine.status.to_json(beside=True), stored)
            assert status.to_json() == engine.status.to_json()
            again = Engine(
                id, engine.level, status, engine.arguments, new_id=lambda: next(self._ids), random=self._random.random
            )
            open_jobs = engine.open_jobs()
            arguments = self._jobs[open_jobs[0]][1].arguments if len(open_jobs) == 1 else None
            again.restore({job: self._rows[job] for job in again.ended_jobs()}, list(engine.items), arguments)
            assert again.open_jobs() == open_jobs
            assert again.outputs == engine.outputs
            self._levels[id] = again
            if again.waited_for is not None:
                again.hear_again([each for each in self._said[id] if isinstance(each, Resumed | Disapproved)])
            waits = [isinstance(command, WaitForEvents) for command in again.resume()]
            assert waits == ([True] if again.suspended is not None else [])
            for event in self._said[id] if waits else ():
                assert again.advance(event) == []
            assert again.approvals == engine.approvals


# --- definitions -----------------------------------------------------------------------------------------------------------


def _script(content: str) -> JSON:
    seen = {"seen": js("flow_input")} if content == "iter" else {}
    return {"type": "rawscript", "language": "bash", "content": content, "input_transforms": seen}


_CONDITIONS = st.sampled_from(["True", "False", "isinstance(previous, int)", "isinstance(previous, list)"])
_PREDICATES = _CONDITIONS | st.sampled_from(["len(resumes) == 1", "resumes"])
_LEAVES = st.sampled_from(["ok", "ok", "count", "iter", "fail", "flaky"]).map(_script) | st.just(IDENTITY)
#: Deployed flows: the steps of the outermost run both, those of the first the second.
_PATHS = ("f/flows/outer", "f/flows/inner")


@st.composite
def _deployed_scripts(draw: st.DrawFn) -> JSON:
    number = draw(st.sampled_from(sorted(_DEPLOYED)))
    inputs = _script(_DEPLOYED[number])["input_transforms"]
    if draw(st.booleans()):
        return {"type": "script", "path": f"f/scripts/{_DEPLOYED[number]}", "input_transforms": inputs}
    # The hash counts, whatever the path.
    path = f"f/{_DEPLOYED[number]}/other"
    return {"type": "script", "path": path, "hash": f"{number:016x}", "input_transforms": inputs}


@st.composite
def _deployed_flows(draw: st.DrawFn, paths: tuple[str, ...]) -> JSON:
    value = {"type": "flow", "path": draw(st.sampled_from(paths))}
    match draw(st.integers(0, 2)):
        case 0:
            return {**value, "pass_flow_input_directly": True}
        case 1:
            return {**value, "input_transforms": {"x": static(2), "y": js("previous")}}
        case _:
            return {**value, "input_transforms": {"iter": static({"index": 5}), "all": js("flow_input")}}


@st.composite
def _modules(draw: st.DrawFn, depth: int = 2, paths: tuple[str, ...] = _PATHS) -> list[JSON]:
    return [draw(_module(depth, paths)) for _ in range(draw(st.integers(0, 3 if depth == 2 else 2)))]


@st.composite
def _module(draw: st.DrawFn, depth: int, paths: tuple[str, ...]) -> JSON:
    kinds = ["leaf", "leaf", "leaf", "script"] + (["flow"] if paths else [])
    kinds += ["for", "while", "one", "all"] if depth else []
    kind = draw(st.sampled_from(kinds))
    more: JSON = {}
    inner = _modules(depth - 1, paths)
    if kind == "leaf":
        value = draw(_LEAVES)
    elif kind == "script":
        value = draw(_deployed_scripts())
    elif kind == "flow":
        value = draw(_deployed_flows(paths))
    elif kind == "for":
        value = forloop(
            draw(st.lists(st.integers(0, 9), max_size=2)), *draw(inner),
            parallel=draw(st.booleans()), skip_failures=draw(st.booleans()),
        )  # fmt: skip
        if value["parallel"] and draw(st.booleans()):
            value["parallelism"] = draw(st.integers(1, 3))
    elif kind == "while":
        value = whileloop(*draw(inner), step("last", _script("iter")), skip_failures=draw(st.booleans()))
        more["stop_after_if"] = stop("not isinstance(result, int) or result >= 2")
    elif kind == "one":
        value = branchone((draw(_PREDICATES), draw(inner)), (draw(_PREDICATES), draw(inner)), default=draw(inner))
    else:
        branches = [draw(inner) for _ in range(draw(st.integers(0, 2)))]
        value = branchall(*branches, parallel=draw(st.booleans()), skip_failure=draw(st.booleans()))
    extras = st.sampled_from(["stop", "all", "skip", "mock", "retry", "continue", "suspend"])
    for extra in draw(st.lists(extras, max_size=2, unique=True)):
        if extra == "stop" and kind not in ("for", "while"):
            more["stop_after_if"] = _draw_stop(draw)
        elif extra == "all" and kind == "for":
            more["stop_after_all_iters_if"] = _draw_stop(draw)
        elif extra == "skip":
            more["skip_if"] = {"expr": draw(_PREDICATES)}
        elif extra == "suspend":
            more["suspend"] = {
                "required_events": draw(st.integers(0, 2)),
                "timeout": draw(st.sampled_from([_AGREED, _AGREED, _AGREED, _REFUSED, _IGNORED, _CANCELED])),
                "continue_on_disapprove_timeout": draw(st.booleans()),
            }
        elif extra == "mock":
            more["mock"] = {"enabled": draw(st.booleans()), "return_value": 7}
        elif extra == "retry":
            more["retry"] = _draw_retry(draw)
        elif extra == "continue":
            more["continue_on_error"] = True
    return {"value": value, **more}


def _draw_retry(draw: st.DrawFn) -> JSON:
    retry: JSON = {"constant": {"attempts": draw(st.integers(1, 2)), "seconds": 0}}
    if draw(st.booleans()):
        retry["retry_if"] = {"expr": draw(_CONDITIONS)}
    return retry


def _draw_stop(draw: st.DrawFn) -> JSON:
    message = draw(st.sampled_from([None, "", "enough"]))
    return stop(draw(_CONDITIONS), skip=draw(st.booleans()), message=message)


@st.composite
def _value(draw: st.DrawFn, depth: int, paths: tuple[str, ...]) -> JSON:
    flow: JSON = {"modules": draw(_modules(depth, paths))}
    if draw(st.booleans()):
        leaves = st.sampled_from(["ok", "fail", "flaky"]).map(_script)
        flow["failure_module"] = {"value": draw(leaves | _deployed_flows(paths) if paths else leaves)}
        if draw(st.booleans()):
            flow["failure_module"]["retry"] = _draw_retry(draw)
    if paths != _PATHS and draw(st.integers(0, 4)) == 0:
        flow["skip_expr"] = draw(st.sampled_from(["True", "False"]))
    return flow


@st.composite
def _flows(draw: st.DrawFn) -> JSON:
    """A flow, and by their paths those that it runs (``deployed``)."""
    flow: JSON = draw(_value(2, _PATHS))
    deployed: JSON = {}
    for number, path in enumerate(_PATHS, start=1):
        if path in f"{flow} {deployed}":
            deployed[path] = draw(_value(1, _PATHS[number:]))
    numbers = itertools.count()

    def name(modules: list[JSON]) -> None:
        for module in modules:
            module["id"] = f"m{next(numbers)}"
            value = module["value"]
            for branch in value.get("branches", ()):
                name(branch["modules"])
            name(value.get("default", []))
            name(value.get("modules", []))

    for value in (flow, *deployed.values()):
        name(value["modules"])
    return {**flow, "deployed": deployed}


def _failing_while(id: str, *modules: JSON) -> JSON:
    """A loop whose first iteration fails, and that is gone on from."""
    last = step(f"{id}-last", _script("iter"))
    return step(id, whileloop(*modules, last), stop_after_if=stop("result >= 2"), continue_on_error=True)


_FAIL, _OK = step("fail", _script("fail")), step("ok", _script("ok"))


@settings(max_examples=150, deadline=None)
# The error of a while loop is what is passed on, after a restart too.
@example({"modules": [_failing_while("a", _FAIL), step("b", IDENTITY)]}, 0)
@example(
    {"modules": [step("o", whileloop(_failing_while("a", _FAIL), step("b", IDENTITY)), stop_after_if=stop("True"))]}, 1
)
# An error that was handled inside is not handled again.
@example(
    {
        "modules": [step("o", forloop([1], step("i", forloop([1], _FAIL), continue_on_error=True)))],
        "failure_module": {"value": _script("ok")},
    },
    0,
)
# A step that is skipped stops nothing, after a restart either.
@example(
    {
        "modules": [
            step("a", IDENTITY),
            step("b", IDENTITY, skip_if={"expr": "True"}, stop_after_if=stop("True", message="no")),
        ]
    },
    0,
)
# That of a flow which a step runs is.
@example(
    {
        "modules": [step("f", {"type": "flow", "path": "f/flows/outer"})],
        "failure_module": {"value": _script("ok")},
        "deployed": {"f/flows/outer": {"modules": [_FAIL], "failure_module": {"value": _script("fail")}}},
    },
    0,
)
# A loop in whose place a mock stands has no iterations, and nothing comes after them.
@example(
    {
        "modules": [
            step(
                "l",
                forloop([], step("i", IDENTITY)),
                mock={"enabled": True, "return_value": 7},
                stop_after_all_iters_if=stop("True"),
            ),
            step("b", _script("ok")),
        ]
    },
    0,
)
@given(_flows(), st.integers(0, 2**32))
def test_the_engine_does_what_a_naive_interpreter_does(definition: JSON, seed: int) -> None:
    flow = read_value(definition)
    is_ordered = "parallel': True" not in str(definition)
    arguments = {"x": 1}
    deployed = {path: read_value(value) for path, value in definition.get("deployed", {}).items()}
    naive, real = World(deployed), World(deployed)
    try:
        expected = Naive(flow, naive).run(arguments)
    except FlowCanceled:
        expected = Ended(False, _CANCELED_RESULT)
    driver = Driver(flow, arguments, real, seed)
    finish = driver.run()
    if not is_ordered and any(word in str(definition) for word in ("count", "flaky")):
        return  # which of the jobs beside each other is the first is nobody's promise
    assert (finish.is_success, orjson.loads(finish.result)) == (expected.ok, expected.result)
    assert finish.is_canceled == (expected.result == _CANCELED_RESULT)
    if finish.is_canceled and not is_ordered:
        return  # nor how far the others are
    assert sorted(real.ran) == sorted(naive.ran)
    if is_ordered:
        assert real.ran == naive.ran


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_a_restart_at_an_iteration_gives_what_a_whole_run_gives(items: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(items)))
    level = Level.of(read_value({"modules": [step("l", forloop(items, step("i", _script("iter"))))]}))
    jobs = [UUID(int=100 + number) for number in range(len(items))]
    before = level.new_status()
    before.step, module = 0, before.modules[0]
    module.state, module.flow_jobs, module.flow_jobs_success = State.FAILURE, jobs, [True] * len(jobs)
    module.started_at_ms, module.durations_ms = [1] * len(jobs), [1] * len(jobs)
    status = restarted(level, before, RestartPoint(UUID(int=9), "l", kept))
    ids = (UUID(int=number) for number in itertools.count(1000))
    engine = Engine(UUID(int=1), level, status, b"{}", new_id=lambda: next(ids), random=lambda: 0.5)
    engine.restore({job: b"%d" % number for number, job in enumerate(jobs)}, [], None)
    ran = []
    commands = engine.advance(Started())
    while isinstance(commands[0], StartJob):
        index = commands[0].index
        assert index is not None
        ran.append(index)
        commands = engine.advance(ChildEnded(commands[0].job, True, b"%d" % index))
    (finish,) = commands
    assert isinstance(finish, Finish)
    if kept and kept >= len(items):
        assert b"BadRestart" in finish.result
    else:
        assert (ran, orjson.loads(finish.result)) == (list(range(kept, len(items))), list(range(len(items))))


# --- what the naive one does not do ----------------------------------------------------------------------------------------


def _engine(*modules: JSON, **more: Any) -> Engine:
    level = Level.of(read_value({"modules": list(modules), **more}))
    ids = (UUID(int=number) for number in itertools.count(1))
    return Engine(UUID(int=999), level, level.new_status(), b'{"x":1}', new_id=lambda: next(ids), random=lambda: 0.5)


def _ended(engine: Engine, command: Command, result: bytes = b"1") -> list[Command]:
    assert isinstance(command, StartJob)
    return engine.advance(ChildEnded(command.job, True, result))


def _suspended(**members: Any) -> Engine:
    engine = _engine(step("a", _script("ok"), suspend={"required_events": 2, **members}), step("b", _script("ok")))
    (job,) = engine.advance(Started())
    (wait,) = _ended(engine, job)
    assert isinstance(wait, WaitForEvents)
    assert (wait.count, wait.timeout_s) == (2, 1800)
    assert engine.status.modules[1].state is State.SUSPENDED
    return engine


def test_two_approvals_go_on_and_the_same_one_twice_does_not() -> None:
    engine = _suspended()
    assert engine.advance(Resumed(1, {"a": 1}, "ada")) == []
    assert engine.advance(Resumed(1, {"a": 1}, "ada")) == []
    (job,) = engine.advance(Resumed(2, None, None))
    assert isinstance(job, StartJob)
    assert engine.approvals == [({"a": 1}, "ada"), (None, "anonymous")]
    assert engine.status.modules[0].approvers == [(1, "ada"), (2, "anonymous")]
    assert engine.advance(Resumed(3)) == []


def test_a_refusal_and_a_timeout_end_the_flow() -> None:
    (finish,) = _suspended().advance(Disapproved(1, None, "ruben"))
    assert finish == Finish(False, b'{"error":{"name":"SuspendedDisapproved","message":"Disapproved by ruben"}}')
    (finish,) = _suspended().advance(TimedOut())
    assert isinstance(finish, Finish)
    assert b"Timed out waiting to be resumed" in finish.result


def test_a_refusal_may_be_gone_on_from() -> None:
    engine = _suspended(continue_on_disapprove_timeout=True)
    (job,) = engine.advance(Disapproved(1, None, None))
    assert isinstance(job, StartJob)
    assert engine.approvals[0][0]["error"]["message"] == "Disapproved by unknown"


def test_a_restart_asks_for_the_messages_again() -> None:
    engine = _suspended()
    engine.advance(Resumed(1, {"a": 1}, "ada"))
    status = FlowStatus.parse(engine.status.to_json())
    again = Engine(engine.id, engine.level, status, b"{}", new_id=lambda: UUID(int=77), random=lambda: 0.5)
    again.restore({}, [], None)
    (wait,) = again.resume()
    assert isinstance(wait, WaitForEvents)
    assert wait.count == 2
    assert again.advance(Resumed(1, {"a": 1}, "ada")) == []
    (job,) = again.advance(Resumed(2))
    assert isinstance(job, StartJob)
    assert again.status.modules[0].approvers == [(1, "ada"), (2, "anonymous")]


def test_a_failed_flow_step_passes_on_the_same_error_after_a_restart() -> None:
    inner = step("a", {"type": "flow", "path": "f/x/y", "input_transforms": {}}, continue_on_error=True)
    engine = _engine(inner, step("b", _script("ok")))
    (job,) = engine.advance(Started())
    assert isinstance(job, StartJob)
    error = b'{"error":{"name":"EarlyStopError","message":"enough"}}'
    engine.advance(ChildEnded(job.job, False, error))
    status = FlowStatus.parse(engine.status.to_json())
    again = Engine(engine.id, engine.level, status, b"{}", new_id=lambda: UUID(int=77), random=lambda: 0.5)
    again.restore({job.job: error}, [], None)
    assert again.outputs == engine.outputs == {"a": error}


def test_events_about_what_is_over_change_nothing() -> None:
    engine = _engine(step("a", _script("ok")))
    (job,) = engine.advance(Started())
    assert engine.advance(TimedOut()) == []
    assert engine.advance(Evaluated({})) == []
    assert engine.advance(Resumed(1)) == []
    assert engine.advance(ChildEnded(UUID(int=12345), True, b"1")) == []
    (finish,) = _ended(engine, job)
    assert finish == Finish(True, b"1")
    assert _ended(engine, job) == []


def _loop_of(count: int, *, max_result_bytes: int, **members: Any) -> tuple[Engine, list[Command]]:
    level = Level.of(read_value({"modules": [step("l", forloop([0] * count, step("i", IDENTITY), **members))]}))
    ids = (UUID(int=number) for number in itertools.count(1))
    engine = Engine(
        UUID(int=999), level, level.new_status(), b"{}",
        new_id=lambda: next(ids), random=lambda: 0.5, max_result_bytes=max_result_bytes,
    )  # fmt: skip
    return engine, engine.advance(Started())


@pytest.mark.parametrize("parallel", [False, True])
def test_the_results_of_a_loop_are_no_larger_together_than_one(parallel: bool) -> None:
    members = {"parallel": parallel, "parallelism": 2} if parallel else {"skip_failures": True}
    engine, commands = _loop_of(9, max_result_bytes=20, **members)
    ended = 0
    while not isinstance(commands[0], Finish):
        commands = [*commands[1:], *_ended(engine, commands[0], b'"123456"')]
        ended += 1
    assert ended == (4 if parallel else 3)  # the one beside it is waited for, no other begins
    assert not commands[0].is_success
    error = orjson.loads(commands[0].result)["error"]
    assert "larger than 20 bytes (max_result_bytes)" in error["message"]
    assert error["step_id"] == "l"
    assert engine.results == {}


def test_results_that_are_too_large_together_stay_so_after_a_restart() -> None:
    engine, commands = _loop_of(3, max_result_bytes=20, parallel=True)
    for command in commands[:2]:
        assert _ended(engine, command, b'"1234567890"') == []
    rows = {"l": [row for _, row in engine.take_changed()]}
    status = FlowStatus.parse(engine.status.to_json(beside=True), rows)
    again = Engine(
        engine.id, engine.level, status, b"{}", new_id=lambda: UUID(int=77), random=lambda: 0.5, max_result_bytes=20
    )
    assert again.ended_jobs() == []
    again.restore({}, engine.items, None)
    assert _ended(again, commands[2]) == _ended(engine, commands[2])
    assert again.outputs == engine.outputs


def test_what_is_to_be_stored_of_iterations_is_said_once() -> None:
    engine, commands = _loop_of(3, max_result_bytes=100)
    assert [(module, place) for module, (place, *_) in engine.take_changed()] == [("l", 0)]
    assert not engine.take_changed()
    _ended(engine, commands[0])
    assert [(module, place, ok) for module, (place, _, ok, *_) in engine.take_changed()] == [
        ("l", 0, True),
        ("l", 1, None),
    ]
    engine.keep()
    assert len(engine.take_changed()) == 2
    engine.keep({"l"})
    assert not engine.take_changed()
