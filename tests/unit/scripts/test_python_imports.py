"""Which scripts of the workspace a Python script imports. Pure."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child.workspace import WorkspaceFinder, module_parts
from minwebhook.scripts.imports import imported_paths
from minwebhook.scripts.model import Language, is_script_path


def paths_of(code: str, path: str = "f/team/deep/me") -> set[tuple[str, ...]]:
    return set(imported_paths(Language.PYTHON3, code, path))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from f.team.base import a, b", {("f/team/base", "f/team/base/a"), ("f/team/base", "f/team/base/b")}),
        ("from f.team import base", {("f/team/base",)}),
        ("import f.team.base as b, u.me.other, os", {("f/team/base",), ("u/me/other",)}),
        ("from .near import x", {("f/team/deep/near", "f/team/deep/near/x")}),
        ("from . import near", {("f/team/deep", "f/team/deep/near")}),
        ("from ..base import x", {("f/team/base", "f/team/base/x")}),
        ("from ...other.base import x", {("f/other/base", "f/other/base/x")}),
        ("from f._2024._1st import *", {("f/2024/1st",)}),
        ("def main():\n    try:\n        from f.team.base import *\n    except ImportError: pass", {("f/team/base",)}),
        ("if TYPE_CHECKING:\n    from f.team.base import a", set()),
        ("'from f.team.base import a'\n# import f.team.base\nimport os, f.x", set()),
        ("from f import x; from ......a import b; from f.team.base import a b", set()),
    ],
)
def test_which_scripts_are_imported(code: str, found: set[tuple[str, ...]]) -> None:
    assert {tuple(path for path in paths if not path.endswith("/*")) for paths in paths_of(code)} == found


@given(
    st.lists(st.sampled_from(["from", "import", "f", "u.", ".", "..x", " ", "\n", "a.b", "*", "as", "("]), max_size=30)
)
def test_any_text_imports_something_or_nothing(pieces: list[str]) -> None:
    assert all(is_script_path(path) for paths in paths_of("".join(pieces)) for path in paths)


@given(st.lists(st.sampled_from(["1", "_", "-", "a", "B"]), min_size=1, max_size=5).map("".join))
def test_every_script_that_is_imported_is_found_by_its_name(name: str) -> None:
    path = f"f/team/{name}"
    finder = WorkspaceFinder({path: "VALUE = 1\n"}, {})
    dotted = ".".join(module_parts(path))
    spec = finder.find_spec(dotted)
    assert spec is not None
    assert (spec.name, spec.origin) == (dotted, f"{path}.py")
    above = finder.find_spec("f.team")
    assert above is not None
    assert above.submodule_search_locations == []
    assert finder.find_spec("f.other") is None
    assert finder not in sys.meta_path
