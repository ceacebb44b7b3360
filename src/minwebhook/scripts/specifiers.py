"""What a script in TypeScript or JavaScript imports: the texts behind ``from``, and which packages they mean. Pure.

Code is cut into tokens and never parsed as a whole: comments, strings, templates and regular expressions are told apart as
well as that can be done without a parser, and what stands behind ``import``, ``export`` and ``require`` is read off.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

from minwebhook.errors import BadRequest

#: Characters of code that are looked at.
MAX_SCANNED: Final = 256 * 1024
#: Packages of one script.
MAX_PACKAGES: Final = 500

_SPACE: Final = r"//[^\n]*|/\*.*?(?:\*/|\Z)"
_STRING: Final = r"""\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?"""
_MAYBE: Final = re.compile(r"\b(?:import|from|require)\b")
#: What is looked at: the rest is skipped. Within ``${}`` of a template braces count as well.
_STOP: Final = re.compile(
    rf"(?P<skip>{_SPACE}|{_STRING})|(?P<word>\b(?:import|export|require)\b)|(?P<mark>[`/])", re.DOTALL
)
_STOP_INSIDE: Final = re.compile(_STOP.pattern[:-2] + "{}])", re.DOTALL)
_TOKEN: Final = re.compile(
    rf"(?:\s+|{_SPACE})*(?:(?P<word>[\w$\u0080-\uffff]+)|(?P<string>{_STRING})|(?P<mark>.)|\Z)", re.DOTALL
)
_TEMPLATE: Final = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{|\Z)", re.DOTALL)
_REGEX: Final = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.){0,60}\]){1,200}/\w*")
#: What stands before a slash that begins a regular expression: an operator, or one of these words.
_BEFORE_REGEX: Final = re.compile(
    r"(?:^|[^\w$)\]}\"'`\s]|\b(?:return|typeof|case|in|of|delete|void|throw|new|do|else|await))\s*\Z"
)
_LOOK_BACK: Final = 64
#: What the list of names of an import is made of, and how much of that is looked at in one script.
_CLAUSE: Final = frozenset("{},*")
_MAX_TOKENS: Final = 100_000

_NPM: Final = re.compile(
    r"(?:npm:/?)?(?P<name>(?:@[A-Za-z0-9~][\w.~-]*/)?[A-Za-z0-9~_][\w.~-]*)(?:@(?P<range>[^/]+))?(?P<file>/.*)?"
)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_RANGE: Final = re.compile(r"[A-Za-z0-9.^~<>=|*+ _-]{1,100}")
_DENO: Final = re.compile(
    r"(?:npm|jsr):/?(?:@[\w~][\w.~-]*/)?[\w~][\w.~-]*(?:@[A-Za-z0-9.^~<>=|*+_-]+)?(?:/[\w./@~-]*)?|https?://[^\s\"'\\]+"
)
#: Modules that bun and node have themselves, besides those that begin with ``node:`` and ``bun:``.
_BUILT_IN: Final = frozenset(
    {"assert", "async_hooks", "buffer", "bun", "child_process", "cluster", "console", "constants", "crypto"}
    | {"dgram", "diagnostics_channel", "dns", "domain", "events", "fs", "http", "http2", "https", "inspector"}
    | {"module", "net", "os", "path", "perf_hooks", "process", "punycode", "querystring", "readline", "repl"}
    | {"stream", "string_decoder", "sys", "timers", "tls", "trace_events", "tty", "url", "util", "v8", "vm"}
    | {"wasi", "worker_threads", "zlib"}
)


def imported_specifiers(code: str) -> tuple[str, ...]:
    """The modules that are imported when the code runs, as they are written; types alone are not."""
    if _MAYBE.search(code, 0, MAX_SCANNED) is None:
        return ()
    code = code[:MAX_SCANNED]
    budget = iter(range(_MAX_TOKENS))
    return tuple(dict.fromkeys(filter(None, (_specifier(code, word, at, budget) for word, at in _statements(code)))))


def npm_requirements(code: str) -> tuple[str, ...]:
    """The packages of npm that code for bun or node imports, as ``name@versions``, sorted. Raises :class:`BadRequest`."""
    found = set()
    for specifier in imported_specifiers(code):
        if specifier[0] in "./#" or specifier.startswith(("node:", "bun:", "file:", "data:")):
            continue
        if specifier.partition("/")[0] in _BUILT_IN:
            continue
        match = _NPM.fullmatch(specifier)
        if match is None or not _RANGE.fullmatch(match["range"] or "latest"):
            raise BadRequest(
                f"import of {specifier[:100]!r}: send the name of a package of npm, as in 'lodash' or 'lodash@4.17/fp.js'"
            )
        found.add(f"{match['name']}@{match['range'] or 'latest'}")
    return _bounded(found)


def without_versions(code: str) -> str:
    """The code with imports of packages of npm that name no versions."""
    for specifier in imported_specifiers(code):
        match = _NPM.fullmatch(specifier)
        if match is not None and match["range"]:
            bare = specifier[: match.start("range") - 1] + (match["file"] or "")
            for quote in ("'", '"'):
                code = code.replace(f"{quote}{specifier}{quote}", f"{quote}{bare}{quote}")
    return code


def named_apart(name: str, versions: str) -> str:
    """What a package is called beside another version of it; run.mjs looks for it by this name.

    Two ranges never have one name: what a name cannot hold is written as ``~`` and its hexadecimal number.
    """
    return f"{name}--{_NOT_IN_NAMES.sub(lambda match: f'~{ord(match[0]):02x}', versions)}"


def deno_requirements(code: str) -> tuple[str, ...]:
    """The modules that code for deno imports from elsewhere, as they are written, sorted. Raises :class:`BadRequest`."""
    found = set()
    for specifier in imported_specifiers(code):
        if specifier[0] in "./" or specifier.startswith(("node:", "file:", "data:", "blob:")):
            continue
        if _DENO.fullmatch(specifier) is None:
            raise BadRequest(
                f"import of {specifier[:100]!r}: deno takes npm:name, jsr:@scope/name and https:// addresses, "
                "with versions as in npm:lodash@4"
            )
        found.add(specifier)
    return _bounded(found)


def _bounded(found: set[str]) -> tuple[str, ...]:
    if len(found) > MAX_PACKAGES:
        raise BadRequest(f"the code imports {len(found)} packages; a script may have {MAX_PACKAGES}")
    return tuple(sorted(found))


def is_range(text: str) -> bool:
    """Whether this names versions of a package, and nothing else."""
    return _RANGE.fullmatch(text) is not None


def is_deno_module(specifier: str) -> bool:
    """Whether deno can get this module from elsewhere."""
    return _DENO.fullmatch(specifier) is not None


def _statements(code: str) -> Iterator[tuple[str, int]]:
    """The words ``import``, ``export`` and ``require`` of the code itself, and where each ends."""
    at = 0
    braces: list[str] = []  # what is open within a template: "{", or "`" for the template around it
    while (match := (_STOP_INSIDE if braces else _STOP).search(code, at)) is not None:
        at = match.end()
        text = match[0]
        if match.lastgroup == "word":
            if code[match.start() - 1 : match.start()] not in (".", "$"):
                yield text, at
        elif text == "/":
            if _BEFORE_REGEX.search(code[max(at - 1 - _LOOK_BACK, 0) : at - 1]) is not None:
                regex = _REGEX.match(code, at - 1)
                at = at if regex is None else regex.end()
        elif text == "{":
            braces.append(text)
        elif text == "`" or (text == "}" and braces.pop() == "`"):
            part = _TEMPLATE.match(code, at)
            assert part is not None  # noqa: S101 - it matches the rest
            at = part.end()
            if part[0].endswith("${"):
                braces.append("`")


def _specifier(code: str, word: str, at: int, budget: Iterator[int]) -> str:
    """What the statement that begins with ``word``, which ends at ``at``, imports; "" for nothing.

    Of ``budget`` one is taken for each token that is looked at; there may be none left.
    """
    tokens = _tokens(code, at)
    first, second, third = next(tokens), next(tokens), next(tokens)
    if first[1] == "(" and word != "export":
        return second[1][1:-1] if second[0] == "string" and third[1] in (")", ",") else ""
    if word == "require" or (word == "export" and first[1] not in ("{", "*")):
        return ""
    if word == "import" and first[0] == "string":
        return first[1][1:-1]
    if first[1] == "type" and second[1] != "," and (second[1] != "from" or third[1] == "from"):
        return ""
    is_from = False
    for _, (kind, text) in zip(budget, itertools.chain((first, second, third), tokens), strict=False):
        if is_from and kind == "string":
            return text[1:-1]
        if kind == "" or (kind == "mark" and text not in _CLAUSE):
            return ""
        is_from = kind == "word" and text == "from"
    return ""


def _tokens(code: str, at: int) -> Iterator[tuple[str, str]]:
    """Words, strings and marks from ``at`` on; behind the end there is nothing, for ever."""
    while True:
        match = _TOKEN.match(code, at)
        kind = match.lastgroup if match is not None else None
        if match is None or kind is None:
            yield "", ""
            continue
        at = match.end()
        yield kind, match[kind]
