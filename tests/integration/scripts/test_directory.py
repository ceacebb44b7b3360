"""Deploying a directory of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minwebhook.errors import DeployError
from minwebhook.scripts import directory as module
from minwebhook.scripts.directory import Deployed, deploy_directory
from minwebhook.scripts.model import Language, ScriptPath, hash_to_hex
from minwebhook.scripts.store import ScriptStore

NOW = 1_700_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with two scripts and things to skip."""
    return fill(
        tmp_path / "scripts",
        {
            "u/admin/hello.py": "def main(): return 1\n",
            "f/team/tools/report.sh": "echo hi\n",
            ".git/config": "x",
            "u/.hidden.py": "x",
            "u/admin/__pycache__/hello.pyc": "x",
            "f/empty/.keep": "",
        },
    )


def fill(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


async def deploy(store: ScriptStore, root: Path) -> list[Deployed]:
    return await deploy_directory(store, root, "demo", "admin", NOW)


async def test_files_become_scripts_of_the_same_path(store: ScriptStore, root: Path) -> None:
    deployed = await deploy(store, root)
    assert [(item.path, item.is_new) for item in deployed] == [("f/team/tools/report", True), ("u/admin/hello", True)]
    hello = store.deployed("demo", "u/admin/hello")
    assert (hello.hash, hello.language, hello.content) == (deployed[1].hash, Language.PYTHON3, "def main(): return 1\n")
    assert (hello.created_by, store.deployed("demo", "f/team/tools/report").language) == ("admin", Language.BASH)


async def test_unchanged_files_make_no_version(store: ScriptStore, root: Path) -> None:
    first = await deploy(store, root)
    second = await deploy(store, root)
    assert [item.hash for item in second] == [item.hash for item in first]
    assert not any(item.is_new for item in second)
    assert len(await store.history("demo", "u/admin/hello")) == 1


async def test_a_changed_file_follows_the_live_version_and_keeps_what_else_was_set(
    store: ScriptStore, root: Path
) -> None:
    await deploy(store, root)
    before = store.deployed("demo", "u/admin/hello")
    settings = {"timeout": 5, "deployment_message": "add a summary"}
    edited = await store.create("demo", replace(before.to_new(), summary="Greets", settings=settings), "alice", NOW)
    fill(root, {"u/admin/hello.py": "def main(): return 2\n"})
    [_, hello] = await deploy(store, root)
    script = store.deployed("demo", "u/admin/hello")
    assert (script.hash, script.summary, script.content) == (hello.hash, "Greets", "def main(): return 2\n")
    assert script.parent_hashes == (edited, before.hash)
    assert script.settings == {"timeout": 5}


async def test_scripts_are_deployed_behind_those_that_they_import(store: ScriptStore, root: Path) -> None:
    importing = "import { b } from './b.ts';\nimport { c } from '/f/x/c.ts';\nexport function main() { return b + c; }"
    fill(root, {"u/admin/a.ts": importing, "u/admin/b.ts": "export const b = 1;", "f/x/c.ts": "export const c = 1;"})
    deployed = {item.path: item for item in await deploy(store, root)}
    imports = store.deployed("demo", "u/admin/a").settings["imports"]
    assert imports == {path: hash_to_hex(deployed[ScriptPath(path)].hash) for path in ("u/admin/b", "f/x/c")}
    assert not any(item.is_new for item in await deploy(store, root))
    fill(root, {"f/x/c.ts": "export const c = 2;"})
    assert {item.path for item in await deploy(store, root) if item.is_new} == {"f/x/c", "u/admin/a"}
    fill(root, {"u/admin/a.ts": "import './gone.ts';"})
    with pytest.raises(DeployError, match=r"cannot deploy u/admin/a.ts: the code imports u/admin/gone"):
        await deploy(store, root)


async def test_a_change_of_language_is_a_change(store: ScriptStore, root: Path) -> None:
    await deploy(store, root)
    (root / "u/admin/hello.py").rename(root / "u/admin/hello.sh")
    await deploy(store, root)
    assert store.deployed("demo", "u/admin/hello").language is Language.BASH


@pytest.mark.parametrize("how", ["archived", "deleted version", "deleted path"])
async def test_a_script_that_was_taken_away_comes_back(store: ScriptStore, root: Path, how: str) -> None:
    [_, hello] = await deploy(store, root)
    if how == "archived":
        await store.archive_path("demo", hello.path)
    elif how == "deleted version":
        await store.delete_hash("demo", hello.hash)
    else:
        await store.delete_path("demo", hello.path)
    [_, again] = await deploy(store, root)
    assert again.is_new
    assert store.deployed("demo", hello.path).hash == again.hash
    # And once more: going back to earlier code is a version of its own, too.
    fill(root, {"u/admin/hello.py": "def main(): return 2\n"})
    await deploy(store, root)
    fill(root, {"u/admin/hello.py": "def main(): return 1\n"})
    await deploy(store, root)
    assert store.deployed("demo", hello.path).content == "def main(): return 1\n"


async def test_a_byte_order_mark_is_dropped(store: ScriptStore, tmp_path: Path) -> None:
    file = tmp_path / "s" / "u" / "a" / "b.py"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xef\xbb\xbfdef main(): pass")
    await deploy(store, tmp_path / "s")
    assert store.deployed("demo", "u/a/b").content == "def main(): pass"


async def test_links_within_the_directory_are_followed(store: ScriptStore, root: Path) -> None:
    fill(root, {"..data/real.py": "def main(): return 3"})
    (root / "u/admin/linked.py").symlink_to("../../..data/real.py")
    await deploy(store, root)
    assert store.deployed("demo", "u/admin/linked").content == "def main(): return 3"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("README.md", b"", "scripts are files ending in .py, .sh"),
        ("u/admin/noending", b"", "scripts are files ending in .py, .sh"),
        ("hello.py", b"", "scripts are named u/<user>/<name>"),
        ("u/hello.py", b"", "scripts are named u/<user>/<name>"),
        ("x/admin/hello.py", b"", "scripts are named u/<user>/<name>"),
        ("u/admin/a.b.py", b"", "scripts are named u/<user>/<name>"),
        ("u/admin/a b.py", b"", "scripts are named u/<user>/<name>"),
        ("u/admin/latin.py", b"# \xe4", "it is not UTF-8 (byte 2)"),
        ("u/admin/large.py", b"#" * (1024 * 1024 + 1), "it is larger than 1048576 bytes"),
        ("u/admin/nul.py", b"a\0", "content must not contain the character NUL"),
        ("u/admin/hello.sh", b"", "u/admin/hello.py has the same script path"),
    ],
)
async def test_what_cannot_be_deployed_ends_the_start(
    store: ScriptStore, root: Path, name: str, content: bytes, reason: str
) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    with pytest.raises(DeployError) as caught:
        await deploy(store, root)
    assert str(caught.value).startswith(f"cannot deploy {name}: {reason}")


async def test_links_and_other_things_are_refused(store: ScriptStore, root: Path, tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", {"secret.py": "x"})
    odd = root / "u/admin/odd.py"
    attempts: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: odd.symlink_to(outside / "secret.py"), "it is a link that leads out of the directory"),
        (lambda: odd.symlink_to("nowhere.py"), "it cannot be read"),
        (lambda: odd.symlink_to(odd), "it cannot be read"),
        (lambda: os.mkfifo(odd), "it is not a regular file"),
        (lambda: odd.symlink_to(outside), "it is a link to a directory"),
    )
    for make, reason in attempts:
        make()
        with pytest.raises(DeployError, match=f"u/admin/odd.py: {reason}"):
            await deploy(store, root)
        odd.unlink()
    assert not store.exists("demo", "u/admin/hello")


async def test_the_directory_must_be_there_and_not_too_deep(
    store: ScriptStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bad in (root / "none", root / "u/admin/hello.py"):
        with pytest.raises(DeployError, match="cannot read the directory"):
            await deploy(store, bad)
    monkeypatch.setattr(module, "MAX_DEPTH", 1)
    with pytest.raises(DeployError, match="nested too deeply"):
        await deploy(store, root)
