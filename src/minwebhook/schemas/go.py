"""The parameters of ``main`` of a script in Go, by tree-sitter's grammar. Types of the script are looked up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from minwebhook.schemas.model import (
    BOOLEAN,
    BYTES,
    DATE_TIME,
    INTEGER,
    MAX_DEPTH,
    NUMBER,
    OBJECT,
    STRING,
    UNKNOWN,
    Lookups,
    Parameter,
    SchemaError,
    Type,
    list_of,
    record,
)
from minwebhook.schemas.tree import children, line, parse, refuse_errors, text

if TYPE_CHECKING:
    from tree_sitter import Node

_SIMPLE: Final = {
    "string": STRING,
    "bool": BOOLEAN,
    "float32": NUMBER,
    "float64": NUMBER,
    "byte": INTEGER,
    "rune": INTEGER,
    **{f"{sign}int{bits}": INTEGER for sign in ("", "u") for bits in ("", "8", "16", "32", "64")},
}
_BYTES: Final = frozenset({"byte", "uint8"})
_TAG: Final = re.compile(r'\bjson:"([^",]*)(,[^"]*)?"')


def go_parameters(source: str) -> list[Parameter]:
    """Those of ``main``, in their order; none if there is no such function. Raises :class:`SchemaError`."""
    root = parse("go", source)
    types: dict[str, Node] = {}
    main = None
    for node in children(root):
        if node.type == "function_declaration" and text(node.child_by_field_name("name")) == "main":
            main = node
        elif node.type == "type_declaration":
            for each in children(node):
                kind = each.child_by_field_name("type")
                if kind is not None:
                    types[text(each.child_by_field_name("name"))] = kind
    if main is None:
        broken = next((node for node in root.children if node.has_error), None)
        if broken is not None:
            raise SchemaError(f"line {line(broken)}: not Go")
        return []
    listed = main.child_by_field_name("parameters")
    if listed is None:
        return []
    refuse_errors(listed, "the parameters of main")
    return list(_Reader(types).parameters(listed))


class _Reader:
    def __init__(self, types: dict[str, Node]) -> None:
        self._types = types
        self._lookups = Lookups()

    def parameters(self, listed: Node) -> Iterator[Parameter]:
        """Of a list of parameters; all that have names."""
        for node in children(listed):
            kind, may_miss = self._type(node.child_by_field_name("type"), 0)
            if node.type == "variadic_parameter_declaration":
                kind, may_miss = list_of(kind), True
            for name in node.children_by_field_name("name"):
                yield Parameter(text(name), kind, not may_miss)

    def _type(self, node: Node | None, depth: int) -> tuple[Type, bool]:
        """The type, and whether it has a value for null."""
        if node is None or depth > MAX_DEPTH:
            return UNKNOWN, False
        shown = text(node)
        match node.type:
            case "type_identifier":
                return self._named(shown, depth)
            case "qualified_type":
                return DATE_TIME if shown == "time.Time" else UNKNOWN, False
            case "pointer_type":
                return self._type(next(children(node), None), depth + 1)[0], True
            case "slice_type" | "array_type":
                item = node.child_by_field_name("element")
                if node.type == "slice_type" and text(item) in _BYTES:
                    return BYTES, False
                return list_of(self._type(item, depth + 1)[0]), False
            case "map_type":
                return OBJECT, False
            case "struct_type":
                return record(list(self._members(node, depth))), False
            case "parenthesized_type":
                return self._type(next(children(node), None), depth + 1)
        return UNKNOWN, False

    def _named(self, name: str, depth: int) -> tuple[Type, bool]:
        node = self._types.get(name)
        if node is None:
            return _SIMPLE.get(name, UNKNOWN), False
        with self._lookups.of(name) as is_new:
            return self._type(node, depth + 1) if is_new else (UNKNOWN, False)

    def _members(self, struct: Node, depth: int) -> Iterator[Parameter]:
        """The fields, by the names that they have in JSON; those of an embedded struct are its own."""
        for listed in children(struct):
            for node in children(listed):
                if node.type != "field_declaration":
                    continue
                tag = _TAG.search(text(node.child_by_field_name("tag")))
                name, options = (tag[1], tag[2] or "") if tag else ("", "")
                if name == "-" and not options:
                    continue
                names = [text(each) for each in node.children_by_field_name("name")]
                inner = node.child_by_field_name("type")
                if not names and not name:
                    embedded = self._types.get(text(inner))
                    with self._lookups.of(text(inner)) as is_new:
                        if is_new and embedded is not None and embedded.type == "struct_type":
                            yield from self._members(embedded, depth + 1)
                    continue
                kind, may_miss = self._type(inner, depth + 1)
                for each in names or [name]:
                    if each[:1].isupper() or not names:
                        yield Parameter(name or each, kind, not (may_miss or "omitempty" in options))
