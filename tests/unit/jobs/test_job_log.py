"""The log of a job: the same text however the output comes in pieces, bounded, and free of streamed chunks."""

from __future__ import annotations

import contextlib
import io
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.child.python import _stream
from minwebhook.jobs.log import TAIL_CHARACTERS, JobLog

BANNER = "--- CODE EXECUTION ---\n"


def collect(pieces: list[bytes], limit: int = 1 << 20, banner: str = BANNER) -> tuple[JobLog, bool]:
    """Writes until the limit is passed, as a child's reader does."""
    log = JobLog(banner, limit)
    return log, all(log.write(piece) for piece in pieces)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    return [data[a:b] for a, b in pairwise(points)]


output = st.lists(st.sampled_from([b"\n", b"\n\n", b"a", b"\r\n", b" ", "é".encode(), b"\xff", b"WM_STREAM: "])).map(
    b"".join
)


@given(output, st.lists(st.integers(0, 1000)), st.integers(0, 30))
def test_any_split_gives_the_same_text(data: bytes, cuts: list[int], limit: int) -> None:
    for bound in (limit, 1 << 20):
        whole, fits = collect([data], bound)
        pieces, also_fits = collect(cut(data, cuts), bound)
        bytewise, _ = collect([data[i : i + 1] for i in range(len(data))], bound)
        assert whole.text() == pieces.text() == bytewise.text()
        assert fits == also_fits
        assert len(whole._buffer) <= bound + len(BANNER)


@given(output)
def test_blank_lines_are_dropped_and_nothing_else(data: bytes) -> None:
    log, fits = collect([data])
    assert fits
    text = bytes(log._buffer).removeprefix(BANNER.encode())
    assert b"\n\n" not in text
    assert not text.startswith(b"\n")
    assert text.replace(b"\n", b"") == data.replace(b"\n", b"")
    assert [line for line in text.split(b"\n") if line] == [line for line in data.split(b"\n") if line]


def test_at_the_limit_and_over_it() -> None:
    log = JobLog(BANNER, 4)
    assert log.write(b"abc\n")
    assert log.write(b"\n\n")  # dropped anyway
    assert not log.write(b"d")
    assert log.text() == BANNER + "abc\n"
    assert not JobLog(BANNER, 0).write(b"x")
    assert JobLog(BANNER, 0).write(b"")


@given(st.lists(st.text(st.characters(exclude_characters="\\\r", exclude_categories=["Cs"]), max_size=20), max_size=6))
def test_what_a_generator_yields_is_what_the_server_joins(chunks: list[str]) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _stream(iter(chunks))
    log, _ = collect([b"before\n" + printed.getvalue().encode() + b"after\n"])
    assert log.take_stream() == ("".join(chunks) if chunks else None)
    assert log.text() == BANNER + "before\nafter\n"
    assert log.take_stream() is None


@pytest.mark.parametrize("chunk", ["a\rb", "a\r\nb", "\r"])
def test_a_chunk_with_a_carriage_return_is_whole(chunk: str) -> None:
    log, _ = collect([b"WM_STREAM: " + chunk.replace("\n", "\\n").encode() + b"\nlog\n"])
    assert log.take_stream() == chunk
    assert log.text() == BANNER + "log\n"


def test_the_mark_counts_at_the_start_of_a_line_only() -> None:
    log, _ = collect([b"a WM_STREAM: x\n"])
    assert log.take_stream() is None
    assert log.text() == BANNER + "a WM_STREAM: x\n"


@pytest.mark.parametrize(
    ("data", "last"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"a\nb\n", "b"),
        (b"a\n  b  \n \n", "b"),
        (b"a\nb", "b"),
        (b"\xff", "\ufffd"),
        (b"a\rb", "a\rb"),
        (b"x" * 100_000, "x" * 100_000),
    ],
)
def test_the_last_line(data: bytes, last: str) -> None:
    assert collect([data])[0].last_line() == last


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=900))
@example("é" * 700)
@example("\x1b[31mred\x1b[0m")
def test_the_tail_is_the_end_of_the_output_without_colors(text: str) -> None:
    log, _ = collect([text.encode()])
    tail = log.tail()
    assert len(tail) <= TAIL_CHARACTERS
    assert "\x1b[31m" not in tail
    squeezed = log.text().removeprefix(BANNER)
    if "\x1b" not in text and len(text) < TAIL_CHARACTERS:
        assert tail == squeezed.strip()


def test_a_long_tail() -> None:
    log, _ = collect([b"\x1b[1;32m" + b"x" * 10_000 + b"END\x1b[0m\n"])
    assert log.tail() == ("x" * 597) + "END"
    assert BANNER.strip() not in collect([b""])[0].tail()
