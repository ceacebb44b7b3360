"""The parameters of a Python preprocessor, which say what it wants to be given. Pure.

The code of a script is never parsed here as a whole: it may be a mebibyte of anything, and the loop waits. Only the
parameters of ``preprocessor`` are cut out, by counting brackets, and parsed.
"""

from __future__ import annotations

import ast
import re
from typing import Final

#: Characters of a parameter list that are looked at.
_MAX_SIGNATURE: Final = 10_000
_START: Final = re.compile(r"^(?:async[ \t]+)?def[ \t]+preprocessor[ \t]*\(", re.MULTILINE)
#: What matters for finding the end: strings and comments as wholes, brackets.
_TOKEN: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""' + r"|'''(?:[^'\\]|\\.|'(?!''))*'''"
    r"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|\#[^\n]*|[(\[{]|[)\]}]",
    re.DOTALL,
)


def preprocessor_parameters(code: str) -> tuple[str, ...]:
    """The names of the parameters of the function ``preprocessor`` in ``code``; empty if they cannot be read."""
    start = _START.search(code)
    if start is None:
        return ()
    text = code[start.end() : start.end() + _MAX_SIGNATURE]
    depth = 1
    for token in _TOKEN.finditer(text):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
            if depth == 0:
                return _names(text[: token.start()])
    return ()


def _names(parameters: str) -> tuple[str, ...]:
    try:
        function = ast.parse(f"def preprocessor({parameters}\n): pass").body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    assert isinstance(function, ast.FunctionDef)  # noqa: S101 - nothing else can be parsed from this text
    arguments = function.args
    return tuple(each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
