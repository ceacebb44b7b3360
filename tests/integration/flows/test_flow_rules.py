"""What flows give, as upstream's sources have it."""

from __future__ import annotations

from typing import Final

import pytest

from tests.flow_cases import DOUBLE, RAISE, RAISE_ABOVE_1, RETURN, Case, check, error, handler
from tests.flows import IDENTITY, branchall, branchone, forloop, js, py, step, stop, whileloop
from tests.server import Client

CASES: Final = [
    Case("no steps", [], {"a": 1}, {"a": 1}),
    Case(
        "stop with an error",
        [step("a", py("def main(): return 1"), stop_after_if=stop("result == 1", message="enough"))],
        error("EarlyStopError", "enough"),
        success=False,
    ),
    Case(
        "stop with an empty message",
        [step("a", py("def main(): return 1"), stop_after_if=stop("result == 1", message=""))],
        error("EarlyStopError", "stop after if: result == 1"),
        success=False,
    ),
    Case(
        "stop that skips",
        [step("a", py("def main(): return 1"), stop_after_if=stop("true", skip=True)), step("b", py(RAISE))],
        1,
        skipped=True,
    ),
    Case(
        "stop that skips and tells why",
        [
            step("a", py("def main(): return 1"), stop_after_if=stop("true", skip=True, message="why")),
            step("b", py(RAISE)),
        ],
        error("EarlyStopError", "why"),
        skipped=True,
    ),
    Case(
        "skip_expr",
        [step("a", py(RAISE))],
        "stopped early",
        {"go": False},
        more={"skip_expr": "!flow_input.go"},
        skipped=True,
    ),
    Case(
        "skip_expr that knows when the flow was due",
        [step("a", py(RAISE))],
        "stopped early",
        more={"skip_expr": "new Date(WM_SCHEDULED_FOR) > 0"},
        skipped=True,
    ),
    Case(
        "skip_expr is false",
        [step("a", py("def main(): return 7"))],
        7,
        {"go": True},
        more={"skip_expr": "!flow_input.go"},
    ),
    Case(
        "stop_after_all_iters_if",
        [
            step(
                "l",
                forloop([1, 2, 3], step("i", py(RETURN, x="flow_input.iter.value"))),
                stop_after_all_iters_if=stop("result.length == 3"),
            ),
            step("b", py(RAISE)),
        ],
        [1, 2, 3],
    ),
    Case(
        "stop_after_if of a loop",
        [
            step(
                "l",
                forloop([1, 2, 3, 4], step("i", py(RETURN, x="flow_input.iter.value"))),
                stop_after_if=stop("result == 2"),
            ),
            step("b", py(RETURN, x="results.l")),
        ],
        [1, 2],
    ),
    Case(
        "stop_after_if of a loop that knows all of its iterations",
        [
            step(
                "l",
                forloop([1, 2, 3, 4], step("i", py(RETURN, x="flow_input.iter.value"))),
                stop_after_if=stop("all_iters.length == 2 && all_iters[1] == result"),
            ),
        ],
        [1, 2],
    ),
    Case(
        "stop inside a loop",
        [
            step(
                "l",
                forloop(
                    [1, 2, 3, 4],
                    step("i", py(RETURN, x="flow_input.iter.value"), stop_after_if=stop("result == 2")),
                    step("j", IDENTITY),
                ),
            ),
            step("b", py(RETURN, x="results.l")),
        ],
        [1, 2],
    ),
    Case(
        "stop inside branchone",
        [
            step("a", branchone(default=[step("x", py("def main(): return 5"), stop_after_if=stop("true"))])),
            step("b", py(RAISE)),
        ],
        5,
    ),
    Case(
        "stop inside a sequential branchall",
        [
            step(
                "a",
                branchall(
                    [step("x", py("def main(): return 5"), stop_after_if=stop("true"))],
                    [step("y", py(RETURN))],
                    parallel=False,
                ),
            ),
            step("b", py(RAISE)),
        ],
        [5],
    ),
    Case(
        "stop inside a parallel branchall",
        [
            step(
                "a",
                branchall([step("x", py("def main(): return 5"), stop_after_if=stop("true"))], [step("y", py(RETURN))]),
            ),
            step("b", py(RETURN, x="results.a")),
        ],
        [5, None],
    ),
    Case(
        "while loop with a break",
        [step("w", whileloop(step("i", py(RETURN, x="flow_input.iter.index"), stop_after_if=stop("result == 3"))))],
        [0, 1, 2, 3],
    ),
    Case(
        "while loop by its own condition",
        [step("w", whileloop(step("i", py(RETURN, x="flow_input.iter.value"))), stop_after_if=stop("result == 2"))],
        [0, 1, 2],
    ),
    Case("while loop that fails", [step("w", whileloop(step("i", py(RAISE))))], error("ValueError"), success=False),
    Case(
        "recover",
        [step("a", py(RAISE))],
        {"recover": True, "a": 1},
        more=handler("def main(e): return {'recover': True, 'a': 1}"),
    ),
    Case(
        "handler fails",
        [step("a", py(RAISE))],
        error("KeyError"),
        success=False,
        more=handler("def main(e): return {}['x']"),
    ),
    Case(
        "handler of an inner level runs once",
        [step("l", forloop([1], step("i", py(RAISE))))],
        lambda result: result[0]["from failure module"]["error"]["name"] == "ValueError",
        success=False,
        more=handler(),
    ),
    Case(
        "handler of an inner level runs once, also of parallel ones",
        [step("l", forloop([1, 2], step("i", py(RAISE)), parallel=True))],
        lambda result: [each["from failure module"]["error"]["name"] for each in result] == ["ValueError"] * 2,
        success=False,
        more=handler(),
        status={"l": {"type": "Failure"}},
    ),
    Case(
        "handler of a branch runs once, also of parallel ones",
        [step("l", branchall([step("i", py(RAISE))], [step("j", IDENTITY)]))],
        lambda result: (result[0]["from failure module"]["error"]["name"], result[1]) == ("ValueError", {}),
        success=False,
        more=handler(),
    ),
    Case(
        "continue_on_error in the middle",
        [step("a", py(RAISE), continue_on_error=True), step("b", py(RETURN, x="results.a.error.name"))],
        "ValueError",
        status={"a": {"type": "Failure"}},
    ),
    Case(
        "continue_on_error at the end",
        [step("a", py(RAISE), continue_on_error=True)],
        error("ValueError"),
        success=False,
    ),
    Case(
        "skip_failures",
        [
            step("l", forloop([1, 2, 3], step("i", py(RAISE_ABOVE_1, n="flow_input.iter.value")), skip_failures=True)),
            step("b", py("def main(x): return len(x)", x="results.l")),
        ],
        3,
    ),
    Case(
        "sleep at the end",
        [step("a", py("def main(): return 1"), sleep={"type": "static", "value": 0.05})],
        1,
        status={"a-v": {"type": "Success"}},
    ),
    Case(
        "sleep that is none",
        [step("a", py("def main(): return 1"), sleep={"type": "static", "value": "x"}), step("b", IDENTITY)],
        error(message="sleep"),
        success=False,
    ),
    Case(
        "empty branch",
        [
            step("a", py("def main(): return 1")),
            step("b", branchone(("true", []), default=[])),
            step("c", py(RETURN, x="results.b")),
        ],
        1,
        status={"b": {"job": "00000000-0000-0000-0000-000000000000"}},
    ),
    Case("empty branchall", [step("a", branchall())], []),
    Case("branch without steps", [step("a", branchall([]))], [{"q": 1}], {"q": 1}),
    Case(
        "iter_parent",
        [
            step(
                "l",
                forloop(
                    [1, 2],
                    step(
                        "m",
                        forloop(
                            [10, 20],
                            step(
                                "i",
                                py(
                                    "def main(a, b): return a + b",
                                    a="flow_input.iter.value",
                                    b="flow_input.iter_parent.value",
                                ),
                            ),
                        ),
                    ),
                ),
            )
        ],
        [[11, 21], [12, 22]],
    ),
    Case(
        "iter_parent_parent",
        [
            step(
                "l",
                forloop(
                    [1],
                    step(
                        "m",
                        forloop(
                            [10],
                            step(
                                "n",
                                forloop(
                                    [100],
                                    step(
                                        "i",
                                        py(
                                            "def main(a, b, c): return [a, b, c]",
                                            a="flow_input.iter.value",
                                            b="flow_input.iter_parent.value",
                                            c="flow_input.iter_parent_parent.value",
                                        ),
                                    ),
                                ),
                            ),
                        ),
                    ),
                ),
            )
        ],
        [[[[100, 10, 1]]]],
    ),
    Case(
        "mock",
        [
            step("a", py(RAISE), mock={"enabled": True, "return_value": {"m": 1}}),
            step("b", py(RETURN, x="results.a.m")),
        ],
        1,
    ),
    Case("mock without a value", [step("a", py(RAISE), mock={"enabled": True})], None),
    Case("mock that is off", [step("a", py("def main(): return 3"), mock={"enabled": False, "return_value": 1})], 3),
    Case(
        "timeout of a step",
        [step("a", py("import time\ndef main(): time.sleep(60)"), timeout=1)],
        error(message="timeout"),
        success=False,
    ),
    Case(
        "timeout below nothing",
        [step("a", py(RETURN), timeout={"type": "javascript", "expr": "0 - 1"})],
        error(message="timeout"),
        success=False,
    ),
    Case(
        "iterator that is no array",
        [step("l", forloop("flow_input.x", step("i", py(RETURN))))],
        error(message="Expected an array value in the iterator expression, found: 3"),
        {"x": 3},
        success=False,
    ),
    Case(
        "input that cannot be evaluated",
        [step("a", py(RETURN, x="nothing.there"))],
        error(message="Error during isolated evaluation of expression `nothing.there`"),
        success=False,
    ),
    Case(
        "input that fails is handled",
        [step("a", py(RETURN, x="nothing.there"))],
        lambda result: "error" in result["from failure module"],
        success=False,
        more=handler(),
    ),
    Case(
        "predicate that cannot be evaluated",
        [step("a", branchone(("nothing.there", []), default=[]))],
        error(message="nothing"),
        success=False,
    ),
    Case("result is not known to inputs", [step("a", py(RETURN, x="result"))], error(message="result"), success=False),
    Case(
        "what conditions know",
        [
            step("a", py("def main(): return {'n': 1}"), sleep=js("flow_env.pause * previous_result.n * result.n")),
            step(
                "b",
                py(RAISE, x=[]),
                timeout=js("results.a.n * 20 + flow_input.more"),
                retry={
                    "constant": {"attempts": 1, "seconds": 0},
                    "retry_if": {"expr": "flow_input.more == 2 && result.error.name == previous_result.error.name"},
                },
                continue_on_error=True,
            ),
            step("c", py(RAISE), skip_if={"expr": "error.name == 'ValueError' && flow_env.pause == 0"}),
            step(
                "d",
                py("def main(): return 5"),
                stop_after_if=stop("previous_result == result && results.a.n == 1 && flow_input.more == 2"),
            ),
            step("e", py(RAISE)),
        ],
        5,
        {"more": 2},
        more={"flow_env": {"pause": 0}},
        status={"b": {"type": "Failure"}, "c": {"skipped": True}, "d": {"type": "Success"}},
    ),
    Case("unknown step is null", [step("a", py(RETURN, x="results.nobody"))], None),
    Case(
        "parallelism",
        [
            step(
                "l",
                forloop(
                    [1, 2, 3, 4, 5], step("i", py(DOUBLE, n="flow_input.iter.value")), parallel=True, parallelism=2
                ),
            )
        ],
        [2, 4, 6, 8, 10],
    ),
    Case(
        "pass_flow_input_directly", [step("a", py("def main(q): return q"), pass_flow_input_directly=True)], 4, {"q": 4}
    ),
    Case(
        "script that is not there",
        [step("a", {"type": "script", "path": "u/admin/nobody", "input_transforms": {}})],
        error(message="nobody"),
        success=False,
    ),
    Case("labels", [step("a", py("def main(): return {'wm_labels': ['b', 'a']}"))], {"wm_labels": ["b", "a"]}),
    Case(
        "many steps without jobs",
        [step(f"b{index}", branchone(default=[])) for index in range(600)],
        {"z": 1},
        {"z": 1},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rule(client: Client, case: Case) -> None:
    check(client, case)
