"""The escape corpus through the real server: every probe in every language, on every rung that this machine has."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minwebhook.child.programs import PROGRAMS
from minwebhook.errors import SandboxError
from minwebhook.runtimes.bait import laid_out, make_canary, processes_named
from minwebhook.runtimes.ladder import Interpreter, find_interpreter
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.programs import find_programs
from minwebhook.sandbox.cgroups import Groups
from minwebhook.sandbox.plan import FIRST_UID, LIMITS_OF_GROUPS
from minwebhook.sandbox.probes.corpus import (
    NEIGHBOR,
    PROBES,
    Finding,
    Probe,
    Seen,
    finding,
    is_quiet,
    job,
    jobs_of_many,
    judge,
)
from minwebhook.sandbox.probes.inside import Facts
from minwebhook.settings import SandboxSettings
from tests.conftest import missing
from tests.sandbox.conftest import (
    ORDINARY_USER,
    folder_of,
    ordinary_environment,
    ordinary_interpreter,
    start,
)
from tests.server import Client, Server, eventually, fork_servers

IS_ROOT = os.geteuid() == 0
#: What the network policy makes a difference to.
#: Little, for what is filled to be filled soon.
MEMORY_BYTES = 256 << 20
OF_THE_NETWORK = ("network", "channel")


@dataclass(frozen=True)
class Place:
    """Where probes are run."""

    rung: str
    network: str
    #: Whether an ordinary user runs the server.
    is_ordinary: bool

    @property
    def name(self) -> str:
        """For the names of tests."""
        return f"{self.rung}-{'user' if self.is_ordinary else 'root'}-{self.network}"


PLACES = [Place("userns", network, is_ordinary=True) for network in ("host", "none")]
if IS_ROOT:
    PLACES += [Place(rung, network, is_ordinary=False) for rung in ("root", "userns") for network in ("host", "none")]


def is_tried(place: Place, probe: Probe, language: str) -> bool:
    """Whether this probe is run there in this language."""
    if probe.why_not(language, place.network):
        return False
    if language in PROGRAMS:  # by what is among the essentials, at the best place
        return place == PLACES[2 if IS_ROOT else 0] or (
            place == PLACES[3 if IS_ROOT else 1] and bool(probe.terms.network)
        )
    if RUNTIMES[language].heavy and (place.is_ordinary or place.rung != "root"):
        return False  # engines of JavaScript are slow to start: once, then
    return place.network == "host" or probe.category in OF_THE_NETWORK or bool(probe.terms.network)


#: PowerShell is in none of the registries that tests install from: it is tried where it is.
HERE = [language for language in RUNTIMES if language != "powershell" or not find_programs().missing(language)]
CASES = [
    pytest.param(place, probe, language, id=f"{place.name}-{probe.name}-{language}")
    for place in PLACES
    for probe in PROBES
    for language in HERE
    if is_tried(place, probe, language)
]
#: Engines differ from other programs in their limits, and in being the first process of their job.
if IS_ROOT:
    CASES += [
        pytest.param(PLACES[2], probe, "bun", id=f"{PLACES[2].name}-{probe.name}-bun")
        for probe in PROBES
        if probe.category in ("processes", "resources") and not probe.terms.languages
    ]


@dataclass(frozen=True)
class Field:
    """A server, and the job in it that probes must not reach."""

    place: Place
    server: Server
    client: Client
    facts: Facts
    neighbor_id: str

    def run(self, probe: Probe, language: str) -> Finding:
        """The outcome of one probe."""
        facts = dataclasses.replace(self.facts, language=language)
        before = fork_servers(self.server.pid)
        if probe.terms.first:
            earlier = self.job(language, *job(probe, language, facts, first=True))
            facts = dataclasses.replace(facts, earlier=earlier.value)
        seen = self.job(language, *job(probe, language, facts))
        eventually(lambda: not processes_named(facts.mark), f"the end of what {probe.name} left", timeout_s=5)
        assert fork_servers(self.server.pid) == before, "the fork server was ended"
        assert self.client.job(self.neighbor_id).get("running"), "another job was ended"
        return finding(probe, language, judge(probe, seen))

    def run_many(self, language: str) -> list[Finding]:
        """The outcomes of all that one job can run."""
        facts = dataclasses.replace(self.facts, language=language)
        network = self.place.network
        probes = [
            each
            for each in PROBES
            if is_quiet(each)
            and not each.why_not(language if each.category == "javascript" else "python3", network)
            and not (each.terms.languages and language not in each.terms.languages)
        ]
        before = fork_servers(self.server.pid)
        outcomes: dict[str, Any] = {}
        for source, arguments in jobs_of_many(probes, language, facts):
            seen = self.job(language, source, arguments)
            assert isinstance(seen.value, dict), seen
            outcomes |= seen.value
        eventually(lambda: not processes_named(facts.mark), "the end of what they left", timeout_s=5)
        assert fork_servers(self.server.pid) == before, "the fork server was ended"
        assert self.client.job(self.neighbor_id).get("running"), "another job was ended"
        return [finding(each, language, judge(each, Seen(value=outcomes[each.name]))) for each in probes]

    def job(self, language: str, source: str, arguments: dict[str, Any]) -> Seen:
        """Runs one job."""
        language = "bun" if language == "nodejs" else language  # the source says so
        value = self._answer(language, source, arguments)
        if isinstance(value, dict) and list(value) == ["error"]:
            error = value["error"]
            # A program that left a result and failed
            return Seen(value=error) if isinstance(error, list) else Seen(error=f"{error['name']}: {error['message']}")
        return Seen(value=value)

    def _answer(self, language: str, source: str, arguments: dict[str, Any]) -> Any:
        if not RUNTIMES[language].builds:
            return self.client.preview(source, arguments, language=language).json()
        # Compiled before, by a job of its own: compilers use up the ids of processes, by which probes know what is whose.
        path = f"u/admin/probe_{language}"
        if not self.client.get(f"/scripts/exists/p/{path}").json():
            schema = {"type": "object"}  # given, so that no process has to read it from the source
            self.client.deploy(path, source, language, schema=schema)
            assert "error" in self.client.run(path, {**arguments, "python": "/bin/false"}).json()
        return self.client.run(path, arguments).json()


@pytest.fixture(scope="module")
def fields() -> Iterator[Callable[[Place], Field]]:
    """Gives the field of a place; one is open at a time."""
    opened: list[tuple[Place, Field, contextlib.ExitStack]] = []

    def close() -> None:
        while opened:
            opened.pop()[2].close()

    def open_at(place: Place) -> Field:
        if not opened or opened[0][0] != place:
            close()
            with contextlib.ExitStack() as stack:
                field = stack.enter_context(_open(place))
                opened.append((place, field, stack.pop_all()))
        return opened[0][1]

    yield open_at
    close()


@contextlib.contextmanager
def _open(place: Place) -> Iterator[Field]:
    canary = make_canary()
    more: dict[str, Any] = {"environment": {"CANARY": canary}}
    user = ORDINARY_USER if place.is_ordinary and IS_ROOT else None
    interpreter = find_interpreter("")
    if user is not None:
        if not (program := ordinary_interpreter()):
            missing("a Python interpreter that an ordinary user may run")
        more = {
            "environment": {**more["environment"], **ordinary_environment()},
            "interpreter": program,
            "run_as": user,
        }
        interpreter = Interpreter(str(Path(program).resolve()), "/usr")
    with folder_of(user) as folder:
        memory = ("--job-memory-bytes", str(MEMORY_BYTES))
        server = start(place.rung, folder / "data", "--sandbox-network", place.network, *memory, **more)
        try:
            with _with_neighbor(place, server, folder, interpreter, canary) as field:
                yield field
        finally:
            server.close()


@contextlib.contextmanager
def _with_neighbor(
    place: Place, server: Server, folder: Path, interpreter: Interpreter, canary: str
) -> Iterator[Field]:
    client = server.client()
    # What another job was given is in the server's memory, too.
    assert client.preview("def main(secret):\n    return len(secret)", {"secret": canary}).json() == len(canary)
    (zygote_pid,) = fork_servers(server.pid)
    bait = folder / "bait"
    bait.mkdir(0o700)
    if IS_ROOT and place.is_ordinary:
        os.chown(bait, ORDINARY_USER, ORDINARY_USER)
    with laid_out(
        bait,
        SandboxSettings(sandbox_network=place.network, job_memory_bytes=MEMORY_BYTES),
        interpreter,
        rung=place.rung,
        server_pid=server.pid,
        zygote_pid=zygote_pid,
        hidden=[str(server.data), str(server.data / "minwebhook.db"), str(server.log_file), str(Path(__file__))],
        canary=canary,
        group_limits=_group_limits(client),
    ) as facts:
        arguments = {"name": facts.neighbor, "canary": facts.canary}
        body = {"content": NEIGHBOR, "language": "python3", "args": arguments}
        neighbor_id = client.post("/jobs/run/preview", body).text
        eventually(lambda: "ready" in client.logs(neighbor_id), "the start of the other job")
        yield Field(place, server, client, facts, neighbor_id)


def _group_limits(client: Client) -> set[str]:
    """What control groups limit, by what the server says is missing."""
    told = {each["name"] for each in client.get("/api/health/detailed").json()["checks"]["sandbox"]["missing"]}
    try:
        features = Groups.open().features
    except SandboxError:
        return set()
    return {limit for limit, name in LIMITS_OF_GROUPS.items() if name not in told and limit in features}


@pytest.mark.parametrize(("place", "probe", "language"), CASES)
def test_a_probe_is_held(fields: Callable[[Place], Field], place: Place, probe: Probe, language: str) -> None:
    if language in PROGRAMS and (reason := find_programs().missing(language)):
        missing(reason)
    found = fields(place).run(probe, language)
    assert not found.is_bad, f"{found.tries}: {found.outcome}: {found.evidence}"


#: Languages that the corpus is not run in there one by one, and what one job can run of it.
OTHERS = [language for language in HERE if language not in ("python3", "bash")]
OF_MANY = [
    pytest.param(place, language, id=f"{place.name}-{language}")
    for place in PLACES
    if place.network == "host"
    for language in OTHERS
]


@pytest.mark.parametrize(("place", "language"), OF_MANY)
def test_all_probes_that_one_job_can_run_are_held(
    fields: Callable[[Place], Field], place: Place, language: str
) -> None:
    """In every language, on every rung, by root and by an ordinary user: also what is not run there on its own."""
    if language in PROGRAMS and (reason := find_programs().missing(language)):
        missing(reason)
    found = fields(place).run_many(language)
    assert {each.category for each in found} >= {"files", "privileges", "kernel", "network", "channel"}
    bad = [each for each in found if each.is_bad]
    assert not bad, "\n".join(f"{each.probe}: {each.outcome}: {each.evidence}" for each in bad)


WHO = [pytest.param(place, id=place.name) for place in PLACES if place.network == "host"]


@pytest.mark.parametrize("place", WHO)
def test_who_a_job_is_outside(fields: Callable[[Place], Field], place: Place) -> None:
    """Run by root, each job is a user of its own; run by an ordinary user, that user."""
    field = fields(place)
    look = "cat /proc/self/uid_map > result.out; echo; id -u >> result.out"
    *spans, uid = field.client.preview(look, language="bash").json().splitlines()
    outside = [
        int(uid) - int(inside) + int(outer)
        for inside, outer, count in (span.split() for span in spans)
        if int(inside) <= int(uid) < int(inside) + int(count)
    ]
    if field.place.is_ordinary:
        assert outside == [os.geteuid() if not IS_ROOT else ORDINARY_USER]
    else:
        assert outside[0] >= FIRST_UID
