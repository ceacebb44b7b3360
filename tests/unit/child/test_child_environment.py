"""The environment of Python scripts: what is set is seen by Python, by the C library and by programs that a script starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minwebhook
from minwebhook.child.variables import USUAL

_START = f"import sys; sys.path.insert(0, {str(Path(minwebhook.__file__).parent.parent)!r})\n"
_SEEN = """
import ctypes, json, os, subprocess
from minwebhook.child.environment import Environment

libc = ctypes.PyDLL(None)
libc.getenv.restype = ctypes.c_char_p

def seen():
    started = subprocess.run(["/usr/bin/env", "-0"], capture_output=True).stdout
    by_programs = dict(line.split(b"=", 1) for line in started.split(b"\\0") if line)
    by_python = dict(os.environb)
    by_libc = {name: libc.getenv(name) for name in by_programs.keys() | by_python.keys()}
    assert by_programs == by_python == by_libc, (by_programs, by_python, by_libc)
    return {name.decode(): value.decode() for name, value in by_python.items()}

environment = Environment()
environment.lay_out()
"""


def _run(script: str) -> Any:
    """What the script prints, in a process of its own, which has another environment first."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _START + _SEEN + script],
        env={"OTHER": "gone", "WM_TOKEN": "gone"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


def test_a_laid_out_environment_is_the_usual_one() -> None:
    assert _run("print(json.dumps(seen()))") == USUAL


@pytest.mark.parametrize("length", [0, 1, 140, 151, 152, 1000])
def test_variables_take_any_length(length: int) -> None:
    value = "é" * (length // 2) + "x" * (length % 2)
    set_it = f"environment.set(['WM_TOKEN={value}'.encode(), b'OWN=1', b'WM_JOB_ID=a=b'])\n"
    assert _run(set_it + "print(json.dumps(seen()))") == {**USUAL, "WM_TOKEN": value, "OWN": "1", "WM_JOB_ID": "a=b"}
    back = set_it + "environment.set([b'WM_TOKEN=', b'OWN=1', b'WM_JOB_ID=7'])\nprint(json.dumps(seen()))"
    assert _run(back) == {**USUAL, "OWN": "1", "WM_JOB_ID": "7"}


def test_what_scripts_do_with_their_environment_counts() -> None:
    """Random changes by jobs and by their scripts, against a dict that says what must be there."""
    script = """
import random
chance = random.Random(7)
names = ["WM_TOKEN", "WM_JOB_ID", "HOME", "OWN", "OTHER"]
given, expected = {}, seen()
for step in range(120):
    name, value = chance.choice(names), "x" * chance.choice([0, 1, 100, 200]) + str(step)
    action = chance.choice(["job", "job", "set", "delete", "clear"] if step % 40 == 39 else ["job", "job", "set", "delete"])
    if action == "job":
        environment.set([f"{name}={value}".encode()])
        expected[name] = value
    elif action == "set":
        os.environ[name] = expected[name] = value
    elif action == "delete":
        os.environ.pop(name, None)
        expected.pop(name, None)
    else:
        os.environ.clear()
        expected.clear()
    if step % 4 == 0:
        assert seen() == expected
print(json.dumps(seen() == expected))
"""
    assert _run(script) is True


def test_a_new_job_has_its_own_values_whatever_the_one_before_set() -> None:
    script = """
environment.set([b"WM_TOKEN=first", b"WM_JOB_ID=1"])
os.environ["WM_TOKEN"] = "forged"
environment.set([b"WM_TOKEN=second", b"WM_JOB_ID=2"])
print(json.dumps(seen()))
"""
    assert _run(script) == {**USUAL, "WM_TOKEN": "second", "WM_JOB_ID": "2"}
