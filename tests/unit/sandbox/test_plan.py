"""What a script gets, as data."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from minwebhook.sandbox import seccomp
from minwebhook.sandbox.plan import DESCRIPTIONS, RUNGS, Network, Rung, SandboxPlan, Surroundings, make_plan
from minwebhook.settings import SandboxSettings


def plan(rung: Rung = "root", prefix: str = "/usr", **changes: object) -> SandboxPlan:
    surroundings = changes.pop("surroundings", Surroundings("host"))
    assert isinstance(surroundings, Surroundings)
    return make_plan(
        replace(SandboxSettings(), **changes),  # type: ignore[arg-type]
        rung,
        surroundings,
        machine="x86_64",
        python_prefix=prefix,
        root_directory="/data/root",
        scratch_directory="/data/scratch",
    )


def test_limits_come_from_the_settings() -> None:
    made = plan(
        job_memory_bytes=1,
        job_processes=2,
        job_open_files=3,
        job_file_bytes=4,
        job_tmp_bytes=5,
        bash="/b",
        job_max_processes=9,
    )
    shown = made.to_json()
    names = ("memory_bytes", "processes", "open_files", "file_bytes", "tmp_bytes", "bash")
    assert [shown[name] for name in names] == [[1, 1], [2, 9], [3, 3], [4, 4], 5, "/b"]


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("network", ["host", "none"])
def test_the_filter_is_that_of_the_network_and_empty_without_isolation(rung: Rung, network: Network) -> None:
    made = plan(rung, surroundings=Surroundings(network))
    assert made.to_json()["network"] == network
    expected = (
        b"" if rung == "none" else seccomp.assemble("x86_64", network=network == "host", namespaces=rung != "landlock")
    )
    assert base64.b64decode(made.to_json()["seccomp"]) == expected


def test_the_interpreter_is_bound_where_it_is_not_below_usr() -> None:
    assert "/opt/python" in plan(prefix="/opt/python").read_only
    assert "/usr/local" not in plan(prefix="/usr/local").read_only


@pytest.mark.parametrize("rung", RUNGS)
def test_nothing_secret_is_bound(rung: Rung) -> None:
    made = plan(rung)
    for path in made.read_only:
        assert path.startswith("/")
        assert not path.startswith(("/root", "/home", "/var", "/run", "/proc", "/sys", "/dev", "/tmp", "/data"))
        assert path not in ("/", "/etc", "/etc/shadow", "/etc/passwd")
    for device in made.to_json()["devices"]:
        assert device in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@pytest.mark.parametrize("rung", RUNGS)
def test_it_fits_into_one_message_to_the_fork_server(rung: Rung) -> None:
    shown = plan(rung).to_json()
    assert json.loads(json.dumps(shown)) == shown
    assert len(json.dumps(shown)) < 1 << 16
    assert rung in DESCRIPTIONS


def test_a_prefix_that_only_looks_like_usr() -> None:
    assert "/usrlocal/python" in plan(prefix="/usrlocal/python").read_only


def test_packages_are_named_and_have_a_place_of_their_own() -> None:
    made = plan(surroundings=Surroundings("host", "/data/packages/abc"))
    assert not any("abc" in path for path in made.read_only)
    assert made.to_json()["packages"] == "/data/packages/abc"


def test_fork_servers_that_run_at_one_time_share_no_user_ids() -> None:
    arguments: dict[str, Any] = {
        "machine": "x86_64",
        "python_prefix": "/usr",
        "root_directory": "/r",
        "scratch_directory": "/s",
    }
    first, second = (
        make_plan(SandboxSettings(), "root", Surroundings("host"), number=number, **arguments) for number in (0, 1)
    )
    assert second.first_uid - first.first_uid >= 10_000
