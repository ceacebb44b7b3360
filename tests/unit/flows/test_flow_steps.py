"""What the engine says of single steps: paths, arguments, times and names; and the values of names in expressions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import pytest

from minwebhook.flows.context import context_of
from minwebhook.flows.engine import Engine
from minwebhook.flows.events import (
    ChildEnded,
    Command,
    Evaluate,
    Evaluated,
    Finish,
    Resumed,
    Run,
    Started,
    StartJob,
    WaitForEvents,
)
from minwebhook.flows.level import Level
from minwebhook.flows.parsed import Parsed
from minwebhook.flows.reading import read_value
from tests.flows import IDENTITY, JSON, branchall, branchone, forloop, js, py, static, step, stop, whileloop

_FLOW = UUID(int=999)
_CODE = py("def main(): pass")


def _engine(*modules: JSON, arguments: bytes = b'{"x":1}', **more: Any) -> Engine:
    level = Level.of(read_value({"modules": list(modules), **more}))
    return _engine_of(level, arguments)


def _engine_of(level: Level, arguments: bytes) -> Engine:
    ids = (UUID(int=number) for number in itertools.count(1))
    return Engine(_FLOW, level, level.new_status(), arguments, new_id=lambda: next(ids), random=lambda: 0.5)


def _job(commands: list[Command]) -> StartJob:
    (command,) = commands
    assert isinstance(command, StartJob)
    return command


def _asked(commands: list[Command]) -> Evaluate:
    (command,) = commands
    assert isinstance(command, Evaluate)
    return command


def _ended(engine: Engine, job: StartJob, result: Any = 1, *, ok: bool = True) -> list[Command]:
    return engine.advance(ChildEnded(job.job, ok, orjson.dumps(result)))


# --- jobs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (_CODE, ["a"]),
        ({"type": "flow", "path": "f/x/y"}, ["a"]),
        (forloop([1, 2], step("i", IDENTITY)), ["a/loop-0", "a/loop-1"]),
        (forloop([1, 2], step("i", IDENTITY), parallel=True), ["a/forloop-0", "a/forloop-1"]),
        (forloop([1, 2, 3], step("i", IDENTITY), parallel=True, parallelism=2), [f"a/forloop-{n}" for n in range(3)]),
        (branchall([step("i", IDENTITY)], [step("j", IDENTITY)], parallel=False), ["a/branchall-0", "a/branchall-1"]),
        (branchall([step("i", IDENTITY)], [step("j", IDENTITY)]), ["a/branchall-0", "a/branchall-1"]),
        (branchone(default=[step("i", IDENTITY)]), ["a/branchone-0"]),
    ],
)
def test_the_paths_of_jobs(value: JSON, paths: list[str]) -> None:
    engine = _engine(step("a", value))
    found, commands = [], engine.advance(Started())
    while commands and isinstance(commands[0], StartJob):
        job = commands.pop(0)
        assert isinstance(job, StartJob)
        found.append(job.path)
        commands += _ended(engine, job)
    assert found == paths
    assert [type(command) for command in commands] == [Finish]


def test_a_branch_has_the_number_behind_its_predicate() -> None:
    engine = _engine(step("a", branchone(("x", [step("i", IDENTITY)]), ("y", [step("j", IDENTITY)]), default=[])))
    assert _asked(engine.advance(Started())).expressions == {"predicate": "x"}
    assert _asked(engine.advance(Evaluated({"predicate": False}))).expressions == {"predicate": "y"}
    assert _job(engine.advance(Evaluated({"predicate": True}))).path == "a/branchone-2"


def test_what_iterations_and_branches_are_given() -> None:
    arguments = b'{"x":1,"iter":{"index":8,"value":9}}'
    loop = step("l", forloop(["v"], step("i", IDENTITY)))
    assert orjson.loads(_job(_engine(loop, arguments=arguments).advance(Started())).arguments) == {
        "x": 1,
        "iter": {"index": 0, "value": "v"},
        "iter_parent": {"index": 8, "value": 9},
    }
    again = step("w", whileloop(step("i", IDENTITY)))
    found = orjson.loads(_job(_engine(again).advance(Started())).arguments)
    assert found == {"x": 1, "iter": {"index": 0, "value": 0}}
    branch = step("b", branchone(default=[step("i", IDENTITY)]))
    assert _job(_engine(branch, arguments=arguments).advance(Started())).arguments == arguments


def test_the_arguments_of_scripts_and_flows() -> None:
    inputs = {"s": static("$res:f/a/b"), "n": {"type": "static"}, "j": js("1 + x"), "a": {"type": "ai"}}
    for value in ({**_CODE, "input_transforms": inputs}, {"type": "flow", "path": "f/x/y", "input_transforms": inputs}):
        engine = _engine(step("a", value))
        assert _asked(engine.advance(Started())).expressions == {"j": "1 + x"}
        job = _job(engine.advance(Evaluated({"j": [2]})))
        assert orjson.loads(job.arguments) == {"s": "$res:f/a/b", "n": None, "j": [2]}, "that of an agent is left out"
        assert job.run is (Run.FLOW if value["type"] == "flow" else Run.SCRIPT)
        direct = _job(_engine(step("a", value, pass_flow_input_directly=True)).advance(Started()))
        assert direct.arguments == b'{"x":1}'


def test_a_retry_has_the_same_arguments_and_its_pause() -> None:
    retry = {"constant": {"attempts": 1, "seconds": 3}}
    engine = _engine(step("a", py("def main(x): pass", x="now()"), retry=retry), step("b", _CODE))
    _asked(engine.advance(Started()))
    first = _job(engine.advance(Evaluated({"x": 5})))
    again = _job(_ended(engine, first, {"error": {}}, ok=False))
    assert (first.delay_s, again.delay_s, again.arguments) == (0, 3, b'{"x":5}')
    assert _job(_ended(engine, again)).delay_s == 0


def test_a_sleep_delays_the_next_step_once() -> None:
    engine = _engine(step("a", _CODE, sleep=static(1.5)), step("l", forloop([1, 2], step("i", IDENTITY))))
    first = _job(engine.advance(Started()))
    iteration = _job(_ended(engine, first))
    assert (first.delay_s, iteration.delay_s) == (0, 1.5)
    assert _job(_ended(engine, iteration)).delay_s == 0
    ending = _engine(step("a", _CODE, sleep=static(2)))
    last = _job(_ended(ending, _job(ending.advance(Started()))))
    assert (last.module.id, last.delay_s) == ("a-v", 2), "a sleep of the last step is waited for, too"


@pytest.mark.parametrize("value", [True, "1", None, -1])
def test_what_is_no_number_of_seconds(value: Any) -> None:
    engine = _engine(step("a", _CODE, sleep=static(value)), step("b", _CODE))
    (finish,) = _ended(engine, _job(engine.advance(Started())))
    assert isinstance(finish, Finish) and b"BadSleep" in finish.result
    (finish,) = _engine(step("a", _CODE, timeout=static(value))).advance(Started())
    assert isinstance(finish, Finish) and b"BadTimeout" in finish.result


@pytest.mark.parametrize("value", [True, "1", None, 0])
def test_a_parallel_loop_runs_one_iteration_at_least(value: Any) -> None:
    loop = forloop([1], step("i", IDENTITY), parallel=True, parallelism=static(value))
    (finish,) = _engine(step("a", loop)).advance(Started())
    assert isinstance(finish, Finish) and b"BadParallelism" in finish.result


def test_the_time_of_a_step() -> None:
    assert _job(_engine(step("a", _CODE, timeout=7)).advance(Started())).timeout_s == 7
    engine = _engine(step("a", _CODE, timeout=js("x")))
    assert _asked(engine.advance(Started())).expressions == {"timeout": "x"}
    assert _job(engine.advance(Evaluated({"timeout": 0.5}))).timeout_s == 0.5


def test_a_mock_comes_before_all_else() -> None:
    mock = {"enabled": True, "return_value": {"m": 1}}
    for value in (_CODE, forloop("x", step("i", IDENTITY)), {"type": "flow", "path": "f/x/y"}):
        job = _job(_engine(step("a", value, mock=mock, skip_if={"expr": "true"})).advance(Started()))
        assert (job.run, job.result) == (Run.NOTHING, b'{"m":1}')


def test_an_error_after_all_iterations_fails_the_flow() -> None:
    condition = stop("result.length", message="too many")
    engine = _engine(step("l", forloop([1], step("i", IDENTITY)), stop_after_all_iters_if=condition), step("b", _CODE))
    asked = _asked(_ended(engine, _job(engine.advance(Started()))))
    assert asked.values == {"previous_result": b"[1]", "result": b"[1]"}
    (finish,) = engine.advance(Evaluated({"stop_after_if": True}))
    assert finish == Finish(False, b'{"error":{"name":"EarlyStopError","message":"too many"}}')


def test_branches_together_may_stop_the_flow() -> None:
    engine = _engine(step("b", branchall([step("i", IDENTITY)]), stop_after_if=stop("result[0]")), step("c", _CODE))
    assert _asked(_ended(engine, _job(engine.advance(Started())))).values["result"] == b"[1]"
    assert engine.advance(Evaluated({"stop_after_if": True})) == [Finish(True, b"[1]")]
    assert (engine.status.stopped, engine.status.skipped) == (True, False)


def test_an_error_handler_inside_has_a_name_of_its_own() -> None:
    modules = [step("a", _CODE), step("l", forloop([1], step("b", branchone(default=[step("i", _CODE)]))))]
    outer = Level.of(read_value({"modules": modules, "failure_module": {"value": _CODE}}))
    loop = outer.inner(outer.modules[1], 0, 7)
    branch = loop.inner(loop.modules[0], 0)
    names = [level.new_status().failure_module.id for level in (outer, loop, branch)]
    assert names == ["failure", "failure-1-7", "failure-1-7-0"]


def test_after_the_error_handler_the_flow_is_behind_its_steps() -> None:
    engine = _engine(step("a", _CODE), step("b", _CODE), failure_module={"value": _CODE})
    handler = _job(_ended(engine, _job(engine.advance(Started())), {"error": {}}, ok=False))
    assert (engine.status.step, engine.status.failure_module.parent_module) == (2, "a")
    assert _ended(engine, handler, {"recover": True}) == [Finish(True, b'{"recover":true}')]


# --- approvals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suspend", [{}, {"required_events": 0}])
def test_a_flow_waits_for_nobody_unless_it_says_how_many(suspend: JSON) -> None:
    engine = _engine(step("a", _CODE, suspend=suspend))
    assert _ended(engine, _job(engine.advance(Started()))) == [Finish(True, b"1")]


def test_approvals_of_the_last_step_are_waited_for_too() -> None:
    engine = _engine(step("a", _CODE, suspend={"required_events": 1, "timeout": 5}))
    (wait,) = _ended(engine, _job(engine.advance(Started())))
    assert isinstance(wait, WaitForEvents) and (wait.count, wait.timeout_s, wait.module.id) == (1, 5, "a")
    last = _job(engine.advance(Resumed(1)))
    assert (last.path, last.result) == ("a-v", b"1")


def _waiting_for(groups: Any) -> tuple[Engine, Command]:
    suspend = {"required_events": 1, "user_auth_required": True, "user_groups_required": static(groups)}
    engine = _engine(step("a", _CODE, suspend=suspend), step("b", _CODE))
    (command,) = _ended(engine, _job(engine.advance(Started())))
    return engine, command


@pytest.mark.parametrize(("groups", "known"), [(["g", "h"], ["g", "h"]), ([], []), (None, [])])
def test_groups_that_may_approve(groups: Any, known: list[str]) -> None:
    engine, command = _waiting_for(groups)
    assert isinstance(command, WaitForEvents)
    conditions = engine.status.approval_conditions
    assert conditions is not None and conditions["user_groups_required"] == known


@pytest.mark.parametrize("groups", ["g", {"g": 1}, [1], 0, False, ""])
def test_what_are_no_groups_does_not_let_everybody_approve(groups: Any) -> None:
    _, command = _waiting_for(groups)
    assert isinstance(command, Finish) and not command.is_success
    assert b"module a: user_groups_required must be an array of names of groups" in command.result


def test_groups_that_an_expression_does_not_find_are_no_groups_either() -> None:
    suspend = {"required_events": 1, "user_auth_required": True, "user_groups_required": js("results.a.groups")}
    engine = _engine(step("a", _CODE, suspend=suspend), step("b", _CODE))
    _asked(_ended(engine, _job(engine.advance(Started()))))
    (finish,) = engine.advance(Evaluated({"groups": None}))
    assert isinstance(finish, Finish) and b"BadGroups" in finish.result


# --- names ----------------------------------------------------------------------------------------------------------------


def _names_of_inputs() -> frozenset[str]:
    return _asked(_engine(step("a", py("", x="1"))).advance(Started())).names


def _names_of_iterators() -> frozenset[str]:
    return _asked(_engine(step("a", forloop("x"))).advance(Started())).names


def _names_of_predicates() -> frozenset[str]:
    return _asked(_engine(step("a", branchone(("x", []), default=[]))).advance(Started())).names


def _names_of_skips() -> frozenset[str]:
    return _asked(_engine(step("a", IDENTITY, skip_if={"expr": "x"})).advance(Started())).names


def _names_of_stops() -> frozenset[str]:
    engine = _engine(step("a", _CODE, stop_after_if=stop("x")))
    return _asked(_ended(engine, _job(engine.advance(Started())))).names


def _names_of_retries() -> frozenset[str]:
    retry = {"constant": {"attempts": 1, "seconds": 0}, "retry_if": {"expr": "x"}}
    engine = _engine(step("a", _CODE, retry=retry))
    return _asked(_ended(engine, _job(engine.advance(Started())), {"error": {}}, ok=False)).names


def _names_of_sleeps() -> frozenset[str]:
    engine = _engine(step("a", _CODE, sleep=js("x")), step("b", _CODE))
    return _asked(_ended(engine, _job(engine.advance(Started())))).names


def _names_of_timeouts() -> frozenset[str]:
    return _asked(_engine(step("a", _CODE, timeout=js("x"))).advance(Started())).names


def _names_of_parallelism() -> frozenset[str]:
    loop = forloop([1], step("i", IDENTITY), parallel=True, parallelism=js("x"))
    return _asked(_engine(step("a", loop)).advance(Started())).names


_EVERYWHERE = {"flow_input", "previous_result", "error"}
_APPROVALS = {"resume", "resumes", "approvers"}


@pytest.mark.parametrize(
    ("names", "there", "not_there"),
    [
        (_names_of_inputs, {"flow_env", "results", "params", *_APPROVALS}, {"result", "all_iters"}),
        (_names_of_iterators, {"flow_env", "results", "result", *_APPROVALS}, {"all_iters"}),
        (_names_of_predicates, {"flow_env", "results", "result", *_APPROVALS}, {"all_iters"}),
        (_names_of_skips, {"flow_env", "results", "result", *_APPROVALS}, {"all_iters"}),
        (_names_of_stops, {"results", "result", "all_iters"}, {"flow_env", *_APPROVALS}),
        (_names_of_retries, {"result"}, {"results", *_APPROVALS}),
        (_names_of_sleeps, {"flow_env", "result"}, _APPROVALS),
        (_names_of_timeouts, {"flow_env", "results", "result"}, _APPROVALS),
        (_names_of_parallelism, {"flow_env", "results", "result"}, _APPROVALS),
    ],
)
def test_which_names_are_known_where(names: Any, there: set[str], not_there: set[str]) -> None:
    known = names()
    assert known >= there | _EVERYWHERE
    assert not known & not_there


@dataclass
class _Scope:
    engine: Engine
    outer: _Scope | None = None
    started_at_ms: int = 1_700_000_000_000
    scheduled_for_ms: int = 1_700_000_001_000
    flow_id: UUID = _FLOW


def _context(scope: _Scope, *names: str, **values: bytes) -> dict[str, Any]:
    return context_of(scope, Evaluate({"x": ", ".join(names)}, frozenset(names), values), Parsed())


def test_the_values_of_names() -> None:
    engine = _engine(step("a", _CODE), step("b", _CODE), flow_env={"e": [1]})
    _ended(engine, _job(engine.advance(Started())), {"r": 1})
    scope = _Scope(engine)
    assert _context(scope, "flow_input", "flow_env", "params") == {
        "flow_input": {"x": 1},
        "flow_env": {"e": [1]},
        "params": {},
    }
    assert _context(scope, "WM_SCHEDULED_FOR")["WM_SCHEDULED_FOR"].startswith("2023-11-14T22:13:21")
    assert _context(scope, "resume", "resumes", "approvers") == {"resume": None, "resumes": [], "approvers": []}
    engine.approvals = [({"p": 1}, "ada"), (None, "anonymous")]
    assert _context(scope, "resume", "resumes", "approvers") == {
        "resume": None,
        "resumes": [{"p": 1}, None],
        "approvers": ["ada", "anonymous"],
    }
    assert _context(scope, "previous_result", previous_result=b'{"r":2}') == {"previous_result": {"r": 2}}
    assert _context(scope, "all_iters", all_iters=b"[1]") == {"all_iters": [1]}
    failed = b'{"error":{"name":"E"}}'
    assert _context(scope, "error", previous_result=failed)["error"] == {"name": "E"}


def test_results_are_those_of_the_own_level_and_then_of_those_around_it() -> None:
    outer = _engine(step("a", _CODE), step("b", _CODE), step("l", forloop([1], step("i", _CODE), step("j", _CODE))))
    for result in ("outer a", "outer b"):
        (job,) = outer.open_jobs() or [_job(outer.advance(Started())).job]
        outer.advance(ChildEnded(job, True, orjson.dumps(result)))
    inner = _engine_of(outer.level.inner(outer.level.modules[2], 0, 0), b"{}")
    _ended(inner, _job(inner.advance(Started())), "inner i")
    scope = _Scope(inner, _Scope(outer))
    expression = Evaluate({"x": "[results.a, results.i, results.nobody]"}, frozenset({"results"}))
    assert context_of(scope, expression, Parsed()) == {"results": {"a": "outer a", "i": "inner i"}}


def test_what_the_error_handler_knows_besides() -> None:
    engine = _engine(step("a", _CODE), failure_module={"value": py("", e="error")})
    commands = _ended(engine, _job(engine.advance(Started())), {"error": {"name": "E"}}, ok=False)
    assert _asked(commands).values["previous_result"] == b'{"error":{"name":"E","step_id":"a"}}'
    context = _context(_Scope(engine), "error")
    assert context["flow_job_id"] == str(_FLOW)
    assert context["started_at"].startswith("2023-11-14T22:13:20")
