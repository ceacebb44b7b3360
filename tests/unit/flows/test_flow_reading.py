"""OpenFlow documents: what is read, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from minwebhook.errors import BadRequest
from minwebhook.flows.model import (
    BranchAll,
    BranchOne,
    FlowStep,
    ForloopFlow,
    Identity,
    Javascript,
    RawScript,
    ScriptStep,
    Static,
    WhileloopFlow,
)
from minwebhook.flows.reading import MAX_DEPTH, read_value

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
