"""OpenFlow documents: what is read, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from minwebhook.errors import BadRequest
from minwebhook.flows.model import (
    Ai,
    Branch,
    BranchAll,
    BranchOne,
    FlowStep,
    ForloopFlow,
    Identity,
    InputTransform,
    Javascript,
    RawScript,
    Retry,
    ScriptStep,
    Static,
    StopAfterIf,
    Suspend,
    WhileloopFlow,
)
from minwebhook.flows.reading import MAX_DEPTH, read_value
from minwebhook.jobs.model import Concurrency
from minwebhook.scripts.model import Language

_CODE: dict[str, Any] = {"type": "rawscript", "content": "def main(): return 1", "language": "python3"}


def _module(id: str = "a", **members: Any) -> dict[str, Any]:
    return {"id": id, "value": _CODE, **members}


def _step(value: dict[str, Any]) -> dict[str, Any]:
    return {"id": "a", "value": value}


def test_every_type_is_read() -> None:
    inner = [_module("i")]
    values = [
        _CODE,
        {"type": "script", "path": "u/a/b", "hash": "00000000000000ff"},
        {"type": "flow", "path": "f/a/b"},
        {"type": "identity"},
        {"type": "forloopflow", "iterator": {"type": "static", "value": [1]}, "modules": inner},
        {"type": "whileloopflow", "modules": [_module("w")]},
        {"type": "branchone", "branches": [{"expr": "true", "modules": [_module("x")]}], "default": []},
        {"type": "branchall", "branches": [{"modules": [_module("y")]}]},
    ]
    flow = read_value({"modules": [{"id": f"m{index}", "value": value} for index, value in enumerate(values)]})
    kinds = [RawScript, ScriptStep, FlowStep, Identity, ForloopFlow, WhileloopFlow, BranchOne, BranchAll]
    assert [type(module.value) for module in flow.modules] == kinds
    assert [module.id for module in flow.all_modules if not module.id.startswith("m")] == ["i", "w", "x", "y"]
    assert isinstance(flow.modules[1].value, ScriptStep) and flow.modules[1].value.hash == 255
    assert isinstance(flow.modules[7].value, BranchAll) and flow.modules[7].value.parallel


def test_the_members_of_a_module_are_read() -> None:
    flow = read_value(
        {
            "modules": [
                _module(
                    stop_after_if={"expr": "result", "skip_if_stopped": True, "error_message": ""},
                    skip_if={"expr": "false"},
                    suspend={"required_events": 2, "timeout": 60},
                    sleep={"type": "javascript", "expr": "1"},
                    retry={"constant": {"attempts": 1, "seconds": 2}, "retry_if": {"expr": "true"}},
                    timeout=7,
                    mock={"enabled": True, "return_value": [1]},
                    continue_on_error=True,
                    nobody_knows={"this": 1},
                )
            ],
            "failure_module": {"value": _CODE},
            "early_return": "a",
            "flow_env": {"a": 1},
        }
    )
    module = flow.modules[0]
    assert module.stop_after_if is not None and module.stop_after_if.error_message == ""
    assert module.suspend is not None and (module.suspend.required_events, module.suspend.timeout_s) == (2, 60)
    assert module.sleep == Javascript("1")
    assert module.timeout == Static(7)
    assert module.retry is not None and module.retry.retry_if == "true"
    assert module.mock is not None and module.mock.return_value == [1]
    assert flow.failure_module is not None and flow.failure_module.id == "failure"


def test_the_other_members_of_a_module_are_read() -> None:
    suspend = {
        "required_events": 1,
        "timeout": 0.5,
        "resume_form": {"schema": {"type": "object"}},
        "user_auth_required": True,
        "user_groups_required": {"type": "static", "value": ["g"]},
        "self_approval_disabled": True,
        "hide_cancel": True,
        "continue_on_disapprove_timeout": True,
    }
    exponential = {"attempts": 3, "multiplier": 4, "seconds": 5, "random_factor": 6}
    flow = read_value(
        {
            "modules": [
                _module(
                    summary="s",
                    stop_after_all_iters_if={"expr": "all", "skip_if_stopped": False, "error_message": "e"},
                    suspend=suspend,
                    retry={"constant": {"attempts": 1, "seconds": 2}, "exponential": exponential},
                    timeout={"type": "javascript", "expr": "t"},
                    cache_ttl=7,
                    cache_ignore_s3_path=True,
                    priority=-8,
                    delete_after_use=True,
                    apply_preprocessor=True,
                    pass_flow_input_directly=True,
                ),
                _module("plain"),
            ]
        }
    )
    module, plain = flow.modules
    assert module.stop_after_all_iters_if == StopAfterIf("all", False, "e")
    assert module.suspend == Suspend(1, 0.5, {"schema": {"type": "object"}}, True, Static(["g"]), True, True, True)
    assert module.retry == Retry(1, 2, 3, 4, 5, 6)
    assert (module.summary, module.timeout, module.cache_ttl_s, module.priority) == ("s", Javascript("t"), 7, -8)
    assert module.delete_after_use and module.apply_preprocessor and module.pass_flow_input_directly
    assert plain.is_plain_script and not module.is_plain_script
    assert flow.wiped_steps == {"a"}


def test_the_members_of_every_type_are_read() -> None:
    inputs = {"s": {"type": "static", "value": 1}, "j": {"type": "javascript", "expr": "x"}, "a": {"type": "ai"}}
    read: dict[str, InputTransform] = {"s": Static(1), "j": Javascript("x"), "a": Ai()}
    loop = {"iterator": {"type": "javascript", "expr": "x"}, "modules": [], "skip_failures": True, "squash": True}
    limits = {"concurrent_limit": 2, "concurrency_time_window_s": 3}
    script = {**_CODE, "input_transforms": inputs, "lock": "x==1", "path": "f/a/b", "tag": "t", **limits}
    values: list[dict[str, Any]] = [
        {**script, "custom_concurrency_key": "k", "is_trigger": True, "assets": []},
        {"type": "script", "path": "f/a/b", "input_transforms": inputs, "tag_override": "t", "is_trigger": True},
        {"type": "flow", "path": "f/a/c", "input_transforms": inputs},
        {"type": "forloopflow", **loop, "parallel": True, "parallelism": 4},
        {"type": "whileloopflow", "modules": [], "skip_failures": True, "squash": False},
        {
            "type": "branchall",
            "branches": [{"summary": "s", "modules": [], "skip_failure": True}, {"modules": []}],
            "parallel": False,
        },
        {"type": "branchone", "branches": [{"summary": "s", "expr": "e", "modules": []}], "default": [_module("d")]},
    ]
    flow = read_value({"modules": [{"id": f"m{index}", "value": value} for index, value in enumerate(values)]})
    found = [module.value for module in flow.modules]
    (default,) = flow.modules[6].children[0]
    assert found == [
        RawScript(_CODE["content"], Language.PYTHON3, read, "x==1", "f/a/b", "t", Concurrency("k", 2, 3000)),
        ScriptStep("f/a/b", None, read, "t"),
        FlowStep("f/a/c", read),
        ForloopFlow(Javascript("x"), (), True, True, Static(4)),
        WhileloopFlow((), True),
        BranchAll((Branch((), "s", skip_failure=True), Branch(())), False),
        BranchOne((Branch((), "s", "e"),), (default,)),
    ]


@pytest.mark.parametrize("kind", ["script", "flow"])
def test_a_deployed_step_may_say_itself_that_it_gets_the_arguments_of_the_flow(kind: str) -> None:
    flow = read_value({"modules": [_step({"type": kind, "path": "f/a/b", "pass_flow_input_directly": True})]})
    assert flow.modules[0].pass_flow_input_directly


def test_the_members_of_a_flow_are_read() -> None:
    editors: dict[str, Any] = {"notes": [{"x": 1}], "debounce_delay_s": 1, "debounce_key": "k", "groups": []}
    flow = read_value(
        {
            "modules": [],
            "preprocessor_module": {"value": _CODE},
            "same_worker": True,
            "concurrent_limit": 2,
            "concurrency_key": "k",
            "concurrency_time_window_s": 3,
            "skip_expr": "e",
            "cache_ttl": 4,
            "cache_ignore_s3_path": True,
            "flow_env": {"a": [None]},
            "priority": 5,
            "chat_input_enabled": False,
            **editors,
        }
    )
    assert flow.preprocessor_module is not None and flow.preprocessor_module.id == "preprocessor"
    assert (flow.same_worker, flow.concurrency, flow.skip_expr) == (True, Concurrency("k", 2, 3000), "e")
    assert (flow.cache_ttl_s, flow.flow_env, flow.priority, flow.early_return) == (4, {"a": [None]}, 5, None)


def _members_of_modules() -> dict[str, Any]:
    stop = {"expr": 1, "skip_if_stopped": True}
    return {
        "id": 1,
        "summary": 1,
        "stop_after_if": stop,
        "stop_after_all_iters_if": stop,
        "skip_if": {"expr": 1},
        "suspend": {"timeout": "x"},
        "sleep": 1,
        "retry": {"constant": {"attempts": -1}},
        "cache_ttl": -1,
        "cache_ignore_s3_path": 1,
        "timeout": "1",
        "mock": {"enabled": 1},
        "priority": 2**15,
        "delete_after_use": 1,
        "apply_preprocessor": 1,
        "continue_on_error": "true",
        "pass_flow_input_directly": 1,
    }


@pytest.mark.parametrize(("member", "value"), _members_of_modules().items())
def test_every_member_of_a_module_is_checked(member: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        read_value({"modules": [{**_module(), member: value}]})
    assert f"value.modules[0].{member}" in caught.value.text


@pytest.mark.parametrize(
    "value",
    [
        *({**_CODE, member: 1} for member in ("lock", "path", "tag", "custom_concurrency_key", "input_transforms")),
        *({**_CODE, member: -1} for member in ("concurrent_limit", "concurrency_time_window_s", "language")),
        *({"type": "script", "path": "f/a/b", member: 1} for member in ("hash", "tag_override", "input_transforms")),
        *({"type": "flow", "path": "f/a/b", member: 1} for member in ("input_transforms", "pass_flow_input_directly")),
        *(
            {"type": "forloopflow", "iterator": {"type": "static"}, "modules": [], member: 0}
            for member in ("iterator", "modules", "skip_failures", "parallel", "squash")
        ),
        {"type": "forloopflow", "iterator": {"type": "static"}, "modules": [], "parallelism": "2"},
        *({"type": "whileloopflow", "modules": [], member: 0} for member in ("modules", "skip_failures", "squash")),
        *({"type": "branchall", "branches": [], member: 1} for member in ("branches", "parallel")),
        *({"type": "branchone", "branches": [], "default": [], member: 1} for member in ("branches", "default")),
    ],
    ids=lambda value: f"{value['type']}-{list(value)[-1]}",
)
def test_every_member_of_a_type_is_checked(value: dict[str, Any]) -> None:
    wrong = next(member for member in reversed(value) if isinstance(value[member], int | str) and member != "type")
    with pytest.raises(BadRequest) as caught:
        read_value({"modules": [_step(value)]})
    assert f"value.modules[0].value.{wrong}" in caught.value.text


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("failure_module", 1),
        ("preprocessor_module", {}),
        ("same_worker", 1),
        ("concurrent_limit", "1"),
        ("concurrency_key", 1),
        ("concurrency_time_window_s", -1),
        ("debounce_key", 1),
        ("skip_expr", 1),
        ("cache_ttl", 1.5),
        ("cache_ignore_s3_path", 1),
        ("priority", True),
        ("early_return", 1),
        ("chat_input_enabled", 1),
    ],
)
def test_every_member_of_a_flow_is_checked(member: str, value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        read_value({"modules": [_module()], member: value})
    assert f"value.{member}" in caught.value.text


def test_an_old_name_and_ids_that_are_left_out() -> None:
    flow = read_value(
        {"modules": [{"value": {**_CODE, "input_transform": {"x": {"type": "static"}}}}, {"value": _CODE}]}
    )
    first, second = flow.modules
    assert first.id != second.id
    assert first.inputs == {"x": Static(None)}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "value must be an object"),
        ({}, "value.modules is missing"),
        ({"modules": {}}, "value.modules must be an array"),
        ({"modules": [3]}, "value.modules[0] must be an object"),
        ({"modules": [{"id": "a"}]}, "module a: value.modules[0].value is missing"),
        ({"modules": [_step({"type": "nope"})]}, "module a: value.modules[0].value.type: 'nope'"),
        (
            {"modules": [_step({**_CODE, "language": "rust"})]},
            "module a: value.modules[0].value.language rust",
        ),
        ({"modules": [_step({**_CODE, "content": 3})]}, "value.content must be a string"),
        ({"modules": [_step({"type": "script"})]}, "value.path is missing"),
        (
            {"modules": [_step({**_CODE, "input_transforms": {"x": {"type": "js"}}})]},
            "module a: value.modules[0].value.input_transforms.x.type must be static, javascript or ai",
        ),
        ({"modules": [_module(stop_after_if={"expr": "1"})]}, "stop_after_if.skip_if_stopped is missing"),
        ({"modules": [_module(skip_if={})]}, "skip_if.expr is missing"),
        ({"modules": [_module(timeout=-1)]}, "module a: value.modules[0].timeout must be"),
        ({"modules": [_module(suspend={"required_events": "2"})]}, "suspend.required_events must be"),
        (
            {"modules": [_module(retry={"exponential": {"attempts": 1, "seconds": 0}})]},
            "module a: value.modules[0].retry.exponential.seconds must be more than 0",
        ),
        ({"modules": [_module(), _module()]}, "module a: id is that of another module"),
        ({"modules": [_module()], "failure_module": _module()}, "module a: id is that of another module"),
        ({"modules": [_module("failure")]}, "failure is the name of another kind"),
        ({"modules": [_module("a b")]}, "id must be a short word"),
        ({"modules": [_module()], "early_return": "z"}, "early_return: there is no step 'z'"),
        ({"modules": [], "flow_env": []}, "value.flow_env must be an object"),
        (
            {
                "modules": [
                    _step({"type": "forloopflow", "iterator": {"type": "static"}, "modules": [_module("b", retry=1)]})
                ]
            },
            "module b: value.modules[0].value.modules[0].retry must be an object",
        ),
    ],
)
def test_what_is_wrong_is_named(value: Any, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_value(value)
    assert words in caught.value.text


def test_nesting_has_an_end() -> None:
    modules: list[Any] = []
    for depth in range(MAX_DEPTH + 2):
        modules = [{"id": f"w{depth}", "value": {"type": "whileloopflow", "modules": modules}}]
    with pytest.raises(BadRequest, match="nested more than"):
        read_value({"modules": modules})
