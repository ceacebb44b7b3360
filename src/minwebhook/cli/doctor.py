"""``minwebhook doctor``: says what works here and how to cure what does not; ``--sandbox`` tries to break out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import trio

from minwebhook.cli.flags import add_flags, settings_from
from minwebhook.cli.reasons import one_reason
from minwebhook.runtimes import bait
from minwebhook.runtimes.engines import find_engines
from minwebhook.runtimes.ladder import clear, find_interpreter, start_best
from minwebhook.runtimes.probing import Prober, languages_to_probe
from minwebhook.sandbox.probes.corpus import PROBES, Finding
from minwebhook.settings import Settings
from minwebhook.upkeep.examination import examine


def add_parser(commands: Any) -> None:
    """Adds the command; ``commands`` is what ``add_subparsers`` gave."""
    parser = commands.add_parser("doctor", help="say what works here and what does not", conflict_handler="resolve")
    add_flags(parser)
    parser.add_argument(
        "--sandbox",
        nargs="?",
        const="",
        metavar="RUNG",
        help="Try to break out of the sandbox: of the best one that works, or of exactly this one.",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON for machines.")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 if all is well, 1 if there are problems."""
    wants_probes = options.sandbox is not None
    options.sandbox = options.sandbox or None
    settings = settings_from(options)
    with one_reason():
        return _break_out(settings, as_json=options.json) if wants_probes else _examine(settings, as_json=options.json)


def _examine(settings: Settings, *, as_json: bool) -> int:
    items = []
    for item in examine(settings):
        items.append(item)
        if not as_json:
            print(f"{item.status:8} {item.topic:13} {item.found}", flush=True)
            if item.cure:
                print(f"{'':22} → {item.cure}", flush=True)
    problems = sum(item.status == "problem" for item in items)
    if as_json:
        print(json.dumps({"problems": problems, "items": [dataclasses.asdict(item) for item in items]}, indent=2))
    return int(problems > 0)


def _break_out(settings: Settings, *, as_json: bool) -> int:
    findings: list[Finding] = []

    def tell(found: Finding) -> None:
        findings.append(found)
        if not as_json:
            print(_row(found), flush=True)

    rung = trio.run(_probe, settings, tell)
    counts = dict.fromkeys(("held", "got through", "not contained", "broken", "not applicable"), 0)
    for found in findings:
        counts[found.outcome] += 1
    bad = sum(found.is_bad for found in findings)
    if as_json:
        rows = [dataclasses.asdict(found) for found in findings]
        print(json.dumps({"rung": rung, "network": settings.sandbox.sandbox_network, "probes": rows}, indent=2))
    else:
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        print(f"\nsandbox {rung}, network {settings.sandbox.sandbox_network}: {told}")
    return int(bad > 0)


def _row(found: Finding) -> str:
    mark = "!!" if found.is_bad else "  "
    return (
        f"{mark} {found.outcome:14} {found.category}/{found.probe} ({found.language}): {found.tries}"
        f"\n       {found.evidence}"
    )


def _secrets(settings: Settings) -> list[str]:
    """What is there of the server's own files."""
    data = Path(settings.server.data).resolve()
    files = (settings.server.hook_secrets, settings.server.tls_key)
    paths = [data, data / "minwebhook.db", *(Path(name).resolve() for name in files if name)]
    return [str(path) for path in paths if path.exists()]


async def _probe(settings: Settings, tell: Any) -> str:
    with tempfile.TemporaryDirectory(prefix="minwebhook-doctor-") as name:
        directory = Path(name)
        async with trio.open_nursery() as nursery:
            engines = find_engines(settings.sandbox)
            zygote, reached = await start_best(nursery, settings.sandbox, directory / "sandbox", engines=engines)
            with bait.laid_out(
                directory,
                settings.sandbox,
                find_interpreter(settings.sandbox.python),
                rung=reached.rung,
                server_pid=os.getpid(),
                zygote_pid=zygote.pid or 0,
                hidden=_secrets(settings),
                group_limits=reached.workshop.group_limits,
            ) as facts:
                languages = await languages_to_probe(engines.on(reached.rung), reached.workshop.programs)
                await Prober(zygote, facts, settings.jobs).run(PROBES, languages, tell)
            zygote.stop()
            nursery.cancel_scope.cancel(reason="all probes were run")
        clear(directory / "sandbox")
    return reached.rung
