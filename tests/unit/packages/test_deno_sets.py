"""What of the cache of all goes into a set for deno."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from minwebhook.errors import PackageError
from minwebhook.packages.deno import Deno
from minwebhook.settings import PackageSettings


def collected(root: Path, **lock: object) -> list[str]:
    """The files in the directory for deno of a set with this lock."""
    deno = Deno(PackageSettings(), None, root / "cache")
    deno._collect(root / "set", orjson.dumps(lock).decode())
    place = root / "set" / "deno"
    return sorted(str(each.relative_to(place)) for each in place.rglob("*") if not each.is_dir())


def write(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("x")


def test_packages_in_the_version_of_the_lock(tmp_path: Path) -> None:
    for version in ("1.0.0", "1.0.0_1", "1.0.1"):
        write(tmp_path / "cache/npm/r.test/@team/a" / version / "f")
    assert collected(tmp_path, npm={"@team/a@1.0.0_b@2.0.0": {}}) == [
        "npm/r.test/@team/a/1.0.0/f",
        "npm/r.test/@team/a/1.0.0_1/f",
    ]


def test_capitals_are_in_the_name_of_the_folder(tmp_path: Path) -> None:
    """JSONStream is not jsonstream, also where file systems do not tell them apart."""
    write(tmp_path / "cache/npm/r.test/_jjju6tstorzgkyln/1.3.5/f")
    write(tmp_path / "cache/npm/r.test/jsonstream/1.3.5/f")
    assert collected(tmp_path, npm={"JSONStream@1.3.5": {}}) == ["npm/r.test/_jjju6tstorzgkyln/1.3.5/f"]


@pytest.mark.parametrize(
    "key",
    [
        "../../../outside@1.0.0",
        "a@../../../../outside/1.0.0",
        "a@..",
        "/etc@1.0.0",
        "a\0b@1.0.0",
        "@../../x@1.0.0",
        "a@",
    ],
)
@pytest.mark.parametrize("part", ["npm", "jsr"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, part: str, key: str) -> None:
    write(tmp_path / "outside/1.0.0/f")
    write(tmp_path / "cache/npm/r.test/a/1.0.0/f")
    with pytest.raises(PackageError, match="is no package"):
        collected(tmp_path, **{part: {key: {}}})
    assert not list((tmp_path / "set").rglob("f"))


@pytest.mark.parametrize("link", ["npm/r.test", "npm/r.test/a", "npm/r.test/a/1.0.0"])
def test_links_out_of_the_cache_are_not_followed(tmp_path: Path, link: str) -> None:
    write(tmp_path / "outside" / Path("npm/r.test/a/1.0.0/f").relative_to(link))
    place = tmp_path / "cache" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "outside")
    assert collected(tmp_path, npm={"a@1.0.0": {}}) == []


def test_a_cache_that_is_reached_by_a_link(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/npm/r.test/a/1.0.0/f")
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    assert collected(tmp_path, npm={"a@1.0.0": {}}) == ["npm/r.test/a/1.0.0/f"]
