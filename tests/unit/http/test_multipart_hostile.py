"""Bodies made to be slow or large: work grows with the bytes, memory does not, and a refusal comes early.

Work is counted, not timed: calls of Python and C functions, and bytes that are held back and so looked at again. What
happens inside one call of the regular expression engine cannot be counted. Those inputs are so long that anything but
linear time runs into the time limit of the suite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FrameType

import pytest

from minwebhook.errors import ApiError, BadRequest, PayloadTooLarge
from minwebhook.http.multipart import FileData, MultipartLimits, MultipartReader, boundary
from minwebhook.http.parameters import MAX_FILENAME_BYTES, filename_in

KIB = 1024
PIECE_BYTES = 4 * KIB
HEAD = b'--bound\r\nContent-Disposition: form-data; name="a"'
FILE = HEAD + b"\r\nContent-Type: x/y\r\n\r\n"
END = b"\r\n--bound--\r\n"
USUAL = MultipartLimits()
WIDE = replace(USUAL, max_parts=10**9, max_preamble_bytes=10**9, max_epilogue_bytes=10**9)


@dataclass
class Work:
    """What reading one body took."""

    calls: int = 0
    held_bytes: int = 0
    most_held_bytes: int = 0
    events: int = 0
    refusal: ApiError | None = None
    fed_bytes: int = 0


def held_bytes(reader: MultipartReader) -> int:
    """Bytes that are kept from one piece to the next, other than the text of a field."""
    return len(reader._preamble or b"") + len(reader._parser._buffer)


def work(data: bytes, limits: MultipartLimits = USUAL, piece_bytes: int = PIECE_BYTES) -> Work:
    reader = MultipartReader(b"bound", limits)
    done = Work()

    def count(frame: FrameType, event: str, argument: object) -> None:
        done.calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for at in range(0, len(data), piece_bytes):
            piece = data[at : at + piece_bytes]
            done.fed_bytes += len(piece)
            done.events += len(reader.feed(piece))
            held = held_bytes(reader)
            done.held_bytes += held
            done.most_held_bytes = max(done.most_held_bytes, held)
        reader.finish()
    except ApiError as refusal:
        done.refusal = refusal
    finally:
        sys.setprofile(before)
    return done


#: Makes a body of about ``size`` bytes.
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "tiny fields": lambda size: (HEAD + b"\r\n\r\n\r\n") * (size // 70) + b"--bound--\r\n",
    "nameless parts": lambda size: (
        b"--bound\r\nContent-Disposition:form-data\r\n\r\n\r\n" * (size // 43) + b"--bound--"
    ),
    "many headers": lambda size: (HEAD + b"\r\nA:" * 7 + b"\r\n\r\n\r\n") * (size // 90) + b"--bound--\r\n",
    "near misses": lambda size: FILE + b"\r\n--boun" * (size // 8) + END,
    "near misses, one letter off": lambda size: FILE + b"\r\n--bounx" * (size // 9) + END,
    "boundaries without their line end": lambda size: FILE + b"\n--bound\r\n" * (size // 10) + END,
    "carriage returns": lambda size: FILE + b"\r" * size + END,
    "line ends": lambda size: FILE + b"\r\n" * (size // 2) + END,
    "dashes": lambda size: FILE + b"\r\n--" * (size // 4) + END,
    "a preamble": lambda size: b"\r\n--boun" * (size // 8) + b"\r\n" + FILE + END,
    "an epilogue": lambda size: FILE + END + b"\r\n--bound" * (size // 9),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_bytes_are_twice_the_work(name: str) -> None:
    once, twice = (work(HOSTILE[name](size), WIDE) for size in (64 * KIB, 128 * KIB))
    assert once.refusal is twice.refusal is None
    assert twice.calls <= 2.2 * once.calls
    if name != "a preamble":  # it is held while it is within its limit; that limit is tested below
        assert max(once.most_held_bytes, twice.most_held_bytes) <= PIECE_BYTES + 16


@pytest.mark.parametrize("name", HOSTILE)
def test_the_usual_limits_bound_what_is_held(name: str) -> None:
    done = work(HOSTILE[name](256 * KIB), USUAL, piece_bytes=64)
    assert done.most_held_bytes <= max(USUAL.max_preamble_bytes, USUAL.max_part_head_bytes) + 64
    assert done.refusal is None or done.refusal.status in (400, 413)


@pytest.mark.parametrize(
    ("data", "refusal", "soon_bytes"),
    [
        # a hundred thousand parts: refused at the one after the last allowed
        ((HEAD + b"\r\n\r\n\r\n") * 100_000, PayloadTooLarge, 129 * 70),
        # one header of a mebibyte
        (b"--bound\r\nA: " + b"x" * KIB * KIB, PayloadTooLarge, 8 * KIB),
        (HEAD + b'; filename="' + b"\\" * 100_000 + b'"\r\n\r\n\r\n', PayloadTooLarge, 8 * KIB),
        # headers without end
        (HEAD + b"\r\nA: b" * 100_000, PayloadTooLarge, 100),
        (b"--bound\r\n" + b"A: b\r\n" * 100_000, PayloadTooLarge, 100),
        # a header that is continued without end
        (HEAD + b"\r\n x" * 100_000, BadRequest, 100),
        # nothing but a preamble, nothing but an epilogue
        (b"\r\n--boun" * 1_000_000, BadRequest, 8 * KIB),
        (FILE + END + b"\r\n--bound" * 1_000_000, PayloadTooLarge, 9 * KIB),
        # a field without end
        (HEAD + b"\r\n\r\n" + b"x" * 2 * KIB * KIB, PayloadTooLarge, KIB * KIB),
    ],
    ids=["parts", "header", "filename", "headers", "nameless headers", "folds", "preamble", "epilogue", "field"],
)
def test_refused_as_soon_as_the_limit_is_passed(data: bytes, refusal: type[ApiError], soon_bytes: int) -> None:
    done = work(data)
    assert type(done.refusal) is refusal
    assert done.fed_bytes <= soon_bytes + 2 * PIECE_BYTES


def hostile_parameters() -> Iterator[tuple[str, str]]:
    """Header texts of mebibytes that a parser may well read anew from every place."""
    n = 1_000_000
    yield "backslashes", 'f; a="' + "\\" * n
    yield "backslashes, closed", 'f; a="' + "\\" * (n + 1) + '"'
    yield "escaped quotes", 'f; a="' + '\\"' * n
    yield "quotes", 'f; a="' + '"' * n
    yield "open quotes", 'f; a="' * n
    yield "escaped, then plain", 'f; a="\\"' * n
    yield "spaces", "f" + " " * n + "; a" + " " * n + "=" + " " * n + '"' + " " * n
    yield "spaces after a quote", 'f; a="b"' + " " * n + "x"
    yield "semicolons", "f" + ";" * n + "="
    yield "semicolons and spaces", "f" + "; " * n + "="
    yield "a long name", "f; " + "a" * n
    yield "equals", "f; a" + "=" * n
    yield "no semicolon", "f" * n


@pytest.mark.parametrize(("text"), [pytest.param(text, id=name) for name, text in hostile_parameters()])
def test_parameters_are_read_in_linear_time(text: str) -> None:
    with pytest.raises(BadRequest):
        boundary(text)


def test_filenames_are_decoded_in_linear_time() -> None:
    for text in (
        "%" * 1_000_000,
        "%41" * 1_000_000,
        "%e2" * 1_000_000,
        "'" * 1_000_000,
        "\\" * 1_000_000,
        "." * 1_000_000,
    ):
        for parameters in ({"filename": text}, {"filename*": "utf-8''" + text}, {"filename*": text, "filename": text}):
            filename = filename_in(parameters)
            assert filename is None or len(filename.encode()) <= MAX_FILENAME_BYTES


def test_the_bytes_of_a_file_are_passed_on_piece_by_piece() -> None:
    reader = MultipartReader(b"bound")
    reader.feed(FILE)
    piece = bytes(range(256)) * 256
    for _ in range(8):
        events = reader.feed(piece)
        # not even copied: a piece without anything like a boundary at its end is the event's data itself
        assert [event.data for event in events if isinstance(event, FileData)] == [piece]
        assert isinstance(events[0], FileData) and events[0].data is piece
        assert held_bytes(reader) == 0
    reader.feed(END)
    reader.finish()
