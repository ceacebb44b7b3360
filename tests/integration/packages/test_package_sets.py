"""Sets of packages, with the real uv and wheels made here."""
# ruff: noqa: ASYNC110, ASYNC240 - looking at files and processes while nothing else has to run

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import trio

from minwebhook.errors import PackageError
from minwebhook.packages.sets import Content, PackageSets
from minwebhook.packages.uv import Interpreter
from minwebhook.settings import PackageSettings
from tests.wheels import make_wheel

VERSION = ".".join(platform.python_version_tuple()[:2])
INTERPRETER = Interpreter(sys._base_executable, VERSION)  # type: ignore[attr-defined]
MakeSets = Callable[..., PackageSets]


def python(*texts: str) -> Content:
    return Content("python", texts)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """A wheel that needs another one, and one that needs what is not there."""
    place = tmp_path / "wheelhouse"
    make_wheel(place, "outer-thing", "1.0", {"outer_thing.py": "import inner\nVALUE = inner.VALUE\n"}, ["inner>=1"])
    make_wheel(place, "inner", "1.5", {"inner/__init__.py": "VALUE = 15\n"})
    make_wheel(place, "inner", "0.5", {"inner/__init__.py": "VALUE = 5\n"})
    make_wheel(place, "lonely", "1.0", {"lonely.py": ""}, ["absent"])
    make_wheel(place, "large", "1.0", {"large.py": f"TEXT = '{'x' * 400_000}'\n"})
    return place


@pytest.fixture
def make_sets(tmp_path: Path, wheelhouse: Path) -> MakeSets:
    def make(in_use: Callable[[], set[str]] = set, **settings: object) -> PackageSets:
        values: dict[str, object] = {"offline": True, "package_wheelhouse": (str(wheelhouse),), **settings}
        return PackageSets(PackageSettings(**values), tmp_path / "packages", INTERPRETER, in_use)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def sets(make_sets: MakeSets) -> PackageSets:
    made = make_sets()
    await made.sweep()
    return made


async def test_requirements_are_found_and_installed(sets: PackageSets) -> None:
    pins = await sets.resolve(python("outer-thing"))
    assert pins.texts == ("inner==1.5", "outer-thing==1.0")
    assert sets.find(pins) is None
    directory = Path(await sets.install(pins))
    assert sets.find(pins) == str(directory)
    assert (directory / "outer_thing.py").is_file()
    assert list((directory / "inner" / "__pycache__").glob("*.pyc")), "is not compiled"
    assert orjson.loads((directory / ".minwebhook.json").read_bytes())["packages"] == list(pins.texts)
    assert directory.stat().st_mode & 0o777 == 0o755
    assert not list((directory.parent / ".making").iterdir())


async def test_the_same_packages_are_installed_once(sets: PackageSets, wheelhouse: Path) -> None:
    found: list[str] = []

    async def install() -> None:
        found.append(await sets.install(python("inner==1.5")))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(install)
    assert len(set(found)) == 1
    for wheel in wheelhouse.iterdir():
        wheel.unlink()
    assert await sets.install(python("inner==1.5")) == found[0]


async def test_sets_are_found_again_after_a_restart(sets: PackageSets, make_sets: MakeSets, wheelhouse: Path) -> None:
    directory = await sets.install(python("inner==1.5"))
    (wheelhouse / "inner-1.5-py3-none-any.whl").unlink()
    (Path(directory).parent / ".making" / "half").mkdir()
    again = make_sets()
    await again.sweep()
    assert not list((Path(directory).parent / ".making").iterdir()), "what was left half made is still there"
    assert await again.install(python("inner==1.5")) == directory


async def test_what_is_missing_is_named_with_the_place_where_to_put_it(sets: PackageSets, wheelhouse: Path) -> None:
    with pytest.raises(PackageError, match="absent") as caught:
        await sets.resolve(python("lonely"))
    assert str(wheelhouse) in str(caught.value)
    with pytest.raises(PackageError, match=r"--dest WHEELS 'other==2'"):
        await sets.install(python("inner==1.5", "other==2"))
    assert sets.find(python("inner==1.5", "other==2")) is None


async def test_without_a_wheelhouse_offline_says_so(make_sets: MakeSets) -> None:
    sets = make_sets(package_wheelhouse=())
    await sets.sweep()
    with pytest.raises(PackageError, match="set package_wheelhouse"):
        await sets.resolve(python("inner"))


async def test_packages_are_not_built_unless_that_is_allowed(
    make_sets: MakeSets, wheelhouse: Path, tmp_path: Path
) -> None:
    import tarfile

    source = tmp_path / "evil-1.0"
    source.mkdir()
    (source / "setup.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil')\n"
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    with tarfile.open(wheelhouse / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "evil-1.0")
    sets = make_sets()
    await sets.sweep()
    for attempt in (sets.resolve(python("evil")), sets.install(python("evil==1.0"))):
        with pytest.raises(PackageError):
            await attempt
    assert not (tmp_path / "ran").exists()


async def test_who_waits_takes_over_when_the_first_one_is_cancelled(
    make_sets: MakeSets, tmp_path: Path, nursery: trio.Nursery
) -> None:
    program = tmp_path / "slow"
    program.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/go ] || pause=60\necho run >> {tmp_path}/runs\nsleep ${{pause:-0}}\nexit 1\n"
    )
    program.chmod(0o755)
    sets = make_sets(uv=str(program))
    await sets.sweep()
    first, second = trio.CancelScope(), trio.Event()

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            with pytest.raises(PackageError, match="uv ended with 1"):
                await sets.install(python("a==1"))
            second.set()

    nursery.start_soon(ask, first)
    with trio.fail_after(20):
        while not (tmp_path / "runs").exists():
            await trio.sleep(0.01)
        nursery.start_soon(ask, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked(0.01)
        (tmp_path / "go").touch()
        first.cancel()
        await second.wait()
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


async def test_at_the_deadline_all_processes_go(make_sets: MakeSets, tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text(f"#!/bin/sh\ntail -f {tmp_path}/child &\nwait\n")
    (tmp_path / "child").touch()
    program.chmod(0o755)
    sets = make_sets(uv=str(program), package_timeout_s=1.0)
    await sets.sweep()
    with pytest.raises(PackageError, match="package_timeout_s"):
        await sets.resolve(python("a"))
    with trio.fail_after(10):
        while _is_named(str(tmp_path / "child")):
            await trio.sleep(0.01)


def _is_named(word: str) -> bool:
    """Whether the command line of any process has this word."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in place.read_bytes():
                return True
        except OSError:
            continue
    return False


async def test_the_program_gets_an_environment_and_rights_of_its_own(
    make_sets: MakeSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "canary")
    program = tmp_path / "spy"
    program.write_text(
        f"#!/bin/sh\n/usr/bin/env > {tmp_path}/env\ncat /proc/self/status > {tmp_path}/status\n"
        f"tr '\\0' ' ' < /proc/self/cmdline > {tmp_path}/words\necho \"$@\" >> {tmp_path}/words\nexit 1\n"
    )
    program.chmod(0o755)
    sets = make_sets(uv=str(program), package_index=("https://a:canary@x.example/simple", "https://y.example/simple"))
    await sets.sweep()
    with pytest.raises(PackageError):
        await sets.resolve(python("a"))
    environment = (tmp_path / "env").read_text()
    assert "SECRET_OF_THE_SERVER" not in environment
    assert "UV_INDEX=https://a:canary@x.example/simple\n" in environment
    assert "UV_DEFAULT_INDEX=https://y.example/simple\n" in environment
    assert "canary" not in (tmp_path / "words").read_text(), "credentials in the list of processes"
    status = dict(line.split(":\t", 1) for line in (tmp_path / "status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


async def test_sets_unused_for_longest_make_room(make_sets: MakeSets) -> None:
    kept: set[str] = set()
    sets = make_sets(lambda: kept, package_disk_bytes=1024 * 1024)
    await sets.sweep()
    inner = await sets.install(python("inner==1.5"))
    kept.add(inner)
    old = await sets.install(python("inner==0.5"))
    large = await sets.install(python("large==1.0"))
    assert all(Path(each).is_dir() for each in (inner, old, large)), "only the cache had to go"
    larger = await sets.install(python("inner==0.5", "large==1.0"))
    assert [Path(each).is_dir() for each in (inner, old, large, larger)] == [True, False, False, True]
    assert sets.find(python("large==1.0")) is None
    assert await sets.install(python("inner==0.5")) == old, "it comes back when it is needed"


async def test_a_disk_that_refuses_is_a_reason(make_sets: MakeSets, tmp_path: Path) -> None:
    sets = make_sets()
    await sets.sweep()
    making = tmp_path / "packages" / ".making"
    making.rmdir()
    making.touch()
    with pytest.raises(PackageError, match="cannot be installed"):
        await sets.install(python("inner==1.5"))
    making.unlink()
    making.mkdir()
    assert Path(await sets.install(python("inner==1.5"))).is_dir()
