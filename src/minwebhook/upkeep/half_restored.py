"""What a restore leaves that did not come to its end, and what a server says to that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from minwebhook.errors import SettingsError

#: Where the new contents wait that are whole and not yet in their place.
VERIFIED: Final = "restore-verified"


def refuse_half_restored(data: Path) -> None:
    """For the start of a server: raises :class:`SettingsError` if a restore did not come to its end."""
    if (data / VERIFIED).exists():
        raise SettingsError(
            f"a restore into the data directory {data} did not end: run 'minwebhook restore FILE --replace' again"
        )
