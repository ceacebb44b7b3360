"""What an ended job wrote, read from the database in pieces: nobody needs to hold a large log whole to send it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final
from uuid import UUID

from minwebhook.db.database import Database

#: Ends of chunks read at once.
_ENDS_BYTES: Final = 16 * 1024


class StoredOutput:
    """The log and the streamed result of an ended job, read in pieces as those of a running one (``jobs/log.py``)."""

    def __init__(self, db: Database, job_id: UUID) -> None:
        self._db = db
        self._log_row = self._find("SELECT rowid FROM job_log WHERE job_id = ?", job_id)
        self._stream_row = self._find("SELECT rowid FROM job_stream WHERE job_id = ?", job_id)

    @property
    def extent(self) -> tuple[int, int]:
        """See :class:`~minwebhook.jobs.flow_chunks.Output`: nothing comes any more."""
        return 0, 0

    def log_piece(self, start: int, size: int) -> bytes:
        """Bytes of the log as UTF-8, from ``start`` on, at most ``size``; b"" behind its end."""
        if self._log_row is None:
            return b""
        return self._db.read_blob("job_log", "log", self._log_row, start, size)

    def chunks_from(self, first: int, size: int) -> tuple[bytes, int]:
        """See :meth:`~minwebhook.jobs.log.Chunks.read`."""
        if self._stream_row is None:
            return b"", first
        # One entry more in front says where the first chunk begins.
        known = array("I")
        before = 1 if first else 0
        at = (first - before) * known.itemsize
        known.frombytes(self._db.read_blob("job_stream", "ends", self._stream_row, at, _ENDS_BYTES))
        if len(known) <= before:
            return b"", first
        start = known[0] if before else 0
        after = max(bisect_right(known, start + size), before + 1)
        text = self._db.read_blob("job_stream", "chunks", self._stream_row, start, known[after - 1] - start)
        return text, first - before + after

    def _find(self, query: str, job_id: UUID) -> int | None:
        rows = self._db.read(query, (job_id.bytes,))
        return int(rows[0][0]) if rows else None
