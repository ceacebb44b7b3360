"""The parameters of the exported ``main`` of a script in TypeScript, by tree-sitter's grammar.

Interfaces, type aliases and enums of the script are looked up; names that it does not declare are resource types. The members
of a pattern, ``main({ a, b }: { a: string; b?: number })``, are the arguments, as they are when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from minwebhook.schemas.model import (
    BOOLEAN,
    BYTES,
    DATE_TIME,
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
    one_of,
    record,
    resource,
    type_of_value,
)
from minwebhook.schemas.tree import children, line, parse, refuse_errors, text

if TYPE_CHECKING:
    from tree_sitter import Node

_SIMPLE: Final = {
    "string": STRING,
    "number": NUMBER,
    "boolean": BOOLEAN,
    "bigint": INTEGER,
    "object": OBJECT,
    "Date": DATE_TIME,
    "Base64": BYTES,
    "Email": formatted("email"),
    "Sql": formatted("sql"),
}
_OBJECTS: Final = frozenset({"Record", "Map", "Object"})
_LISTS: Final = frozenset({"Array", "ReadonlyArray", "Set", "Iterable"})
#: What is around a type and does not change it here.
_AROUND: Final = frozenset({"Readonly", "Required", "NonNullable", "Awaited"})
_NONE: Final = frozenset({"null", "undefined", "void"})
_FUNCTIONS: Final = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "function_expression",
        "arrow_function",
        "generator_function",
    }
)
_LABELS: Final = ("label", "kind")
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NUMBER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+)")
_TAG: Final = re.compile(r"@param\s+(?:\{[^}]*\}\s+)?\[?([\w$]+)[^\s\]]*\]?\s*(?:-\s*)?(.*)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}


def typescript_parameters(source: str) -> list[Parameter]:
    """Those of ``main``, in their order; none if there is no such function. Raises :class:`SchemaError`."""
    root = parse("typescript", source)
    reader = _Reader(root)
    main = reader.function("main")
    if main is None:
        broken = next((node for node in root.children if node.has_error), None)
        if broken is not None:
            raise SchemaError(f"line {line(broken)}: not TypeScript")
        return []
    return reader.parameters(main)


class _Reader:
    """What the names of the file mean."""

    def __init__(self, root: Node) -> None:
        self._lookups = Lookups()
        #: Interfaces, aliases, enums, functions and variables by name.
        self._declared: dict[str, Node] = {}
        #: What is exported, and the name that it has in the file.
        self._exported: dict[str, str] = {}
        for statement in children(root):
            if statement.type == "export_statement":
                self._export(statement)
            else:
                self._declare(statement)

    def _export(self, statement: Node) -> None:
        declaration = statement.child_by_field_name("declaration")
        if declaration is not None:
            for name in self._declare(declaration):
                self._exported[name] = name
        for clause in children(statement):
            for specifier in children(clause) if clause.type == "export_clause" else ():
                name = text(specifier.child_by_field_name("name"))
                self._exported[text(specifier.child_by_field_name("alias")) or name] = name

    def _declare(self, statement: Node) -> Iterator[str]:
        found = list(_declarations(statement))
        self._declared.update(found)
        return iter([name for name, _ in found])

    def function(self, name: str) -> Node | None:
        """The exported function of this name."""
        node = self._declared.get(self._exported.get(name, ""))
        if node is not None and node.type == "variable_declarator":
            node = node.child_by_field_name("value")
        while node is not None and node.type in ("parenthesized_expression", "satisfies_expression", "as_expression"):
            node = next(children(node), None)
        return node if node is not None and node.type in _FUNCTIONS else None

    def parameters(self, function: Node) -> list[Parameter]:
        """Without the rest."""
        lone = function.child_by_field_name("parameter")
        if lone is not None:  # x => …
            return [Parameter(text(lone), UNKNOWN)]
        listed = function.child_by_field_name("parameters")
        if listed is None:
            return []
        refuse_errors(listed, "the parameters of main")
        descriptions = _descriptions(function)
        found: list[Parameter] = []
        for node in children(listed):
            pattern = node.child_by_field_name("pattern")
            if node.type not in ("required_parameter", "optional_parameter") or pattern is None:
                continue
            if pattern.type == "object_pattern":
                found += self._of_pattern(pattern, node.child_by_field_name("type"))
            elif pattern.type in ("identifier", "this") and text(pattern) != "this":
                found.append(self._parameter(text(pattern), node, descriptions.get(text(pattern), "")))
        return found

    def _parameter(self, name: str, node: Node, description: str) -> Parameter:
        default = node.child_by_field_name("value")
        value = self._default(default)
        annotation = node.child_by_field_name("type")
        if annotation is not None:
            kind, is_optional = self._type(next(children(annotation), None), 0)
        else:
            kind, is_optional = _type_of_default(default, value), False
        may_miss = default is not None or is_optional or node.type == "optional_parameter"
        return Parameter(name, kind, not may_miss, value, description)

    def _default(self, node: Node | None) -> Any:
        """A literal, or the member of an enum of the script."""
        if node is None:
            return NO_DEFAULT
        if node.type == "member_expression":
            declared = self._declared.get(text(node.child_by_field_name("object")))
            members = _enum_members(declared) if declared is not None and declared.type == "enum_declaration" else {}
            return members.get(text(node.child_by_field_name("property")), NO_DEFAULT)
        return _value(node, 0)

    def _of_pattern(self, pattern: Node, annotation: Node | None) -> list[Parameter]:
        """All arguments at once, of which the pattern takes its members."""
        known = {}
        if annotation is not None:
            members = self._members(next(children(annotation), None), 0)
            known = {member.name: member for member in members or ()}
        defaults: dict[str, Node] = {}
        names = []
        for node in children(pattern):
            key, default = node, None
            if node.type == "pair_pattern":
                inner = node.child_by_field_name("value")
                key = node.child_by_field_name("key") or node
                default = inner.child_by_field_name("right") if inner is not None else None
            elif node.type == "object_assignment_pattern":
                key = node.child_by_field_name("left") or node
                default = node.child_by_field_name("right")
            elif node.type == "rest_pattern":
                continue
            name = _key(key)
            names.append(name)
            if default is not None:
                defaults[name] = default
        found = []
        for name in [*names, *(name for name in known if name not in names)]:
            value = self._default(defaults.get(name))
            before = known.get(name) or Parameter(name, _type_of_default(defaults.get(name), value))
            is_required = before.is_required and name not in defaults
            found.append(Parameter(name, before.type, is_required, value, before.description))
        return found

    def _type(self, node: Node | None, depth: int) -> tuple[Type, bool]:
        """The type, and whether undefined or null is one of its values."""
        if node is None or depth > MAX_DEPTH:
            return UNKNOWN, False
        shown = text(node)
        match node.type:
            case "predefined_type":
                return _SIMPLE.get(shown, UNKNOWN), shown in _NONE
            case "type_identifier" | "identifier":
                return self._named(shown, depth), False
            case "nested_type_identifier":
                return self._named(text(node.child_by_field_name("name")), depth), False
            case "parenthesized_type" | "readonly_type":
                return self._type(next(children(node), None), depth + 1)
            case "array_type":
                return list_of(self._type(next(children(node), None), depth + 1)[0]), False
            case "tuple_type":
                return list_of(UNKNOWN), False
            case "template_literal_type":
                return STRING, False
            case "literal_type":
                if shown in _NONE:
                    return UNKNOWN, True
                literal = next(children(node), None)
                value = NO_DEFAULT if literal is None else _value(literal, 0)
                return (BOOLEAN if isinstance(value, bool) else choices([value])) if is_plain(value) else UNKNOWN, False
            case "union_type":
                return self._union(list(_members_of(node, "union_type")), depth)
            case "generic_type":
                return self._generic(node, depth)
            case "object_type" | "intersection_type":
                members = self._members(node, depth)
                return OBJECT if members is None else record(members), False
        return UNKNOWN, False

    def _union(self, parts: list[Node], depth: int) -> tuple[Type, bool]:
        found = [self._type(part, depth + 1) for part in parts if text(part) not in _NONE]
        is_optional = len(found) < len(parts) or any(optional for _, optional in found)
        kinds = [kind for kind, _ in found]
        if len(kinds) == 1:
            return kinds[0], is_optional
        if kinds and all("enum" in kind.schema for kind in kinds):
            return choices(value for kind in kinds for value in kind.schema["enum"]), is_optional
        if kinds and all(kind is BOOLEAN for kind in kinds):
            return BOOLEAN, is_optional
        variants = self._variants([part for part in parts if text(part) not in _NONE], depth)
        return UNKNOWN if variants is None else one_of(variants), is_optional

    def _variants(self, parts: list[Node], depth: int) -> dict[str, list[Parameter]] | None:
        """Kinds of objects by their labels; None unless all have one."""
        found: dict[str, list[Parameter]] = {}
        for part in parts:
            members = self._members(part, depth + 1)
            labels = [
                values[0]
                for member in members or ()
                if member.name in _LABELS and len(values := member.type.schema.get("enum", ())) == 1
            ]
            if members is None or not labels:
                return None
            found[labels[0]] = members
        return found or None

    def _generic(self, node: Node, depth: int) -> tuple[Type, bool]:
        name = text(node.child_by_field_name("name")).rpartition(".")[2]
        given = node.child_by_field_name("type_arguments")
        inner = list(children(given)) if given is not None else []
        first = inner[0] if inner else None
        if name == "Resource" and first is not None and first.type == "literal_type":
            literal = next(children(first), None)
            value = "" if literal is None else _value(literal, 0)
            return resource(value) if isinstance(value, str) and is_plain(value) else OBJECT, False
        if name in _LISTS:
            return list_of(self._type(first, depth + 1)[0]), False
        if name in _AROUND:
            return self._type(first, depth + 1)
        if name == "Partial":
            members = self._members(first, depth + 1)
            return OBJECT if members is None else record([_optional(member) for member in members]), False
        if name in _OBJECTS:
            return OBJECT, False
        return self._named(name, depth) if name in self._declared else UNKNOWN, False

    def _named(self, name: str, depth: int) -> Type:
        node = self._declared.get(name)
        if node is not None:
            with self._lookups.of(name) as is_new:
                declared = self._declaration(name, node, depth) if is_new else None
            if declared is not None:
                return declared
        return _SIMPLE.get(name) or dynamic(name) or (OBJECT if name in _OBJECTS else resource(_snake_case(name)))

    def _declaration(self, name: str, node: Node, depth: int) -> Type | None:
        """The type that the script declares; None if it is none whose values are known."""
        if node.type == "enum_declaration":
            return _enum(node)
        members = self._members(node, depth + 1)
        if members is not None:
            return record(members, _snake_case(name))
        if node.type == "type_alias_declaration":
            return self._type(node.child_by_field_name("value"), depth + 1)[0]
        return None

    def _members(self, node: Node | None, depth: int) -> list[Parameter] | None:
        """The members of a type of objects; None for any other type."""
        if node is None or depth > MAX_DEPTH:
            return None
        match node.type:
            case "type_identifier":
                with self._lookups.of(f"members of {text(node)}") as is_new:
                    return self._members(self._declared.get(text(node)), depth + 1) if is_new else None
            case "parenthesized_type":
                return self._members(next(children(node), None), depth + 1)
            case "type_alias_declaration":
                return self._members(node.child_by_field_name("value"), depth + 1)
            case "intersection_type":
                parts = [self._members(part, depth + 1) for part in _members_of(node, "intersection_type")]
                return None if None in parts else _joined(part for part in parts if part is not None)
            case "interface_declaration":
                bases = [
                    self._members(base, depth + 1) or []
                    for clause in children(node)
                    if clause.type == "extends_type_clause"
                    for base in children(clause)
                ]
                body = node.child_by_field_name("body")
                return _joined([*bases, list(self._signatures(body, depth)) if body is not None else []])
            case "object_type":
                return list(self._signatures(node, depth))
        return None

    def _signatures(self, body: Node, depth: int) -> Iterator[Parameter]:
        for node in children(body):
            if node.type != "property_signature":
                continue
            annotation = node.child_by_field_name("type")
            kind, may_miss = self._type(next(children(annotation), None) if annotation is not None else None, depth + 1)
            name = _key(node.child_by_field_name("name"))
            is_optional = may_miss or any(child.type == "?" for child in node.children)
            if name:
                yield Parameter(name, kind, not is_optional)


def _declarations(statement: Node) -> Iterator[tuple[str, Node]]:
    """What a statement declares."""
    if statement.type in ("lexical_declaration", "variable_declaration"):
        for each in children(statement):
            if each.type == "variable_declarator":
                yield text(each.child_by_field_name("name")), each
    elif (name := statement.child_by_field_name("name")) is not None:
        yield text(name), statement


def _joined(parts: Iterator[list[Parameter]] | list[list[Parameter]]) -> list[Parameter]:
    return list({member.name: member for part in parts for member in part}.values())


def _optional(member: Parameter) -> Parameter:
    return Parameter(member.name, member.type, is_required=False)


def _members_of(node: Node, kind: str) -> Iterator[Node]:
    """The parts of ``a | b | c``, without recursion: it may be long."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part.type == kind:
            waiting += reversed(list(children(part)))
        else:
            yield part


def _enum(node: Node) -> Type:
    values = _enum_members(node).values()
    return choices(values) if values and all(map(is_plain, values)) else UNKNOWN


def _enum_members(node: Node) -> dict[str, Any]:
    body = node.child_by_field_name("body")
    members: dict[str, Any] = {}
    last: Any = -1
    for member in children(body) if body is not None else ():
        value = member.child_by_field_name("value")
        following = last + 1 if isinstance(last, int) else NO_DEFAULT
        last = following if value is None else _value(value, 0)
        members[_key(member if value is None else member.child_by_field_name("name"))] = last
    return members


def _type_of_default(node: Node | None, value: Any) -> Type:
    """Of a parameter without a type: numbers are what TypeScript calls one."""
    if isinstance(value, NoDefault):
        return UNKNOWN
    kind = type_of_value(value)
    return NUMBER if kind is INTEGER and not text(node).endswith("n") else kind


def _snake_case(name: str) -> str:
    """``S3Object`` is ``s3_object``."""
    return _WORD.sub("_", name).lower()


def _key(node: Node | None) -> str:
    """The name of a member."""
    if node is None:
        return ""
    if node.type == "string":
        value = _value(node, 0)
        return value if isinstance(value, str) else ""
    return text(node)


def _value(node: Node, depth: int) -> Any:
    """A literal as JSON has it; :data:`NO_DEFAULT` for anything else."""
    value = _literal(node, depth)
    return value if depth or is_plain(value) else NO_DEFAULT


def _literal(node: Node, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return NO_DEFAULT
    shown = text(node)
    match node.type:
        case "true" | "false":
            return node.type == "true"
        case "null":
            return None
        case "number":
            return _number(shown)
        case "unary_expression":
            inner = next(children(node), None)
            value = _literal(inner, depth + 1) if inner is not None else NO_DEFAULT
            if isinstance(value, bool) or not isinstance(value, int | float) or shown[:1] not in "+-":
                return NO_DEFAULT
            return -value if shown[0] == "-" else value
        case "string":
            return "".join(map(_piece, children(node)))
        case "template_string":
            pieces = list(children(node))
            is_fixed = all(piece.type in ("string_fragment", "escape_sequence") for piece in pieces)
            return "".join(map(_piece, pieces)) if is_fixed else NO_DEFAULT
        case "array":
            items = [_literal(each, depth + 1) for each in children(node)]
            return NO_DEFAULT if any(isinstance(each, NoDefault) for each in items) else items
        case "object":
            return _object(node, depth)
        case "parenthesized_expression" | "as_expression" | "satisfies_expression":
            inner = next(children(node), None)
            return NO_DEFAULT if inner is None else _literal(inner, depth + 1)
    return NO_DEFAULT


def _object(node: Node, depth: int) -> dict[str, Any] | NoDefault:
    found = {}
    for pair in children(node):
        value = pair.child_by_field_name("value")
        if pair.type != "pair" or value is None:
            return NO_DEFAULT
        found[_key(pair.child_by_field_name("key"))] = item = _literal(value, depth + 1)
        if isinstance(item, NoDefault):
            return NO_DEFAULT
    return found


def _number(shown: str) -> int | float | NoDefault:
    digits = shown.replace("_", "").removesuffix("n")
    try:
        if _NUMBER.fullmatch(digits) and len(digits) < 100:
            return int(digits, 0) if not re.fullmatch(r"0\d+", digits) else int(digits, 8)
        return float(digits)
    except ValueError:
        return NO_DEFAULT


def _piece(node: Node) -> str:
    shown = text(node)
    if node.type != "escape_sequence":
        return shown
    code = shown[1:]
    if code[:1] in ("x", "u"):
        try:
            point = int(code[1:].strip("{}"), 16)
        except ValueError:
            return ""
        return chr(point) if point < 0x110000 else ""
    return _ESCAPES.get(code, code)


def _descriptions(function: Node) -> Mapping[str, str]:
    """What the comment in front of the function says of its parameters (``@param``)."""
    node: Node | None = function
    while node is not None and node.parent is not None and node.parent.type != "program":
        node = node.parent
    comment = node.prev_named_sibling if node is not None else None
    if comment is None or comment.type != "comment":
        return {}
    lines = (line.strip().lstrip("/*").strip().removesuffix("*/").strip() for line in text(comment).splitlines())
    return {match[1]: match[2].strip() for line in lines if (match := _TAG.match(line))}
