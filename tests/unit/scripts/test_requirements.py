"""What packages code needs: blocks, pins, imports; and locks."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.scripts.distributions import DISTRIBUTIONS, distribution_of
from minwebhook.scripts.requirements import (
    MAX_PARSED,
    MAX_REQUIREMENTS,
    NOTHING,
    Requirements,
    allows_python,
    find_requirements,
    imported_modules,
    make_lock,
    pins_of,
)

MAIN = "def main():\n    return 1\n"

CASES = {
    "nothing": (MAIN, ()),
    "the standard library": ("import os, json.decoder\nfrom xml.etree import ElementTree\n" + MAIN, ()),
    "scripts of the workspace": ("from f.team.tools import a\nimport u.me.b\nfrom . import c\nfrom ..d import e\n", ()),
    "an import": ("import requests\n" + MAIN, ("requests",)),
    "several in one line": ("import os, requests as r, httpx;import trio\n", ("httpx", "requests", "trio")),
    "behind one of the standard library": ("import os, requests\n", ("requests",)),
    "behind a continued line": ("import os, \\\n  requests\n", ("requests",)),
    "only names of the standard library": ("from os import path, sep\nimport os as requests\n", ()),
    "a module of a package": ("import numpy.linalg\nfrom pandas.io import json\n", ("numpy", "pandas")),
    "inside of functions and branches": (
        "def main():\n    try:\n        import a\n    except ImportError:\n        import b\n",
        ("a", "b"),
    ),
    "names that differ": (
        "import yaml\nfrom bs4 import BeautifulSoup\nimport PIL.Image\n",
        ("beautifulsoup4", "pillow", "pyyaml"),
    ),
    "an underscore": ("import typing_extensions\n", ("typing-extensions",)),
    "a shared root": (
        "from google.cloud import storage\nimport google.cloud.bigquery as q\n",
        ("google-cloud-bigquery", "google-cloud-storage"),
    ),
    "for type checkers only": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n",
        ("b",),
    ),
    "in strings and comments": ("'''\nimport a\n'''\nX = 'import b'\n# import c\n", ()),
    "code that is none": ("import requests\ndef main(:\n", ()),
    "a continued line": ("from \\\n  requests import (\n  get,\n)\n", ("requests",)),
    "a pin": ("import requests  # pin: requests==2.31\n", ("requests==2.31",)),
    "a pin behind brackets": ("from requests import (\n    get,\n)  # pin: requests<3\n", ("requests<3",)),
    "a pin of another name": ("import cv2 # pin: opencv-python>=4\n", ("opencv-python>=4",)),
    "a pin holds for the package": ("import numpy  # pin: numpy==2.0\nfrom numpy.linalg import inv\n", ("numpy==2.0",)),
    "repin wins": ("import a  # repin: a==2\nimport a  # pin: a==1\n", ("a==2",)),
    "a block is exact": (
        "# requirements:\n# a==1\n#b [extra1, extra2] >=2, <3\n\n# c\nimport d\n",
        ("a==1", "b [extra1, extra2] >=2, <3"),
    ),
    "an empty block": ("#requirements:\nimport d\n", ()),
    "extra ones": ("# extra_requirements:\n# b>=1 # why\nimport a\n", ("a", "b>=1")),
    "inline metadata": (
        "# /// script\n# requires-python = '>=3.11'\n# dependencies = [\n#   \"httpx<1\",\n#\n# ]\n# ///\nimport a\n",
        ("httpx<1",),
    ),
    "inline metadata without an end": ("# /// script\n# dependencies = ['x']\nimport a\n", ("a",)),
    "a marker": ("# requirements:\n# a==1; python_version >= '3.9'\n", ("a==1; python_version >= '3.9'",)),
    "lines of Windows": ("# requirements:\r\n# a\r\n\r\nimport b\r\n", ("a",)),
}


@pytest.mark.parametrize(("code", "lines"), CASES.values(), ids=CASES)
def test_what_code_needs(code: str, lines: tuple[str, ...]) -> None:
    assert find_requirements(code).lines == lines


@pytest.mark.parametrize(
    "line",
    [
        "-r /etc/passwd",
        "--index-url http://x",
        "-e .",
        "./wheel.whl",
        "/tmp/x",
        "a @ file:///etc",
        "a @ https://x/a.whl",
        "git+https://x/y",
        "a==1 --hash=sha256:00",
        "a; b \\",
        "a b",
        "==1",
        "a[",
        "é",
        "a" * 500,
        "a==1;",
    ],
)
def test_a_requirement_is_a_name_with_versions_and_nothing_else(line: str) -> None:
    with pytest.raises(BadRequest, match="requirement"):
        find_requirements(f"# requirements:\n# {line}\n")


@pytest.mark.parametrize(
    "block",
    [
        "dependencies = [",
        "dependencies = 'a'",
        "dependencies = [1]",
        "requires-python = 3",
        "dependencies = ['a @ file:///x']",
    ],
)
def test_inline_metadata_that_cannot_be_used(block: str) -> None:
    with pytest.raises(BadRequest):
        find_requirements(f"# /// script\n# {block}\n# ///\n")


def test_the_interpreter() -> None:
    assert find_requirements("#!/usr/bin/python\n# py: >=3.11\n\nimport os\n") == Requirements(python=">=3.11")
    assert find_requirements("import os\n# py: >=3.11\n") == NOTHING
    assert find_requirements("# /// script\n# requires-python = '>=3.12'\n# ///\n").python == ">=3.12"


@pytest.mark.parametrize(
    ("clauses", "fits"),
    {
        "3.11": True,
        "==3.11.11": True,
        "==3.11.*": True,
        ">=3.11": True,
        ">=3.11.2,<3.12": True,
        "~=3.11": True,
        "~=3.11.2": True,
        "!=3.12": True,
        "<=3.11": True,
        ">3.10": True,
        "!=3.11.5": True,
        "3": True,
        "3.12": False,
        ">=3.12": False,
        "<3.11": False,
        "~=3.12": False,
        "!=3.11": False,
        "!=3.11.7": False,
        "~=3.10.2": False,
        "==3.10.7": False,
        ">=3.11.8": False,
    }.items(),
)
def test_versions_of_the_interpreter(clauses: str, fits: bool) -> None:
    assert allows_python(clauses, (3, 11, 7)) is fits


@pytest.mark.parametrize("clauses", ["", "x", "3.11 or 3.12", ">=", "==3.11.1.1.1", "3.11;x"])
def test_versions_that_cannot_be_read(clauses: str) -> None:
    with pytest.raises(BadRequest, match="py:"):
        allows_python(clauses, (3, 11, 7))


def test_the_modules_that_are_imported() -> None:
    assert imported_modules("import numpy.linalg, os\nfrom pandas import io\nfrom f.x import y") == (
        "numpy.linalg",
        "pandas",
    )


def test_a_lock_is_what_its_pins_make() -> None:
    lock = make_lock("3.11", ("a==1", "b==2"))
    assert lock == "# py: 3.11\na==1\nb==2"
    assert pins_of(lock) == ("a==1", "b==2")
    assert pins_of("") == pins_of("# py: 3.11\n") == ()
    assert pins_of("a==1 # via b\nb==2 --hash=sha256:0a --hash=sha256:1b") == (
        "a==1",
        "b==2 --hash=sha256:0a --hash=sha256:1b",
    )
    for line in ("-r x", "--extra-index-url http://x", "a @ http://x", "-e ."):
        with pytest.raises(BadRequest):
            pins_of(f"# py: 3.11\n{line}\n")


def test_no_more_than_so_many() -> None:
    block = "# requirements:\n" + "".join(f"# p{number}\n" for number in range(MAX_REQUIREMENTS + 1))
    with pytest.raises(BadRequest, match="500"):
        find_requirements(block)


def test_every_distribution_has_a_normalized_name() -> None:
    for module, name in DISTRIBUTIONS.items():
        assert name == name.lower().replace("_", "-")
        assert distribution_of(module) == name
        assert distribution_of(f"{module}.below") == name


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(
    lambda name: name not in sys.stdlib_module_names and name not in ("f", "u", "g", "if", "as", "in", "is", "or")
)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}", fullmatch=True)


@given(st.dictionaries(NAMES, VERSIONS, max_size=20))
def test_locks_are_read_as_they_were_written(packages: dict[str, str]) -> None:
    pins = tuple(sorted(f"{name}=={version}" for name, version in packages.items()))
    assert pins_of(make_lock("3.11", pins)) == pins


@given(st.dictionaries(NAMES, VERSIONS, max_size=10))
def test_a_block_means_what_it_lists(packages: dict[str, str]) -> None:
    lines = [f"{name}=={version}" for name, version in packages.items()]
    code = "# requirements:\n" + "".join(f"# {line}\n" for line in lines) + "\nimport other\n"
    assert find_requirements(code).lines == tuple(sorted(lines))


@given(
    st.lists(
        st.lists(st.sampled_from(["os", "json.decoder", "plain", "other.sub", "f.x"]), min_size=1, max_size=4),
        max_size=5,
    ),
    st.sampled_from(
        ["import {}", "import  {} as z", "if 1: import {}", "x = 1;import {}", "import\\\n {}", "from {} import a"]
    ),
    st.sampled_from([", ", ",", " , ", ", \\\n"]),
)
def test_no_import_is_overlooked(lists: list[list[str]], form: str, comma: str) -> None:
    many = "from" not in form and "as" not in form
    statements = [form.format(comma.join(names) if many else names[0]) for names in lists]
    imported = {name for names in lists for name in (names if many else names[:1])}
    assert set(imported_modules("\n".join(statements))) == imported & {"plain", "other.sub"}


@given(st.text(alphabet=st.sampled_from("#/ \n\r\timportfromrequi:=[]'\"\\.,scriptdependencies_py>x(1)"), max_size=300))
def test_any_text_has_requirements_or_a_reason(code: str) -> None:
    try:
        found = find_requirements(code)
    except BadRequest:
        return
    assert all("\n" not in line and not line.startswith("-") for line in found.lines)


@pytest.mark.timeout(20)  # it would be minutes
@pytest.mark.parametrize(
    "code",
    [
        "# requirements:\n" * 60_000,
        "# /// script\n" * 60_000,
        "import " + " " * 900_000,
        "from a " * 30_000,
        "from a" + "." * 200_000,
        "#" * 1_000_000,
        "import a\n" * 28_000,
        "# requirements:\n# " + "a-" * 190 + "!\n" + "# a\n" * 400,
        "(" * MAX_PARSED,
        "import x\n" + "(" * 1000,
    ],
    ids=["blocks", "inline", "spaces", "from", "dots", "comment", "imports", "name", "brackets", "nested"],
)
def test_hostile_code_takes_no_time(code: str) -> None:
    with contextlib.suppress(BadRequest):
        find_requirements(code)
