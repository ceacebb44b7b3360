"""Expressions of flows as text: which are plain paths, what they mean, and which values and steps they mention. Pure.

Most expressions only name a value: ``results.a.items[0]``, ``flow_input.iter.value``, ``"text"``. :func:`resolve` answers those
itself, with what JavaScript would give; whatever it is not sure of it leaves to JavaScript (``javascript.py``). One rule is
Windmill's and not JavaScript's: a plain path below ``results`` gives null where a part of it is missing.

Any other text becomes the body of an async function (:func:`to_program`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from minwebhook.errors import MinwebhookError
from minwebhook.flows.model import Inputs, Javascript

#: Longest text that is looked at for a plain path; what is longer is code.
_MAX_PATH_CHARACTERS: Final = 1000
#: Integers up to this one are the same in JavaScript.
MAX_SAFE_INTEGER: Final = (1 << 53) - 1

_PATH: Final = re.compile(
    r"""[A-Za-z_$][\w$]*(?:\??\.[A-Za-z_$][\w$]*|(?:\?\.)?\[(?:"[^"\\\n]*"|'[^'\\\n]*'|\d{1,15})\])*""", re.ASCII
)
_SEGMENT: Final = re.compile(
    r"""(?P<optional>\?\.)?\.?(?:(?P<name>[A-Za-z_$][\w$]*)|\[(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<index>\d+))\])""",
    re.ASCII,
)
_LITERAL: Final = re.compile(
    r"""(?P<number>0|-?[1-9]\d{0,14})|"(?P<double>[^"\\\n\r]*)"|'(?P<single>[^'\\\n\r]*)'""", re.ASCII
)
_WORDS: Final[Mapping[str, Any]] = {"null": None, "undefined": None, "true": True, "false": False}
#: What every object has without having it itself.
_INHERITED: Final = frozenset(
    {
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "__proto__",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
    }
)
#: Values that go by the rest of the text if that is a key of theirs, whatever else it might mean.
_VERBATIM: Final = ("flow_input", "flow_env")


class ExpressionError(MinwebhookError):
    """An expression has no value: ``name`` and ``message`` as JavaScript has them for errors."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class NotPlain:
    """The type of :data:`NOT_PLAIN`."""


#: JavaScript has to say what this is.
NOT_PLAIN: Final = NotPlain()


class Path(NamedTuple):
    """``root.a?.b[0]``: a name and, for each step from there, the key and whether ``?.`` is in front of it."""

    root: str
    segments: tuple[tuple[str, bool], ...]


class Literal(NamedTuple):
    """A value that is written out."""

    value: Any


class Call(NamedTuple):
    """``variable("u/someone/name")`` and nothing else."""

    function: str
    argument: str


class Program(NamedTuple):
    """What JavaScript is to try: the text as one expression; if it is none, ``body`` as the body of a function."""

    #: Empty: it is not tried.
    expression: str
    #: Empty: there is none, and what is wrong with the expression is the error.
    body: str
    #: Whether the value is wanted as true or false.
    is_predicate: bool


@lru_cache(maxsize=4096)
def parse_plain(text: str) -> Path | Literal | None:
    """The path or literal that a trimmed text is; None if it is neither."""
    if len(text) > _MAX_PATH_CHARACTERS:
        return None
    if text in _WORDS:
        return Literal(_WORDS[text])
    if (literal := _LITERAL.fullmatch(text)) is not None:
        number = literal["number"]
        return Literal(int(number) if number is not None else literal["double"] or literal["single"] or "")
    if _PATH.fullmatch(text) is None:
        return None
    root, *_ = re.split(r"[?.\[]", text, maxsplit=1)
    segments = []
    for found in _SEGMENT.finditer(text, len(root)):
        index = found["index"]
        keys = (found["name"], found["double"], found["single"], index and str(int(index)))
        key = next(key for key in keys if key is not None)
        segments.append((key, found["optional"] is not None))
    return Path(root, tuple(segments))


def resolve(expression: str, context: Mapping[str, Any]) -> Any:
    """The value of an expression that is a plain path or literal; :data:`NOT_PLAIN` for all others. Never raises.

    ``context`` is by name what the expression may use, as JSON values.
    """
    text = expression.strip()
    for name in _VERBATIM:
        members = context.get(name)
        if isinstance(members, Mapping) and (key := _verbatim_key(text, name, members)) is not None:
            return members[key]
    plain = parse_plain(text)
    if plain is None:
        return NOT_PLAIN
    if isinstance(plain, Literal):
        return plain.value
    if plain.root not in context:
        return NOT_PLAIN
    value = context[plain.root]
    for key, is_optional in plain.segments:
        if value is None:
            if is_optional or (plain.root == "results" and plain.segments[-1][0] != "length"):
                return None
            return NOT_PLAIN  # an error, which JavaScript words
        value = _member(value, key)
        if value is NOT_PLAIN:
            return NOT_PLAIN
    return value


def verbatim_key(text: str, flow_input: Mapping[str, Any]) -> str | None:
    """The key of ``flow_input`` that all of the trimmed text behind it is."""
    return _verbatim_key(text, "flow_input", flow_input)


def _verbatim_key(text: str, name: str, members: Mapping[str, Any]) -> str | None:
    key = text[len(name) + 1 :]
    return key if text.startswith(f"{name}.") and key in members else None


def _member(value: Any, key: str) -> Any:
    """``value[key]``; undefined is None."""
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        return NOT_PLAIN if key in _INHERITED else None
    if isinstance(value, list):
        if key.isdecimal() and (key == "0" or key[0] != "0"):
            index = int(key)
            return value[index] if index < len(value) else None
        if key == "length":
            return len(value)
    return NOT_PLAIN


def is_truthy(value: Any) -> bool:
    """Whether a JSON value counts as true in JavaScript."""
    return isinstance(value, dict | list) or bool(value)


_CALL: Final = re.compile(r"""(variable|resource|flow_user_state)\(\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)')\s*\)""")


def parse_call(text: str) -> Call | None:
    """The look-up that a trimmed text is, and nothing besides."""
    found = _CALL.fullmatch(text)
    return Call(found[1], found[2] or found[3] or "") if found is not None else None


def references_of(inputs: Inputs) -> dict[str, str]:
    """The arguments of a step that are the value of a variable or a resource and nothing else, as references to it."""
    found = {}
    for name, each in inputs.items():
        call = parse_call(each.expr.strip()) if isinstance(each, Javascript) else None
        if call is not None and call.function in _PREFIXES:
            found[name] = _PREFIXES[call.function] + call.argument
    return found


_PREFIXES: Final[Mapping[str, str]] = {"variable": "$var:", "resource": "$res:"}
_LEADING: Final = re.compile(r"(?:\s+|//[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
#: With these a statement begins that is never an expression.
_STATEMENT: Final = re.compile(r"(?:return|const|let|var|if|for|while|switch|try|throw)\b")
#: With these a text begins that is not given a ``return``.
_NO_RETURN: Final = re.compile(r"(?:return|const|let|var|if|for|while|switch|try|throw|function|class|async|await)\b")
_QUOTED: Final = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`""", re.DOTALL
)


def to_program(expression: str, *, is_predicate: bool = False) -> Program:
    """What JavaScript runs for an expression. Predicates are expressions only.

    If the text is one expression, perhaps with a semicolon behind it, that is the value. Otherwise it is the body of a function:
    as it is, if it begins with a word of a statement or has a semicolon outside of quotes, else with ``return`` in front.
    """
    text = expression.strip()
    start = _LEADING.match(text)
    at = start.end() if start is not None else 0
    code = text[at:]
    alone = "" if _STATEMENT.match(code) else text.rstrip("; \t\r\n")
    if is_predicate:
        return Program(text, "", is_predicate=True)
    if _NO_RETURN.match(code) or ";" in _QUOTED.sub("", code):
        return Program(alone, text, is_predicate=False)
    return Program(alone, f"{text[:at]}return {code}", is_predicate=False)


#: With these a text may reach names that it does not spell out.
_INDIRECT: Final = re.compile(r"\\|\bglobalThis\b|\beval\b|\bFunction\b|\bconstructor\b|\bthis\b")
_NAME: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


def mentioned_names(expression: str) -> frozenset[str] | None:
    """Every identifier in the text; None if it may reach others too."""
    return None if _INDIRECT.search(expression) else frozenset(_NAME.findall(expression))


_RESULTS: Final = re.compile(r"(?<![\w$])results(?![\w$])")
_STEP: Final = re.compile(
    r"""\s*(?:\?\.|\.)\s*(?P<name>[A-Za-z_$][\w$]*)|\s*(?:\?\.)?\s*\[\s*(?:"(?P<double>[^"\\\n]*)"|'(?P<single>[^'\\\n]*)')\s*\]"""
)


def mentioned_steps(expression: str) -> frozenset[str] | None:
    """The ids of the steps whose results the text mentions; None if it may be any."""
    if _INDIRECT.search(expression):
        return None
    steps = set()
    for found in _RESULTS.finditer(expression):
        step = _STEP.match(expression, found.end())
        if step is None:
            return None
        steps.add(step["name"] or step["double"] or step["single"] or "")
    return frozenset(steps)


def error_of(previous_result: Any) -> Any:
    """What ``error`` is for a result: that of the step, of the one iteration or branch that failed, or all of them."""
    if isinstance(previous_result, dict) and previous_result.get("error") is not None:
        return previous_result["error"]
    items = previous_result if isinstance(previous_result, list) else []
    errors = [item["error"] for item in items if isinstance(item, dict) and item.get("error") is not None]
    if len(errors) == 1:
        return errors[0]
    if not errors:
        return {"name": "UnknownError", "message": "no step before this one failed"}
    message = "; ".join(f"[{_field(error, 'step_id')}] {_field(error, 'message')}" for error in errors)
    return {"name": "MultipleErrors", "message": message, "errors": errors}


def _field(error: Any, name: str) -> str:
    return str(error.get(name, "")) if isinstance(error, dict) else "" if name == "step_id" else str(error)
