"""Removes uploads that are too old, or too much altogether: those that have their names from the server.

Their names begin with the time (:func:`~minwebhook.storage.keys.upload_key`), so a storage lists them oldest first. What a job
mentions that has not ended, or is a dead letter, stays, and so does what a request is still storing. Files go one by one,
in threads of the storage; a storage that cannot be reached is looked at the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from minwebhook.errors import ApiError
from minwebhook.jobs.store import JobStore
from minwebhook.jobs.table import JobTable
from minwebhook.repeating import repeat
from minwebhook.settings import StorageSettings
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import UPLOAD_PREFIX, ObjectKey, mentioned_uploads, uploaded_at_ms
from minwebhook.storage.objects import ObjectStorage
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.times import now_ms

logger = logging.getLogger(__name__)

LOOK_S: Final = 600.0
#: From which part of the size on something is removed, and down to which.
_BEGIN: Final = 0.95
_LEAVE: Final = 0.9
#: What is younger may be on its way from a request to its job.
_SETTLED_MS: Final = 60_000
#: How long the loop is held at a time by looking at queued jobs.
_HOLD_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class _Upload:
    key: ObjectKey
    at_ms: int
    size: int


@dataclass(slots=True)
class _Line:
    """The uploads of one storage that may be removed, oldest first, a page at a time."""

    storage: ObjectStorage
    before_ms: int
    spared: set[str]
    _page: list[_Upload] = field(default_factory=list)
    _marker: str | None = f"{UPLOAD_PREFIX}upload_"

    async def first(self) -> _Upload | None:
        """The oldest; None if there is none (any more), or the storage cannot be reached."""
        while not self._page and self._marker is not None:
            try:
                page = await self.storage.list(prefix=f"{UPLOAD_PREFIX}upload_", marker=self._marker)
            except ApiError as error:
                logger.warning("a storage could not be looked through for old uploads: %s", error.detail)
                self._marker = None
                break
            self._marker = page.next_marker
            for found in page.objects:
                at_ms = uploaded_at_ms(found.key)
                if at_ms is not None and at_ms < self.before_ms and found.key not in self.spared:
                    self._page.append(_Upload(found.key, at_ms, found.size))
            self._page.reverse()
        return self._page[-1] if self._page else None

    def skip(self) -> None:
        """The first one stays."""
        self._page.pop()

    async def remove(self) -> bool:
        """The first one goes. False if it cannot, and then none of this storage is tried any more."""
        upload = self._page.pop()
        try:
            await self.storage.delete(upload.key)
        except ApiError as error:
            logger.warning("an old upload could not be removed: %s", error.detail)
            self._page, self._marker = [], None
            return False
        return True


class UploadExpiry:
    """Removes what the settings do not keep."""

    def __init__(
        self,
        storages: WorkspaceStorages,
        journal: UploadJournal,
        table: JobTable,
        store: JobStore,
        settings: StorageSettings,
        *,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._storages = storages
        self._journal = journal
        self._table = table
        self._store = store
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Looks now and then and does what there is to do, until cancelled; ends at once if all is kept."""
        if self._settings.keep_uploads_s or self._settings.max_uploads_bytes:
            await repeat(self.work, "old uploads could not be removed", pause_s=LOOK_S)

    async def work(self) -> None:
        """Everything that there is to do now."""
        settings, now = self._settings, self._clock()
        old_ms = now - round(1000 * settings.keep_uploads_s) if settings.keep_uploads_s else 0
        cap = settings.max_uploads_bytes
        spared = {str(key) for _, key in self._journal.unsettled()} | await self._wanted()
        storages = await self._storages.in_use()

        def lines() -> list[_Line]:
            return [_Line(storage, now - _SETTLED_MS, spared) for storage in storages]

        total = removed = 0
        for line in lines():
            while (upload := await line.first()) is not None:
                if upload.at_ms < old_ms:
                    removed += await line.remove()
                elif cap:
                    total += upload.size
                    line.skip()
                else:
                    break  # all others are younger
        if cap and total > _BEGIN * cap:
            removed += await self._remove_oldest(lines(), total - int(_LEAVE * cap))
        if removed:
            logger.info("%d old uploads were removed", removed)

    async def _remove_oldest(self, lines: list[_Line], too_much: int) -> int:
        """Removes so many bytes, the oldest of all storages first; how many uploads that were."""
        removed = 0
        while too_much > 0:
            firsts = [
                (upload.at_ms, number, upload) for number, line in enumerate(lines) if (upload := await line.first())
            ]
            if not firsts:
                break
            _, number, upload = min(firsts, key=lambda first: first[:2])
            if await lines[number].remove():
                too_much -= upload.size
                removed += 1
        return removed

    async def _wanted(self) -> set[str]:
        """What jobs that have not ended mention, and dead letters."""
        found = await self._store.uploads_of_dead()
        pause_at = trio.current_time() + _HOLD_S
        for job in list(self._table.live(None)):
            if not job.state.is_final:
                found |= mentioned_uploads(job.spec.arguments)
            if trio.current_time() > pause_at:
                await trio.lowlevel.checkpoint()
                pause_at = trio.current_time() + _HOLD_S
        return found
