"""Expressions of flows: plain paths give what JavaScript gives, and what the text of an expression becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.flows.expressions import (
    MAX_SAFE_INTEGER,
    NOT_PLAIN,
    Call,
    Program,
    error_of,
    is_truthy,
    mentioned_names,
    mentioned_steps,
    parse_call,
    resolve,
    to_program,
)
from minwebhook.flows.helper import Engine

LIMITS = {"memory_bytes": 64 << 20, "value_bytes": 1 << 20}
CONTEXT: dict[str, Any] = {
    "flow_input": {
        "a": {"b": [10, {"c": "x"}]},
        "a.b": "dotted",
        "none": None,
        "": 1,
        "iter": {"index": 0, "value": 7},
    },
    "results": {"a": {"sum": 3}, "b": [1, 2, 3], "c": None, "d": "text"},
    "previous_result": [1, 2, 3],
    "flow_env": {"x y": 1},
}


def look_up(question: str) -> str:
    """In place of the server."""
    return json.dumps([False, f"nothing to look up: {question}"])


def in_javascript(expression: str, context: dict[str, Any], *, is_predicate: bool = False) -> tuple[str, Any]:
    """``v`` and the value, or ``e`` and the name and message of the error, as the engine says."""
    program = to_program(expression, is_predicate=is_predicate)
    parts = (program.expression, program.body, "p" if is_predicate else "", json.dumps(context))
    answer = Engine(look_up, LIMITS).run(*(part.encode() for part in parts))
    return answer[:1].decode(), json.loads(answer[1:])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("flow_input", CONTEXT["flow_input"]),
        ("  previous_result\n", [1, 2, 3]),
        ("flow_input.a.b", "dotted"),
        ("flow_input.a['b'][1].c", "x"),
        ('flow_input["a.b"]', "dotted"),
        ("flow_input?.a?.b?.[0]", 10),
        ("flow_input.iter.value", 7),
        ("flow_input.missing", None),
        ("flow_input.none?.deep.er", None),
        ("flow_input[0]", None),
        ("flow_env['x y']", 1),
        ("results.a.sum", 3),
        ("results['b'][2]", 3),
        ("results.b[3]", None),
        ("results.b.length", 3),
        ("results.nobody", None),
        ("results.c.deep[0].er", None),
        ("previous_result[0]", 1),
        ("true", True),
        ("null", None),
        ("undefined", None),
        ("-12", -12),
        ("'it\"s'", 'it"s'),
        ('""', ""),
    ],
)
def test_plain_expressions(expression: str, value: Any) -> None:
    assert resolve(expression, CONTEXT) == value


@pytest.mark.parametrize(
    "expression",
    [
        "flow_input.none.deep",  # an error
        "results.c.length",  # and so is this
        "results.a.toString",
        "results.d.length",
        "results.b.map",
        "results.b[-1]",
        "flow_input.a + 1",
        "flow_input.a.b.",
        "unknown",
        "Math.PI",
        "resume",  # not in this context
        "'a\\n'",
        "007",
        "12345678901234567890",
        "-0",
        "1.5",
        "",
        "results . a",
        "flow_input.é",
        "x" * 2000,
    ],
)
def test_what_is_left_to_javascript(expression: str) -> None:
    assert resolve(expression, CONTEXT) is NOT_PLAIN


KEYS = st.sampled_from(
    ["a", "b", "c", "$d", "_e", "length", "toString", "constructor", "__proto__", "0", "1", "x y", "null", "return"]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.text("ab\"'\\€😀", max_size=4)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
NAMES = st.sampled_from(["flow_input", "results", "previous_result", "unknown"])
SEGMENTS = (
    KEYS.filter(str.isidentifier).map(lambda key: f".{key}")
    | KEYS.filter(str.isidentifier).map(lambda key: f"?.{key}")
    | KEYS.map(lambda key: f"['{key}']")
    | KEYS.map(lambda key: f'?.["{key}"]')
    | st.integers(0, 12).map(lambda index: f"[{index}]")
)
PATHS = st.builds(lambda name, segments: name + "".join(segments), NAMES, st.lists(SEGMENTS, max_size=4))


@given(
    PATHS,
    st.fixed_dictionaries(
        {
            "flow_input": st.dictionaries(KEYS, VALUES),
            "results": st.dictionaries(KEYS, VALUES),
            "previous_result": VALUES,
        }
    ),
)
def test_plain_paths_are_what_javascript_gives(path: str, context: dict[str, Any]) -> None:
    """But for what is missing below ``results``, which is null instead of an error."""
    value = resolve(path, context)
    if value is NOT_PLAIN:
        return
    kind, expected = in_javascript(path, context)
    if kind == "e":
        assert path.startswith("results")
        assert value is None
        assert expected[0] == "TypeError"
    else:
        assert value == expected
        assert is_truthy(value) == in_javascript(path, context, is_predicate=True)[1]


@given(st.integers() | st.text("ab'\"\\é\n", max_size=6).map(repr) | st.text("-0123456789'\"ab\\", max_size=8))
def test_literals_are_what_javascript_gives(text: str) -> None:
    value = resolve(str(text), {})
    if value is not NOT_PLAIN:
        assert in_javascript(str(text), {}) == ("v", value)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("flow_input.a.b.map(x => x)", [10, {"c": "x"}]),
        ("{n: results.a.sum, ...{m: 1}}", {"n": 3, "m": 1}),
        ("results.a.sum * 2 + previous_result[1];", 8),
        ("const x = 2; return x * results.a.sum", 6),
        ("let s = 0\nfor (const x of results.b) s += x\nreturn s", 6),
        ("if (results.a.sum > 2) { return 'big' }\nreturn 'small'", "big"),
        ("return 5", 5),
        ("// why\nresults.a.sum + 1", 4),
        ("/* why */ results.a.sum + 1 // because; yes", 4),
        ("results.b.map(x => { const y = x * 2; return y; })", [2, 4, 6]),
        ("await Promise.resolve(7)", 7),
        ("async () => 1", None),
        ("function () { return 1; }", None),
        ("(function () { return 1; })()", 1),
        ("`a;${results.a.sum}`", "a;3"),
        ("results.a?.missing ?? 'none'", "none"),
        ("foo = 1\nbar = 2", 1),
        ("results.a.sum; results.b", None),
        ("[undefined, NaN, 1n, new Date(0), new Map(), () => 1]", [None, None, "1", "1970-01-01T00:00:00.000Z", {}, None]),
        ("{a: undefined, b: {c: 2n}}", {"b": {"c": "2"}}),
        ("Symbol()", None),
        ("typeof require + typeof process + typeof fetch + typeof setTimeout", "undefined" * 4),
        ("const {a, ...rest} = results.a; return {a: a ?? 0, rest}", {"a": 0, "rest": {"sum": 3}}),
        ("let flow_input = 4; return flow_input", 4),
    ],
)  # fmt: skip
def test_values_of_code(expression: str, value: Any) -> None:
    assert in_javascript(expression, CONTEXT) == ("v", value)


@pytest.mark.parametrize(
    ("expression", "name", "message"),
    [
        ("unknown + 1", "ReferenceError", "unknown is not defined"),
        ("flow_input.none.deep", "TypeError", "cannot read property 'deep' of null"),
        ("throw new RangeError('too much')", "RangeError", "too much"),
        ("throw {code: 5}", "Error", '{"code":5}'),
        ("throw 'words'", "Error", "words"),
        ("1 +", "SyntaxError", None),
        ("const x = ;", "SyntaxError", None),
        ("new Promise(() => {})", "Error", "the expression waits for something that never comes"),
        ("const o = {}; o.o = o; return o", "TypeError", "circular reference"),
        ("variable('u/x/y')", "Error", 'nothing to look up: ["variable","u/x/y"]'),
        ("import('os')", "ReferenceError", None),
        ("'x'.repeat(2000000)", "RangeError", "the value is larger than 1048576 bytes"),
        ("Promise.reject(new Error('later'))", "Error", "later"),
        ("throw Object.defineProperty(new Error(), 'message', {get() { throw 1 }})", "Error", None),
        ("{toJSON() { throw new TypeError('no') }}", "TypeError", "no"),
    ],
)
def test_errors_of_code(expression: str, name: str, message: str | None) -> None:
    kind, error = in_javascript(expression, CONTEXT)
    assert (kind, error[0]) == ("e", name)
    assert message is None or error[1] == message


@pytest.mark.parametrize("text", ["return true", "const a = 1; a", "if (1) {}", "1; 2"])
def test_predicates_are_no_statements(text: str) -> None:
    kind, error = in_javascript(text, {}, is_predicate=True)
    assert (kind, error[0]) == ("e", "SyntaxError")


@pytest.mark.parametrize(
    ("text", "truth"), [("[]", True), ("{}", True), ("0", False), ("''", False), ("NaN", False), ("'0'", True)]
)
def test_truth(text: str, truth: bool) -> None:
    assert in_javascript(text, {}, is_predicate=True) == ("v", truth)


def test_programs() -> None:
    assert to_program(" a + 1 ") == Program("a + 1", "return a + 1", is_predicate=False)
    assert to_program("a;") == Program("a", "a;", is_predicate=False)
    assert to_program("return a").expression == ""
    assert to_program("'a;b' + c").body == "return 'a;b' + c"
    assert to_program("// it's\na").body == "// it's\nreturn a"
    assert to_program("a", is_predicate=True) == Program("a", "", is_predicate=True)


def test_calls() -> None:
    assert parse_call("variable('u/a/b')") == Call("variable", "u/a/b")
    assert parse_call('resource( "f/a/b" )') == Call("resource", "f/a/b")
    assert parse_call("flow_user_state('k')") == Call("flow_user_state", "k")
    for text in ("variable(x)", "variable('a') + 1", "variables('a')", "variable('a\\n')"):
        assert parse_call(text) is None


def test_what_is_mentioned() -> None:
    assert mentioned_names("flow_input.a + $x") == frozenset({"flow_input", "a", "$x"})
    for text in ("globalThis['flow_input']", "eval(x)", "fl\\u006fw_input", "this.flow_input", "[].constructor"):
        assert mentioned_names(text) is None
        assert mentioned_steps(text) is None
    several = "results.a + results?.b + results['c-v'] + results?.['d'] + results\n  .e"
    assert mentioned_steps(several) == frozenset({"a", "b", "c-v", "d", "e"})
    assert mentioned_steps("my_results.a + results1.b") == frozenset()
    for text in ("results", "results[x]", "const {a} = results; return a"):
        assert mentioned_steps(text) is None


def test_error_of() -> None:
    error = {"name": "E", "message": "m", "step_id": "b"}
    assert error_of({"error": error}) == error
    assert error_of([1, {"error": error}, {"x": 1}]) == error
    several = error_of([{"error": error}, {"error": {"message": "n", "step_id": "c"}}, {"error": "bare"}])
    assert several["name"] == "MultipleErrors"
    assert several["message"] == "[b] m; [c] n; [] bare"
    assert len(several["errors"]) == 3
    others: tuple[Any, ...] = (None, 1, [], {}, {"error": None})
    for other in others:
        assert error_of(other)["name"] == "UnknownError"
