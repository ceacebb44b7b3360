"""What is to be cleaned up now and then, beside everything else, for as long as the server runs."""

from __future__ import annotations

from typing import Final

from minwebhook.audit.log import AuditLog
from minwebhook.repeating import repeat
from minwebhook.storage.journal import UploadJournal
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.uploads import remove_unsettled
from minwebhook.storage.workspaces import WorkspaceStorages
from minwebhook.times import now_ms
from minwebhook.variables.store import VariableStore

#: Unfinished uploads in a bucket may be those of another server that shares it; older ones are nobody's.
_SWEEP_AGE_MS: Final = 6 * 3600 * 1000
_SWEEP_EVERY_S: Final = 3600.0


async def remove_old_audits(audit: AuditLog, keep_s: float) -> None:
    """Records older than this are removed; with 0, none."""
    if keep_s:
        await repeat(
            lambda: audit.remove_before(now_ms() - int(1000 * keep_s), now_ms()),
            "old records of the audit log could not be removed",
            pause_s=_SWEEP_EVERY_S,
        )


async def clean_storages(
    storages: WorkspaceStorages, journal: UploadJournal, left: list[tuple[str, ObjectKey]]
) -> None:
    """What earlier processes did not finish storing is removed."""

    async def sweep() -> None:
        nonlocal left
        if left:
            await remove_unsettled(storages, journal, left)
            left = []
        await storages.sweep(now_ms() - _SWEEP_AGE_MS)

    await repeat(sweep, "the storages could not be swept", pause_s=_SWEEP_EVERY_S)


async def delete_expired_variables(variables: VariableStore) -> None:
    """They are gone from the moment on; this is about their rows."""
    await repeat(
        lambda: variables.delete_expired(now_ms()), "expired variables could not be deleted", pause_s=_SWEEP_EVERY_S
    )
