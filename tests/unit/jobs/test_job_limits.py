"""Which limits a job has, and how its process sets them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import limits as child_limits
from minwebhook.jobs.limits import LimitRules
from minwebhook.sandbox.plan import Rung
from minwebhook.scripts.limits import LEAST, Limits
from minwebhook.settings import JobSettings, SandboxSettings

MIB = 1024 * 1024


def rules(rung: Rung = "root", **sandbox: Any) -> LimitRules:
    return LimitRules(JobSettings(), replace(SandboxSettings(), **sandbox), rung, has_own_uids=rung == "root")


def test_a_script_that_asks_for_nothing_pays_nothing() -> None:
    made = rules()
    assert made.of(None) is made.usual
    assert (made.usual.header, made.usual.tmp_bytes, made.usual.cpu_s) == ("", None, 0)
    assert made.usual.log_bytes == JobSettings().max_log_bytes
    assert made.of(Limits(memory_bytes=SandboxSettings().job_memory_bytes)).header == ""


def test_lowered() -> None:
    asked = Limits(cpu_s=1.5, memory_bytes=128 * MIB, processes=4, open_files=32, file_bytes=0, tmp_bytes=MIB)
    given_ = rules().of(asked)
    assert given_.header == f"AS={128 * MIB},NOFILE=32,FSIZE=0,NPROC=4,CPU=3"
    assert (given_.cpu_s, given_.tmp_bytes) == (1.5, MIB)


def test_raised_up_to_the_maximum() -> None:
    made = rules(job_max_memory_bytes=2048 * MIB, job_max_log_bytes=64 * MIB)
    assert "AS=2147483648," in made.of(Limits(memory_bytes=4096 * MIB)).header
    assert made.of(Limits(log_bytes=32 * MIB)).log_bytes == 32 * MIB
    assert made.of(Limits(result_bytes=1 << 40)).result_bytes == JobSettings().max_result_bytes
    # Processes have room that jobs must not keep, whether they ask for something or not.
    assert made.usual.header.startswith(f"AS={1024 * MIB},")


def test_processor_time_of_the_instance() -> None:
    made = rules(job_cpu_s=10.0)
    assert made.usual.cpu_s == 10
    assert made.of(Limits(cpu_s=20.0)).cpu_s == 10
    assert rules(job_cpu_s=10.0, job_max_cpu_s=15.0).of(Limits(cpu_s=20.0)).cpu_s == 15
    assert rules().of(Limits(cpu_s=20.0)).cpu_s == 20


def test_where_all_jobs_share_a_uid_processes_are_not_counted_per_job() -> None:
    assert "NPROC" not in rules("userns").of(Limits(processes=2)).header
    assert rules("none").of(Limits(tmp_bytes=MIB)).tmp_bytes is None


@given(
    st.builds(
        Limits,
        **{name: st.none() | st.integers(int(least), 1 << 40) for name, least in LEAST.items() if name != "cpu_s"},
        cpu_s=st.none() | st.floats(0.01, 1e6),
    ),
    st.integers(0, 1 << 36),
)
def test_nobody_gets_more_than_the_instance_allows(asked: Limits, most: int) -> None:
    settings = replace(SandboxSettings(), job_max_memory_bytes=most, job_max_open_files=most)
    made = LimitRules(JobSettings(), settings, "root", has_own_uids=True).of(asked)
    header = child_limits.parse(made.header)
    assert header.get("AS", 0) <= max(most, settings.job_memory_bytes)
    assert header.get("NOFILE", 0) <= max(most, settings.job_open_files)
    assert header.get("FSIZE", 0) <= settings.job_file_bytes
    assert (made.tmp_bytes or 0) <= settings.job_tmp_bytes
    assert made.log_bytes <= JobSettings().max_log_bytes


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("AS=1048576", ["ulimit -SHv 1024"]),
        ("NOFILE=64,FSIZE=0,NPROC=4,CPU=3", ["ulimit -SHn 64", "ulimit -SHf 0", "ulimit -SHu 4", "ulimit -SHt 3"]),
    ],
)
def test_the_commands_of_a_shell(text: str, lines: list[str]) -> None:
    assert child_limits.shell_lines(text) == lines
