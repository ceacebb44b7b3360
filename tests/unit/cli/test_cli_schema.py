"""``minwebhook schema``: the JSON Schema of a script, without a server."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from minwebhook.cli.main import main

PYTHON = 'def main(name: str, times: int = 2):\n    """Greets.\n    """\n'
TYPESCRIPT = 'export async function main(name: string, kind: "a" | "b" = "a") {}\n'
#: A name of the file, the options, what it holds, the properties, and which of them must be there.
FILES = [
    ("greet.py", [], PYTHON, ["name", "times"], ["name"]),
    ("greet", ["--language", "python3"], PYTHON, ["name", "times"], ["name"]),
    ("greet.ts", [], TYPESCRIPT, ["name", "kind"], ["name"]),
    ("greet.sh", [], 'name="$1"\ntimes="${2:-3}"\n', ["name", "times"], ["name"]),
    (
        "greet.go",
        [],
        "package inner\nfunc main(name string) (string, error) { return name, nil }\n",
        ["name"],
        ["name"],
    ),
    ("nothing.py", [], "def other(): pass\n", [], []),
]


@pytest.mark.parametrize(
    ("name", "options", "content", "properties", "required"), FILES, ids=lambda value: str(value)[:12]
)
def test_files(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
    content: str,
    properties: list[str],
    required: list[str],
) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert main(["schema", str(file), *options]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert (list(schema["properties"]), schema["required"]) == (properties, required)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PYTHON.encode())))
    assert main(["schema", "-", "--language", "python3"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["times"]["default"] == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("greet.txt", b"", "say which language it is with --language"),
        ("greet.py", b"def main(:", "greet.py: "),
        ("greet.py", b"\xff", "greet.py: "),
        ("missing.py", None, "No such file"),
    ],
)
def test_what_has_no_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["schema", str(tmp_path / name)]) == 1
    printed = capsys.readouterr()
    assert (printed.out, said in printed.err) == ("", True), printed.err
