"""Scopes: the grammar, what each grants, and that a narrower token can do no more than the one it came from."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth.scopes import DOMAINS, Scope, Scopes, modern, required, run_scopes
from minwebhook.errors import BadRequest
from minwebhook.paths import Paths, contains, matches

segments = st.sampled_from(["u", "f", "team", "teamx", "a", "b"])
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)
patterns = st.one_of(st.just("*"), paths, paths.map(lambda path: f"{path}/*"))
resources = st.lists(patterns, min_size=1, max_size=3).map(",".join)
few_domains = st.sampled_from(["jobs", "scripts", "apps", "variables"])
actions = st.sampled_from(["read", "write", "delete", "run", "cancel"])
scopes = st.one_of(
    st.builds("{}:{}".format, few_domains, actions),
    st.builds("{}:{}:{}".format, few_domains, actions, resources),
    st.builds("jobs:run:{}".format, st.sampled_from(["scripts", "flows"])),
    st.builds("jobs:run:{}:{}".format, st.sampled_from(["scripts", "flows"]), resources),
    st.builds("run:script/{}".format, paths),
    st.builds("if_jobs:filter_tags:{}".format, st.sampled_from(["a", "b", "a,b"])),
    st.sampled_from(["jobs:runscript", "jobs:listjobs", "*", "", "a:b:c:d:e", "mcp:all"]),
)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("jobs:read", Scope("jobs", "read")),
        ("variables:delete", Scope("variables", "write")),
        ("scripts:read:f/team/*,u/a/b", Scope("scripts", "read", None, ("f/team/*", "u/a/b"))),
        ("jobs:run", Scope("jobs", "run")),
        ("jobs:run:flows", Scope("jobs", "run", "flows")),
        ("jobs:run:scripts:u/a/b", Scope("jobs", "run", "scripts", ("u/a/b",))),
        ("run:script/u/a/b", Scope("jobs", "run", "scripts", ("u/a/b",))),
        ("run:flow/u/a/b", Scope("jobs", "run", "flows", ("u/a/b",))),
        ("jobs:runscript", Scope("jobs", "run", "scripts")),
        ("jobs:runflow", Scope("jobs", "run", "flows")),
        ("jobs:resumeflow", Scope("jobs", "run", "flows")),
        ("jobs:listjobs", Scope("jobs", "read")),
        ("jobs:deletejob", Scope("jobs", "write")),
        ("apps:run:x", Scope("apps", "run", None, ("x",))),
        ("nothing:known", Scope("nothing", "known")),
        ("*", None),
        ("", None),
        ("jobs", None),
        (":read", None),
        ("jobs:", None),
        ("jobs:run:u/a/b", None),
        ("jobs:run:scripts:u/a/b:c", None),
        ("scripts:read:a:b", None),
        ("scripts:read:", None),
        ("if_jobs:filter_tags:a", None),
    ],
)
def test_the_grammar(text: str, scope: Scope | None) -> None:
    assert Scope.parse(text) == scope


def test_no_scopes_are_no_restriction() -> None:
    assert Scopes.of(None) is None
    assert Scopes.of([]) is None
    assert Scopes.of([], is_read_only=True) is not None


@pytest.mark.parametrize(
    ("texts", "opened", "closed"),
    [
        (["jobs:run:scripts:u/a/b"], ["jobs:run:scripts"], ["jobs:run", "jobs:run:flows", "jobs:read", "users:read"]),
        (["jobs:run"], ["jobs:run", "jobs:run:scripts", "jobs:run:flows"], ["jobs:read", "jobs:write"]),
        (["jobs:write"], ["jobs:read", "jobs:write", "jobs:cancel"], ["jobs:run", "jobs:run:scripts"]),
        (["jobs:cancel"], ["jobs:cancel"], ["jobs:read", "jobs:write"]),
        (["variables:write"], ["variables:read", "variables:write"], ["resources:read"]),
        (["apps:write"], ["apps:run", "apps:read"], []),
        (["apps:run"], ["apps:run", "apps:read"], ["apps:write"]),
        (["*"], [], ["jobs:read", "jobs:run", "users:read"]),
        (["mcp:all"], [], ["mcp:read", "jobs:run"]),
        (["if_jobs:filter_tags:a"], ["jobs:run", "users:write"], []),
        (["if_jobs:filter_tags:a", "jobs:read"], ["jobs:read"], ["jobs:run"]),
    ],
)  # fmt: skip
def test_what_opens_which_route(texts: list[str], opened: list[str], closed: list[str]) -> None:
    made = Scopes(texts)
    for routes, expected in ((opened, True), (closed, False)):
        for route in routes:
            domain, action, *kind = route.split(":")
            assert made.opens(domain, action, kind[0] if kind else None) is expected, route


def test_a_route_about_no_one_resource_wants_a_scope_for_all() -> None:
    assert not Scopes(["job_helpers:read:f/a/*"]).opens("job_helpers", "read", whole=True)
    assert Scopes(["job_helpers:read:f/a/*"]).opens("job_helpers", "read")
    for text in ("job_helpers:read", "job_helpers:read:*", "job_helpers:write"):
        assert Scopes([text]).opens("job_helpers", "read", whole=True)


def test_who_may_run_may_follow() -> None:
    made = Scopes(["jobs:run:scripts:u/a/b"])
    assert made.opens("jobs", "read", follows_run=True)
    assert not Scopes(["scripts:read"]).opens("jobs", "read", follows_run=True)


def test_an_unknown_word_is_said_unless_another_scope_grants_first() -> None:
    for text in ("nothing:read", "jobs:fly"):
        assert Scopes(["jobs:read", text]).opens("jobs", "read")
        with pytest.raises(BadRequest, match="unknown word"):
            Scopes([text, "jobs:read"]).opens("jobs", "read")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*", "u/a/b", True),
        ("u/a/b", "u/a/b", True),
        ("u/a/b", "u/a/bc", False),
        ("f/team/*", "f/team/x/y", True),
        ("f/team/*", "f/team", True),
        ("f/team/*", "f/teamx/y", False),
        ("u/use/*", "u/user/x", False),
        ("f/*", "f/team/x", True),
        ("f/te*", "f/team/x", False),
        ("f/team/x", "*", False),
        ("f/team/x", "f/team/*", False),
        ("f/team/*", "*", False),
    ],
)
def test_resources_match_whole_segments(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected
    assert Scopes([f"jobs:run:scripts:u/z/z,{pattern}"]).allows("jobs", "run", path, "scripts") is expected


def test_read_only_tokens_read() -> None:
    for texts in ((), ("jobs:run", "scripts:write")):
        made = Scopes(texts, is_read_only=True)
        assert not made.opens("jobs", "run", "scripts")
        assert not made.opens("scripts", "write")
        assert not made.allows("scripts", "write", "u/a/b")
        assert made.opens("scripts", "read")
        assert made.allows("scripts", "read", "u/a/b")
        assert not made.covers(["jobs:read"])


def test_tags_are_a_filter_and_the_narrowest_counts() -> None:
    made = Scopes(["if_jobs:filter_tags:a,b", "if_jobs:filter_tags:b,c"])
    assert [tag for tag in "abc" if made.allows_tag(tag)] == ["b"]
    assert Scopes(["jobs:run"]).allows_tag("any")
    own = Scopes(["if_jobs:filter_tags:a,b"])
    assert own.covers(["if_jobs:filter_tags:a"])
    assert own.covers(["if_jobs:filter_tags:a", "jobs:run"])
    assert not own.covers(["if_jobs:filter_tags:c"])
    assert not own.covers(["jobs:run"])


def test_what_is_no_scope_is_handed_on_as_it_is() -> None:
    own = Scopes(["mcp:favorites", "jobs:read"])
    assert own.covers(["mcp:favorites"])
    assert not own.covers(["mcp:all"])
    assert not own.covers([])


def test_words_for_people() -> None:
    assert required("jobs", "run", "scripts", "u/a/b") == "jobs:run:scripts:u/a/b"
    assert required("jobs", "read", "scripts") == "jobs:read"
    assert run_scopes("flows", "u/a/b") == ("jobs:run:flows:u/a/b", "run:flow/u/a/b")
    assert "jobs" in DOMAINS


@given(st.text(st.sampled_from("jobsrun:scripts/*,ifl_"), max_size=40))
def test_no_text_breaks_anything(text: str) -> None:
    made = Scopes([text])
    with contextlib.suppress(BadRequest):
        made.opens("jobs", "read")
    made.allows("jobs", "read", "u/a/b")
    assert modern(modern(text)) == modern(text)


@given(patterns, patterns, paths)
def test_a_pattern_that_contains_another_matches_at_least_as_much(pattern: str, other: str, path: str) -> None:
    if contains(pattern, other) and matches(other, path):
        assert matches(pattern, path)


@given(st.lists(scopes, max_size=4), st.lists(scopes, max_size=4), few_domains, paths, st.sampled_from("abc"))
def test_a_covered_token_can_do_no_more(own: list[str], new: list[str], domain: str, path: str, tag: str) -> None:
    mine, other = Scopes(own), Scopes(new)
    if not mine.covers(new):
        return
    for action in ("read", "write", "run", "cancel"):
        for kind in (None, "scripts", "flows"):
            for whole in (False, True):
                if other.opens(domain, action, kind, whole=whole, follows_run=not whole):
                    assert mine.opens(domain, action, kind, whole=whole, follows_run=not whole)
            if other.allows(domain, action, path, kind):
                assert mine.allows(domain, action, path, kind)
    if other.allows_tag(tag):
        assert mine.allows_tag(tag)


@given(st.lists(scopes, min_size=1, max_size=4))
def test_everyone_may_hand_on_what_they_have(own: list[str]) -> None:
    assert Scopes(own).covers(own)


@given(st.lists(patterns.filter(lambda pattern: pattern != "*"), max_size=4), st.lists(paths, max_size=8))
def test_a_set_of_paths_is_the_same_in_sql(chosen: list[str], candidates: list[str]) -> None:
    made = Paths.of(chosen)
    assert made is not None
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (path TEXT)")
    connection.executemany("INSERT INTO t VALUES (?)", [(path,) for path in candidates])
    test, values = made.sql("t.path")
    found = [row[0] for row in connection.execute(f"SELECT path FROM t WHERE {test} ORDER BY rowid", values)]  # noqa: S608
    connection.close()
    assert found == [path for path in candidates if made.has(path)]
    assert not made.has(None)


def test_every_path_is_no_set() -> None:
    assert Paths.of(["u/a/b", "*"]) is None
