"""What an earlier run of the server left: jobs that it acknowledged and did not end run now; ended runs go on counting."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Final

import trio

from minwebhook.jobs import outcomes
from minwebhook.jobs.folding import folded
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


async def read_left(store: JobStore) -> list[JobRecord]:
    """The jobs that did not end before the server did, read while others have their turns."""
    left: list[JobRecord] = []
    for some in store.queued_in_pieces():
        left += some
        await trio.lowlevel.checkpoint()
    return left


def restore_jobs(
    table: JobTable,
    store: JobStore,
    scripts: ScriptStore,
    now_ms: int,
    *,
    on_driven: Callable[[JobRecord, JobSpec], bool] = lambda record, spec: False,
    ended_flows: Iterable[tuple[int, Concurrency]] = (),
    on_restored: Callable[[], None] = lambda: None,
    left: Iterable[JobRecord] | None = None,
) -> None:
    """Fills the table before the first request, and starts the first jobs.

    ``on_driven`` is told of those without a worker, and says whether they had begun. ``ended_flows``: when flows ended that still
    count within the window of their concurrency key. ``on_restored`` is called before the first jobs start. ``left``: what
    :func:`read_left` found.
    """
    _count_ended(table, store, scripts, now_ms, ended_flows)
    restored = 0
    known: dict[tuple[str, int], Script | None] = {}
    specs = _Specs()

    def restore(record: JobRecord) -> str:
        """What keeps it from being queued again; "" if nothing does."""
        script = None
        if record.kind not in DRIVEN_KINDS and record.script_hash is not None:
            version = record.workspace, record.script_hash
            if version not in known:
                known[version] = scripts.find_by_hash(*version)
            script = known[version]
        spec = specs.of(record, script)
        if spec is None:
            logger.error("the code of a queued job is gone", extra={"job_id": str(record.id)})
            return "the code of the script is gone"
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
        return "" if job is not None else f"the server died while the job ran, {record.attempts} times"

    for record in store.queued() if left is None else left:
        try:
            reason = restore(record)
        except Exception:  # it keeps no other from being queued again
            logger.exception("a queued job cannot be read", extra={"job_id": str(record.id)})
            reason = "the record of the job is damaged; the server's log says more"
        if reason:
            store.fail(record.id, outcomes.execution_error(reason).result, now_ms)
        else:
            restored += 1
    on_restored()
    table.start_restored()
    if restored:
        logger.info("%d queued jobs of the last run are queued again", restored)


class _Specs:
    """The specs of jobs that are queued again: what those of one script and one caller have in common is there once."""

    def __init__(self) -> None:
        self._templates: dict[tuple[Hashable, ...], JobSpec] = {}

    def of(self, record: JobRecord, script: Script | None) -> JobSpec | None:
        """The spec of a job; None if its code is gone."""
        if script is None or script.concurrent_limit or not record.options.is_usual:
            return restored_spec(record, script)
        key = (
            record.workspace,
            record.kind,
            record.script_hash,
            record.path,
            record.created_by,
            record.email,
            record.permissioned_as,
            record.owner,
            record.origin,
            record.tag,
            record.priority,
            record.timeout_s,
            record.parent_job,
            record.root_job,
            record.visible_to_owner,
            record.step_id,
        )
        template = self._templates.get(key)
        if template is None:
            template = restored_spec(record, script)
            assert template is not None  # noqa: S101 - there is its script
            self._templates[key] = template
        return folded(template, record.arguments or b"{}", b"")


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
