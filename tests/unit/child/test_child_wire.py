"""The frames between server and child: whole however they are cut, bounded, and strict."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.child import wire

KINDS = wire.READY + wire.JOB + wire.CODE + wire.RESULT + wire.ERROR + wire.EXIT
kinds = st.sampled_from([bytes([kind]) for kind in KINDS])
frames = st.lists(st.tuples(kinds, st.binary(max_size=300)), max_size=8)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces."""
    points = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(points)]


@given(frames, st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_gives_the_same_frames(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(wire.frame(kind, payload) for kind, payload in sent)
    whole = wire.FrameReader(KINDS, 300).feed(data)
    reader = wire.FrameReader(KINDS, 300)
    pieces = [frame for piece in cut(data, cuts) for frame in reader.feed(piece)]
    single = wire.FrameReader(KINDS, 300)
    bytewise = [frame for i in range(len(data)) for frame in single.feed(data[i : i + 1])]
    assert whole == pieces == bytewise == sent


@given(kinds, st.binary(max_size=1000))
def test_a_frame_says_its_length(kind: bytes, payload: bytes) -> None:
    data = wire.frame(kind, payload)
    assert wire.payload_length(data[: wire.HEAD_BYTES]) == len(payload) == len(data) - wire.HEAD_BYTES


sections = st.binary(max_size=200)


@given(sections, sections, sections, sections, sections, sections)
def test_a_job_comes_out_as_it_went_in(
    header: bytes, source: bytes, compiled: bytes, arguments: bytes, mask: bytes, imported: bytes
) -> None:
    data = wire.pack_job(header, source, compiled, arguments, b"12345678", mask=mask, imported=imported)
    assert data[:1] == wire.JOB
    head = data[: wire.HEAD_BYTES]
    assert (wire.payload_length(head), wire.job_number(head)) == (len(data) - wire.HEAD_BYTES, b"12345678")
    assert wire.unpack_job(data[wire.HEAD_BYTES :]) == (header, source, compiled, arguments, mask, imported)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_job_or_a_frame_error(payload: bytes) -> None:
    try:
        *parts, mask, imported = wire.unpack_job(payload)
    except wire.FrameError:
        return
    assert wire.pack_job(*parts, mask=mask, imported=imported)[wire.HEAD_BYTES :] == payload


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(0, 100))
def test_any_bytes_are_frames_or_a_frame_error_and_memory_is_bounded(pieces: list[bytes], limit: int) -> None:
    reader = wire.FrameReader(KINDS, limit)
    out = b""
    try:
        for piece in pieces:
            for kind, payload in reader.feed(piece):
                assert kind in KINDS
                assert len(payload) <= limit
                out += wire.frame(kind, payload)
            assert len(reader._buffer) <= limit + wire.HEAD_BYTES + len(piece)
    except wire.FrameError:
        pass
    assert b"".join(pieces).startswith(out)


@pytest.mark.parametrize("length", [0, 1, 99, 100])
def test_up_to_the_limit(length: int) -> None:
    assert wire.FrameReader(b"R", 100).feed(wire.frame(b"R", bytes(length))) == [(b"R", bytes(length))]


def test_over_the_limit_is_refused_before_the_payload_comes() -> None:
    with pytest.raises(wire.FrameError, match="frame of 101 bytes is over the limit of 100"):
        wire.FrameReader(b"R", 100).feed(wire.frame(b"R", bytes(101))[: wire.HEAD_BYTES])


@pytest.mark.parametrize("kind", [bytes([n]) for n in range(256) if bytes([n]) not in (b"R", b"E")])
def test_kinds_that_were_not_asked_for(kind: bytes) -> None:
    with pytest.raises(wire.FrameError, match="unexpected frame kind"):
        wire.FrameReader(b"RE", 100).feed(kind + bytes(12))


def test_frames_before_a_broken_one_are_lost_with_it() -> None:
    """A child that lies once is not believed at all: the caller kills it."""
    with pytest.raises(wire.FrameError):
        wire.FrameReader(b"R", 100).feed(wire.frame(b"R", b"1") + b"garbage" * 2)


def test_frames_of_another_job_are_refused() -> None:
    reader = wire.FrameReader(b"R", 100, b"12345678")
    assert reader.feed(wire.frame(b"R", b"x", b"12345678")) == [(b"R", b"x")]
    with pytest.raises(wire.FrameError, match="a frame of another job"):
        reader.feed(wire.frame(b"R", b"x"))


variables = st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(), max_size=8)


@given(st.text(), st.booleans(), st.booleans(), st.booleans(), variables, st.sampled_from(["", "AS=1,NOFILE=2"]))
def test_a_header_comes_out_as_it_went_in(
    path: str, stays: bool, preprocess: bool, is_preprocessor: bool, environment: dict[str, str], limits: str
) -> None:
    """But for NUL, which no variable can hold, and half surrogates, which no UTF-8 can."""
    flags = {"stays": stays, "preprocess": preprocess, "is_preprocessor": is_preprocessor}
    packed = wire.pack_header(path, environment, **flags, limits=limits)
    found = wire.unpack_header(packed)
    assert found.limits == limits
    header = wire.pack_header(path, {}, **flags, limits=limits)
    assert wire.unpack_header(wire.add_variables(header, environment)) == found

    def kept(text: str) -> bytes:
        return text.replace("\0", "").encode("utf-8", "replace")

    assert (found.path, found.stays, found.preprocess) == (kept(path).decode(), stays, preprocess)
    assert found.is_preprocessor is is_preprocessor
    assert found.variables == [b"%b=%b" % (name.encode(), kept(value)) for name, value in environment.items()]


@given(st.floats(-1, 1e9), st.integers(0, 2**40))
def test_what_a_job_used_comes_out_as_it_went_in(cpu_s: float, peak_kib: int) -> None:
    """Within what 32 bits can say."""
    usage = wire.unpack_usage(wire.pack_usage(cpu_s, peak_kib))
    assert usage.cpu_ms == min(max(round(cpu_s * 1000), 0), 2**32 - 1)
    assert usage.peak_kib == min(peak_kib, 2**32 - 1)


@given(st.binary(max_size=20))
def test_figures_are_eight_bytes(payload: bytes) -> None:
    if len(payload) != 8:
        with pytest.raises(wire.FrameError, match="unreadable figures"):
            wire.unpack_usage(payload)
