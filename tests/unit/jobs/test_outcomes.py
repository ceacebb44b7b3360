"""From what a process reported to how its job ended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import wire
from minwebhook.jobs import outcomes
from minwebhook.jobs.log import JobLog
from minwebhook.jobs.model import Cancellation, JobState, Outcome
from minwebhook.runtimes.reports import Broken, Report, Vanished

SUCCESS, FAILURE = JobState.SUCCESS, JobState.FAILURE


def judge(end: Report | Vanished | Broken, output: bytes = b"") -> Outcome:
    log = JobLog("banner\n", 1 << 20)
    log.write(output)
    return outcomes.judge(end, log, "python run")


def result(text: str, output: bytes = b"") -> Outcome:
    return judge(Report(wire.RESULT, text.encode()), output)


def exited(report: Any, output: bytes = b"") -> Outcome:
    return judge(Report(wire.EXIT, json.dumps(report).encode()), output)


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "name": "ExecutionErr", **more}}


@pytest.mark.parametrize(
    ("text", "state", "shown", "labels"),
    [
        ("1", SUCCESS, "1", ()),
        ("123456789012345678901234567890", SUCCESS, "123456789012345678901234567890", ()),
        ('{"b": 1.0,  "a":2}', SUCCESS, '{"b": 1.0,  "a":2}', ()),
        ('{"wm_labels":["b","a","b"]}', SUCCESS, '{"wm_labels":["b","a","b"]}', ("a", "b")),
        ('{"wm_labels":["b",1]}', SUCCESS, '{"wm_labels":["b",1]}', ()),
        ('{"wm_labels":"b"}', SUCCESS, '{"wm_labels":"b"}', ()),
        ('["wm_labels"]', SUCCESS, '["wm_labels"]', ()),
        ('{"wm_failure":1}', SUCCESS, '{"wm_failure":1}', ()),
        ('{"windmill_failure":"x"}', SUCCESS, '{"windmill_failure":"x"}', ()),
        ('{"error":{"message":"x"}}', SUCCESS, '{"error":{"message":"x"}}', ()),
        (
            '{"wm_failure":"no","error":1,"wm_labels":["l"]}',
            FAILURE,
            '{"wm_failure":"no","error":{"name":"ManualFailure","message":"no"},"wm_labels":["l"]}',
            ("l",),
        ),
    ],
)
def test_results(text: str, state: JobState, shown: str, labels: tuple[str, ...]) -> None:
    outcome = result(text)
    assert (outcome.state, outcome.result.decode(), outcome.labels) == (state, shown, labels)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("null", '"ab"'),
        ('{"x":1}', '{"x":1,"wm_stream":"ab"}'),
        ('{"wm_stream":1}', '{"wm_stream":"ab"}'),
        ("7", "7"),
        ('"text"', '"text"'),
    ],
)
def test_streams(text: str, shown: str) -> None:
    assert result(text, b"log\nWM_STREAM: a\nWM_STREAM: b\n").result.decode() == shown


@pytest.mark.parametrize(
    ("report", "output", "state", "shown"),
    [
        ({"code": 0}, b"", SUCCESS, ""),
        ({"code": 0}, b"a\n  b \n\n", SUCCESS, "b"),
        ({"code": 0, "result_text": "t\n"}, b"a", SUCCESS, "t\n"),
        ({"code": 0}, b"a\nWM_STREAM: x\n", SUCCESS, "a"),
        ({"code": 0}, b"WM_STREAM: x\nWM_STREAM: y", SUCCESS, "xy"),
        ({"code": 0, "result_text": "t"}, b"WM_STREAM: x\n", SUCCESS, "t"),
        ({"code": 0, "result_json": ' {"a": 1}\n', "result_text": "t"}, b"a", SUCCESS, {"a": 1}),
        ({"code": 0, "result_json": "{"}, b"a", FAILURE, "result.json is not valid JSON"),
        ({"code": 3}, b"why\n", FAILURE, error('exit code for "python run": 3, last log lines:\nwhy', exit_code=3)),
        (
            {"code": 3, "result_text": "t"},
            b"",
            FAILURE,
            error('exit code for "python run": 3, last log lines:\n', exit_code=3),
        ),
        ({"code": 3, "result_json": '{"x": 1}'}, b"", FAILURE, {"error": {"x": 1}}),
        (
            {"code": 137, "signal": 9},
            b"why",
            FAILURE,
            error('"python run" was ended by signal 9, last log lines:\nwhy', exit_code=137, signal=9),
        ),
        ({}, b"", FAILURE, error("execution error:\nthe process ended with an unreadable report")),
        ([], b"", FAILURE, error("execution error:\nthe process ended with an unreadable report")),
        ({"code": "x"}, b"", FAILURE, error("execution error:\nthe process ended with an unreadable report")),
        ({"code": None}, b"", FAILURE, error("execution error:\nthe process ended with an unreadable report")),
        ({"code": 0, "result_json": 7, "result_text": []}, b"a", SUCCESS, "a"),
    ],
)
def test_programs(report: Any, output: bytes, state: JobState, shown: Any) -> None:
    outcome = exited(report, output)
    assert outcome.state is state
    value = json.loads(outcome.result)
    if isinstance(shown, str) and state is FAILURE:
        assert shown in value["error"]["message"]
    else:
        assert value == shown


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        (Vanished(code=5), error('exit code for "python run": 5, last log lines:\nout', exit_code=5)),
        (Vanished(code=0), error('exit code for "python run": 0, last log lines:\nout', exit_code=0)),
        (
            Vanished(signal=11),
            error('"python run" was ended by signal 11, last log lines:\nout', exit_code=139, signal=11),
        ),
        (Vanished(), error("execution error:\njob process was lost together with its sandbox")),
        (Broken("log", "log"), error("execution error:\njob process terminated due to a log above max_log_bytes")),
        (Broken("x"), error("execution error:\njob process terminated due to a broken answer: x")),
        (Report(wire.ERROR, b"[]"), error("execution error:\nthe error is not a JSON object")),
        (Report(wire.ERROR, b'{"message":"m","name":"N"}'), {"error": {"message": "m", "name": "N"}}),
    ],
)
def test_other_ends(end: Report | Vanished | Broken, shown: Any) -> None:
    outcome = judge(end, b"out")
    assert (outcome.state, json.loads(outcome.result)) == (FAILURE, shown)


@given(st.sampled_from([wire.RESULT, wire.ERROR, wire.EXIT]), st.binary() | st.text().map(str.encode))
def test_any_report_gives_an_outcome_with_json(kind: bytes, payload: bytes) -> None:
    outcome = judge(Report(kind, payload), b"out")
    assert outcome.state.is_final
    json.loads(outcome.result)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "signal", "result_json", "result_text", "wm_labels", "wm_failure", "error"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from([wire.RESULT, wire.ERROR, wire.EXIT]), json_values)
def test_any_json_report_gives_an_outcome_with_json(kind: bytes, value: Any) -> None:
    outcome = judge(Report(kind, json.dumps(value).encode()), b"WM_STREAM: x\n")
    json.loads(outcome.result)
    if outcome.state is FAILURE:
        assert "error" in json.loads(outcome.result)


def test_cancelled_and_timed_out() -> None:
    cancellation = Cancellation("alice", "enough")
    canceled = outcomes.canceled(cancellation)
    assert (canceled.state, canceled.cancellation) == (JobState.CANCELED, cancellation)
    assert json.loads(canceled.result)["error"] == {
        "message": "Job canceled: enough by alice",
        "name": "Canceled",
        "reason": "enough",
        "canceler": "alice",
    }
    for is_own, whose in ((True, "job-specific"), (False, "instance-wide job")):
        late = outcomes.timed_out(2.5, is_own_limit=is_own)
        assert (late.state, late.cancellation) == (FAILURE, Cancellation("timeout", "duration > 2.5"))
        assert json.loads(late.result) == error(
            f"execution error:\njob process terminated due to timeout after exceeding {whose} duration limit"
        )


@pytest.mark.parametrize("depth", [300, 900])
def test_nesting_as_deep_as_a_report_may_have(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    failed = result(f'{{"wm_failure":"no","data":{nested}}}')
    assert failed.state is FAILURE
    assert json.loads(failed.result)["error"]["name"] == "ManualFailure"
    raised = judge(Report(wire.ERROR, f'{{"message":"m","name":"E","extra":{{"data":{nested}}}}}'.encode()))
    assert json.loads(raised.result)["error"]["message"] == "m"
    assert exited({"code": 1, "result_json": nested}).result.decode() == f'{{"error":{nested}}}'
    streamed = result(f'{{"data":{nested}}}', b"WM_STREAM: a\n")
    assert json.loads(streamed.result)["wm_stream"] == "a"


def test_what_is_added_to_a_result_leaves_the_digits_of_its_integers() -> None:
    assert b"123456789012345678901" in result('{"wm_failure":"no","n":123456789012345678901}').result
    assert b"123456789012345678901" in judge(Report(wire.ERROR, b'{"extra":{"n":123456789012345678901}}')).result
    assert b"123456789012345678901" in result('{"n":123456789012345678901}', b"WM_STREAM: a\n").result
