"""What flows give, as upstream's tests and sources have it: every case is a flow that comes with its request, run by one
server. TypeScript of the originals is Python here; expressions are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.flows import IDENTITY, JSON, branchall, branchone, forloop, py, step, stop, whileloop
from tests.server import Client, Server, serving

RETURN: Final = "def main(x=None): return x"
DOUBLE: Final = "def main(n): return n * 2"
RAISE: Final = "def main(x=None): raise ValueError(str(x))"
APPEND: Final = "def main(x, n): return x + [n]"
RAISE_ABOVE_1: Final = "def main(n):\n    if n > 1: raise ValueError(str(n))\n    return n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all cases."""
    with serving(tmp_path_factory.mktemp("flows") / "data", "--workers", "3") as (server, _):
        yield server


@pytest.fixture
def client(server: Server) -> Client:
    """A client with the admin's token."""
    return server.client()


@dataclass
class Case:
    """A flow, its arguments, and what is expected of it."""

    name: str
    modules: list[JSON]
    #: The result, or a test of it.
    result: Any
    args: JSON = field(default_factory=dict)
    success: bool = True
    more: JSON = field(default_factory=dict)
    #: What must be in the status of the modules, by id.
    status: dict[str, JSON] = field(default_factory=dict)
    skipped: bool = False


def error(name: str = "", message: str = "") -> Callable[[Any], bool]:
    """Whether a result is an error with this name, and this in its message."""

    def check(result: Any) -> bool:
        found = result["error"]
        return name in ("", found["name"]) and message in found["message"]

    return check


def entry(index: int, check: Callable[[Any], bool], length: int) -> Callable[[Any], bool]:
    """Whether a result is an array of this length with such an entry."""
    return lambda result: isinstance(result, list) and len(result) == length and check(result[index])


def _handler(content: str = "def main(e): return {'from failure module': e}") -> JSON:
    return {"failure_module": {"id": "failure", "value": py(content, e="previous_result")}}


def _throwing(index: int) -> JSON:
    code = f"def main(n, l):\n    l = l + [{index}]\n    if n == {index}: raise ValueError(str(l))\n    return l"
    before = "[]" if index == 0 else f"results.s{index - 1}"
    return step(f"s{index}", py(code, n="flow_input.n", l=before if index else []))


_BRANCH_APPEND: Final = [
    [step("x", py(APPEND, x="results.a", n=2))],
    [step("y", py(APPEND, x="results.a", n=3))],
]
_FAILING_BRANCHES: Final = [[step("x", py(RAISE, x=["no"]))], [step("y", py(RETURN, x=[1]))]]

CASES: Final = [
    # --- upstream's worker tests
    Case(
        "1 loop over nothing",
        [step("l", forloop("result.items", step("i", py(RAISE_ABOVE_1, n="flow_input.iter.value"))))],
        [],
        {"items": []},
    ),
    Case(
        "2 loop stops where it fails",
        [step("l", forloop("result.items", step("i", py(RAISE_ABOVE_1, n="flow_input.iter.value"))))],
        entry(2, error(message="2"), 3),
        {"items": list(range(20))},
        success=False,
    ),
    Case(
        "3 parallel loop runs all",
        [
            step(
                "l",
                forloop(
                    "result.items",
                    step(
                        "i",
                        py(
                            "def main(n):\n    if n == 2: raise ValueError('2')\n    return n",
                            n="flow_input.iter.value",
                        ),
                    ),
                    parallel=True,
                ),
            )
        ],
        entry(2, error(message="2"), 12),
        {"items": list(range(12))},
        success=False,
    ),
    Case(
        "4 loop over a result",
        [
            step("a", py("def main(): return [1, 2, 3]")),
            step("l", forloop("result", step("i", py(DOUBLE, n="flow_input.iter.value")))),
        ],
        [2, 4, 6],
    ),
    Case("5 identities", [step("a", py("def main(): return 42")), *(step(id, IDENTITY) for id in "bcd")], 42),
    Case(
        "7 branches in branches",
        [
            step("a", py("def main(): return 42")),
            step("b", branchall([step("c", branchall([step("d", py(RETURN, x="results.a"))]))])),
        ],
        [[42]],
    ),
    Case(
        "8 goes on",
        [
            step("a", py("def main(n): return n", n="flow_input.n"), stop_after_if=stop("result < 0")),
            step("b", py("def main(n): return f'last step saw {n}'", n="previous_result")),
        ],
        "last step saw 123",
        {"n": 123},
    ),
    Case(
        "8 stops",
        [
            step("a", py("def main(n): return n", n="flow_input.n"), stop_after_if=stop("result < 0")),
            step("b", py("def main(n): return f'last step saw {n}'", n="previous_result")),
        ],
        -123,
        {"n": -123},
    ),
    Case(
        "11 sum of nothing",
        [step("a", forloop([], step("i", py(RETURN)))), step("b", py("def main(x): return sum(x)", x="results.a"))],
        0,
    ),
    Case("12 only an empty loop", [step("a", forloop([], step("i", py(RETURN))))], []),
    Case(
        "13 sum of a loop",
        [
            step("a", forloop([2, 3, 4], step("i", py(RETURN, x="flow_input.iter.value")))),
            step("b", py("def main(x): return sum(x)", x="results.a")),
        ],
        9,
    ),
    Case(
        "15 no branch",
        [
            step("a", py("def main(): return [1]")),
            step("b", branchone(default=[step("c", py(APPEND, x="results.a", n=2))])),
        ],
        [1, 2],
        status={"b": {"type": "Success", "branch_chosen": {"type": "default"}}},
    ),
    Case(
        "16 first true branch",
        [
            step("a", py("def main(): return [1]")),
            step(
                "b",
                branchone(
                    ("results.a[0] == 1", [step("c", py(APPEND, x="results.a", n=3))]),
                    default=[step("d", py(APPEND, x="results.a", n=2))],
                ),
            ),
        ],
        [1, 3],
        status={"b": {"branch_chosen": {"type": "branch", "branch": 0}}},
    ),
    Case(
        "17 all branches",
        [step("a", py("def main(): return [1]")), step("b", branchall(*_BRANCH_APPEND))],
        [[1, 2], [1, 3]],
    ),
    Case(
        "17 all branches, one after the other",
        [step("a", py("def main(): return [1]")), step("b", branchall(*_BRANCH_APPEND, parallel=False))],
        [[1, 2], [1, 3]],
    ),
    Case(
        "18 a branch fails", [step("b", branchall(*_FAILING_BRANCHES))], entry(0, error("ValueError"), 2), success=False
    ),
    Case(
        "18 a branch may fail",
        [step("b", branchall(*_FAILING_BRANCHES, skip_failure=True))],
        entry(0, error("ValueError"), 2),
    ),
    Case(
        "18 a branch fails, one after the other",
        [step("b", branchall(*_FAILING_BRANCHES, parallel=False))],
        entry(0, error("ValueError"), 1),
        success=False,
    ),
    Case(
        "18 a branch may fail, one after the other",
        [step("b", branchall(*_FAILING_BRANCHES, skip_failure=True, parallel=False))],
        entry(0, error("ValueError"), 2),
    ),
    *(
        Case(
            f"21 error handler {n}",
            [_throwing(index) for index in range(3)],
            lambda result, n=n: error(message=str(list(range(n + 1))))(result["from failure module"]),
            {"n": n},
            success=False,
            more=_handler(),
        )
        for n in range(3)
    ),
    Case(
        "22 error handler is not needed", [_throwing(index) for index in range(3)], [0, 1, 2], {"n": 3}, more=_handler()
    ),
    # --- retries
    Case(
        "29 fails for good",
        [step("a", py("def main(): return [][0]"), retry={"constant": {"attempts": 2, "seconds": 0}})],
        error("IndexError", "index out of range"),
        success=False,
    ),
    Case(
        "30 step and handler are retried",
        [step("a", py(RAISE), retry={"constant": {"attempts": 1, "seconds": 0}})],
        error("IndexError"),
        success=False,
        more={
            "failure_module": {
                "id": "failure",
                "value": py("def main(): return [][0]"),
                "retry": {"constant": {"attempts": 1, "seconds": 0}},
            }
        },
        status={"a": {"type": "Failure"}},
    ),
    Case(
        "retry_if says no",
        [
            step(
                "a",
                py(RAISE),
                retry={"constant": {"attempts": 5, "seconds": 0}, "retry_if": {"expr": "error.name == 'Other'"}},
            )
        ],
        error("ValueError"),
        success=False,
        status={"a": {"type": "Failure"}},
    ),
    # --- expressions
    Case(
        "34 results in expressions",
        [
            step("a", py("def main(): return {'sum': 15, 'numbers': [1, 2, 3, 4, 5]}")),
            step(
                "b",
                py(
                    "def main(**x): return [x['s'], x['m'], x['f'], x['p']]",
                    s="results.a.sum + flow_input.base",
                    m="results.a.numbers.map(n => n * 2)",
                    f="results.a.numbers.filter(n => n > 2)",
                    p="flow_input.multiplier * results.a.sum",
                ),
            ),
        ],
        [65, [2, 4, 6, 8, 10], [3, 4, 5], 45],
        {"base": 50, "multiplier": 3},
    ),
    Case(
        "36 compound predicates",
        [
            step(
                "a",
                branchone(
                    (
                        "flow_input.user.tier === 'premium' && flow_input.user.score > 90",
                        [
                            step(
                                "x",
                                py(
                                    "def main(s): return {'kind': 'premium_high', 'discount': 30, 'score': s}",
                                    s="flow_input.user.score",
                                ),
                            )
                        ],
                    ),
                    (
                        "flow_input.user.tier === 'premium' || flow_input.user.score > 50",
                        [step("y", py("def main(): return 'other'"))],
                    ),
                    default=[],
                ),
            )
        ],
        {"kind": "premium_high", "discount": 30, "score": 95},
        {"user": {"tier": "premium", "score": 95}},
    ),
    Case(
        "37 previous and named results",
        [
            step("a", py("def main(): return {'v': 10}")),
            step("b", py(DOUBLE, n="previous_result.v")),
            step(
                "c",
                py(
                    "def main(a, b, c, d): return [a, b, c, d]",
                    a="results.a.v",
                    b="previous_result",
                    c="results.a.v - 4",
                    d="results.a.v + previous_result + 6",
                ),
            ),
        ],
        [10, 20, 6, 36],
    ),
    Case(
        "39 skipped",
        [
            step("a", py("def main(): return {'value': 100}")),
            step("b", py(RAISE), skip_if={"expr": "previous_result.value === 100"}),
            step("c", py(RETURN, x="previous_result.value")),
        ],
        100,
        status={"b": {"type": "Success", "skipped": True}},
    ),
    Case(
        "40 templates and text",
        [
            step(
                "a",
                py(
                    "def main(a, b, c): return [a, b, c]",
                    a="`${flow_input.first} ${flow_input.last}`",
                    b="flow_input.first.toUpperCase()",
                    c="`Items: ${flow_input.items.join(', ')}`",
                ),
            )
        ],
        ["John Doe", "JOHN", "Items: Apple, Banana, Cherry"],
        {"first": "John", "last": "Doe", "items": ["Apple", "Banana", "Cherry"]},
    ),
    Case(
        "41 optional chaining",
        [
            step(
                "a",
                py(
                    "def main(a, b, c, d, e): return [a, b, c, d, e]",
                    a="flow_input.user?.address?.city",
                    b="flow_input.none?.address?.city",
                    c="flow_input.nothing?.x",
                    d="flow_input.user?.name ?? 'Unknown'",
                    e="flow_input.user?.address?.country ?? 'USA'",
                ),
            )
        ],
        ["NYC", None, None, "Unknown", "USA"],
        {"user": {"address": {"city": "NYC"}}, "none": None},
    ),
    Case(
        "42 parallel loop over objects",
        [
            step(
                "a",
                forloop(
                    "flow_input.items.map((n, i) => ({n, i}))",
                    step(
                        "i",
                        py(
                            "def main(n, i): return [i, n ** 2, n ** 3]",
                            n="flow_input.iter.value.n",
                            i="flow_input.iter.value.i",
                        ),
                    ),
                    parallel=True,
                ),
            )
        ],
        [[index, n**2, n**3] for index, n in enumerate(range(1, 6))],
        {"items": [1, 2, 3, 4, 5]},
    ),
    Case(
        "43 flow_env",
        [
            step(
                "a",
                py(
                    "def main(a, b, c, d, e): return [a, b, c, d, e]",
                    a="flow_env.NAME",
                    b="flow_env.DEBUG",
                    c="flow_env.LIMIT + 1",
                    d="flow_env.OBJ.inner[1]",
                    e="flow_env.TAGS.includes('x')",
                ),
            )
        ],
        ["prod", True, 101, 2, True],
        more={"flow_env": {"NAME": "prod", "DEBUG": True, "LIMIT": 100, "OBJ": {"inner": [1, 2]}, "TAGS": ["x"]}},
    ),
    Case(
        "44 flow_input and flow_env",
        [
            step(
                "a",
                py(
                    "def main(a, b, c): return [a, b, c]",
                    a="Math.min(flow_input.n, flow_env.LIMIT)",
                    b="`[${flow_env.NAME}]`",
                    c="flow_env.DEBUG ? flow_input.n : 0",
                ),
            )
        ],
        [100, "[production]", 150],
        {"n": 150},
        more={"flow_env": {"LIMIT": 100, "NAME": "production", "DEBUG": True}},
    ),
    Case(
        "47 arrays",
        [
            step(
                "a",
                py(
                    "def main(**x): return x",
                    s="[...flow_input.l].sort((a, b) => a - b)",
                    r="flow_input.l.reduce((a, b) => a + b, 0) / flow_input.l.length",
                    f="flow_input.l.find(n => n > 85)",
                    e="flow_input.l.every(n => n > 10)",
                    c="flow_input.l.slice(1, 3)",
                ),
            )
        ],
        {"s": [80, 85, 90, 95], "r": 87.5, "f": 90, "e": True, "c": [80, 95]},
        {"l": [90, 80, 95, 85]},
    ),
    Case(
        "49 spread and rest",
        [
            step(
                "a",
                py(
                    "def main(a, b, c): return [a, b, c]",
                    a="{...flow_input.a, ...flow_input.b}",
                    b="[...flow_input.l, 3]",
                    c="const {x, ...rest} = flow_input.a; return rest",
                ),
            )
        ],
        [{"x": 1, "y": 3}, [1, 2, 3], {"y": 2}],
        {"a": {"x": 1, "y": 2}, "b": {"y": 3}, "l": [1, 2]},
    ),
    Case(
        "50 siblings and outer steps in a loop",
        [
            step("m", py("def main(): return 10")),
            step(
                "l",
                forloop(
                    "flow_input.groups",
                    step("t", py("def main(x): return sum(x)", x="flow_input.iter.value")),
                    step("u", py("def main(t, m): return t * m", t="results.t", m="results.m")),
                ),
            ),
        ],
        [30, 70],
        {"groups": [[1, 2], [3, 4]]},
    ),
    # --- what follows from the source
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
        "skip_expr",
        [step("a", py(RAISE))],
        "stopped early",
        {"go": False},
        more={"skip_expr": "!flow_input.go"},
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
        more=_handler("def main(e): return {'recover': True, 'a': 1}"),
    ),
    Case(
        "handler fails",
        [step("a", py(RAISE))],
        error("KeyError"),
        success=False,
        more=_handler("def main(e): return {}['x']"),
    ),
    Case(
        "handler of an inner level runs once",
        [step("l", forloop([1], step("i", py(RAISE))))],
        lambda result: result[0]["from failure module"]["error"]["name"] == "ValueError",
        success=False,
        more=_handler(),
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
        more=_handler(),
    ),
    Case(
        "predicate that cannot be evaluated",
        [step("a", branchone(("nothing.there", []), default=[]))],
        error(message="nothing"),
        success=False,
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
def test_case(client: Client, case: Case) -> None:
    answer = client.post("/jobs/run/preview_flow", {"value": {"modules": case.modules, **case.more}, "args": case.args})
    assert answer.status == 201, answer.text
    job = client.ended(answer.text)
    if callable(case.result):
        assert case.result(job["result"]), job["result"]
    else:
        assert job["result"] == case.result
    assert job["success"] is case.success
    assert job["is_skipped"] is case.skipped
    by_id = {module["id"]: module for module in job["flow_status"]["modules"]}
    for id, members in case.status.items():
        assert members.items() <= by_id[id].items()
