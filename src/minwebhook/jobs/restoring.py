"""What an earlier run of the server left: jobs that it acknowledged and did not end run now; ended runs go on counting."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from minwebhook.jobs import outcomes
from minwebhook.jobs.model import DRIVEN_KINDS, Concurrency, JobSpec
from minwebhook.jobs.record import JobRecord
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.submission import concurrency_of, restored_spec
from minwebhook.jobs.table import JobTable
from minwebhook.scripts.script import Script
from minwebhook.scripts.store import ScriptStore

logger = logging.getLogger(__name__)

#: Ended runs of a workspace that are looked at, so that a start does not take long. A key needs no more than its limit.
MAX_ENDED: Final = 10_000


def restore_jobs(
    table: JobTable,
    store: JobStore,
    scripts: ScriptStore,
    now_ms: int,
    *,
    on_driven: Callable[[JobRecord, JobSpec], bool] = lambda record, spec: False,
    ended_flows: Iterable[tuple[int, Concurrency]] = (),
    on_restored: Callable[[], None] = lambda: None,
) -> None:
    """Fills the table before the first request, and starts the first jobs.

    ``on_driven`` is told of those without a worker, and says whether they had begun. ``ended_flows``: when flows ended that still
    count within the window of their concurrency key. ``on_restored`` is called before the first jobs start.
    """
    _count_ended(table, store, scripts, now_ms, ended_flows)
    restored = 0
    known: dict[tuple[str, int], Script | None] = {}
    for record in store.queued():
        script = None
        if record.kind not in DRIVEN_KINDS and record.script_hash is not None:
            version = record.workspace, record.script_hash
            if version not in known:
                known[version] = scripts.find_by_hash(*version)
            script = known[version]
        spec = restored_spec(record, script)
        if spec is None:
            logger.error("the code of a queued job is gone", extra={"job_id": str(record.id)})
            gone = outcomes.execution_error("the code of the script is gone")
            store.fail(record.id, gone.result, now_ms)
            continue
        has_begun = spec.is_driven and on_driven(record, spec)
        job = table.restore(
            record.id,
            spec,
            record.created_at_ms,
            record.scheduled_for_ms,
            attempts=record.attempts,
            failures=record.failures,
            has_begun=has_begun,
        )
        if job is not None:
            restored += 1
            continue
        lost = outcomes.execution_error(f"the server died while the job ran, {record.attempts} times")
        store.fail(record.id, lost.result, now_ms)
    on_restored()
    table.start_restored()
    if restored:
        logger.info("%d queued jobs of the last run are queued again", restored)


def _count_ended(
    table: JobTable,
    store: JobStore,
    scripts: ScriptStore,
    now_ms: int,
    ended_flows: Iterable[tuple[int, Concurrency]],
) -> None:
    """Runs that ended before the start and still count within the window of their concurrency key."""
    windows: dict[str, dict[int, int]] = defaultdict(dict)
    for workspace, version, window_ms in scripts.windows():
        windows[workspace][version] = window_ms
    ended = [*ended_flows]
    for workspace, versions in windows.items():
        for version, arguments, ended_at_ms in store.ended_runs(
            "script", workspace, versions, now_ms - max(versions.values()), MAX_ENDED
        ):
            script = scripts.find_by_hash(workspace, version)
            limit = concurrency_of(script, arguments) if script is not None else None
            if limit is not None:
                ended.append((ended_at_ms, limit))
    for ended_at_ms, limit in sorted(ended):  # a key may be that of several workspaces
        table.restore_ended(limit, ended_at_ms)
