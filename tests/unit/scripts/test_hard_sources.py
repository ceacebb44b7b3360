"""Sources and requirements made to be hard to read are read within the time that a test has."""

from __future__ import annotations

import pytest

from minwebhook.errors import BadRequest
from minwebhook.scripts.imports import imported_paths
from minwebhook.scripts.model import Language
from minwebhook.scripts.module_locks import read_npm_lock
from minwebhook.scripts.requirements import find_requirements
from minwebhook.scripts.typescript import entry_points, preprocessor_parameters

MIB = 1024 * 1024


@pytest.mark.parametrize("piece", ["import ", "import u ", "import a;", "from ", "import a # pin: ", "u ."])
def test_imports_of_scripts_that_may_be_everywhere(piece: str) -> None:
    assert imported_paths(Language.PYTHON3, piece * (MIB // len(piece)), "u/ada/x") == ()


@pytest.mark.parametrize(
    "code", ["import os, f.team.lib", "x = 1; import u.ada.lib as lib\n", "import a\nimport f.team.lib"]
)
def test_imports_of_scripts_anywhere_in_a_line(code: str) -> None:
    assert len(imported_paths(Language.PYTHON3, code, "u/ada/x")) == 1


@pytest.mark.parametrize(
    "piece",
    ["export {\n", "export {,", "export { a as ", "export function preprocessor<\n", "function preprocessor<a>\n"],
)
def test_exports_without_an_end(piece: str) -> None:
    code = "\n" + piece * (MIB // len(piece))
    assert entry_points(code) <= {"main", "preprocessor"}
    assert preprocessor_parameters(code) == ()


def test_an_export_list_goes_over_lines() -> None:
    assert entry_points("export {\n  run as main,\n  preprocessor\n}") == {"main", "preprocessor"}


@pytest.mark.parametrize("line", ["a" + " " * 390 + "!", "a>1" + " " * 380 + ",", "a [ b ]" + " " * 380 + "("])
def test_a_requirement_with_many_blanks(line: str) -> None:
    with pytest.raises(BadRequest, match="requirement"):
        find_requirements(f"# requirements:\n#{line}\n")


def test_blanks_in_a_requirement_count_once() -> None:
    assert find_requirements("# requirements:\n#a   [ b ]  >=  1\n").lines == ("a [ b ] >= 1",)


def test_a_lock_with_a_text_without_an_end() -> None:
    head = '{"dependencies":{"a":"1.0.0"}}\n//bun.lock\n{"a":'
    for tail in ('"' + '\\"' * (MIB // 4), '\\"' * (MIB // 4), '"' * (MIB // 4), ", " * (MIB // 4)):
        with pytest.raises(BadRequest, match="lock"):
            read_npm_lock(head + tail)


def test_many_blocks_of_requirements() -> None:
    assert find_requirements("# requirements:\n#a\n\n" * 400).lines == ("a",)
    with pytest.raises(BadRequest, match="there are 50000 requirements"):
        find_requirements("# requirements:\n#a\n\n" * 50_000)
