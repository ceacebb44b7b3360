"""Where bun, deno and node are looked for, and which of them runs a script."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minwebhook.errors import BadRequest, SettingsError
from minwebhook.runtimes.engines import Engines, find_engines
from minwebhook.runtimes.language import runtime_of
from minwebhook.settings import SandboxSettings


def program(path: Path, says: str) -> str:
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("language", "code", "installed", "runtime"),
    [
        ("python3", b"", (), "python3"),
        ("bun", b"export function main() {}", (), "bun"),
        ("bun", b"//nodejs\nexport function main() {}", (), "nodejs"),
        ("bun", b"// nodejs\n", (), "nodejs"),
        ("bun", b"\xef\xbb\xbf//nodejs\n", (), "nodejs"),
        ("bun", b"//nodejsish\n", (), "bun"),
        ("bun", b"let x; //nodejs\n", (), "bun"),
        ("deno", b"//nodejs\n", (), "deno"),
        ("nativets", b"", ("deno", "bun"), "bun"),
        ("nativets", b"", ("nodejs", "deno"), "deno"),
        ("bunnative", b"", ("nodejs",), "nodejs"),
        ("bunnative", b"", (), "bun"),
    ],
)
def test_which_runtime_runs_a_script(language: str, code: bytes, installed: tuple[str, ...], runtime: str) -> None:
    assert runtime_of(language, code, installed).name == runtime


def test_a_program_of_the_settings_is_taken(tmp_path: Path) -> None:
    found = find_engines(
        SandboxSettings(bun=program(tmp_path / "mine", "1.0"), node=program(tmp_path / "n", "v22.18.0"))
    )
    assert found.paths["bun"] == str(tmp_path / "mine")
    assert found.paths["nodejs"] == str(tmp_path / "n")
    assert found.missing("bun") == ""
    assert found.missing("python3") == ""


def test_a_program_of_the_settings_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the setting deno"):
        find_engines(SandboxSettings(deno=str(tmp_path / "none")))


def test_a_launcher_on_the_path_is_followed_to_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = program(tmp_path / "real", "x")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "given").symlink_to(real)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin")
    assert find_engines(SandboxSettings(bun="given")).paths["bun"] == real


@pytest.mark.parametrize("says", ["v20.20.2", "v22.17.1", "nonsense", ""])
def test_an_old_node_is_as_good_as_none(tmp_path: Path, says: str) -> None:
    found = find_engines(SandboxSettings(node=program(tmp_path / "n", says)))
    assert "nodejs" not in found.paths
    with pytest.raises(BadRequest, match=r"language bun needs node.*pip install 'minwebhook\[node\]'"):
        found.check("bun", b"//nodejs\n")


def test_bun_is_none_without_proc() -> None:
    found = Engines({"bun": "/b", "deno": "/d"})
    assert found.on("root") is found
    assert Engines({"deno": "/d"}).on("landlock").paths == {"deno": "/d"}
    with pytest.raises(BadRequest, match="bun does not start without /proc"):
        found.on("landlock").check("bun", b"")
    assert found.on("landlock").runtime("nativets", b"").name == "deno"


def test_what_is_not_there_is_refused_with_what_to_do() -> None:
    for language, code, program in (("deno", b"", "deno"), ("bun", b"", "bun"), ("bun", b"//nodejs", "node")):
        what = (
            rf"language {language} needs {program}, which is not to be had here: pip install 'minwebhook\[{program}\]'"
        )
        with pytest.raises(BadRequest, match=what):
            Engines().check(language, code)
    Engines().check("python3", b"")
    Engines({"deno": "/x"}).check("nativets", b"")
