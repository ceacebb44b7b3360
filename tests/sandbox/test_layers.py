"""Each layer of the sandbox, left out alone, lets a probe through: none of them is there for show, and probes can fail.

Run in a container of its own (outer.py); probes that would hurt see that they are not contained, and do nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from minwebhook.child import landlock
from minwebhook.errors import SandboxError
from minwebhook.sandbox.cgroups import Groups
from minwebhook.sandbox.probes.inside import BROKEN, HELD, NOT_APPLICABLE, NOT_CONTAINED, THROUGH
from tests.conftest import missing
from tests.sandbox.conftest import ORDINARY_USER
from tests.sandbox.weakened import LAYERS

#: Machines may be busy: a process of a job is waited for, and there are many.
pytestmark = pytest.mark.timeout(200)

_OUTER: Final = Path(__file__).with_name("outer.py")


def has_groups() -> bool:
    """Whether both limits can be had."""
    try:
        return {"memory", "processes"} <= Groups.open().features
    except SandboxError:
        return False


#: Layer -> network policy, and the probes that get through without it.
OPEN: Final[dict[str, tuple[str, list[str]]]] = {
    "root directory": ("host", ["looks_up"]),
    "read-only mounts": ("host", ["writable_mounts"]),
    # What survives a job is ended by its control group as well; that more processes are refused, too.
    "PID namespace": ("host", ["see_others", "kill_all"] if has_groups() else ["see_others", "survivors", "kill_all"]),
    "IPC namespace": ("host", ["ipc_of_the_machine"]),
    "network namespace": ("none", ["tcp", "bash_tcp", "abstract_sockets_of_jobs"]),
    "Landlock scope": ("host", ["abstract_sockets_outside"]),
    "uid": ("host", ["become_root"]),
    "dropping capabilities": ("host", ["capabilities"]),
    "no_new_privs": ("host", ["no_new_privileges"]),
    "system call filter": (
        "host",
        ["foreign_filter", "keyrings", "personalities", "new_namespaces", "calls_of_ia32", "trace", "netlink"],
    ),
    "resource limits": ("host", ["raise_limits", "core_dumps", "memory_bomb", "descriptor_bomb"]),
    "control group": ("host", ["memory_of_all", "files_in_memory", "fork_bomb"]),
    "size of /tmp": ("host", ["disk_bomb", "inode_bomb"]),
    "clean /tmp": ("host", ["files_of_an_earlier_job", "files_of_a_running_job"]),
    "closing descriptors": ("host", ["leaked_descriptors"]),
}
#: Without these layers, in jobs of an ordinary user.
OPEN_TO_USERS: Final = {
    "dropping capabilities": ["capabilities"],
    "system call filter": ["keyrings", "new_namespaces"],
    "PID namespace": ["see_others"],
    "resource limits": ["raise_limits"],
}


def outcomes(
    layer: str, probes: list[str], network: str, rung: str, user: int | None = None, languages: Sequence[str] = ()
) -> dict[str, list[str]]:
    """What each probe says, by its name: one word per language; without ``languages`` in all."""
    if os.geteuid() != 0:
        missing("root, for a container to weaken the sandbox in")
    task: dict[str, Any] = {"layer": layer, "rung": rung, "network": network, "probes": probes, "user": user}
    task["languages"] = list(languages)
    run = subprocess.run(
        [sys.executable, str(_OUTER), json.dumps(task)], capture_output=True, text=True, timeout=180, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout)
    assert told["changed"] == {}
    found: dict[str, list[str]] = {}
    for row in told["findings"]:
        found.setdefault(row["probe"], []).append(row["outcome"])
    return found


def test_every_layer_is_left_out_once() -> None:
    assert set(OPEN) == set(LAYERS) - {"nothing"}


@pytest.mark.parametrize("layer", OPEN)
def test_without_a_layer_probes_get_through(layer: str) -> None:
    network, probes = OPEN[layer]
    if layer == "control group" and not has_groups():
        missing("control groups with memory and pids")
    if layer == "Landlock scope" and landlock.version() < landlock.SCOPE_VERSION:
        missing("Landlock with scopes (Linux 6.12)")
    for name, words in outcomes(layer, probes, network, "root").items():
        assert {THROUGH, NOT_CONTAINED} & set(words), f"{name}: {words}"


@pytest.mark.parametrize("layer", OPEN_TO_USERS)
def test_without_a_layer_probes_of_an_ordinary_user_get_through(layer: str) -> None:
    probes = OPEN_TO_USERS[layer]
    for name, words in outcomes(layer, probes, "host", "userns", ORDINARY_USER).items():
        assert {THROUGH, NOT_CONTAINED} & set(words), f"{name}: {words}"


@pytest.mark.parametrize(
    ("rung", "user", "network"), [("root", None, "host"), ("root", None, "none"), ("userns", ORDINARY_USER, "host")]
)
def test_with_all_layers_none_does(rung: str, user: int | None, network: str) -> None:
    """On all rungs and with the whole corpus: test_probes.py."""
    probes = sorted({name for policy, names in OPEN.values() for name in names if policy in (network, "host")})
    for name, words in outcomes("nothing", probes, network, rung, user).items():
        assert set(words) <= {HELD, NOT_APPLICABLE}, f"{name}: {words}"


@pytest.mark.parametrize(
    ("network", "languages"),
    [
        ("host", ["python3"]),
        pytest.param("host", [], marks=pytest.mark.slow),
        pytest.param("none", [], marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_without_namespaces_landlock_holds_the_whole_corpus(network: str, languages: list[str]) -> None:
    """What the rung does not give is documented, and not tried."""
    for name, words in outcomes("nothing", [], network, "landlock", languages=languages).items():
        assert set(words) <= {HELD, NOT_APPLICABLE}, f"{name}: {words}"


@pytest.mark.slow
@pytest.mark.parametrize("network", [pytest.param("host", marks=pytest.mark.long), "none"])
def test_where_nothing_holds_probes_get_through_and_change_nothing(network: str) -> None:
    """The whole corpus without any isolation, as root of the copy: most of it succeeds, and leaves no trace."""
    found = outcomes("nothing", [], network, "none")
    words = [word for each in found.values() for word in each]
    assert words.count(THROUGH) > 80, found
    assert words.count(NOT_CONTAINED) >= 10, found
    assert BROKEN not in words, {name: each for name, each in found.items() if BROKEN in each}
