"""What flows give, as upstream's tests have it; the numbers are theirs. TypeScript of the originals is Python here, expressions
are theirs.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.flow_cases import APPEND, DOUBLE, RAISE, RAISE_ABOVE_1, RETURN, Case, check, entry, error, handler
from tests.flows import IDENTITY, JSON, branchall, branchone, forloop, py, step, stop
from tests.server import Client


def _throwing(index: int) -> JSON:
    code = f"def main(n, l):\n    if n == {index}: raise ValueError(str(l))\n    return {{'l': [*l, {index}]}}"
    return step(f"s{index}", py(code, n="flow_input.n", l=f"results.s{index - 1}.l" if index else []))


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
        {"items": list(range(256))},
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
        entry(2, error(message="2"), 50),
        {"items": list(range(50))},
        success=False,
    ),
    Case(
        "10 loop over a result",
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
            lambda result, n=n: error(message=str(list(range(n))))(result["from failure module"]),
            {"n": n},
            success=False,
            more=handler(),
        )
        for n in range(3)
    ),
    Case(
        "22 error handler is not needed",
        [_throwing(index) for index in range(3)],
        {"l": [0, 1, 2]},
        {"n": 3},
        more=handler(),
    ),
    # --- retries
    Case(
        "fails for good",
        [step("a", py("def main(): return [][0]"), retry={"constant": {"attempts": 2, "seconds": 0}})],
        error("IndexError", "index out of range"),
        success=False,
    ),
    Case(
        "step and handler are retried",
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
                            "def main(n, i): return {'i': i, 'square': n ** 2, 'cube': n ** 3}",
                            n="flow_input.iter.value.n",
                            i="flow_input.iter.value.i",
                        ),
                    ),
                    parallel=True,
                ),
            )
        ],
        [{"i": index, "square": n**2, "cube": n**3} for index, n in enumerate(range(1, 6))],
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
                    "def main(a, b, c, d, e): return [a, b, c, d, e]",
                    a="Math.min(flow_input.n, flow_env.LIMIT)",
                    b="`[${flow_env.NAME}]`",
                    c="flow_env.DEBUG && flow_input.n > flow_env.LIMIT",
                    d="flow_input.n - flow_env.LIMIT",
                    e="flow_env.DEBUG ? flow_input.n : 0",
                ),
            )
        ],
        [100, "[production]", True, 50, 150],
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
                    o="flow_input.l.some(n => n > 95)",
                    c="flow_input.l.slice(1, 3)",
                ),
            )
        ],
        {"s": [80, 85, 90, 95], "r": 87.5, "f": 90, "e": True, "o": False, "c": [80, 95]},
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
                    step("t", py("def main(x): return sum(x)", x="flow_input.iter.value.l")),
                    step(
                        "u",
                        py(
                            "def main(c, t, m): return {'category': c, 'total': t * m, 'mult': m}",
                            c="flow_input.iter.value.category",
                            t="results.t",
                            m="results.m",
                        ),
                    ),
                ),
            ),
        ],
        [{"category": "a", "total": 30, "mult": 10}, {"category": "b", "total": 30, "mult": 10}],
        {"groups": [{"category": "a", "l": [1, 2]}, {"category": "b", "l": [3]}]},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(client: Client, case: Case) -> None:
    check(client, case)


def test_4_a_loop_over_a_result_fifty_times(client: Client) -> None:
    modules = [
        step("a", py("def main(): return [1, 2, 3]")),
        step("l", forloop("result", step("i", py(DOUBLE, n="flow_input.iter.value")))),
    ]
    jobs = [client.post("/jobs/run/preview_flow", {"value": {"modules": modules}}).text for _ in range(50)]
    assert [client.ended(job)["result"] for job in jobs] == [[2, 4, 6]] * 50


#: A step that says each of its runs, in a resource that all steps of a flow have, and fails when it says the n-th word.
_TELLING: Final = """
import json, os, urllib.request
def call(path, data=None):
    url = os.environ["BASE_INTERNAL_URL"] + "/api/w/demo/resources/" + path
    head = {"Authorization": "Bearer " + os.environ["WM_TOKEN"], "Content-Type": "application/json"}
    body = None if data is None else json.dumps(data).encode()
    return urllib.request.urlopen(urllib.request.Request(url, body, head)).read()
def main(path, word, fails, value=None):
    words = json.loads(call("get_value/" + path))
    call("update_value/" + path, {"value": [*words, word]})
    if len(words) in fails: [][0]
    return word if value is None else value
"""


def _told(client: Client, number: int, fails: list[int], *modules: JSON, **more: Any) -> tuple[JSON, list[Any]]:
    """A flow's job that has ended, and what its steps said."""
    path = f"u/admin/told{number}"
    client.post("/resources/create", {"path": path, "value": [], "resource_type": "any"})
    args = {"path": path, "fails": fails}
    answer = client.post("/jobs/run/preview_flow", {"value": {"modules": modules, **more}, "args": args})
    job: JSON = client.ended(answer.text)
    return job, client.get(f"/resources/get_value/{path}").json()


def _telling(id: str, word: str, attempts: int, value: str = "null") -> JSON:
    inputs = {"path": "flow_input.path", "fails": "flow_input.fails", "word": word, "value": value}
    return step(id, py(_TELLING, **inputs), **({"retry": _again(attempts)} if attempts else {}))


def _again(attempts: int) -> JSON:
    return {"constant": {"attempts": attempts, "seconds": 0}}


_TOLD_LOOP: Final = step("l", forloop([3, 5, 7], _telling("i", "flow_input.iter.value", 0)), retry=_again(2))


def test_27_a_retried_loop_runs_whole_again(client: Client) -> None:
    last = _telling("b", "9", 2, "[...results.l, 9]")
    job, words = _told(client, 27, [1, 4, 8], _TOLD_LOOP, last)
    assert (job["success"], job["result"]) == (True, [3, 5, 7, 9])
    assert words == [3, 5, 3, 5, 7, 3, 5, 7, 9, 9]
    loop, last = job["flow_status"]["modules"]
    assert (len(loop["failed_retries"]), len(last["failed_retries"])) == (2, 1)


def test_29_the_last_step_fails_for_good(client: Client) -> None:
    job, words = _told(client, 29, [1, 5, 6, 7], _TOLD_LOOP, _telling("b", "9", 2))
    assert job["success"] is False
    assert "index out of range" in job["result"]["error"]["message"]
    assert words == [3, 5, 3, 5, 7, 9, 9, 9]


def test_30_step_and_error_handler_are_retried(client: Client) -> None:
    failure = _telling("failure", "'handler'", 1, "previous_result")
    job, words = _told(client, 30, [0, 1, 2], _telling("a", "'a'", 1), failure_module=failure)
    assert (job["success"], job["result"]["error"]["name"]) == (False, "IndexError")
    assert words == ["a", "a", "handler", "handler"]
    status = job["flow_status"]
    assert (status["modules"][0]["type"], status["failure_module"]["type"]) == ("Failure", "Success")
    assert (status["failure_module"]["parent_module"], status["step"]) == ("a", 1)
