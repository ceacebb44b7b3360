"""The log of a job: the same text however the output comes in pieces, bounded, and free of streamed chunks."""

from __future__ import annotations

import contextlib
import io
import re
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.child.python import _stream
from minwebhook.jobs.log import TAIL_CHARACTERS, JobLog

BANNER = "--- CODE EXECUTION ---\n"
MARK = b"WM_STREAM: "


def collect(pieces: list[bytes], limit: int = 1 << 20, banner: str = BANNER) -> tuple[JobLog, bool]:
    """Writes until the limit is passed, as a child's reader does."""
    log = JobLog(banner, limit)
    return log, all(log.write(piece) for piece in pieces)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    return [data[a:b] for a, b in pairwise(points)]


output = st.lists(
    st.sampled_from(
        [b"\n", b"\n\n", b"a", b"\r\n", b" ", "é".encode(), b"\xff", b"WM_STREAM: ", b"\nWM_STREAM: ", b"\\n"]
    )
).map(b"".join)


def outcome_of(log: JobLog) -> tuple[str, str | None, list[int]]:
    """All that is left of the output at the end: the log, the streamed text, where its chunks end."""
    log.close()
    return log.text(), log.chunks.text(), list(log.chunks.ends)


def expected_of(data: bytes) -> tuple[str, str | None, list[int]]:
    """The same by the rules alone, from the whole output."""
    lines = [line for line in re.findall(rb"[^\n]*\n|[^\n]+", data) if line != b"\n"]
    chunks = [
        line.removeprefix(MARK).removesuffix(b"\n").replace(b"\\n", b"\n").decode("utf-8", "replace")
        for line in lines
        if line.startswith(MARK)
    ]
    log = b"".join(line for line in lines if not line.startswith(MARK)).decode("utf-8", "replace")
    ends = list(accumulate(len(chunk.encode()) for chunk in chunks))
    return (BANNER + log if log else ""), ("".join(chunks) if chunks else None), ends


@given(output, st.lists(st.integers(0, 1000)), st.integers(0, 30))
@example(b"WM_STREAM", [], 30)
@example(b"WM_STREAM: a\nWM_STREAM: \xc3", [14], 30)
@example(b"\xf0\x9f\x98WM_STREAM: a\n", [1], 30)
def test_any_split_gives_the_same(data: bytes, cuts: list[int], limit: int) -> None:
    for bound in (limit, 1 << 20):
        whole, fits = collect([data], bound)
        pieces, also_fits = collect(cut(data, cuts), bound)
        bytewise, _ = collect([data[i : i + 1] for i in range(len(data))], bound)
        assert fits == also_fits
        assert outcome_of(whole) == outcome_of(pieces) == outcome_of(bytewise)
        assert len(whole.text()) + len(whole.chunks.text() or "") <= bound + len(BANNER)
    assert outcome_of(whole) == expected_of(data)


@given(output, st.lists(st.integers(0, 1000)))
def test_while_it_is_written_it_only_grows_and_never_shows_a_chunk(data: bytes, cuts: list[int]) -> None:
    log = JobLog(BANNER, 1 << 20)
    seen, streamed = "", ""
    for piece in cut(data, cuts):
        log.write(piece)
        assert log.text().startswith(seen)
        assert (log.chunks.text() or "").startswith(streamed)
        seen, streamed = log.text(), log.chunks.text() or ""
        assert "\nWM_STREAM: " not in seen
    text, stream, _ = outcome_of(log)
    assert text.startswith(seen)
    assert (stream or "").startswith(streamed)


@given(output)
def test_blank_lines_are_dropped_and_nothing_else(data: bytes) -> None:
    log, fits = collect([data.replace(MARK, b"")])
    assert fits
    log.close()
    text = log.text().removeprefix(BANNER)
    plain = data.replace(MARK, b"").decode("utf-8", "replace")
    assert "\n\n" not in text
    assert not text.startswith("\n")
    assert text.replace("\n", "") == plain.replace("\n", "")
    assert [line for line in text.split("\n") if line] == [line for line in plain.split("\n") if line]


@given(output, st.integers(0, 40), st.integers(1, 7))
def test_reading_from_anywhere(data: bytes, start: int, size: int) -> None:
    log, _ = collect([data])
    log.close()
    assert log.log_piece(start, size) == log.text().encode()[start : start + size]
    ends = [0, *log.chunks.ends]
    chunks = [bytes(log.chunks.joined[a:b]) for a, b in pairwise(ends)]
    first = start % (len(chunks) + 2)
    read: list[bytes] = []
    while True:
        text, after = log.chunks_from(first, size)
        if after == first:
            assert text == b""
            break
        assert text == b"".join(chunks[first:after])
        assert len(text) <= size or after == first + 1
        assert after == len(chunks) or len(text + chunks[after]) > size
        read.append(text)
        first = after
    assert b"".join(read) == b"".join(chunks[start % (len(chunks) + 2) :])


def test_chunks_are_there_as_soon_as_their_line_is() -> None:
    log = JobLog(BANNER, 1 << 20)
    log.write(b"one\nWM_STREAM: a")
    assert (log.text(), log.chunks.text()) == (BANNER + "one\n", None)
    log.write(b"b\nWM_STR")
    assert (log.text(), log.chunks.text()) == (BANNER + "one\n", "ab")
    log.write(b"ANGE\n")
    assert (log.text(), log.chunks.text()) == (BANNER + "one\nWM_STRANGE\n", "ab")


def test_a_character_of_the_log_is_there_when_it_is_whole() -> None:
    log = JobLog(BANNER, 1 << 20)
    log.write("é".encode()[:1])
    assert log.text() == ""
    log.write("é".encode()[1:])
    assert log.text() == BANNER + "é"


def test_a_chunk_of_ten_megabytes_in_pieces() -> None:
    log, fits = collect([b"WM_STREAM: ", *([b"x" * 65536] * 160), b"\nWM_STREAM: y\n"], 1 << 24)
    assert fits
    assert log.chunks.text() == "x" * 65536 * 160 + "y"
    assert log.chunks_from(0, 1000)[1] == 1


def test_what_comes_after_the_end_is_left_out() -> None:
    log, _ = collect([b"a\n"])
    log.close()
    assert log.write(b"b\n")
    log.close()
    assert log.text() == BANNER + "a\n"


def test_at_the_limit_and_over_it() -> None:
    log = JobLog(BANNER, 4)
    assert log.write(b"abc\n")
    assert log.write(b"\n\n")  # dropped anyway
    assert not log.write(b"d")
    log.close()
    assert log.text() == BANNER + "abc\n"
    assert not JobLog(BANNER, 0).write(b"x")
    assert JobLog(BANNER, 0).write(b"")


@given(st.lists(st.text(st.characters(exclude_characters="\\\r", exclude_categories=["Cs"]), max_size=20), max_size=6))
def test_what_a_generator_yields_is_what_the_server_joins(chunks: list[str]) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _stream(iter(chunks))
    log, _ = collect([b"before\n" + printed.getvalue().encode() + b"after\n"])
    assert log.chunks.text() == ("".join(chunks) if chunks else None)
    assert len(log.chunks.ends) == len(chunks)
    assert log.text() == BANNER + "before\nafter\n"


@pytest.mark.parametrize("chunk", ["a\rb", "a\r\nb", "\r"])
def test_a_chunk_with_a_carriage_return_is_whole(chunk: str) -> None:
    log, _ = collect([b"WM_STREAM: " + chunk.replace("\n", "\\n").encode() + b"\nlog\n"])
    assert log.chunks.text() == chunk
    assert log.text() == BANNER + "log\n"


def test_the_mark_counts_at_the_start_of_a_line_only() -> None:
    log, _ = collect([b"a WM_STREAM: x\n"])
    assert log.chunks.text() is None
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
