"""Go: ``func main`` with any parameters, in a package ``inner`` (added if absent), beside a generated program that calls it.

Only the standard library: nothing is fetched when a script is built. A returned error is printed, and the exit code is 1.
"""

from __future__ import annotations

import re
from typing import Final

from minwebhook.child.programs.parameters import closing, split
from minwebhook.child.programs.program import BUILT, Program

_PACKAGE: Final = re.compile(r"^((?:\s|//[^\n]*\n|/\*.*?\*/)*)package[ \t]+\w+", re.DOTALL)
_MAIN: Final = re.compile(r"(?:^|;)[ \t]*func[ \t]+main[ \t]*\(", re.MULTILINE)
_NAMED: Final = re.compile(r"(\w+)(?:\s+(.+))?", re.DOTALL)
#: A type with braces of its own.
_BRACES: Final = re.compile(r"\b(?:interface|struct)\s*\{")

_PROGRAM: Final = r"""package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"job/inner"
)

// A panic is printed as Go prints it, with the frames of the script alone.
func report() {
	value := recover()
	if value == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "panic: %v\n\ngoroutine 1 [running]:\n", value)
	lines := strings.Split(string(debug.Stack()), "\n")
	isRaised := false
	for at := 1; at+1 < len(lines); at += 2 {
		if strings.HasPrefix(lines[at], "job/inner.MinwebhookMain(") {
			break
		}
		if isRaised && !strings.HasPrefix(lines[at], "runtime.") {
			fmt.Fprintf(os.Stderr, "%s\n%s\n", lines[at], lines[at+1])
		}
		isRaised = isRaised || strings.HasPrefix(lines[at], "panic(")
	}
	os.Exit(2)
}

func main() {
	defer report()
	var arguments inner.MinwebhookArguments
	if err := json.NewDecoder(os.Stdin).Decode(&arguments); err != nil {
		if wrong, ok := err.(*json.UnmarshalTypeError); ok {
			err = fmt.Errorf("%s: %s does not fit %s", wrong.Field, wrong.Value, wrong.Type)
		}
		fmt.Fprintln(os.Stderr, "arguments:", err)
		os.Exit(1)
	}
	result, err := inner.MinwebhookMain(arguments)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	file, err := os.Create("result.json")
	if err == nil {
		encoder := json.NewEncoder(file)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "result:", err)
		os.Exit(1)
	}
}
"""

_MISSING: Final = """

type minwebhookMissing struct{}

func (minwebhookMissing) Error() string { return "main function is missing" }

func main() error { return minwebhookMissing{} }
"""


def go_parameters(source: str) -> list[tuple[str, str]]:
    """Names and types of the parameters of ``main``; ``a, b int`` are two of one type."""
    match = _MAIN.search(source)
    found: list[tuple[str, str]] = []
    kind = ""
    for text in reversed(split(source, match.end()) if match else []):
        named = _NAMED.fullmatch(text)
        if named is None:
            return []
        kind = (named[2] or kind).strip()
        found.append((named[1], kind))
    return found[::-1]


def _results(source: str) -> list[str]:
    """The results of ``main``, as they are written."""
    match = _MAIN.search(source)
    end = closing(source, match.end()) + 1 if match else 0
    rest = source[end:].lstrip()
    if rest.startswith("("):
        return split(rest, 1)
    at = 0
    while (brace := rest.find("{", at)) >= 0:
        braces = _BRACES.search(rest, at)
        if braces is None or braces.end() - 1 != brace:
            break
        at = rest.find("}", brace) + 1 or len(rest)
    return [text] if (text := rest[: max(brace, 0)].strip()) else []


def _call(source: str) -> str:
    """What is added to the script: its arguments as a type, and ``main`` with one result and an error."""
    parameters, results = go_parameters(source), _results(source)
    fields = "".join(
        f'\n\tA{at} {kind.replace("...", "[]", 1)} `json:"{name}"`' for at, (name, kind) in enumerate(parameters)
    )
    given = ", ".join(
        f"arguments.A{at}" + ("..." if kind.startswith("...") else "") for at, (_, kind) in enumerate(parameters)
    )
    fails = bool(results) and results[-1].split()[-1] == "error"
    names = [f"r{at}" for at in range(len(results) - fails)]
    assigned = ", ".join([*names, *(["err"] if fails else [])])
    value = names[0] if len(names) == 1 else f"[]interface{{}}{{{', '.join(names)}}}" if names else "nil"
    return (
        f"\n\ntype MinwebhookArguments struct {{{fields}\n}}\n\n"
        "func MinwebhookMain(arguments MinwebhookArguments) (interface{}, error) {\n"
        f"\t{assigned + ' := ' if assigned else ''}main({given})\n"
        f"\treturn {value}, {'err' if fails else 'nil'}\n}}\n"
    )


def go_files(source: bytes) -> dict[str, bytes]:
    """The module that is built. Lines of the script keep their numbers."""
    text = source.decode("utf-8", "replace")
    text, found = _PACKAGE.subn(r"\1package inner", text, count=1)
    if not found:
        text = "package inner; " + text
    if not _MAIN.search(text):
        text += _MISSING
    return {
        "go.mod": b"module job\n\ngo 1.18\n",
        "main.go": _PROGRAM.encode(),
        "inner/inner.go": (text + _call(text)).encode(),
    }


GO: Final = Program(
    language="go",
    title="Go",
    extension=".go",
    names=("go",),
    install="apt-get install golang-go",
    check=("env", "GOROOT"),
    variables=(
        ("CGO_ENABLED", "0"),
        ("GO111MODULE", "on"),
        ("GOPROXY", "off"),
        ("GOFLAGS", "-mod=mod"),
        ("GOTOOLCHAIN", "local"),
        ("GOTELEMETRY", "off"),
        ("GOMAXPROCS", "2"),
    ),
    files=go_files,
    reserves_addresses=True,
    build=("build", "-p", "2", "-ldflags", "-s -w", "-o", f"../{BUILT}", "."),
)
