"""How much is in the log of the database since the last checkpoint: SQLite does not tell Python. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: With so many pages a checkpoint is due, or when the file has grown by so many bytes.
_DUE_PAGES: Final = 1000
_DUE_BYTES: Final = 4 * 1024 * 1024
#: What a row is taken for before the first checkpoint has told.
_FIRST_GUESS: Final = 1.0
#: After so many rows the file is looked at, which takes a call of the system.
_LOOK_ROWS: Final = 16


class LogSize:
    """Counts rows that were changed, and knows from the last checkpoint how many pages they take."""

    def __init__(self) -> None:
        self._rows = 0
        self._looked_at_rows = 0
        self._file_bytes = 0
        self._pages_per_row = _FIRST_GUESS

    def is_due(self, rows: int, file_bytes: Callable[[], int]) -> bool:
        """Whether there is enough for a checkpoint. ``rows`` were changed since the start; ``file_bytes`` looks at the file."""
        changed = rows - self._rows
        if changed > 0 and changed * self._pages_per_row >= _DUE_PAGES:
            return True
        if rows < self._looked_at_rows + _LOOK_ROWS:
            return False
        self._looked_at_rows = rows
        return file_bytes() >= self._file_bytes + _DUE_BYTES

    def note_checkpoint(self, rows: int, file_bytes: int, pages: int) -> None:
        """There was one; so many ``pages`` were in the log."""
        changed = rows - self._rows
        if changed > 0 and pages > 0:
            self._pages_per_row = pages / changed
        self._rows = self._looked_at_rows = rows
        self._file_bytes = file_bytes
