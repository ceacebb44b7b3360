"""What packages a Python script needs, as its author says or its imports show; and locks, the answer to that. Pure.

In this order (spec: scripts, Python):

1. an inline metadata block (PEP 723, ``# /// script``): exactly its ``dependencies``;
2. a block ``# requirements:`` of comment lines, one requirement each: exactly these;
3. the imports, each as the distribution of that name (distributions.py), or as the comment behind it says
   (``import x  # pin: y==1.2``; ``# repin:`` wins over ``# pin:``), and with them a block ``# extra_requirements:``.

``# py: >=3.11`` at the top says which interpreter is needed. A requirement is a name with versions and perhaps a marker
(PEP 508). Addresses, paths and options are refused: who writes a script must not choose what the server reads or fetches.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from minwebhook.errors import BadRequest
from minwebhook.scripts.distributions import distribution_of

#: Characters of code whose imports are looked for: more of it would take too long. Blocks are found in any.
MAX_PARSED: Final = 256 * 1024
#: Requirements of one script, and lines of one lock.
MAX_REQUIREMENTS: Final = 500
_MAX_LINE: Final = 400

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE: Final = r"(?:===|~=|==|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+"
_CLAUSES: Final = rf"{_CLAUSE}(?:\s*,\s*{_CLAUSE})*"
_REQUIREMENT: Final = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*(?:{_CLAUSES}|\(\s*{_CLAUSES}\s*\))?"
    r"\s*(?:;[^#;\\\r\n]+?)?(?P<hashes>(?:\s+--hash=[a-z0-9]+:[0-9a-f]+)*)\s*"
)
_VERSION_CLAUSE: Final = re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)?\s*(\d+(?:\.\d+){0,2})(\.\*)?\s*")

#: Finds all imports and more: cheap, to see whether a parse is worth it. The module of a ``from``, or a list of modules.
_SPACE: Final = r"(?:[ \t\f]|\\\r?\n|\\\r)"
_MAYBE_IMPORT: Final = re.compile(
    rf"\bfrom{_SPACE}+([^\W\d]\w*)(?:[\w.]|{_SPACE}){{0,200}}\bimport\b|\bfrom{_SPACE}+([^\W\d]\w*)"
    rf"|\bimport{_SPACE}+((?:\\\r?\n|\\\r|[^\r\n;#])*)"
)
_FIRST_NAME: Final = re.compile(rf"{_SPACE}*([^\W\d]\w*)")
#: A block, with its comment lines.
_BLOCK: Final = re.compile(r"^#[ \t]*(extra_)?requirements:[ \t]*\r?\n((?:#[^\n]*(?:\n|\Z))*)", re.MULTILINE)
_PYTHON: Final = re.compile(r"#[ \t]*py:[ \t]*(.*)")
_INLINE_START: Final = re.compile(r"^# /// script[ \t]*\r?\n", re.MULTILINE)
_INLINE_END: Final = "# ///"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PIN: Final = re.compile(r"#[ \t]*(re)?pin:[ \t]*([^#]*)")
#: Roots of imports of other scripts of the workspace.
_WORKSPACE_ROOTS: Final = frozenset({"f", "u", "g"})


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a script needs besides the standard library."""

    #: Requirements (PEP 508), sorted.
    lines: tuple[str, ...] = ()
    #: Versions of the interpreter, as clauses (``>=3.11,<3.13``); "" for any.
    python: str = ""

    def __bool__(self) -> bool:
        return bool(self.lines or self.python)


NOTHING: Final = Requirements()


def find_requirements(code: str) -> Requirements:
    """What ``code`` needs. Raises :class:`BadRequest` for a requirement that is not allowed."""
    inline = _inline_metadata(code)
    if inline is not None:
        return _of_inline_metadata(inline)
    exact: list[str] | None = None
    extra: list[str] = []
    for block in _BLOCK.finditer(code):
        lines = _block_lines(block[2])
        if block[1]:
            extra += lines
        else:
            exact = [] if exact is None else exact
            exact += lines
    return Requirements(_checked([*_inferred(code), *extra] if exact is None else exact), _python_of(code))


def imported_modules(code: str) -> tuple[str, ...]:
    """The modules outside of the standard library that ``code`` imports, as dotted names, sorted."""
    return tuple(sorted({module for module, _ in _imports(code)}))


def allows_python(clauses: str, version: tuple[int, ...]) -> bool:
    """Whether an interpreter of this version fits. Patch releases are taken for equal where one is named exactly.

    Raises :class:`BadRequest` for clauses that cannot be read.
    """
    for clause in clauses.split(","):
        match = _VERSION_CLAUSE.fullmatch(clause)
        if match is None:
            raise BadRequest(f"py: {clauses!r} is not a version like 3.11 or >=3.11,<3.13")
        operator = match[1] or "=="
        wanted = tuple(int(part) for part in match[2].split("."))
        same_minor = version[: min(len(wanted), 2)] == wanted[:2]
        padded = (*wanted, 0, 0)[:3]
        fits = {
            "==": same_minor,
            "===": same_minor,
            "!=": not same_minor or (len(wanted) > 2 and not match[3] and version[:3] != wanted),
            "~=": version >= padded and version[: max(len(wanted) - 1, 1)] == wanted[: max(len(wanted) - 1, 1)],
            ">=": version >= padded,
            ">": version > padded,
            "<=": version <= padded or same_minor,
            "<": version < padded,
        }
        if not fits[operator]:
            return False
    return True


# --- locks ------------------------------------------------------------------------------------------------------------


def make_lock(python: str, pins: tuple[str, ...]) -> str:
    """The text of a lock: the interpreter's version (``3.11``), then one pinned distribution a line."""
    return "\n".join((f"# py: {python}", *pins))


def pins_of(lock: str) -> tuple[str, ...]:
    """The requirements of a lock; empty if it asks for nothing. Raises :class:`BadRequest`."""
    lines = [line.partition(" #")[0].strip() for line in lock.splitlines()]
    return _checked([line for line in lines if line and not line.startswith("#")], hashes=True)


# --- how it is found ----------------------------------------------------------------------------------------------------


def _checked(lines: list[str], *, hashes: bool = False) -> tuple[str, ...]:
    if len(lines) > MAX_REQUIREMENTS:
        raise BadRequest(f"there are {len(lines)} requirements; a script may have {MAX_REQUIREMENTS}")
    found = set()
    # Many blanks in a row could be shared out among the parts in very many ways.
    for line in (" ".join(each.split()) for each in lines):
        match = _REQUIREMENT.fullmatch(line) if len(line) <= _MAX_LINE else None
        if match is None or (match["hashes"] and not hashes):
            raise BadRequest(
                f"requirement {line[:100]!r}: send a name with versions, like requests>=2.31; "
                "addresses, paths and options are not allowed"
            )
        found.add(line)
    return tuple(sorted(found))


def _block_lines(block: str) -> list[str]:
    """Comment lines without their ``#``."""
    texts = (line.removeprefix("#").partition(" #")[0].strip() for line in _LINE_END.split(block))
    return [text for text in texts if text]


def _inline_metadata(code: str) -> str | None:
    """The TOML text of the first block ``# /// script``; None without one, or if it has no end."""
    start = _INLINE_START.search(code)
    if start is None:
        return None
    lines: list[str] = []
    for line in _LINE_END.split(code[start.end() :]):
        if line.rstrip() == _INLINE_END:
            return "\n".join(lines)
        if line != "#" and not line.startswith("# "):
            return None
        lines.append(line[2:])
    return None


def _of_inline_metadata(text: str) -> Requirements:
    try:
        metadata = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRequest(f"the block '# /// script' is not TOML: {error}") from None
    dependencies = metadata.get("dependencies", [])
    python = metadata.get("requires-python", "")
    if not (isinstance(dependencies, list) and all(isinstance(each, str) for each in dependencies)):
        raise BadRequest("the block '# /// script': dependencies is a list of texts")
    if not isinstance(python, str):
        raise BadRequest("the block '# /// script': requires-python is a text")
    return Requirements(_checked(dependencies), python.strip())


def _python_of(code: str) -> str:
    """The ``# py:`` line among the comments at the top."""
    for line in _LINE_END.split(code.removeprefix("\ufeff")):
        if line.strip() and not line.startswith("#"):
            break
        match = _PYTHON.fullmatch(line.rstrip())
        if match is not None:
            return match[1].strip()
    return ""


def _inferred(code: str) -> list[str]:
    """A requirement for each module, as pinned or by its name."""
    named: dict[str, tuple[bool, str]] = {}
    plain: set[str] = set()
    lines = _LINE_END.split(code)
    for module, number in _imports(code):
        pin = _PIN.search(lines[number - 1]) if number <= len(lines) else None
        if pin is not None and pin[2].strip():
            is_repin = bool(pin[1])
            if module not in named or is_repin >= named[module][0]:
                named[module] = (is_repin, pin[2].strip())
        else:
            plain.add(module)
    found: set[str | None] = {requirement for _, requirement in named.values()}
    found |= {distribution_of(module) for module in plain} - {distribution_of(module) for module in named}
    return [requirement for requirement in found if requirement]


def _root(module: str) -> str:
    return module.partition(".")[0]


def _imports(code: str) -> Iterator[tuple[str, int]]:
    """Modules that are neither of the standard library nor of the workspace, each with the last line of its import.

    What is imported for type checkers only does not count. Code that cannot be parsed imports nothing: it will not run.
    """
    if len(code) > MAX_PARSED or all(_is_ours(root) for root in _roots_at_most(code)):
        return
    for node in imports_of(code):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif node.level == 0 and node.module:
            modules = [node.module]
            if distribution_of(node.module) is None or node.module == "google":  # "from google.cloud import storage"
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            if not _is_ours(_root(module)):
                yield module, node.end_lineno or node.lineno


def imports_of(code: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """The statements that import something, anywhere in the code, and not for type checkers only."""
    try:
        tree = ast.parse(code) if len(code) <= MAX_PARSED else ast.Module([], [])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _roots_at_most(code: str) -> set[str]:
    """The roots of all modules that are imported, and other words that look like it."""
    roots = set()
    for whole, half, names in _MAYBE_IMPORT.findall(code):
        if not names:
            roots.add(whole or half)
            continue
        roots |= {match[1] for name in names.split(",") if (match := _FIRST_NAME.match(name)) is not None}
    return roots


def _is_ours(root: str) -> bool:
    return root in sys.stdlib_module_names or root in _WORKSPACE_ROOTS


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"
