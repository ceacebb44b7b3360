"""The parameters of ``main`` of a Python script, by its own parser. Pure.

Classes of the script are looked up: enums are choices; dataclasses, typed dicts and pydantic models objects. Names that stand
for another type are followed, except ``name = dict``, which is how a type of resources is written down.
"""

from __future__ import annotations

import ast
import base64
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

from minwebhook.schemas.model import (
    BOOLEAN,
    BYTES,
    DATE,
    DATE_TIME,
    FUNCTION_CALL,
    INTEGER,
    MAX_DEPTH,
    NO_DEFAULT,
    NUMBER,
    OBJECT,
    STRING,
    UNKNOWN,
    Lookups,
    NoDefault,
    Parameter,
    SchemaError,
    Type,
    choices,
    dynamic,
    formatted,
    is_plain,
    list_of,
    record,
    resource,
    type_of_value,
)

_SIMPLE: Final = {
    "str": STRING,
    "int": INTEGER,
    "float": NUMBER,
    "bool": BOOLEAN,
    "bytes": BYTES,
    "datetime": DATE_TIME,
    "date": DATE,
    "dict": OBJECT,
    "Dict": OBJECT,
    "Mapping": OBJECT,
    "list": list_of(UNKNOWN),
    "List": list_of(UNKNOWN),
    "Sql": formatted("sql"),
    "Email": formatted("email"),
    "Any": UNKNOWN,
    "object": UNKNOWN,
    "S3Object": resource("s3_object"),
}
_LISTS: Final = frozenset(
    {"list", "List", "Sequence", "Iterable", "Collection", "set", "Set", "frozenset", "tuple", "Tuple"}
)
_OBJECTS: Final = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict"})
#: What is around a type and does not change what may be sent.
_AROUND: Final = frozenset({"Annotated", "Final", "Required", "NotRequired", "ReadOnly"})
_ENUMS: Final = frozenset({"Enum", "StrEnum", "IntEnum"})
_RECORDS: Final = frozenset({"BaseModel", "TypedDict", "NamedTuple", "Struct"})
_SECTION: Final = re.compile(r"^(?:args|arguments|parameters|params)\s*:\s*$", re.IGNORECASE)
_ITEM: Final = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)", re.DOTALL)
_FIELD: Final = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


def python_parameters(source: str) -> list[Parameter]:
    """Those of ``main``, in their order; none if there is no such function. Raises :class:`SchemaError`."""
    try:
        with warnings.catch_warnings(action="ignore"):
            module = ast.parse(source)
    except SyntaxError as error:
        raise SchemaError(f"line {error.lineno or 1}: {error.msg}") from None
    except ValueError:
        raise SchemaError("not Python: it has a NUL character") from None
    except (RecursionError, MemoryError):
        raise SchemaError("nested too deeply, or too large") from None
    mains = [
        node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "main"
    ]
    return _Reader(module).parameters(mains[-1]) if mains else []


class _Reader:
    """What the names of the module mean."""

    def __init__(self, module: ast.Module) -> None:
        self._classes: dict[str, ast.ClassDef] = {}
        self._aliases: dict[str, ast.expr] = {}
        self._lookups = Lookups()
        for node in module.body:
            match node:
                case ast.ClassDef():
                    self._classes[node.name] = node
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._aliases[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._aliases[name] = value

    def parameters(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[Parameter]:
        """Without ``*args`` and ``**kwargs``."""
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        without = len(positional) - len(arguments.defaults)
        defaults: list[ast.expr | None] = [*([None] * without), *arguments.defaults, *arguments.kw_defaults]
        descriptions = dict(_descriptions(ast.get_docstring(function) or ""))
        return [
            self._parameter(each.arg, each.annotation, default, descriptions.get(each.arg, ""))
            for each, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
        ]

    def _parameter(
        self, name: str, annotation: ast.expr | None, default: ast.expr | None, description: str = ""
    ) -> Parameter:
        value = NO_DEFAULT if default is None else self._value(default)
        if annotation is not None:
            kind, is_optional = self._type(annotation, 0)
        else:
            kind = UNKNOWN if isinstance(value, NoDefault) or value == FUNCTION_CALL else type_of_value(value)
            is_optional = False
        return Parameter(name, kind, default is None and not is_optional, value, description)

    def _type(self, node: ast.expr, depth: int) -> tuple[Type, bool]:
        """The type, and whether None is one of its values."""
        if depth > MAX_DEPTH:
            return UNKNOWN, False
        match node:
            case ast.Constant(value=None):
                return UNKNOWN, True
            case ast.Constant(value=str() as text):
                try:
                    return self._type(ast.parse(text.strip(), mode="eval").body, depth + 1)
                except (SyntaxError, ValueError, RecursionError, MemoryError):
                    return UNKNOWN, False
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return self._named(name, depth), False
            case ast.BinOp(op=ast.BitOr()):
                return self._union(list(_members(node)), depth)
            case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
                return self._generic(name, inner, depth)
        return UNKNOWN, False

    def _generic(self, name: str, inner: ast.expr, depth: int) -> tuple[Type, bool]:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if name == "Optional":
            return self._type(inner, depth + 1)[0], True
        if name == "Union":
            return self._union(parts, depth)
        if name == "Literal":
            values = [self._value(part) for part in parts]
            known = [value for value in values if isinstance(value, str | int)]
            return choices(known) if known else UNKNOWN, None in values
        if name in _AROUND and parts:
            return self._type(parts[0], depth + 1)
        if name in _LISTS and parts:
            return list_of(self._type(parts[0], depth + 1)[0]), False
        return OBJECT if name in _OBJECTS else UNKNOWN, False

    def _union(self, parts: list[ast.expr], depth: int) -> tuple[Type, bool]:
        found = [self._type(part, depth + 1) for part in parts if not _is_none(part)]
        is_optional = len(found) < len(parts) or any(optional for _, optional in found)
        kinds = [kind for kind, _ in found]
        values = [value for kind in kinds for value in kind.schema.get("enum", ())]
        if kinds and all("enum" in kind.schema for kind in kinds):
            return choices(values), is_optional
        return kinds[0] if len(kinds) == 1 else UNKNOWN, is_optional

    def _named(self, name: str, depth: int) -> Type:
        alias = self._aliases.get(name)
        if name in self._classes:
            with self._lookups.of(name) as is_new:
                return self._class(name, depth) if is_new else resource(name)
        if alias is not None and not (isinstance(alias, ast.Name) and alias.id in _OBJECTS):
            with self._lookups.of(name) as is_new:
                match alias:
                    case ast.Call(func=ast.Name(id="NewType") | ast.Attribute(attr="NewType"), args=[_, of]) if is_new:
                        return self._type(of, depth + 1)[0]
                    case ast.Subscript() | ast.BinOp() | ast.Name() | ast.Attribute() if is_new:
                        return self._type(alias, depth + 1)[0]
        return _SIMPLE.get(name) or dynamic(name) or resource(name)

    def _class(self, name: str, depth: int) -> Type:
        node = self._classes[name]
        bases = {_last_name(base) for base in node.bases}
        if bases & _ENUMS:
            values = [self._value(each.value) for each in node.body if isinstance(each, ast.Assign)]
            known = [value for value in values if isinstance(value, str | int) and value != FUNCTION_CALL]
            return choices(known) if known and len(known) == len(values) else UNKNOWN
        return record(self._members(name, depth), name) if self._is_record(name, depth) else resource(name)

    def _is_record(self, name: str, depth: int) -> bool:
        node = self._classes.get(name)
        if node is None or depth > MAX_DEPTH:
            return False
        decorators = {_last_name(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list}
        bases = {_last_name(base) for base in node.bases}
        return bool(decorators & {"dataclass", "define", "attrs"} or bases & _RECORDS) or any(
            self._is_record(base, depth + 1) for base in bases
        )

    def _members(self, name: str, depth: int) -> list[Parameter]:
        """The fields of a class, those of its bases first."""
        node = self._classes[name]
        found: dict[str, Parameter] = {}
        if depth <= MAX_DEPTH:
            for base in map(_last_name, node.bases):
                if base in self._classes:
                    found.update((each.name, each) for each in self._members(base, depth + 1))
        is_partial = any(each.arg == "total" and _is_false(each.value) for each in node.keywords)
        for each in node.body:
            if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
                continue
            outer = _last_name(each.annotation.value) if isinstance(each.annotation, ast.Subscript) else ""
            if outer == "ClassVar":
                continue
            kind, is_optional = self._type(each.annotation, depth + 1)
            value = NO_DEFAULT if each.value is None else self._value(each.value)
            if value == FUNCTION_CALL:  # field(…) and the like
                value = NO_DEFAULT
            may_miss = each.value is not None or is_optional or outer == "NotRequired"
            is_required = not may_miss and (not is_partial or outer == "Required")
            found[each.target.id] = Parameter(each.target.id, kind, is_required, value)
        return list(found.values())

    def _value(self, node: ast.expr) -> Any:
        """A literal as JSON has it; the mark of a call; a member of an enum of the script as its value."""
        match node:
            case ast.Call():
                return FUNCTION_CALL
            case ast.Attribute(value=ast.Name(id=name), attr=member) if name in self._classes:
                for each in self._classes[name].body:
                    if isinstance(each, ast.Assign) and any(_last_name(target) == member for target in each.targets):
                        return NO_DEFAULT if isinstance(each.value, ast.Attribute) else self._value(each.value)
                return NO_DEFAULT
        try:
            value = _json(ast.literal_eval(node), 0)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return NO_DEFAULT
        return value if is_plain(value) else NO_DEFAULT


def _json(value: Any, depth: int) -> Any:
    """A Python literal with lists for what JSON has no other word for. Raises ValueError."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, complex) or value is ... or depth > MAX_DEPTH:
        raise ValueError("not JSON")
    if isinstance(value, list | tuple):
        return [_json(each, depth + 1) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_json(each, depth + 1) for each in value), key=repr)
    if isinstance(value, dict):
        return {str(name): _json(each, depth + 1) for name, each in value.items()}
    return value


def _members(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of ``a | b | c``, without recursion: it may be long."""
    parts = [node]
    while parts:
        part = parts.pop()
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr):
            parts += [part.right, part.left]
        else:
            yield part


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _last_name(node: ast.expr) -> str:
    """``c`` of ``a.b.c`` and of ``c``, also with brackets behind it; empty for anything else."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
    return ""


def _descriptions(docstring: str) -> Iterator[tuple[str, str]]:
    """Parameters and what a docstring says of them, in a section ``Args:`` or in fields ``:param name:``."""
    lines = docstring.splitlines()
    for line in lines:
        if match := _FIELD.match(line):
            yield match[1], match[2].strip()
    start = next((at + 1 for at, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    entry: list[str] = []
    indent = 0
    for line in [*lines[start:], "end"]:
        text = line.strip()
        own = len(line) - len(line.lstrip())
        if text and (own == 0 or not entry or own <= indent):
            if entry and (match := _ITEM.match(" ".join(entry))):
                yield match[1].lstrip("*"), match[2].strip()
            if own == 0:
                return
            entry, indent = [text], own
        elif text:
            entry.append(text)
