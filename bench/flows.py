"""Flows on a real server: what the steps cost, what a waiting flow takes, and what kill -9 does.

::

    python bench/flows.py                 # latency, throughput, a parallel loop, memory
    python bench/flows.py --kill 100      # kill -9 at so many random moments of flows of 30 steps with loops and branches

Loopback only; data goes to a temporary directory. Every process is ended by its id. Exit status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import json
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.flows import JSON, branchall, branchone, forloop, js, py, step  # noqa: E402
from tests.server import ADMIN_TOKEN, Client, Server, serving  # noqa: E402

NO_OP: Final = "def main(): return 1"


class Caller:
    """One connection that stays."""

    def __init__(self, client: Client) -> None:
        parts = urllib.parse.urlsplit(client.address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, name: str, body: bytes = b"{}") -> bytes:
        """A sync run."""
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        self._connection.request("POST", f"/api/w/demo/jobs/run_wait_result/{name}", body, fields)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return content


def deploy_flow(client: Client, path: str, modules: list[JSON], **value: Any) -> None:
    """A new flow."""
    answer = client.post("/flows/create", {"path": path, "summary": "", "value": {"modules": modules, **value}})
    assert answer.status == 201, answer.text


def script_step(id: str, path: str) -> JSON:
    """A deployed script."""
    return step(id, {"type": "script", "path": path, "input_transforms": {}})


def paced(call: Callable[[], object], *, seconds: float, pause_s: float = 0.01) -> list[float]:
    """Milliseconds of each call, with a pause between them."""
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
        time.sleep(pause_s)
    return taken


def measure_latency(client: Client, seconds: float) -> None:
    """Three steps next to one script, one-shot and reused."""
    for kind in ("one-shot", "reuse"):
        script, flow = f"u/admin/{kind}", f"u/admin/three-{kind}"
        client.deploy(script, NO_OP, dedicated_worker=kind == "reuse")
        deploy_flow(client, flow, [script_step(id, script) for id in "abc"])
        caller = Caller(client)
        for _ in range(20):
            caller.run(f"p/{script}")
            caller.run(f"f/{flow}")
        singles: list[float] = []
        threes: list[float] = []
        for _ in range(4):
            singles += paced(lambda: caller.run(f"p/{script}"), seconds=seconds / 8)  # noqa: B023 - called here
            threes += paced(lambda: caller.run(f"f/{flow}"), seconds=seconds / 8)  # noqa: B023 - called here
        one, three = statistics.median(singles), statistics.median(threes)
        print(f"{kind}: script p50 {one:.2f} ms, flow of three steps p50 {three:.2f} ms, {three / one:.2f} x")


def measure_throughput(client: Client, seconds: float, connections: int = 8) -> None:
    """Flows of three reused steps, from several connections at once."""
    counts = [0] * connections
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        caller = Caller(client)
        while time.monotonic() < end:
            caller.run("f/u/admin/three-reuse")
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"reuse: {sum(counts) / seconds:.0f} flows/s of three steps at {connections} connections")


def measure_loop(client: Client, iterations: int = 1000) -> None:
    """A parallel loop next to as many plain jobs, both of a script whose processes stay."""
    loop = forloop(
        f"Array.from({{length: {iterations}}}, (_, i) => i)", script_step("i", "u/admin/reuse"), parallel=True
    )
    deploy_flow(client, "u/admin/loop", [step("l", loop)])
    caller = Caller(client)
    caller.run("f/u/admin/loop")
    flows = []
    plain = []
    for _ in range(2):
        started = time.perf_counter()
        caller.run("f/u/admin/loop")
        flows.append(time.perf_counter() - started)
        started = time.perf_counter()
        ids = [client.submit("u/admin/reuse") for _ in range(iterations)]
        client.ended(ids[-1], 60)
        plain.append(time.perf_counter() - started)
    per_flow, per_job = 1000 * min(flows) / iterations, 1000 * min(plain) / iterations
    print(
        f"parallel loop of {iterations}: {per_flow:.3f} ms an iteration; plain async jobs, called one by one: {per_job:.3f} ms"
    )


def measure_memory(server: Server, client: Client, flows: int = 2000) -> None:
    """What flows take that wait for an approval."""
    suspend = {"required_events": 1, "timeout": 3600}
    deploy_flow(
        client, "u/admin/waits", [step("a", {"type": "identity"}, suspend=suspend), step("b", {"type": "identity"})]
    )

    def memory() -> int:
        text = Path(f"/proc/{server.pid}/smaps_rollup").read_text(encoding="utf-8")
        return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])

    def start(number: int) -> None:
        connection = Caller(client)._connection
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        for _ in range(number):
            connection.request("POST", "/api/w/demo/jobs/run/f/u/admin/waits", b"{}", fields)
            connection.getresponse().read()

    start(500)
    time.sleep(1)
    before = memory()
    start(flows)
    time.sleep(2)
    print(f"memory of a waiting flow: {(memory() - before) * 1024 / flows / 1024:.2f} KiB")


# --- kill -9 ----------------------------------------------------------------------------------------------------------

_TELL: Final = """
import os, socket
def main(port, key, value=None):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(f"{os.environ['WM_ROOT_FLOW_JOB_ID']} {key} {os.environ['WM_JOB_ID']}\\n".encode())
    return value
"""


def _tell(id: str, key: str | None = None, value: str = "1") -> JSON:
    """A step that says that it runs."""
    inputs = {"port": js("flow_input.port"), "key": js(key or f"'{id}'"), "value": js(value)}
    return step(id, {**py(_TELL), "input_transforms": inputs})


def _long_flow() -> tuple[list[JSON], set[str], Any]:
    """A flow of thirty steps with loops and branches: its modules, what its steps say, and its result."""
    modules: list[JSON] = []
    keys: set[str] = set()
    for index in range(5):
        plain, loop, par, chosen, every = (f"{name}{index}" for name in ("p", "l", "q", "c", "e"))
        modules += [
            _tell(plain),
            step(
                loop,
                forloop([0, 1, 2], _tell(f"{loop}i", f"'{loop}' + flow_input.iter.index", "flow_input.iter.value")),
            ),
            step(par, forloop([0, 1], _tell(f"{par}i", f"'{par}' + flow_input.iter.index"), parallel=True)),
            step(chosen, branchone((f"results.{loop}[2] == 2", [_tell(f"{chosen}x")]), default=[_tell(f"{chosen}y")])),
            step(every, branchall([_tell(f"{every}x")], [_tell(f"{every}y")])),
            step(f"i{index}", {"type": "identity"}),
        ]
        keys |= {plain, f"{chosen}x", f"{every}x", f"{every}y"}
        keys |= {f"{loop}{n}" for n in range(3)} | {f"{par}{n}" for n in range(2)}
    return modules, keys, [1, 1]


class Listener:
    """Hears which steps ran."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        #: By flow and key: the jobs that said it.
        self.heard: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                words = connection.makefile().readline().split()
                if len(words) == 3:
                    self.heard[words[0], words[1]].append(words[2])

    def close(self) -> None:
        """Listens no more."""
        self._socket.close()


class KillRun:
    """Flows of thirty steps on a server that is killed again and again."""

    def __init__(self, folder: Path, *, seed: int, flows: int = 3) -> None:
        self._server = Server(folder / "data", ("--workers", "3", "--crash-attempts", "1000"))
        self._moments = random.Random(seed)
        self._listener = Listener()
        self._modules, self._keys, self._result = _long_flow()
        self._flows = flows
        self._ids: list[str] = []

    def kill(self, rounds: int) -> None:
        """Starts flows as long as none is left, kills the server at a random moment, and starts it again."""
        client = self._server.start()
        deploy_flow(client, "u/admin/long", self._modules)
        for _ in range(rounds):
            self._keep_busy(client)
            time.sleep(self._moments.uniform(0.02, 0.7))
            self._server.kill()
            client = self._server.start()

    def _keep_busy(self, client: Client) -> None:
        running = [job_id for job_id in self._ids[-self._flows :] if client.job(job_id)["type"] == "QueuedJob"]
        for _ in range(self._flows - len(running)):
            answer = client.post("/jobs/run/f/u/admin/long", {"port": self._listener.port})
            assert answer.status == 201, answer.text
            self._ids.append(answer.text)

    def faults(self) -> list[str]:
        """What was promised and is not so; waits for the flows that go on, and ends the server."""
        client = self._server.client()
        faults = []
        try:
            for job_id in self._ids:
                job = client.ended(job_id, 60)
                if not job["success"] or job["result"] != self._result:
                    faults.append(f"{job_id}: {json.dumps(job.get('result'))[:300]}")
            self._server.stop()
            attempts = self._attempts()
            for job_id in self._ids:
                for key in self._keys:
                    jobs = self._listener.heard.get((job_id, key), [])
                    if len(set(jobs)) != 1:
                        faults.append(f"{job_id}: step {key} was run by {len(set(jobs))} jobs")
                    elif len(jobs) > attempts.get(jobs[0], 0):
                        faults.append(f"{job_id}: step {key} ran {len(jobs)} times in {attempts.get(jobs[0])} attempts")
        finally:
            self._listener.close()
            self._server.close()
        return faults

    def _attempts(self) -> dict[str, int]:
        path = self._server.data / "minwebhook.db"
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        rows = connection.execute("SELECT id, attempts FROM job").fetchall()
        connection.close()
        return {str(UUID(bytes=key)): attempts for key, attempts in rows}

    @property
    def summary(self) -> str:
        """What was done."""
        told = sum(map(len, self._listener.heard.values()))
        return f"{len(self._ids)} flows of 30 steps, {told} runs of steps"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kill", type=int, metavar="ROUNDS", help="kill -9 so often instead")
    parser.add_argument("--seconds", type=float, default=8, help="for each measurement of time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.kill:
            run = KillRun(Path(folder), seed=options.seed)
            run.kill(options.kill)
            faults = run.faults()
            print(f"{options.kill} times kill -9: {run.summary}, {len(faults)} faults")
            print("\n".join(faults[:20]))
            return bool(faults)
        flags = ("--log-level", "warning")
        with serving(Path(folder) / "data", *flags) as (_, client):
            measure_latency(client, options.seconds)
            measure_throughput(client, options.seconds / 2)
            measure_loop(client)
        with serving(Path(folder) / "fresh", *flags) as (server, client):  # what others left free would be filled first
            measure_memory(server, client)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
