"""Processes, memory, the machine, and the options of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import latency, machine, memory, processes, report, systems
from bench.loadclient import Load, Request

PARENT = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def test_a_server_ends_with_everything_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHILDREN_TIMEOUT_S", 0.1)
    log = tmp_path / "log"
    command = [sys.executable, "-c", PARENT.format(child=STUBBORN)]
    environment = processes.plain_environment()
    with processes.running(command, directory=tmp_path, environment=environment, log=log) as server:
        while not log.read_text().endswith("\n"):
            assert server.poll() is None
        child = int(log.read_text())
        found = processes.tree(server.pid)
        assert [process.pid for process in found] == [server.pid, child]
        assert all(map(processes.is_alive, found))
    assert server.returncode == -signal.SIGTERM
    while any(map(processes.is_alive, found)):
        """A killed process takes a moment to leave; the test's time-out bounds it."""


def test_a_server_ends_when_the_block_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        pytest.raises(KeyError),
        processes.running(command, directory=tmp_path, environment={}, log=tmp_path / "log") as server,
    ):
        raise KeyError
    assert server.returncode == -signal.SIGTERM


def test_a_reused_pid_is_another_process() -> None:
    (me, *_) = processes.tree(os.getpid())
    assert processes.is_alive(me)
    assert not processes.is_alive(processes.ProcessId(me.pid, me.started + 1))


def test_the_tree_of_an_ended_process_is_empty() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert processes.tree(ended.pid) == []


def test_servers_do_not_see_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINWEBHOOK_INSECURE", "true")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    assert processes.plain_environment().keys() <= {"PATH", "HOME", "LANG", "TMPDIR"}


def test_parse_rollup() -> None:
    text = "55d-7ff ---p 00000000 00:00 0   [rollup]\nRss:        9000 kB\nPss:        1500 kB\nPrivate_Dirty: 640 kB\n"
    assert memory.parse_rollup(text) == {"Rss": 9000, "Pss": 1500, "Private_Dirty": 640}


def test_memory_of_a_living_tree() -> None:
    found = memory.tree_memory(os.getpid())
    assert found.unreadable == 0
    assert found.processes[0].pid == os.getpid()
    assert 0 < found.private_kib <= found.pss_kib <= sum(process.rss_kib or 0 for process in found.processes)


def test_memory_that_cannot_be_read_is_counted() -> None:
    readable = memory.ProcessMemory(1, "a", 100, 50, 200)
    hidden = memory.ProcessMemory(2, "b", None, None, None)
    found = memory.TreeMemory((readable, hidden))
    assert (found.pss_kib, found.private_kib, found.unreadable) == (100, 50, 1)


def test_cpu_model() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2.5 GHz\n") == "Some CPU @ 2.5 GHz"
    assert machine.cpu_model("processor : 0\n") != ""


def test_filesystem_is_that_of_the_nearest_mount() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp xfs rw 0 0\n"
    assert machine.filesystem(Path("/tmp/x"), mounts) == "xfs"
    assert machine.filesystem(Path("/tmpfile/x"), mounts) == "ext4"
    assert machine.filesystem(Path("/"), "") == "unknown"


def test_stolen_percent() -> None:
    before = machine.parse_cpu_times("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1\n")
    after = machine.parse_cpu_times("cpu  150 0 120 920 0 0 0 10 0 0\ncpu0 1 1\n")
    assert machine.stolen_percent(before, after) == 5.0
    assert machine.stolen_percent(before, before) == 0.0


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found.cores >= 1
    assert found.kernel.startswith("Linux ")
    assert found.python.startswith("CPython 3.")


def test_options() -> None:
    options = latency.parse_arguments(["--seconds", "0.5", "--rounds", "2", "--only", "fastapi, minwebhook"])
    assert (options.seconds, options.rounds, options.only) == (0.5, 2, ["fastapi", "minwebhook"])
    assert latency.parse_arguments([]).only == [system.name for system in systems.SYSTEMS]


@pytest.mark.parametrize(
    "arguments", [["--seconds", "0"], ["--seconds", "61"], ["--rounds", "0"], ["--rounds", "21"], ["--only", "nginx"]]
)
def test_wrong_options_end_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        latency.parse_arguments(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_every_ratio_names_a_system_and_a_workload_that_exist() -> None:
    names = {system.name for system in systems.SYSTEMS}
    workloads = {workload.name for workload in latency.WORKLOADS}
    assert len(names) == len(systems.SYSTEMS)
    for rule in latency.RATIOS:
        assert {rule.numerator, rule.denominator} <= names
        assert rule.workload in workloads


def test_slow_systems_run_by_count() -> None:
    slow = next(system for system in systems.SYSTEMS if system.name == systems.WEBHOOK_PYTHON)
    fast = next(system for system in systems.SYSTEMS if system.name == systems.FASTAPI)
    for workload in latency.WORKLOADS:
        count = workload.shape(slow, 2.0).requests
        assert count is not None
        assert count % workload.connections == 0
        assert workload.shape(fast, 2.0).requests is None
        assert workload.shape(fast, 2.0).seconds == 2.0


def test_a_system_that_ends_at_once_is_an_error_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such setting')"]
    request = Request(processes.free_port(), "/")
    with (
        pytest.raises(systems.StartError, match="status 1: no such setting"),
        systems.start_peer(command, request, tmp_path),
    ):
        pytest.fail("it cannot have started")


def test_the_ready_line() -> None:
    found = systems.READY_LINE.search("noise\nminwebhook 0.1.0 listening on http://127.0.0.1:40123\nmore\n")
    assert found is not None
    assert found[1] == "40123"
    assert systems.READY_LINE.search("minwebhook 0.1.0 listening on http://10.0.0.1:80\n") is None


def test_cells_survive_a_result_document() -> None:
    load = Load(1, 1.0, 1.0, {"p50": 5.0}, 0, {}, "", 1)
    runs = [report.Run(1, latency.PACED, systems.FASTAPI, load, [5.0])]
    document = latency.result_document(runs, [], latency.Started({}, {"webhook-bash": "missing"}, {}, None), {})
    assert document["cells"][0]["p50"] == 5.0
    assert document["runs"][0]["system"] == systems.FASTAPI
    assert document["left_out"] == {"webhook-bash": "missing"}
    assert "latencies_us" not in document["runs"][0]
