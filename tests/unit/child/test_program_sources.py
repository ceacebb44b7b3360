"""What is read off the sources of scripts, for languages that cannot tell it when they run."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child.programs.go import go_files, go_parameters
from minwebhook.child.programs.parameters import Parameter, parameters, split
from minwebhook.child.programs.perl import perl_parameters
from minwebhook.child.programs.php import PHP

START = re.compile(r"def main\(")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def main()", []),
        ("def main(a, b = 2)", [("a", None), ("b", "2")]),
        ('def main(a = f(1, [2, 3]), b = \',)\', c = "\\")")', [("a", "f(1, [2, 3])"), ("b", "',)'"), ("c", '"\\")"')]),
        ("def main(a,\n  b\n)", [("a", None), ("b", None)]),
        # What cannot be read is not guessed at.
        ("def main(a, b", []),
        ("def main(a = [)", []),
        ("def other(a)", []),
    ],
)
def test_parameters(source: str, found: list[tuple[str, str | None]]) -> None:
    assert parameters(source, START) == [Parameter(*each) for each in found]


@given(st.lists(st.from_regex(r"[a-z]{1,5}( = (\d+|'[^'\\]{0,5}'|\[[0-9, ]{0,5}\]))?", fullmatch=True), max_size=6))
def test_what_was_joined_is_split(parts: list[str]) -> None:
    assert split(", ".join(parts) + ") rest", 0) == parts


@given(st.text(max_size=200))
def test_any_text_is_split(text: str) -> None:
    assert all(part.strip() == part != "" for part in split(text, 0))
    go_files(text.encode("utf-8", "replace"))
    perl_parameters(f"sub main {text}")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("sub main ($a, $b = 1, @rest) {", ["$a", "$b", "@rest"]),
        ("sub main ($a //= 2) {", ["$a"]),
        ("sub main {\n    my ($x, $y, %more) = @_;", ["$x", "$y", "%more"]),
        ("sub main {\n    # first\n    my $x = shift;\n    my $y = shift @_ // 3;\n    my $z = 1;", ["$x", "$y"]),
        ("sub main($$) {\n    my ($x, $y) = @_;", ["$x", "$y"]),
        ("sub main { my %given = @_; }", ["%given"]),
        ("sub main { return $_[0] }", []),
        ("sub mainly { my ($x) = @_; }", []),
        ("", []),
    ],
)
def test_perl(source: str, names: list[str]) -> None:
    assert [each.name for each in perl_parameters(source)] == names


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("func main(a, b int64, c map[string]int) {}", [("a", "int64"), ("b", "int64"), ("c", "map[string]int")]),
        ("func main(p struct{ X, Y int }, f ...string) {}", [("p", "struct{ X, Y int }"), ("f", "...string")]),
        ("package inner; func main() {}", []),
        ("func mainly(a int) {}", []),
    ],
)
def test_go_parameters(source: str, found: list[tuple[str, str]]) -> None:
    assert go_parameters(source) == found


@pytest.mark.parametrize(
    ("results", "call"),
    [
        ("", "\tmain()\n\treturn nil, nil"),
        ("string", "\tr0 := main()\n\treturn r0, nil"),
        ("interface{}", "\tr0 := main()\n\treturn r0, nil"),
        ("map[string]struct{ X int }", "\tr0 := main()\n\treturn r0, nil"),
        ("error", "\terr := main()\n\treturn nil, err"),
        ("(string, error)", "\tr0, err := main()\n\treturn r0, err"),
        ("(a int, b string)", "\tr0, r1 := main()\n\treturn []interface{}{r0, r1}, nil"),
    ],
)
def test_how_go_is_called(results: str, call: str) -> None:
    made = go_files(f"func main() {results} {{\n}}\n".encode())["inner/inner.go"].decode()
    assert made.startswith("package inner; func main()")
    assert call in made


@pytest.mark.parametrize(
    ("source", "made"),
    [
        (b"<?php\necho 1;", b"<?php\necho 1;"),
        (b"echo 1;", b"<?php echo 1;"),
        (b"#!/usr/bin/php\n<?php\necho 1;", b"<?php\n\necho 1;"),
        (b"#!/usr/bin/php\necho 1;", b"<?php\n echo 1;"),
    ],
)
def test_php_has_its_opening_tag_first(source: bytes, made: bytes) -> None:
    assert PHP.files is not None
    assert PHP.files(source) == {"main.php": made}
