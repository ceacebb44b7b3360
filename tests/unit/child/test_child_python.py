"""The rules of ``main``: binding, conversions, results as JSON, errors as objects."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child.python import Function, Functions, convert, encode_error, encode_result, module_name

MARKER = "<function call>"


def bind(main: Callable[..., Any], arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    made = types.ModuleType("script")
    made.__dict__["main"] = main
    return Function(made, "main").bind(arguments)


def call_main(made: types.ModuleType, arguments: dict[str, Any]) -> Any:
    return Functions(made).find("main").result(arguments)


def function(signature: str) -> Callable[..., Any]:
    made = module(f"def main({signature}):\n    return dict(locals())")
    main: Callable[..., Any] = made.__dict__["main"]
    return main


def module(code: str) -> types.ModuleType:
    """A script, compiled without the future features of this file."""
    made = types.ModuleType("script")
    made.__dict__.update({"Optional": Optional, "datetime": datetime})
    exec(compile(code, "script.py", "exec", dont_inherit=True), made.__dict__)  # noqa: S102 - scripts are the subject
    return made


@pytest.mark.parametrize(
    ("signature", "arguments", "expected"),
    [
        ("", {"a": 1}, {}),
        ("a", {"a": 1}, {"a": 1}),
        ("a", {}, {"a": None}),
        ("a", {"a": None}, {"a": None}),
        ("a=1", {}, {"a": 1}),
        ("a=1", {"a": None}, {"a": 1}),
        ("a=1", {"a": MARKER}, {"a": 1}),
        ("a", {"a": MARKER}, {"a": None}),
        ("a=1", {"a": 0}, {"a": 0}),
        ("a=1", {"a": False}, {"a": False}),
        ("a=1", {"a": ""}, {"a": ""}),
        ("a, b=2, *, c, d=4", {"b": 20, "c": 30}, {"a": None, "b": 20, "c": 30, "d": 4}),
        ("*, c=1", {"c": 2}, {"c": 2}),
        ("**kwargs", {"x": 1, "y": None}, {"kwargs": {"x": 1, "y": None}}),
        ("a, **kwargs", {"a": 1, "x": 2}, {"a": 1, "kwargs": {"x": 2}}),
        ("a=1, **kwargs", {"a": None, "self": 2}, {"a": 1, "kwargs": {"self": 2}}),
        ("*args", {"args": 1}, {"args": ()}),
        ("a, /", {"a": 1}, {"a": 1}),
        ("a, b=2, /, c=3", {"a": 1}, {"a": 1, "b": 2, "c": 3}),
        ("a, /, **kwargs", {"a": 1, "x": 2}, {"a": 1, "kwargs": {"x": 2}}),
        ("a: bytes", {"a": "eA=="}, {"a": b"x"}),
        ("a: 'bytes'", {"a": "eA=="}, {"a": b"x"}),
        ("a: Optional[bytes]", {"a": "eA=="}, {"a": b"x"}),
        ("a: bytes = b'd'", {}, {"a": b"d"}),
        ("a: int", {"a": "1"}, {"a": "1"}),
    ],
)
def test_binding(signature: str, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    main = function(signature)
    positional, keywords = bind(main, arguments)
    assert main(*positional, **keywords) == expected


def test_positional_only_parameters_keep_their_places() -> None:
    main = function("a=1, b=2, /")
    positional, keywords = bind(main, {"b": 20})
    assert main(*positional, **keywords) == {"a": 1, "b": 20}


names = st.sampled_from("abcde")


@given(
    st.lists(st.tuples(names, st.booleans()), unique_by=lambda pair: pair[0], max_size=5),
    st.lists(st.tuples(names, st.booleans()), unique_by=lambda pair: pair[0], max_size=5),
    st.booleans(),
    st.dictionaries(st.sampled_from("abcdefg"), st.none() | st.integers() | st.just(MARKER), max_size=7),
)
def test_any_signature_can_be_called(
    plain: list[tuple[str, bool]], only: list[tuple[str, bool]], takes_all: bool, arguments: dict[str, Any]
) -> None:
    plain.sort(key=lambda pair: pair[1])
    only = [pair for pair in only if pair[0] not in {name for name, _ in plain}]
    parts = [f"{name}='default'" if default else name for name, default in plain]
    parts += ["*"] * bool(only) + [f"{name}='default'" if default else name for name, default in only]
    main = function(", ".join(parts + ["**kwargs"] * takes_all))
    positional, keywords = bind(main, arguments)
    got = main(*positional, **keywords)
    for name, has_default in [*plain, *only]:
        value = arguments.get(name)
        missing = value is None or value == MARKER
        assert got[name] == ("default" if has_default else None) if missing else got[name] == value
    if takes_all:
        declared = {name for name, _ in [*plain, *only]}
        assert got["kwargs"] == {name: value for name, value in arguments.items() if name not in declared}


def test_decorated_and_callable_objects() -> None:
    import functools

    @functools.wraps(function("a, b=2"))
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert bind(wrapper, {"a": 1, "z": 2}) == ([], {"a": 1})
    assert bind(functools.partial(print), {"a": 1}) == ([], {"a": 1})


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("2024-05-06T07:08:09.123Z", datetime.datetime, datetime.datetime(2024, 5, 6, 7, 8, 9, 123_000, UTC)),
        ("2024-05-06", datetime.datetime, datetime.datetime(2024, 5, 6)),
        ("2024-05-06T07:08:09Z", "datetime", datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06", "datetime.datetime | None", datetime.datetime(2024, 5, 6)),
        ("2024-05-06", datetime.date, datetime.date(2024, 5, 6)),
        ("2024-05-06T23:00:00", datetime.date, datetime.date(2024, 5, 6)),
        ("31-12-2024", datetime.date, datetime.date(2024, 12, 31)),
        ("12/31/2024", datetime.date, datetime.date(2024, 12, 31)),
        ("31/12/2024", datetime.date, datetime.date(2024, 12, 31)),
        ("2024/12/31", "date", datetime.date(2024, 12, 31)),
        ("01/02/2024", datetime.date, datetime.date(2024, 1, 2)),
        ("eA==", bytes, b"x"),
        ("eA==", "bytes | None", b"x"),
        ("eA==", Optional[bytes], b"x"),  # noqa: UP045 - the other spelling is another type
        ("eA==", bytes | None, b"x"),
        ("eA==", bytes | str | None, "eA=="),
        ("x", str, "x"),
        ("x", None, "x"),
        ("x", "whatever", "x"),
        ("x", list[str], "x"),
        (7, bytes, 7),
        ([1], datetime.date, [1]),
    ],
)
def test_conversions(value: Any, annotation: Any, expected: Any) -> None:
    converted = convert(value, annotation)
    assert (converted, type(converted)) == (expected, type(expected))


@pytest.mark.parametrize("annotation", [datetime.datetime, datetime.date, bytes])
def test_texts_that_cannot_be_converted_are_an_error_of_the_script(annotation: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        convert("abcde", annotation)


# --- results ----------------------------------------------------------------------------------------------------------


class Shown:
    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (1.0, "1.0"),
        (10**30, "1" + "0" * 30),
        (-(10**400), "-1" + "0" * 400),
        (math.nan, "null"),
        (-math.inf, "null"),
        (
            {"a": [math.inf, {"b": (math.nan, 1)}], "c": "NaN Infinity"},
            '{"a":[null,{"b":[null,1]}],"c":"NaN Infinity"}',
        ),
        ("é\u2028\n", '"é\u2028\\n"'),
        ("\ud800", '"?"'),
        ({"\udfff": "\ud83d"}, '{"?":"?"}'),
        ("a\0b", '"ab"'),
        ("\\u0000", '"\\\\u0000"'),
        ("\\\0", '"\\\\"'),
        ({"\0": ["\0\0"]}, '{"":[""]}'),
        (b"\x00\xff", '"AP8="'),
        ({"a": b"x", "b": 1}, '{"a":"eA==","b":1}'),
        ({"a": {"b": b"x"}}, '{"a":{"b":"eA=="}}'),
        ([b"x", bytearray(b"y"), memoryview(b"z")], '["eA==","eQ==","eg=="]'),
        ((1, (2,)), "[1,[2]]"),
        ({3}, '"{3}"'),
        (frozenset(), '"frozenset()"'),
        (datetime.datetime(2024, 1, 1), '"2024-01-01 00:00:00"'),
        (datetime.date(2024, 1, 1), '"2024-01-01"'),
        (decimal.Decimal("1.50"), '"1.50"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Path("/a/b"), '"/a/b"'),
        (Shown(), '"shown"'),
        ([Shown(), object], f'["shown","{object}"]'),
        ({1: 2, None: 3, False: 4, 1.5: 5}, '{"1":2,"null":3,"false":4,"1.5":5}'),
        (complex(1, 2), '"(1+2j)"'),
        ({"z": 1, "a": 2}, '{"z":1,"a":2}'),
    ],
)
def test_results(value: Any, expected: str) -> None:
    assert encode_result(value)[0].decode() == expected


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error"),
    [({(1, 2): 3}, TypeError), ({b"x": 1}, TypeError), (deep(100_000), RecursionError), ({math.nan: 1}, ValueError)],
)
def test_what_has_no_json_is_an_error(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_result(value)


def test_a_cycle_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        encode_result(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_nul(member) for member in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(member) for key, member in value.items()}
    return value


@given(json_values)
def test_json_comes_out_as_it_went_in_but_for_nul(value: Any) -> None:
    assert json.loads(encode_result(value)[0]) == without_nul(value)


@given(
    st.recursive(
        st.none() | st.floats() | st.binary() | st.text(st.characters()) | st.sets(st.integers()) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
        max_leaves=15,
    )
)
def test_any_plain_value_gives_strict_json(value: Any) -> None:
    data, _ = encode_result(value)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(data.decode(), parse_constant=refuse)
    assert b"\\u0000" not in data.replace(b"\\\\", b"")


@given(st.binary())
def test_bytes_are_base64(value: bytes) -> None:
    assert base64.b64decode(json.loads(encode_result(value)[0])) == value


# --- errors -----------------------------------------------------------------------------------------------------------


def error_of(raise_it: Callable[[], Any]) -> dict[str, Any]:
    try:
        raise_it()
    except BaseException as error:
        report: dict[str, Any] = json.loads(encode_error(error)[0])
        return report
    raise AssertionError("nothing was raised")


def raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def test_message_name_stack_and_attributes() -> None:
    error = OSError(2, "no such thing")
    error.__dict__.update({"detail": [1, b"x"], "__hidden": 1})
    report = error_of(raising(error))
    assert (report["message"], report["name"]) == ("[Errno 2] no such thing", "FileNotFoundError")
    assert report["stack"].rstrip().splitlines()[-1].strip().startswith("raise error")
    assert report["extra"] == {"detail": [1, "eA=="]}


class BrokenStr(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class StrGivesNoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - broken on purpose


class StrGoesOn(Exception):
    def __str__(self) -> str:
        return str(self)


class BrokenAttributes(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", [BrokenStr, StrGivesNoText, StrGoesOn, BrokenAttributes])
def test_broken_exceptions_still_have_a_name(kind: type[Exception]) -> None:
    report = error_of(raising(kind("x")))
    assert report["name"] == kind.__name__
    assert isinstance(report["message"], str)
    assert isinstance(report["stack"], str)


@pytest.mark.parametrize(
    "extra", [{"x": {(1, 2): 3}}, {"x": math.nan}, {"x": "\ud800"}, {"x": object()}, {"x": deep(5000)}]
)
def test_attributes_that_have_no_json_hide_nothing(extra: dict[str, Any]) -> None:
    error = ValueError("\ud800 and \0")
    error.__dict__.update(extra)
    report = error_of(raising(error))
    assert (report["name"], report["message"]) == ("ValueError", "? and ")


def test_exits_and_groups() -> None:
    assert error_of(raising(SystemExit(3)))["name"] == "SystemExit"
    assert error_of(raising(KeyboardInterrupt()))["name"] == "KeyboardInterrupt"
    assert error_of(raising(ExceptionGroup("many", [ValueError("x")])))["message"] == "many (1 sub-exception)"


@given(st.text(st.characters()))
def test_any_message_is_json(text: str) -> None:
    report = error_of(raising(ValueError(text)))
    assert report["message"] == text.encode("utf-8", "replace").decode().replace("\0", "")


# --- the whole --------------------------------------------------------------------------------------------------------


def test_main_is_found_called_awaited_and_streamed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main(module("def main(a): return a"), {"a": 1}) == 1
    assert call_main(module("async def main(a): return a"), {"a": 1}) == 1
    for code in ("", "main = 7"):
        with pytest.raises(ValueError, match="main function is missing"):
            call_main(module(code), {})
    assert call_main(module("def main():\n yield 'a\\nb'\n yield ''"), {}) is None
    assert capsys.readouterr().out == "WM_STREAM: a\\nb\nWM_STREAM: \n"
    with pytest.raises(TypeError, match="must yield str, not int"):
        call_main(module("def main():\n yield 1"), {})


@pytest.mark.parametrize(
    "code",
    [
        "async def main():\n yield 'a\\nb'\n yield ''",
        "async def main():\n async def made():\n  yield 'a\\nb'\n  yield ''\n return made()",
        "async def main():\n return iter(['a\\nb', ''])",
        "def main():\n async def made():\n  yield 'a\\nb'\n  yield ''\n return made()",
        "class Made:\n def __aiter__(self):\n  self.rest = ['a\\nb', '']\n  return self\n"
        " async def __anext__(self):\n  if not self.rest: raise StopAsyncIteration\n  return self.rest.pop(0)\n"
        "def main(): return Made()",
    ],
)
def test_async_iterables_are_streamed(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main(module(code), {}) is None
    assert capsys.readouterr().out == "WM_STREAM: a\\nb\nWM_STREAM: \n"


def test_an_async_generator_runs_in_the_loop_of_its_main(capsys: pytest.CaptureFixture[str]) -> None:
    code = """
import asyncio

async def main():
    loop = asyncio.get_running_loop()
    async def made():
        yield str(asyncio.get_running_loop() is loop)
    return made()
"""
    assert call_main(module(code), {}) is None
    assert capsys.readouterr().out == "WM_STREAM: True\n"


def test_an_async_generator_of_something_else() -> None:
    with pytest.raises(TypeError, match="must yield str, not int"):
        call_main(module("async def main():\n yield 1"), {})


def test_a_preprocessor_does_not_stream() -> None:
    functions = Functions(module("async def preprocessor():\n yield 'a'\ndef main(): pass"))
    with pytest.raises(TypeError, match="preprocessor must return a dict, the arguments of main, not async_generator"):
        functions.preprocess({})


@pytest.mark.parametrize("result", ["x", b"x", bytearray(b"x"), {1: 2}, [1], (1,), {1}, frozenset([1]), range(2)])
def test_containers_are_results_and_no_streams(result: Any) -> None:
    made = module("def main(): return result")
    made.__dict__["result"] = result
    assert call_main(made, {}) is result


def test_data_frames_are_lists_of_rows() -> None:
    class DataFrame:
        def rows(self) -> list[tuple[int, ...]]:
            return [(1, 2), (3, 4)]

    assert encode_result(DataFrame()) == (b"[[1,2],[3,4]]", b"")


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "tmp"), ("u/bot/my-script", "u.bot.my_script"), ("f/1st/2ND", "f._1st._2nd"), ("f/A/B/C-d", "f.A.B.c_d")],
)
def test_module_names(path: str, name: str) -> None:
    assert module_name(path) == name
