"""Syntax trees by tree-sitter, whose packages are loaded when the first is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from minwebhook.schemas.model import SchemaError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

#: Grammar -> its module, and the function in it.
_GRAMMARS: Final = {
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "go": ("tree_sitter_go", "language"),
}
#: What has to be there to read each.
MODULES: Final = ("tree_sitter", *(module for module, _ in _GRAMMARS.values()))


@cache
def _parser(grammar: str) -> Parser:
    module, function = _GRAMMARS[grammar]
    try:
        library = importlib.import_module("tree_sitter")
        language: Callable[[], object] = getattr(importlib.import_module(module), function)
    except ImportError:
        raise SchemaError("reading this language needs tree-sitter: pip install 'minwebhook[schemas]'") from None
    parser: Parser = library.Parser(library.Language(language()))
    return parser


def load() -> None:
    """Loads all that is installed."""
    for grammar in _GRAMMARS:
        try:
            _parser(grammar)
        except SchemaError:
            continue


def parse(grammar: str, source: str) -> Node:
    """The root of the tree; what is no code of the language is in it as nodes of the type ``ERROR``."""
    return _parser(grammar).parse(source.encode("utf-8", "replace")).root_node


def text(node: Node | None) -> str:
    """The source of a node; empty for none."""
    return "" if node is None or node.text is None else node.text.decode("utf-8", "replace")


def line(node: Node) -> int:
    """Where it begins, as people count."""
    return node.start_point[0] + 1


def children(node: Node) -> Iterator[Node]:
    """Those that mean something: no punctuation, no comments."""
    return (child for child in node.named_children if child.type != "comment")


def refuse_errors(node: Node, what: str) -> None:
    """Raises :class:`SchemaError` if part of the node is no code of the language."""
    if node.has_error:
        raise SchemaError(f"line {line(node)}: {what} cannot be read")
