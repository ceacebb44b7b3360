"""From a script and a caller to the spec of a job."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

import pytest

from minwebhook.auth.principal import Principal
from minwebhook.auth.scopes import Scopes
from minwebhook.jobs.folding import fold, let_go, unfold
from minwebhook.jobs.model import Concurrency
from minwebhook.jobs.submission import limit_of, script_spec
from minwebhook.scripts.model import Language, ScriptKind, ScriptPath
from minwebhook.scripts.script import Script
from minwebhook.webhooks.arguments import Arguments
from minwebhook.webhooks.query import NO_RUN_OPTIONS, RunOptions

ALICE: Final = Principal("alice@example.com", "alice", False, False, "label-ci", "demo", "abcdefghij")
SCRIPT: Final = Script(
    workspace_id="demo",
    hash=7,
    path=ScriptPath("u/alice/report"),
    parent_hashes=(),
    summary="",
    description="",
    content="def main():\n    pass\n",
    language=Language.PYTHON3,
    kind=ScriptKind.SCRIPT,
    tag=None,
    schema=None,
    lock="",
    lock_error_logs=None,
    lock_job=None,
    settings={},
    fingerprint=1,
    created_by="alice",
    created_at_ms=0,
    archived=False,
    deleted=False,
    no_main_func=None,
    has_preprocessor=None,
)


@pytest.mark.parametrize("settings", [{}, {"envs": ["A=1"], "dedicated_worker": True, "cache_ttl": 5, "priority": 3}])
def test_the_same_spec_whether_or_not_the_request_had_options(settings: dict[str, Any]) -> None:
    script = replace(SCRIPT, settings=settings)
    for number in range(3):
        arguments = Arguments(b'{"n":%d}' % number, b"mask" if number else b"")
        spec = script_spec(script, ALICE, arguments, NO_RUN_OPTIONS, preprocess=False)
        assert spec == script_spec(script, ALICE, arguments, RunOptions(), preprocess=False)
        assert (spec.arguments, spec.mask) == (arguments.text, arguments.mask)
        spec.arguments = b""  # as it is let go of when the job is on disk: it is its own


def test_scripts_and_callers_that_are_alike_are_not_mixed_up() -> None:
    arguments = Arguments(b"{}", b"")
    for number in range(2000):
        script, caller = replace(SCRIPT, hash=number), replace(ALICE, display_name=f"ci {number}")
        for preprocess in (False, True):
            spec = script_spec(script, caller, arguments, NO_RUN_OPTIONS, preprocess=preprocess)
            assert (spec.script_hash, spec.created_by, spec.preprocess) == (number, f"ci {number}", preprocess)


def test_runs_are_counted_by_their_arguments() -> None:
    script = replace(SCRIPT, settings={"concurrent_limit": 2, "concurrency_key": "$workspace/$args[user]"})
    for options in (NO_RUN_OPTIONS, RunOptions(tag="x")):
        for user in ("ann", "bob"):
            arguments = Arguments(b'{"user":"%b"}' % user.encode(), b"")
            spec = script_spec(script, ALICE, arguments, options, preprocess=False)
            assert spec.concurrency == Concurrency(f"demo/{user}", 2)


def test_a_spec_is_folded_while_it_waits_and_unfolded_to_run() -> None:
    arguments = Arguments(b'{"n":1}', b"mask")
    spec = script_spec(SCRIPT, ALICE, arguments, NO_RUN_OPTIONS, preprocess=False)
    small = fold(spec)
    assert small is not spec
    for each in fields(spec):
        if each.name != "template":
            assert getattr(small, each.name) == getattr(spec, each.name), each.name
    assert (small.is_driven, small.code_scopes) == (spec.is_driven, spec.code_scopes)
    whole = unfold(small)
    assert whole == spec
    assert unfold(spec) is spec
    whole.arguments = whole.source = b"a run changes its own"
    let_go(small)
    assert small.arguments == b""
    assert script_spec(SCRIPT, ALICE, arguments, NO_RUN_OPTIONS, preprocess=False) == spec


@pytest.mark.parametrize(
    ("settings", "arguments", "options"),
    [
        ({"concurrent_limit": 1}, b"{}", NO_RUN_OPTIONS),
        ({}, b'{"a": "$res:u/alice/db"}', NO_RUN_OPTIONS),
        ({}, b"{}", RunOptions(tag="other")),
    ],
)
def test_a_spec_that_differs_in_more_than_its_arguments_is_not_folded(
    settings: dict[str, Any], arguments: bytes, options: RunOptions
) -> None:
    caller = replace(ALICE, scopes=Scopes.of(("jobs:run",)))
    spec = script_spec(replace(SCRIPT, settings=settings), caller, Arguments(arguments), options, preprocess=False)
    assert fold(spec) is spec


def test_a_spec_that_was_changed_is_not_what_it_was() -> None:
    spec = script_spec(SCRIPT, ALICE, Arguments(b"{}"), NO_RUN_OPTIONS, preprocess=False)
    assert fold(replace(spec, priority=2)).priority == 2


def test_keys_of_concurrency_are_made_in_linear_time_and_stay_short() -> None:
    limit = Concurrency("$args[" * 200_000, 1)
    assert len(limit_of(limit, "demo", "x", b"{}").key) == 71
    of_long = Concurrency("$args[a]" * 100, 1)
    keys = {limit_of(of_long, "demo", "x", b'{"a":"%b"}' % (letter * 900_000)).key for letter in (b"x", b"y")}
    assert len(keys) == 2
    assert {len(key) for key in keys} == {71}
    assert limit_of(Concurrency("k/$args[a]/$args[b]", 1), "demo", "x", b'{"a":"x","b":[1, 2]}').key == "k/x/[1,2]"
