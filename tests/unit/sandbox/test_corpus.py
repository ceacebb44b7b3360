"""The escape corpus as data, and how what was seen is judged."""

from __future__ import annotations

import ast

import pytest

from minwebhook.child.programs import PROGRAMS
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.sandbox.probes.corpus import CORE, PROBES, STARTERS, Probe, Seen, finding, job, judge
from minwebhook.sandbox.probes.inside import (
    BROKEN,
    HELD,
    NOT_APPLICABLE,
    NOT_CONTAINED,
    THROUGH,
    Facts,
    Terms,
)

FACTS = Facts(rung="root", network="none", language="python3", canary="yranac", python="/usr/bin/python3")


def probe(ending: str = "report", **terms: object) -> Probe:
    return Probe("name", "files", "tries it", Terms(ending=ending, **terms))  # type: ignore[arg-type]


def test_there_is_a_probe_for_each_kind_of_escape() -> None:
    assert len(PROBES) >= 60
    assert len({each.name for each in PROBES}) == len(PROBES)
    assert all(each.tries and "\n" not in each.tries for each in PROBES)


def test_every_language_runs_probes() -> None:
    """A new runtime needs one entry in STARTERS: a job of it that starts the Python interpreter, as bash's does."""
    assert set(STARTERS) == set(RUNTIMES)
    for each in PROBES:
        assert set(each.terms.languages) <= set(RUNTIMES)


@pytest.mark.parametrize("each", PROBES, ids=lambda each: each.name)
def test_jobs_are_whole(each: Probe) -> None:
    for language in each.terms.languages or RUNTIMES:
        source, arguments = job(each, language, FACTS)
        assert arguments["facts"]["rung"] == "root"
        if language == "python3":
            ast.parse(source)
        if not each.script:
            tree = ast.parse(list(arguments["modules"].values())[-1])
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert {each.name, each.terms.first or each.name} <= functions
            assert job(each, language, FACTS, first=True)[1]["function"] == each.terms.first


@pytest.mark.parametrize(
    ("ending", "seen", "outcome"),
    [
        ("report", Seen(value=[HELD, "EPERM"]), HELD),
        ("report", Seen(value=[THROUGH, "it was there"]), THROUGH),
        ("report", Seen(value=[NOT_CONTAINED, "no"]), NOT_CONTAINED),
        # A probe that says nothing proves nothing.
        ("report", Seen(error="AttributeError: x"), BROKEN),
        ("report", Seen(value=None), BROKEN),
        ("report", Seen(value=["held"]), BROKEN),
        ("cut", Seen(error="the server ended it: log"), HELD),
        ("cut", Seen(value=[THROUGH, "all of it was taken"]), THROUGH),
        ("cut", Seen(value=None), BROKEN),
        ("any", Seen(value=None), HELD),
        ("any", Seen(error="it ended with signal 9"), HELD),
        ("any", Seen(value=[THROUGH, "x"]), THROUGH),
        # Whatever it says about itself.
        ("any", Seen(value=[HELD, "x"], damage="another job was ended"), THROUGH),
        ("report", Seen(value=[HELD, "x"], damage="2 processes outlive the job"), THROUGH),
    ],
)
def test_judging(ending: str, seen: Seen, outcome: str) -> None:
    assert judge(probe(ending), seen)[0] == outcome


@pytest.mark.parametrize("ending", ["report", "cut", "any"])
def test_what_was_never_run_was_held_by_nothing(ending: str) -> None:
    outcome, evidence = judge(probe(ending), Seen(error="cannot start a bun process", is_unstarted=True))
    assert (outcome, evidence) == (BROKEN, "cannot start a bun process")


@pytest.mark.parametrize("word", [HELD, THROUGH, NOT_APPLICABLE, NOT_CONTAINED, BROKEN, "anything else"])
def test_only_what_held_is_good(word: str) -> None:
    assert finding(probe(), "bash", (word, "")).is_bad == (word not in (HELD, NOT_APPLICABLE))


def test_where_a_probe_makes_no_sense() -> None:
    assert not probe().why_not("bash", "host")
    assert "python3" in probe(languages=("python3",)).why_not("bash", "host")
    assert "sandbox_network = none" in probe(network="none").why_not("bash", "host")
    assert not probe(network="none").why_not("bash", "none")


@pytest.mark.parametrize("language", sorted(PROGRAMS))
def test_a_language_run_by_a_program_is_tried_with_the_essentials(language: str) -> None:
    tried = {each.name: each.category for each in PROBES if not each.why_not(language, "none")}
    assert set(tried) == CORE
    assert {"files", "processes", "privileges", "network", "state", "resources"} <= set(tried.values())
