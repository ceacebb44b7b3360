"""What a server with these settings would find here (``minwebhook doctor``): each thing with what to do about it.

It tries what the server would do (starts the sandbox and a process of each language, binds the addresses, writes to the data
directory) and undoes it. A running server is not disturbed: what it holds is not tried.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from minwebhook.configuration import load_hook_secrets
from minwebhook.db.copies import is_locked
from minwebhook.errors import SandboxError, SettingsError
from minwebhook.http.listeners import open_listeners
from minwebhook.http.tls import ServerTls, make_context
from minwebhook.runtimes.child import Child
from minwebhook.runtimes.descriptors import connection_room
from minwebhook.runtimes.engines import Engines, find_engines
from minwebhook.runtimes.ladder import clear, start_best
from minwebhook.runtimes.language import RUNTIMES
from minwebhook.runtimes.zygote import Zygote
from minwebhook.settings import MIB, Settings

Status = Literal["ok", "note", "problem"]

_MIN_PYTHON: Final = (3, 11)
_LEAST_FREE_BYTES: Final = 256 * MIB
_FSYNCS: Final = 20
#: Each acknowledgment of an async job waits for one.
_SLOW_FSYNC_MS: Final = 20.0
_START_TIMEOUT_S: Final = 20.0
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was looked at."""

    topic: str
    status: Status
    found: str
    cure: str = ""


def ok(topic: str, found: str) -> Item:
    """It is as it should be."""
    return Item(topic, "ok", found)


def note(topic: str, found: str, cure: str) -> Item:
    """The server works, but could do better."""
    return Item(topic, "note", found, cure)


def problem(topic: str, found: str, cure: str) -> Item:
    """The server would not start, or not do what it is told."""
    return Item(topic, "problem", found, cure)


def examine(settings: Settings) -> Iterator[Item]:
    """Everything, one after the other."""
    yield from _system()
    yield from trio.run(_sandbox, settings)
    yield from _limits(settings)
    yield from _data(settings)
    yield from _files(settings)
    yield from _addresses(settings)


def _system() -> Iterator[Item]:
    name = os.uname()
    if name.sysname == "Linux" and name.machine in ("x86_64", "aarch64"):
        yield ok("kernel", f"{name.sysname} {name.release} on {name.machine}")
    else:
        yield problem("kernel", f"{name.sysname} on {name.machine}", "the sandbox needs Linux on x86_64 or aarch64")
    found = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] >= _MIN_PYTHON:
        yield ok("python", found)
    else:
        yield problem("python", found, "Python 3.11 or newer is needed")


# --- sandbox and languages --------------------------------------------------------------------------------------------


async def _sandbox(settings: Settings) -> list[Item]:
    items: list[Item] = []
    with tempfile.TemporaryDirectory(prefix="minwebhook-doctor-") as name:
        async with trio.open_nursery() as nursery:
            try:
                engines = find_engines(settings.sandbox)
                zygote, reached = await start_best(nursery, settings.sandbox, Path(name), engines=engines)
            except SandboxError as error:
                return [problem("sandbox", str(error), "see what each try needs")]
            if reached.rung == "none":
                items.append(problem("sandbox", f"none: {reached.description}", "see what the better rungs need"))
            else:
                items.append(ok("sandbox", f"{reached.rung}: {reached.description}"))
            items += [note("sandbox", f"{each.name}: {each.reason}", each.cure) for each in reached.missing]
            items += _layers(settings, zygote, reached.rung)
            engines = engines.on(reached.rung)
            for language in RUNTIMES:
                programs = reached.workshop.programs
                if cure := engines.missing(language) or await programs.missing_after_check(language):
                    items.append(note(language, "not installed: scripts that need it are refused", cure))
                else:
                    items.append(await _try_language(zygote, language, settings, engines))
            zygote.stop()
        clear(Path(name))
    return items


def _layers(settings: Settings, zygote: Zygote, rung: str) -> Iterator[Item]:
    if rung != "none" and not zygote.has_own_uids:
        yield note(
            "sandbox",
            "all jobs share one user id",
            "start the server as root: it gives up that right, and each job gets a user id of its own",
        )
    if settings.sandbox.sandbox_network == "host":
        yield note(
            "sandbox",
            "scripts reach the network of this machine, its loopback interface too",
            "sandbox_network = none, for all scripts or for those that need none",
        )


async def _try_language(zygote: Zygote, language: str, settings: Settings, engines: Engines) -> Item:
    delivered = trio.Event()
    answers: list[tuple[Child | None, str]] = []

    def deliver(child: Child | None, reason: str) -> None:
        answers.append((child, reason))
        delivered.set()

    begin = time.perf_counter()
    zygote.spawn(language, deliver)
    with trio.move_on_after(_START_TIMEOUT_S):
        await delivered.wait()
    took_ms = 1000 * (time.perf_counter() - begin)
    child, reason = answers[0] if answers else (None, f"no answer within {_START_TIMEOUT_S:g} s")
    if child is None:
        return problem(language, reason, f"install it, or name it in the settings ({language.rstrip('3')})")
    child.end()
    programs = {"python3": f"Python {zygote.version}", "bash": settings.sandbox.bash, **engines.paths}
    program = programs.get(language, language)
    return ok(language, f"{program}, ready in {took_ms:.0f} ms")


# --- limits -----------------------------------------------------------------------------------------------------------


def _limits(settings: Settings) -> Iterator[Item]:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = connection_room(settings, files)
    if room >= settings.http.max_connections:
        yield ok("open files", f"{files}, enough for {settings.http.max_connections} connections")
    else:
        yield note(
            "open files",
            f"{files}: {max(room, 1)} connections at once instead of {settings.http.max_connections}",
            "raise the hard limit (LimitNOFILE= of systemd, ulimit -Hn), or lower max_connections or warm_children",
        )
    memory, processes = cgroup_limit("memory"), cgroup_limit("pids")
    if memory is None:
        yield note(
            "memory",
            "no limit on all jobs together (each process of a job has one)",
            "bound the service from outside: MemoryMax= of systemd, the memory limit of the container",
        )
    else:
        yield ok("memory", f"at most {memory // MIB} MiB for the server and all jobs (cgroup)")
    wanted = settings.worker_count * settings.sandbox.job_processes
    if processes is None or processes >= wanted:
        yield ok("processes", "no limit (cgroup)" if processes is None else f"at most {processes} (cgroup)")
    else:
        yield note(
            "processes",
            f"at most {processes} (cgroup), and {settings.worker_count} jobs may have {wanted}",
            "raise TasksMax= of systemd or the container's limit, or lower workers or job_processes",
        )


def cgroup_limit(controller: str, cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least limit of ``memory`` (bytes) or ``pids`` on this process's group and those above it; None without one."""
    limits = []
    for line in _read(own).splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = cgroups / controller if names else cgroups
        files = {"": f"{controller}.max", "memory": "memory.limit_in_bytes", "pids": "pids.max"}
        group = top / path.lstrip("/")
        for place in (group, *group.parents):
            if top not in (place, *place.parents):
                break
            with contextlib.suppress(ValueError):  # "max" or nothing
                limits.append(int(_read(place / files[controller if names else ""])))
    # The first version of cgroups writes "none" as the largest number of pages.
    real = [limit for limit in limits if limit < 1 << 62]
    return min(real, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


# --- what the server reads and writes ---------------------------------------------------------------------------------


def _data(settings: Settings) -> Iterator[Item]:
    data = Path(settings.server.data).resolve()
    place = next(path for path in (data, *data.parents) if path.exists())
    cure = "choose another directory (setting data), or give this one to the user of the server"
    if not place.is_dir() or not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        yield problem("data", f"{place} cannot be written", cure)
        return
    if place == data and (mode := data.stat().st_mode & 0o077):
        yield note("data", f"{data} is open to others (mode {mode:03o})", f"chmod 700 {data}")
    else:
        yield ok("data", f"{data}" if place == data else f"{data} will be made")
    free = shutil.disk_usage(place).free
    if free < _LEAST_FREE_BYTES:
        yield problem("data", f"{free // MIB} MiB are free in {place}", "make room")
    else:
        yield ok("data", f"{free // MIB} MiB are free")
    try:
        times = _fsync_ms(place)
    except OSError as error:
        yield problem("data", f"cannot write to {place}: {error.strerror}", cure)
        return
    median = statistics.median(times)
    found = f"fsync takes {median:.2f} ms (median of {len(times)}, at most {max(times):.2f})"
    if median > _SLOW_FSYNC_MS:
        yield note("data", found, "async jobs wait for it before they get their id: choose a faster disk")
    else:
        yield ok("data", found)


def _fsync_ms(directory: Path) -> list[float]:
    times = []
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-") as file:
        for _ in range(_FSYNCS):
            file.write(bytes(4096))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - begin))
    return times


def _files(settings: Settings) -> Iterator[Item]:
    server = settings.server
    if server.hook_secrets:
        try:
            yield ok("hook_secrets", f"{len(load_hook_secrets(server.hook_secrets))} secrets")
        except SettingsError as error:
            yield problem("hook_secrets", str(error), "mend the file, or its mode")
    if server.scripts:
        if Path(server.scripts).is_dir() and os.access(server.scripts, os.R_OK | os.X_OK):
            yield ok("scripts", server.scripts)
        else:
            yield problem("scripts", f"{server.scripts} is no directory that can be read", "name another one")
    if settings.storage.storage == "s3":
        if importlib.util.find_spec("obstore") is None:
            yield problem("storage", "S3 needs the package obstore", "pip install 'minwebhook[s3]'")
        else:
            yield ok("storage", f"S3, bucket {settings.storage.s3_bucket}")


def _addresses(settings: Settings) -> Iterator[Item]:
    server = settings.server
    tls = None
    if server.tls_cert:
        try:
            tls = ServerTls(make_context(server.tls_cert, server.tls_key))
            yield ok("tls", server.tls_cert)
        except SettingsError as error:
            yield problem("tls", str(error), "name PEM files that this user can read and that belong together")
    if is_locked(Path(server.data).resolve() / "minwebhook.db"):
        yield ok("listen", "not tried: a server uses the data directory, and most likely these addresses")
        return
    for setting, addresses, context in (
        ("listen", server.listen, tls),
        ("metrics_listen", server.metrics_listen, None),
    ):
        for address in addresses:
            try:
                for listener in open_listeners([address], context, setting=setting):
                    listener.close()
                yield ok(setting, address)
            except SettingsError as error:
                yield problem(setting, str(error), "choose another address, or end what listens there")
