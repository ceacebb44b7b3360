"""What is read off TypeScript before it runs: its entry points, the parameters of its preprocessor, its native mark. Pure.

As with Python (preprocessor.py), code is searched by patterns and never parsed as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Characters of a parameter list that are looked at.
_MAX_SIGNATURE: Final = 10_000
_ENTRY: Final = re.compile(
    r"^[ \t]*export[ \t]+(?:default[ \t]+)?(?:(?:async[ \t]+)?function[ \t]*\*?[ \t]*|(?:const|let|var)[ \t]+)"
    r"(main|preprocessor)\b",
    re.MULTILINE,
)
#: ``export { main }``, ``export { run as main }``
_LISTED: Final = re.compile(r"^[ \t]*export[ \t]*\{([^{}]*)\}", re.MULTILINE)
_LISTED_NAME: Final = re.compile(r"(?:^|,)\s*(?:[\w$]+\s+as\s+)?(main|preprocessor)\s*(?=,|$)")
_PREPROCESSOR: Final = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?:async[ \t]+)?function[ \t]+preprocessor[ \t]*(?:<[^(]{0,1000}>)?\(", re.MULTILINE
)
#: What matters for finding the end and the commas: strings and comments as wholes, brackets.
_TOKEN: Final = re.compile(
    r"/\*.*?\*/|//[^\n]*|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|=>|[(\[{<]|[)\]}>]|,", re.DOTALL
)
_NAME: Final = re.compile(r"\s*(?:\.\.\.)?\s*([A-Za-z_$][\w$]*)")
_MEMBER: Final = re.compile(r"[{,]\s*(?:\.\.\.)?\s*([A-Za-z_$][\w$]*)")
_NATIVE: Final = re.compile(r"\ufeff?\s*//[ \t]*native\b")


def entry_points(code: str) -> set[str]:
    """Which of ``main`` and ``preprocessor`` the code exports."""
    found = set(_ENTRY.findall(code))
    for match in _LISTED.finditer(code):
        found.update(_LISTED_NAME.findall(match[1]))
    return found


def is_native(code: str) -> bool:
    """Whether the code begins with ``//native``: it needs nothing that only one engine has."""
    return _NATIVE.match(code) is not None


def preprocessor_parameters(code: str) -> tuple[str, ...]:
    """The names of the parameters of the function ``preprocessor``; empty if they cannot be read.

    The members that a pattern takes out of its argument count as parameters.
    """
    start = _PREPROCESSOR.search(code)
    if start is None:
        return ()
    names: list[str] = []
    for piece in _pieces(code[start.end() : start.end() + _MAX_SIGNATURE]):
        if piece.lstrip().startswith("{"):
            names += _MEMBER.findall(piece.partition("}")[0] + "}")
        elif match := _NAME.match(piece):
            names.append(match[1])
    return tuple(names)


def _pieces(text: str) -> Iterator[str]:
    """The parameters, without comments, up to the bracket that closes their list."""
    depth, piece, at = 1, "", 0
    for token in _TOKEN.finditer(text):
        piece += text[at : token.start()]
        at = token.end()
        mark = token[0]
        if mark.startswith("/"):
            continue
        if mark in ("(", "[", "{", "<"):
            depth += 1
        elif mark in (")", "]", "}", ">"):
            depth -= 1
            if depth == 0:
                yield piece
                return
        elif mark == "," and depth == 1:
            yield piece
            piece = ""
            continue
        piece += mark
