"""The parameters of scripts in bash, PHP, Ruby, Perl and PowerShell, read as their runtimes read them. Pure.

What these languages say of types is little; where a parameter has none, that of its default counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from minwebhook.child.bash import arguments
from minwebhook.child.programs import PROGRAMS
from minwebhook.child.programs.parameters import Parameter as Written
from minwebhook.child.programs.parameters import parameters, split
from minwebhook.schemas.model import (
    BOOLEAN,
    DATE_TIME,
    INTEGER,
    NO_DEFAULT,
    NUMBER,
    OBJECT,
    STRING,
    UNKNOWN,
    NoDefault,
    Parameter,
    Type,
    choices,
    is_plain,
    list_of,
    resource,
    type_of_value,
)

_NUMBER: Final = re.compile(r"[+-]?\d[\d_]*(\.\d[\d_]*)?([eE][+-]?\d+)?")
_MAX_DIGITS: Final = 40
_WORDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("true", "$true", "!!1"), True),
    **dict.fromkeys(("false", "$false", "!!0"), False),
    **dict.fromkeys(("null", "nil", "undef", "$null"), None),
}
_PHP_MAIN: Final = re.compile(r"\bfunction\s+&?main\s*\(", re.IGNORECASE)
_PHP: Final = re.compile(r"(?:(?P<type>[?\\\w|&()\s]+?)\s*)?(?P<rest>\.\.\.)?\s*\$(?P<name>\w+)")
#: Attributes, and that a parameter is given by reference.
_PHP_MARKS: Final = re.compile(r"#\[[^\]]*\]|&(?=\s*(?:\.\.\.)?\s*\$)")
_PHP_TYPES: Final = {
    "int": INTEGER,
    "float": NUMBER,
    "bool": BOOLEAN,
    "string": STRING,
    "object": OBJECT,
    "stdclass": OBJECT,
    "datetime": DATE_TIME,
    "datetimeimmutable": DATE_TIME,
    "datetimeinterface": DATE_TIME,
    **dict.fromkeys(("array", "iterable", "mixed", "callable", "self", "static"), UNKNOWN),
}
_RUBY: Final = re.compile(r"(?P<stars>\*{0,2}|&)(?P<name>\w+)(?P<colon>:)?(?:\s+(?P<default>.+))?", re.DOTALL)
_PERL: Final = re.compile(r"(?P<sigil>[$@%])(?P<name>\w+)")
_POWERSHELL: Final = re.compile(r"(?:^|\n)\s*param\s*\(", re.IGNORECASE)
_POWERSHELL_PARAMETER: Final = re.compile(r"(?P<marks>(?:\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]\s*)*)\$(?P<name>\w+)")
_POWERSHELL_MARK: Final = re.compile(r"\[\s*([\w.]+)\s*((?:\[\])?)\s*(?:\((.*)\))?\s*\]", re.DOTALL)
_POWERSHELL_TYPES: Final = {
    "string": STRING,
    **dict.fromkeys(("int", "int32", "long", "int64"), INTEGER),
    **dict.fromkeys(("decimal", "double", "single", "float"), NUMBER),
    **dict.fromkeys(("bool", "boolean", "switch"), BOOLEAN),
    **dict.fromkeys(("datetime", "system.datetime"), DATE_TIME),
    **dict.fromkeys(("pscustomobject", "psobject", "hashtable"), OBJECT),
    **dict.fromkeys(("object", "array"), UNKNOWN),
}


def bash_parameters(source: str) -> list[Parameter]:
    """The positional arguments: texts."""
    return [
        Parameter(each.name, STRING, each.default is None, NO_DEFAULT if each.default is None else each.default)
        for each in arguments(source)
    ]


def php_parameters(source: str) -> list[Parameter]:
    """By their types."""
    found = []
    for written in parameters(source, _PHP_MAIN):
        match = _PHP.fullmatch(_PHP_MARKS.sub("", written.name).strip())
        if match is None or match["rest"]:
            continue
        kind, is_optional = _php_type((match["type"] or "").split()[-1:])
        found.append(_parameter(match["name"], kind, written, is_optional=is_optional))
    return found


def _php_type(words: list[str]) -> tuple[Type | None, bool]:
    if not words:
        return None, False
    names = words[0].lstrip("?").split("|")
    kinds = [name for name in names if name.lower() != "null"]
    is_optional = words[0].startswith("?") or len(kinds) < len(names)
    if len(kinds) != 1:
        return UNKNOWN, is_optional
    name = kinds[0].rpartition("\\")[2]
    return _PHP_TYPES.get(name.lower()) or resource(name), is_optional or name.lower() == "mixed"


def ruby_parameters(source: str) -> list[Parameter]:
    """Positional ones and keywords, by their defaults."""
    found = []
    for written in PROGRAMS["ruby"].parameters(source):
        match = _RUBY.fullmatch(written.name)
        if match is None or match["stars"]:
            continue
        default = match["default"] if match["colon"] else written.default
        found.append(_parameter(match["name"], None, Written(written.name, default)))
    return found


def perl_parameters(source: str) -> list[Parameter]:
    """By their defaults; ``@list`` is a list."""
    found = []
    for written in PROGRAMS["perl"].parameters(source):
        match = _PERL.fullmatch(written.name)
        if match is None or match["sigil"] == "%":
            continue
        is_list = match["sigil"] == "@"
        found.append(_parameter(match["name"], list_of(UNKNOWN) if is_list else None, written, is_optional=is_list))
    return found


def powershell_parameters(source: str) -> list[Parameter]:
    """Those of ``param(...)``, by their types."""
    match = _POWERSHELL.search(source)
    found = []
    for text in split(source, match.end()) if match else []:
        read = _POWERSHELL_PARAMETER.match(text)
        if read is None:
            continue
        _, sign, default = text[read.end() :].partition("=")
        kind, values, is_mandatory = None, None, False
        for mark in _POWERSHELL_MARK.finditer(read["marks"]):
            word = mark[1].lower()
            if word == "validateset":
                values = [literal(part) for part in split(f"{mark[3]})", 0)]
            elif word == "parameter":
                is_mandatory = "mandatory" in (mark[3] or "").lower()
            elif word in _POWERSHELL_TYPES:
                kind = _POWERSHELL_TYPES[word]
                kind = list_of(kind) if mark[2] else kind
        if values and all(isinstance(value, str) for value in values):
            kind = choices(values)
        written = Written(read["name"], default.strip() if sign else None)
        if kind is None and not sign:
            kind = STRING
        found.append(_parameter(read["name"], kind, written, is_optional=kind is BOOLEAN and not is_mandatory))
    return found


def _parameter(name: str, kind: Type | None, written: Written, *, is_optional: bool = False) -> Parameter:
    value = NO_DEFAULT if written.default is None else literal(written.default)
    if kind is None:
        kind = UNKNOWN if isinstance(value, NoDefault) or value is None else type_of_value(value)
    return Parameter(name, kind, written.default is None and not is_optional, value)


def literal(text: str) -> Any:
    """A number, a quoted text, true, false or nothing, as all these languages write them; else :data:`NO_DEFAULT`."""
    text = text.strip()
    if (word := text.lower()) in _WORDS:
        return _WORDS[word]
    if match := _NUMBER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            return NO_DEFAULT
        digits = text.replace("_", "")
        value: Any = float(digits) if match[1] or match[2] else int(digits)
        return value if is_plain(value) else NO_DEFAULT
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        inner = text[1:-1]
        is_plain_text = not any(mark in inner for mark in ("\\", "`", text[0])) and (
            text[0] == "'" or not any(mark in inner for mark in "$#@")
        )
        return inner if is_plain_text and is_plain(inner) else NO_DEFAULT
    return [] if text in ("[]", "@()") else NO_DEFAULT
