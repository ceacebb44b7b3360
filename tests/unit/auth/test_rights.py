"""Folders and groups: who may do what with which path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth import rights
from minwebhook.auth.rights import Folder, Rights, holders_of
from minwebhook.errors import BadRequest

usernames = st.sampled_from(["alice", "bob", "al"])
groups = st.sets(st.sampled_from(["team", "tea", "ops"]))
holders = st.one_of(usernames.map("u/{}".format), st.sampled_from(["g/team", "g/all", "g/ops"]))
folders = st.builds(
    Folder,
    st.sampled_from(["x", "xx", "y"]),
    st.lists(holders, max_size=2).map(tuple),
    st.dictionaries(holders, st.booleans(), max_size=3),
)


def test_everyone_has_a_place_of_their_own() -> None:
    made = Rights.of("alice", ["team"], [])
    for path, expected in (
        ("u/alice/a", True),
        ("u/alicex/a", False),
        ("u/bob/a", False),
        ("g/team/a", True),
        ("g/all/a", True),
        ("g/ops/a", False),
        ("f/x/a", False),
        ("", False),
    ):
        assert made.readable.has(path) is expected, path
        assert made.writable.has(path) is expected, path


def test_a_folder_says_who_may_look_and_who_may_change() -> None:
    folder = Folder("x", ("u/owner",), {"u/writer": True, "u/reader": False, "g/team": False})
    for name, member_of, reads, writes, owns in (
        ("owner", (), True, True, True),
        ("writer", (), True, True, False),
        ("reader", (), True, False, False),
        ("other", ("team",), True, False, False),
        ("other", (), False, False, False),
    ):
        made = Rights.of(name, member_of, [folder])
        assert (made.readable.has("f/x/a"), made.writable.has("f/x/a")) == (reads, writes)
        assert bool(made.folders_owned) is owns
        assert not made.readable.has("f/xx/a")


@given(usernames, groups, st.lists(folders, max_size=3, unique_by=lambda folder: folder.name))
def test_who_owns_may_change_and_who_may_change_may_look(name: str, member_of: set[str], made: list[Folder]) -> None:
    found = Rights.of(name, member_of, made)
    assert set(found.folders_owned) <= set(found.folders_write) <= set(found.folders_read)
    for path in ("u/alice/a", "g/team/a", "f/x/a", "f/xx/a", "f/y/b/c", "f/x"):
        assert not found.writable.has(path) or found.readable.has(path)


@given(usernames, groups, folders)
def test_more_groups_never_mean_less(name: str, member_of: set[str], folder: Folder) -> None:
    fewer, more = (Rights.of(name, each, [folder]) for each in (set(), member_of))
    assert set(fewer.folders_read) <= set(more.folders_read)
    assert set(fewer.folders_write) <= set(more.folders_write)
    assert holders_of(name, ()) <= holders_of(name, member_of)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (rights.parse_name, ["team", "a-b_1"], ["", "a/b", "*", "a b", "..", "ä", "x" * 101, None, 1]),
        (rights.parse_username, ["alice", "a_1", "A-b"], ["", "1a", "a@b", "u/a", "anonymous", "timeout", None]),
        (rights.parse_workspace_id, ["demo", "a-1"], ["", "A", "a/b", "-a", "x" * 51, "..", None]),
    ],
)
def test_names(check: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert check(value) == value
    for value in bad:
        with pytest.raises(BadRequest):
            check(value)


def test_holders() -> None:
    assert rights.parse_holder("u/alice", "x") == "u/alice"
    assert rights.parse_holder("u/root@x.org", "x") == "u/root@x.org"
    for value in ("alice", "f/x", "u/", "u/a/b", "u/*", None):
        with pytest.raises(BadRequest, match="x: name users"):
            rights.parse_holder(value, "x")


@given(st.emails())
def test_a_username_can_be_made_of_every_address(email: str) -> None:
    name = rights.username_from(email)
    assert rights.parse_username(name) == name
