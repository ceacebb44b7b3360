"""When a checkpoint is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.db.log_size import LogSize

PAGE = 4096


@given(
    pages_per_row=st.floats(0.1, 500),
    rows_per_commit=st.integers(1, 512),
    older_file=st.sampled_from([0, 64 * 1024 * 1024]),
)
def test_the_log_stays_small_whatever_rows_take(pages_per_row: float, rows_per_commit: int, older_file: int) -> None:
    """The file is as large as it ever was; only what the rows took before says when it is enough."""
    size, rows, file_bytes, checkpoints = LogSize(), 0, older_file, 0
    pages = 0.0
    for _ in range(10_000):
        rows += rows_per_commit
        pages += pages_per_row * rows_per_commit
        file_bytes = max(file_bytes, int(pages * PAGE))
        if size.is_due(rows, lambda: file_bytes):  # noqa: B023
            if checkpoints:
                assert 500 < pages <= 1000 + pages_per_row * (rows_per_commit + 16) + 1100
            size.note_checkpoint(rows, file_bytes, round(pages))
            pages, checkpoints = 0.0, checkpoints + 1
            if checkpoints == 4:
                break


def test_nothing_new_is_no_reason() -> None:
    size = LogSize()
    size.note_checkpoint(1000, 0, 4000)
    assert not size.is_due(1000, lambda: 1 << 30)
    assert size.is_due(1250, lambda: 0)
    assert not size.is_due(1249, lambda: 0)


def test_large_rows_after_small_ones_are_seen_by_the_size_of_the_file() -> None:
    size = LogSize()
    size.note_checkpoint(10_000, 1 << 20, 500)
    assert not size.is_due(10_016, lambda: 3 << 20)
    assert not size.is_due(10_031, lambda: 5 << 20)
    assert size.is_due(10_032, lambda: 5 << 20)
