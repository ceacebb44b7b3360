"""What is to be cleaned up now and then, beside everything else, for as long as the server runs."""

from __future__ import annotations

import logging
from typing import Final

import trio

from minwebhook.audit.log import AuditLog
from minwebhook.errors import ApiError
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.uploads import remove_unsettled
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.times import now_ms
from minwebhook.variables.store import VariableStore

logger = logging.getLogger(__name__)

#: Unfinished uploads in a bucket may be those of another server that shares it; older ones are nobody's.
_SWEEP_AGE_MS: Final = 6 * 3600 * 1000
_SWEEP_EVERY_S: Final = 3600.0


async def remove_old_audits(audit: AuditLog, keep_s: float) -> None:
    """Records older than this are removed; with 0, none."""
    while keep_s:
        try:
            await audit.remove_before(now_ms() - int(1000 * keep_s), now_ms())
        except ApiError as error:
            logger.warning("old records of the audit log could not be removed: %s", error.detail)
        await trio.sleep(_SWEEP_EVERY_S)


async def clean_storages(
    storages: WorkspaceStorages, journal: UploadJournal, left: list[tuple[str, ObjectKey]]
) -> None:
    """What earlier processes did not finish storing is removed."""
    await remove_unsettled(storages, journal, left)
    while True:
        try:
            await storages.sweep(now_ms() - _SWEEP_AGE_MS)
        except ApiError as error:  # of the database, or of a disk: the next time, then
            logger.warning("the storages could not be swept: %s", error.detail)
        await trio.sleep(_SWEEP_EVERY_S)


async def delete_expired_variables(variables: VariableStore) -> None:
    """They are gone from the moment on; this is about their rows."""
    while True:
        try:
            await variables.delete_expired(now_ms())
        except ApiError as error:
            logger.warning("expired variables could not be deleted: %s", error.detail)
        await trio.sleep(_SWEEP_EVERY_S)
