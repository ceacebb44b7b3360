"""Lists of a directory: how often it is read, and that what is kept of it for the next page is right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.listing import KEPT_S, Lister
from minwebhook.storage.tree import Tree


class CountingTree(Tree):
    """Counts how often a folder is read."""

    readings = 0

    def names(self, segments: object) -> Iterator[str]:
        self.readings += 1
        return super().names(segments)  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> CountingTree:
    return CountingTree(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))


def all_pages(lister: Lister, limit: int) -> list[str]:
    keys: list[str] = []
    marker: str | None = ""
    while marker is not None:
        page = lister.page("", marker, limit)
        keys += [each.key for each in page.objects]
        marker = page.next_marker
    return keys


def test_many_pages_do_not_read_the_folder_as_often(tmp_path: Path, tree: CountingTree) -> None:
    names = [f"upload_{number:05}" for number in range(2000)]
    for name in names:
        (tmp_path / name).touch()
    assert all_pages(Lister(tree), 20) == names
    assert tree.readings <= 7  # of 100 pages


def test_files_that_come_and_go_between_pages(tmp_path: Path, tree: CountingTree) -> None:
    now = 0.0
    lister = Lister(tree, clock=lambda: now)
    for name in "bcdfgh":
        (tmp_path / name).touch()
    first = lister.page("", "", 2)
    assert [each.key for each in first.objects] == ["b", "c"]
    (tmp_path / "d").unlink()
    for name in "aez":
        (tmp_path / name).touch()
        lister.note(ObjectKey(name))
    (tmp_path / "f0").touch()  # by other means
    marker = first.next_marker
    assert marker == "c"
    second = lister.page("", "c", 3)
    assert [each.key for each in second.objects] == ["e", "f", "g"]
    (tmp_path / "g0").touch()
    now += KEPT_S + 1
    third = lister.page("", "g", 3)
    assert [each.key for each in third.objects] == ["g0", "h", "z"]
    assert third.next_marker is None
    assert tree.readings == 2


@settings(max_examples=60, deadline=None)
@given(
    names=st.sets(st.text("ab/", min_size=1, max_size=4), max_size=30),
    new=st.lists(st.text("ab", min_size=1, max_size=3), max_size=5),
    limit=st.integers(1, 7),
)
def test_pages_are_the_whole_in_order(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], new: list[str], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("list")
    keys = set()
    for name in names:
        path = folder / name.strip("/")
        if "//" in name or not name.strip("/") or path.is_dir() or any(each.is_file() for each in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        keys.add(name.strip("/"))
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    lister = Lister(Tree(fd))
    assert all_pages(lister, limit) == sorted(keys)
    seen: list[str] = []
    marker: str | None = ""
    while marker is not None:
        page = lister.page("", marker, limit)
        seen += [each.key for each in page.objects]
        marker = page.next_marker
        if new and marker is not None and not (folder / new[0]).exists():
            (folder / new[0]).touch()
            lister.note(ObjectKey(new[0]))
            if new[0] > marker:
                keys.add(new[0])
        new = new[1:]
    assert seen == sorted(keys)
    os.close(fd)
