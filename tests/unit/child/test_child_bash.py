"""How bash scripts get their arguments."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import wire
from minwebhook.child.bash import argument_text, arguments


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", []),
        ("echo hi", []),
        ('a="$1"', ["a"]),
        ('a="$1"\nb="$2"\n', ["a", "b"]),
        ('b="$2"\na="$1"\n', ["a", "b"]),
        ('a="${1}"\nb="${2:-x y}"\nc="${3:-}" # comment\nd="$4"   # other', ["a", "b", "c", "d"]),
        ('a="$1"\nc="$3"', ["a"]),
        ('b="$2"', []),
        (' a="$1"\n\tb=\'$1\'\nc=$1\nlocal d="$1"', []),
        ('a="$1"\nagain="$1"', ["a"]),
        ('a="$1"; echo', []),
        ('a="$10"', []),
        ("\n".join(f'a{n}="${n}"' for n in range(1, 10)), [f"a{n}" for n in range(1, 10)]),
        ("\n".join(f'a{n}="${{{n}}}"' for n in range(1, 30)), [f"a{n}" for n in range(1, 20)]),
    ],
)
def test_names_in_the_order_of_their_numbers(source: str, names: list[str]) -> None:
    assert [each.name for each in arguments(source)] == names


@given(st.text())
def test_any_source_has_a_list_of_names(source: str) -> None:
    names = [each.name for each in arguments(source)]
    assert len(names) <= 19
    assert all(name.isidentifier() or name.replace("_", "a").isalnum() for name in names)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_strings_stay_others_are_json_and_null_is_empty(value: object) -> None:
    text = argument_text(value)
    if value is None:
        assert text == ""
    elif isinstance(value, str):
        assert text == value.replace("\0", "")
    else:
        assert json.loads(text) == value
    assert "\0" not in text or not isinstance(value, str)


def test_hostile_texts_reach_bash_unchanged(require_program: Callable[[str], str], tmp_path: object) -> None:
    """Through the very file that a job is started from."""
    from pathlib import Path

    from minwebhook.child.bash import _write_job

    assert isinstance(tmp_path, Path)
    bash = require_program("bash")
    texts = ["", "'", '"', "$(touch broken)", "`touch broken`", "a\nb", "\\", "$HOME", "*", "-e", "é\t!", "x" * 10_000]
    source = "\n".join(f'a{n}="${{{n}}}"' for n in range(1, len(texts) + 1))
    source += '\nprintf "%s\\0" "$@" > seen\nprintf "%s\\0" "$NAME" >> seen\n'
    arguments = {f"a{n}": text for n, text in enumerate(texts, 1)}
    import contextlib

    with contextlib.chdir(tmp_path):
        header = wire.JobHeader("", False, False, "NOFILE=64", [b"NAME='; touch broken; '"])
        _write_job(header, source.encode(), json.dumps(arguments).encode(), "/tmp")
    assert shutil.which(bash)
    subprocess.run([bash, "--noprofile", "--norc", ".job.sh"], cwd=tmp_path, check=True)
    assert (tmp_path / "seen").read_bytes().decode().split("\0")[:-1] == [*texts, "'; touch broken; '"]
    assert not (tmp_path / "broken").exists()
