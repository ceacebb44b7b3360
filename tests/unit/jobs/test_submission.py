"""From a script and a caller to the spec of a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from minwebhook.auth.principal import Principal
from minwebhook.jobs.model import Concurrency
from minwebhook.jobs.submission import script_spec
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
