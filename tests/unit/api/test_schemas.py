"""The described schemas have the very members that the code reads and writes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api.parameters import SCRIPT_PATH
from minwebhook.api.schemas import SCHEMAS
from minwebhook.audit.record import Record
from minwebhook.auth.token_store import TokenInfo
from minwebhook.jobs import outcomes
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Cancellation, JobState, Outcome
from minwebhook.jobs.record import JobOptions, JobRecord
from minwebhook.scripts.model import SETTINGS_FIELDS, Language, NewScript, ScriptKind, ScriptPath, is_script_path
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import HistoryItem
from minwebhook.variables.model import Resource, ResourceType, Variable

FULL_JOB: Final = JobRecord(
    id=UUID(int=1),
    workspace="demo",
    kind="preview",
    state=JobState.CANCELED,
    path="u/a/b",
    script_hash=1,
    language="bash",
    raw_code="x",
    created_by="a",
    email="a@x",
    permissioned_as="u/a",
    created_at_ms=0,
    scheduled_for_ms=0,
    started_at_ms=1,
    completed_at_ms=2,
    duration_ms=1,
    arguments=b"{}",
    result=b"null",
    canceled_by="a",
    canceled_reason="b",
    tag="c",
    priority=1,
    timeout_s=1.0,
    parent_job=UUID(int=2),
    root_job=UUID(int=3),
    labels=("d",),
    ended_by="cpu",
    cpu_ms=1500,
    peak_kib=20_000,
    visible_to_owner=True,
    options=JobOptions(is_preprocessed=True, cache_ttl_s=1),
    attempts=2,
    failures=1,
    is_dead=True,
    step_id="a",
    flow_status=b"{}",
    suspend_until_ms=1,
)
FULL_FLOW: Final = dataclasses.replace(FULL_JOB, kind="flowpreview", raw_code="{}")
EMPTY_JOB: Final = dataclasses.replace(
    FULL_JOB,
    path=None,
    script_hash=None,
    raw_code=None,
    started_at_ms=None,
    completed_at_ms=None,
    canceled_by=None,
    canceled_reason=None,
    priority=None,
    timeout_s=None,
    parent_job=None,
    root_job=None,
    labels=(),
    ended_by="",
    cpu_ms=None,
    peak_kib=None,
    options=JobOptions(),
    attempts=1,
    failures=0,
    is_dead=False,
    step_id="",
    flow_status=None,
    suspend_until_ms=None,
)
SCRIPT: Final = Script(
    workspace_id="demo",
    hash=1,
    path=ScriptPath("u/a/b"),
    parent_hashes=(),
    summary="",
    description="",
    content="",
    language=Language.BASH,
    kind=ScriptKind.SCRIPT,
    tag=None,
    schema=None,
    lock="",
    lock_error_logs=None,
    lock_job=None,
    settings=dict.fromkeys(SETTINGS_FIELDS, True),
    fingerprint=0,
    created_by="a",
    created_at_ms=0,
    archived=False,
    deleted=False,
    no_main_func=True,
    has_preprocessor=True,
)
TOKEN: Final = TokenInfo("abc", "ci", 1, 0, 2, "demo", ("jobs:read",), True, "a@x", ("10.0.0.0/8",), 5)
BARE_TOKEN: Final = TokenInfo("abc", None, None, 0, None, None, (), False, "a@x", None, None)
BARE_SCRIPT: Final = dataclasses.replace(SCRIPT, settings={}, no_main_func=None, has_preprocessor=None)


def members(name: str) -> tuple[set[str], set[str]]:
    """The required and all members of a schema, with those it takes from others."""
    required: set[str] = set()
    known: set[str] = set()
    schema = SCHEMAS[name]
    for part in schema.get("allOf", [schema]):
        if "$ref" in part:
            more_required, more = members(part["$ref"].rpartition("/")[2])
            required, known = required | more_required, known | more
        else:
            required, known = required | set(part["required"]), known | set(part["properties"])
    return required, known


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        (
            "QueuedJob",
            dataclasses.replace(EMPTY_JOB, state=JobState.QUEUED).to_json(with_data=False),
            dataclasses.replace(FULL_JOB, state=JobState.RUNNING).to_json(log="x")
            | dataclasses.replace(FULL_FLOW, state=JobState.RUNNING).to_json(),
        ),
        (
            "CompletedJob",
            EMPTY_JOB.to_json(with_data=False) | {"type": None},
            FULL_JOB.to_json(log="x") | FULL_FLOW.to_json(),
        ),
        ("QueueRow", *[FULL_JOB.to_queue_row()] * 2),
        ("Script", BARE_SCRIPT.to_json(), SCRIPT.to_json()),
        (
            "ScriptListItem",
            BARE_SCRIPT.to_list_item(with_description=False),
            SCRIPT.to_list_item(with_deployment_msg=True),
        ),
        ("ScriptHistoryItem", HistoryItem(1, None).to_json(), HistoryItem(1, "x").to_json()),
        ("Token", BARE_TOKEN.to_json(), TOKEN.to_json()),
        ("RunnableToken", BARE_TOKEN.to_runnable_json(), TOKEN.to_runnable_json()),
        ("AuditRecord", *[Record(1, "w", 0, "a", "x", "Execute", None, "{}", b"").to_json()] * 2),
        ("Variable", *[Variable("w", "u/a/b", "", False, "", None, False, None).to_json(None)] * 2),
        ("Resource", *[Resource("w", "u/a/b", "", "any", "", "a", 0).to_json(b"1")] * 2),
        ("ResourceType", *[ResourceType("w", "n", None, "", "a", 0, None).to_json()] * 2),
    ],
)
def test_what_is_answered_is_described(name: str, least: Mapping[str, Any], most: Mapping[str, Any]) -> None:
    required, known = members(name)
    assert required <= least.keys()
    assert known == most.keys()


@pytest.mark.parametrize(
    "outcome",
    [
        outcomes.execution_error("x"),
        outcomes.exit_error("bash", 1, JobLog("", 100)),
        outcomes.signal_error("bash", 9, JobLog("", 100)),
        outcomes.canceled(Cancellation("a", "b")),
    ],
    ids=lambda outcome: str(outcome.result),
)
def test_what_went_wrong_is_described(outcome: Outcome) -> None:
    schema = SCHEMAS["JobError"]["properties"]["error"]
    assert set(schema["required"]) <= orjson.loads(outcome.result)["error"].keys() <= set(schema["properties"])


@given(st.from_regex(SCRIPT_PATH["pattern"]) | st.from_regex("[ufg/_-]{0,9}"))
def test_the_described_form_of_a_path_is_the_checked_one(path: str) -> None:
    is_described = (
        re.fullmatch(SCRIPT_PATH["pattern"][1:-1], path) is not None and len(path) <= SCRIPT_PATH["maxLength"]
    )
    assert is_script_path(path) == is_described


def test_what_makes_a_script_is_described() -> None:
    own = {field.name for field in dataclasses.fields(NewScript)} - {"settings"}
    assert members("NewScript")[1] == own | SETTINGS_FIELDS.keys() | {"custom_debounce_key"}
