"""Frames without I/O: rows after the groups 1 to 7 of the Autobahn test suite, and properties."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage

from minwebhook.http.websocket_protocol import (
    ABNORMAL,
    FRAGMENT_LENGTH,
    NO_CODE,
    NOT_UTF_8,
    PROTOCOL_ERROR,
    TOO_BIG,
    Ended,
    Ping,
    WebSocketProtocol,
    packed,
)
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, closing, frame, parse, text

LIMIT = 1000


@dataclass
class Seen:
    """Everything that came out of a connection."""

    messages: list[str | bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    ended: Ended | None = None

    @property
    def code(self) -> int | None:
        """The code of the end."""
        return None if self.ended is None else self.ended.code


def drive(protocol: WebSocketProtocol, incoming: Iterable[bytes]) -> Seen:
    """Feed pieces."""
    seen = Seen()
    for piece in incoming:
        for event in protocol.events(piece):
            assert seen.ended is None  # it is the last
            match event:
                case str() | bytes():
                    seen.messages.append(event)
                case Ping(payload):
                    seen.pings.append(payload)
                case Ended():
                    seen.ended = event
    return seen


def receive(*incoming: bytes, limit: int = LIMIT) -> Seen:
    """What a new connection makes of these pieces."""
    return drive(WebSocketProtocol(max_message_bytes=limit), incoming)


def bytewise(data: bytes) -> list[bytes]:
    """One byte at a time; of much data, only at the ends."""
    if len(data) > 2000:
        return [*bytewise(data[:100]), data[100:-100], *bytewise(data[-100:])]
    return [data[i : i + 1] for i in range(len(data))]


# Rows: frames of the client → messages, pings, code of the end


@dataclass(frozen=True)
class Row:
    """A conversation in one direction."""

    name: str
    frames: tuple[bytes, ...]
    messages: tuple[str | bytes, ...] = ()
    pings: tuple[bytes, ...] = ()
    code: int | None = None
    limit: int = 100_000


def fragmented(opcode: int, *parts: bytes) -> tuple[bytes, ...]:
    """A message in so many fragments."""
    last = len(parts) - 1
    return tuple(frame(opcode if i == 0 else CONTINUATION, part, fin=i == last) for i, part in enumerate(parts))


def invalid(name: str, *frames: bytes, after: tuple[str | bytes, ...] = (), pings: tuple[bytes, ...] = ()) -> Row:
    """Frames that break the protocol. What follows the fault must not be heard."""
    return Row(name, (*frames, text("unheard")), after, pings, code=PROTOCOL_ERROR)


STAR = "*"
GREEK = "κόσμε"
HELLO = "Hello-µ@ßöäüàá-UTF-8!!"

FRAMING = [
    *(
        Row(f"1.1 text of {n}", (text(STAR * n),), (STAR * n,))
        for n in (0, 125, 126, 127, 128, 65535, 65536)  # where length fields change
    ),
    *(
        Row(f"1.2 binary of {n}", (frame(BINARY, b"\xfe" * n),), (b"\xfe" * n,))
        for n in (0, 125, 126, 127, 128, 65535, 65536)
    ),
    Row("a mask of zeros", (frame(TEXT, b"abc", mask=b"\0\0\0\0"),), ("abc",)),
    invalid("no mask", frame(TEXT, b"abc", mask=None)),
    invalid("a close frame without a mask", frame(CLOSE, b"\x03\xe8", mask=None)),
    invalid("two bytes of length where one does", frame(TEXT, b"abc", length_bytes=2)),
    invalid("eight bytes of length where two do", frame(BINARY, b"x" * 300, length_bytes=8)),
    invalid("a length beyond 63 bits", frame(BINARY, b"", announced=1 << 63)),
    Row("a length of 63 bits, and little of it", (frame(BINARY, b"x", announced=(1 << 63) - 1),)),
]
PINGS = [
    Row("2.1 empty ping", (frame(PING),), pings=(b"",)),
    Row("2.2 ping with text", (frame(PING, b"Hello, world!"),), pings=(b"Hello, world!",)),
    Row("2.3 ping with binary", (frame(PING, b"\x00\xff\xfe\xfd"),), pings=(b"\x00\xff\xfe\xfd",)),
    Row("2.4 ping of 125", (frame(PING, b"\xfe" * 125),), pings=(b"\xfe" * 125,)),
    invalid("2.5 ping of 126", frame(PING, b"\xfe" * 126)),
    Row("2.7 pong nobody asked for", (frame(PONG), text("a")), ("a",)),
    Row("2.8 with a payload", (frame(PONG, b"unsolicited"), frame(PING, b"p")), pings=(b"p",)),
    Row("2.10 ten pings", tuple(frame(PING, b"%d" % i) for i in range(10)), pings=tuple(b"%d" % i for i in range(10))),
    invalid("pong of 126", frame(PONG, b"\xfe" * 126)),
]
RESERVED = [
    *(
        invalid(f"3 reserved bits {rsv} on opcode {op}", frame(op, b"", rsv=rsv))
        for rsv in range(1, 8)
        for op in (1, 2, 8, 9, 10)
    ),
    invalid("3.2 a good message first", text("a"), frame(TEXT, b"b", rsv=2), after=("a",)),
    *(invalid(f"4.1 opcode {op}", frame(op)) for op in range(3, 8)),
    *(invalid(f"4.2 opcode {op}", frame(op, b"reserved")) for op in range(11, 16)),
    invalid("4.1.3 a good message first", text("a"), frame(5), after=("a",)),
]
FRAGMENTS = [
    invalid("5.1 ping in fragments", *fragmented(PING, b"one", b"two")),
    invalid("5.2 pong in fragments", *fragmented(PONG, b"one", b"two")),
    invalid("close in fragments", frame(CLOSE, b"\x03\xe8", fin=False)),
    Row("5.3 text in two", fragmented(TEXT, b"one", b"two"), ("onetwo",)),
    Row("binary in two", fragmented(BINARY, b"one", b"two"), (b"onetwo",)),
    Row("empty fragments", fragmented(TEXT, b"", b"", b"a", b"", b""), ("a",)),
    Row("nothing but empty fragments", fragmented(BINARY, b"", b"", b""), (b"",)),
    Row(
        "5.6 ping in between",
        (frame(TEXT, b"one", fin=False), frame(PING, b"p"), frame(CONTINUATION, b"two")),
        ("onetwo",),
        (b"p",),
    ),
    invalid("5.9 continuation of nothing", frame(CONTINUATION, b"a")),
    invalid("5.10 not the last one either", frame(CONTINUATION, b"a", fin=False)),
    invalid("5.12 after a message", text("a"), frame(CONTINUATION, b"b"), after=("a",)),
    invalid("5.15 after a fragmented one", *fragmented(TEXT, b"a", b"b"), frame(CONTINUATION, b"c"), after=("ab",)),
    invalid("5.18 text within text", frame(TEXT, b"a", fin=False), frame(TEXT, b"b")),
    invalid("binary within text", frame(TEXT, b"a", fin=False), frame(BINARY, b"b", fin=False)),
    Row(
        "5.19 many fragments and pings",
        (
            *(frame(TEXT if i == 0 else CONTINUATION, b"f%d" % i, fin=False) for i in range(5)),
            frame(PING, b"p1"),
            *(frame(CONTINUATION, b"f%d" % i, fin=False) for i in range(5, 8)),
            frame(PING, b"p2"),
            frame(CONTINUATION, b"f8"),
        ),
        ("f0f1f2f3f4f5f6f7f8",),
        (b"p1", b"p2"),
    ),
]


def utf8(name: str, *parts: bytes, is_valid: bool) -> Row:
    """A text message in fragments."""
    if is_valid:
        return Row(name, fragmented(TEXT, *parts), (b"".join(parts).decode(),))
    return Row(name, (*fragmented(TEXT, *parts), text("unheard")), code=NOT_UTF_8)


_VALID_TEXTS = [
    HELLO.encode(),
    GREEK.encode(),
    b"\x00",
    b"\xc2\x80",
    b"\xe0\xa0\x80",
    b"\xf0\x90\x80\x80",
    b"\x7f",
    b"\xdf\xbf",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xef\xbf\xbe",
    b"\xf0\x9f\xbf\xbf",
    b"\r\n\n\r",
]
_INVALID_TEXTS = [
    GREEK.encode() + b"\xed\xa0\x80edited",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
    b"\x80",
    b"\xbf\x80",
    b"\xc0 \xc1 ",
    b"\xfe",
    b"\xff\xff",
    b"\xce\xba\xe1\xbd",  # ends within a character
    b"\xf0\x90\x80",
    b"\xc2",
]
UTF_8 = [
    Row(
        "6.1.3 empty fragments around a message",
        fragmented(TEXT, b"", b"middle frame payload", b""),
        ("middle frame payload",),
    ),
    *(utf8(f"6 valid {raw!r}", raw, is_valid=True) for raw in _VALID_TEXTS),
    *(utf8(f"6 valid in single bytes {raw!r}", *bytewise(raw), is_valid=True) for raw in _VALID_TEXTS),
    *(utf8(f"6 invalid {raw!r}", raw, is_valid=False) for raw in _INVALID_TEXTS),
    *(utf8(f"6 invalid in single bytes {raw!r}", *bytewise(raw), is_valid=False) for raw in _INVALID_TEXTS),
    Row("binary may be anything", (frame(BINARY, b"\xff\xfe"),), (b"\xff\xfe",)),
    Row(
        "6.4.1 as soon as it cannot become valid",
        (frame(TEXT, GREEK.encode() + b"\xf4\x90", fin=False),),
        code=NOT_UTF_8,
    ),
    Row("6.4.3 within a frame", (frame(TEXT, GREEK.encode() + b"\xf4\x90\x80\x80" + b"x" * 99)[:-60],), code=NOT_UTF_8),
]
CLOSES = [
    Row("7.1.3 ping after close", (close(1000), frame(PING)), code=1000),
    Row("7.1.4 text after close", (close(1000), text("unheard")), code=1000),
    Row(
        "7.1.5 an unfinished message", (frame(TEXT, b"a", fin=False), close(1000), frame(CONTINUATION, b"b")), code=1000
    ),
    Row("7.3.1 no code", (close(None),), code=NO_CODE),
    Row("7.3.2 half a code", (frame(CLOSE, b"\x03"),), code=PROTOCOL_ERROR),
    Row("7.3.4 a reason", (close(1000, "Hello, world!"),), code=1000),
    Row("7.3.5 a reason of 123", (close(1000, STAR * 123),), code=1000),
    Row("7.3.6 a reason of 124", (close(1000, STAR * 124),), code=PROTOCOL_ERROR),
    Row(
        "7.5.1 a reason that is not UTF-8",
        (frame(CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"),),
        code=NOT_UTF_8,
    ),
    *(
        Row(f"7.7 code {code}", (close(code),), code=code)
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999)
    ),
    *(
        Row(f"7.9 code {code}", (close(code),), code=PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    Row("gone without a word", (text("a"), b""), ("a",), code=ABNORMAL),
    Row("gone within a frame", (text("abc")[:-1], b""), code=ABNORMAL),
]
LIMITS = [
    Row("9 as long as allowed", (text("x" * 100),), ("x" * 100,), limit=100),
    Row("9 a byte more", (text("x" * 101),), code=TOO_BIG, limit=100),
    Row("9 a byte more in fragments", fragmented(BINARY, *[b"x"] * 101), code=TOO_BIG, limit=100),
    Row("9 bytes count, not characters", (text("ä" * 51),), code=TOO_BIG, limit=100),
    Row("9 as long as allowed in characters of two bytes", (text("ä" * 50),), ("ä" * 50,), limit=100),
    Row("9 not all of it is awaited", (frame(BINARY, b"x" * 200, announced=1 << 40),), code=TOO_BIG, limit=100),
    Row("9 each message counts for itself", (text("x" * 99),) * 3, ("x" * 99,) * 3, limit=100),
    Row("9 each fragmented message, too", fragmented(TEXT, b"x", b"y") * 60, ("xy",) * 60, limit=100),
]


@pytest.mark.parametrize(
    "row", [*FRAMING, *PINGS, *RESERVED, *FRAGMENTS, *UTF_8, *CLOSES, *LIMITS], ids=lambda row: row.name[:60]
)
def test_conversations(row: Row) -> None:
    expected = (list(row.messages), list(row.pings), row.code)
    eof = b"" in row.frames
    whole = b"".join(row.frames)
    for incoming in (row.frames, [whole, b""] if eof else [whole], [*bytewise(whole), b""] if eof else bytewise(whole)):
        seen = receive(*incoming, limit=row.limit)
        assert (seen.messages, seen.pings, seen.code) == expected


@pytest.mark.parametrize(
    "row", [*FRAMING, *RESERVED, *FRAGMENTS, *UTF_8, *CLOSES, *LIMITS], ids=lambda row: row.name[:60]
)
def test_every_end_is_answered_with_a_close_frame_that_fits(row: Row) -> None:
    ended = receive(*row.frames, limit=row.limit).ended
    if ended is None:
        return
    if ended.code == ABNORMAL:
        assert ended.answer == b""
        return
    code, reason = closing(ended.answer)
    assert (NO_CODE if code is None else code) == ended.code
    assert reason == ended.reason
    if ended.is_violation:
        assert code in (PROTOCOL_ERROR, NOT_UTF_8, TOO_BIG)
        assert reason


# What we send


def test_the_close_frame_is_the_last() -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    assert closing(protocol.close(4321, "bye")) == (4321, "bye")
    assert protocol.is_closing
    # What the client sends until it has read ours means nothing any more; a fault is not answered with a second one.
    seen = drive(protocol, [text("x" * LIMIT * 2), frame(PING, b"p"), text("late"), close(4321)])
    assert seen == Seen(ended=Ended(4321, "", b""))
    assert drive(protocol, [text("later")]) == Seen()


def test_a_fault_after_our_close_frame_gets_no_second_one() -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    protocol.close(1000, "")
    ended = drive(protocol, [frame(3)]).ended
    assert ended is not None
    assert (ended.code, ended.answer, ended.is_violation) == (PROTOCOL_ERROR, b"", True)


def test_a_client_that_leaves_instead_of_answering() -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    protocol.close(1000, "")
    assert drive(protocol, [b""]) == Seen(ended=Ended(ABNORMAL, ""))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000, -1, 1 << 16])
def test_codes_no_server_sends(code: int) -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    with pytest.raises(ValueError, match=str(code)):
        protocol.close(code, "")
    assert not protocol.is_closing


@pytest.mark.parametrize("reason", ["x" * 200, "ä" * 200, "x" + "€" * 60, "\U0001f600" * 40])
def test_long_reasons_are_cut_between_characters(reason: str) -> None:
    code, sent = closing(WebSocketProtocol(max_message_bytes=LIMIT).close(1000, reason))
    assert code == 1000
    assert reason.startswith(sent)
    assert 120 <= len(sent.encode()) <= 123


def test_pings_and_pongs() -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    assert list(parse(protocol.ping())) == [Frame(PING, b"")]
    assert list(parse(protocol.pong(b"x" * 125))) == [Frame(PONG, b"x" * 125)]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, FRAGMENT_LENGTH, FRAGMENT_LENGTH + 1, 3 * FRAGMENT_LENGTH])
@pytest.mark.parametrize("character", ["x", "€", b"\xff"])
def test_messages_go_out_in_frames_that_leave_room_for_pings(character: str | bytes, length: int) -> None:
    message = character * length
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    parcels = list(packed([message]))
    assert all(len(parcel) == 1 for parcel in parcels)
    sent = [protocol.frame(piece, is_last=is_last) for ((piece, is_last),) in parcels]
    frames = [each for data in sent for each in parse(data)]
    assert len(frames) == max(-(-length // FRAGMENT_LENGTH), 1)
    assert [each.fin for each in frames] == [False] * (len(frames) - 1) + [True]
    assert [each.opcode for each in frames] == [TEXT if isinstance(message, str) else BINARY] + [CONTINUATION] * (
        len(frames) - 1
    )
    payload = b"".join(each.payload for each in frames)
    assert payload == (message.encode() if isinstance(message, str) else message)


def test_text_that_utf_8_cannot_say_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        packed(["fine", "x" * FRAGMENT_LENGTH + "\ud800"])


# Properties


@given(st.lists(st.builds(lambda unit, length: unit * length, st.sampled_from(["x", b"x"]), st.integers(0, 150_000))))
def test_messages_that_are_sent_together(messages: list[str | bytes]) -> None:
    parcels = list(packed(messages))
    for parcel in parcels:
        assert sum(len(piece) for piece, _ in parcel) <= FRAGMENT_LENGTH
    for one, other in itertools.pairwise(parcels):  # not one parcel too many
        assert sum(len(piece) for piece, _ in one) + len(other[0][0]) > FRAGMENT_LENGTH
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    frames = parse(b"".join(protocol.frame(piece, is_last=is_last) for parcel in parcels for piece, is_last in parcel))
    received: list[bytes] = []
    is_first = True
    for each in frames:
        received[len(received) if is_first else -1 :] = [each.payload if is_first else received[-1] + each.payload]
        is_first = each.fin
    assert received == [message.encode() if isinstance(message, str) else message for message in messages]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """``data`` in pieces; no piece is empty."""
    marks = sorted({0, len(data), *(position % (len(data) + 1) for position in at)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


_controls = st.builds(
    frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=st.binary(min_size=4, max_size=4)
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[str | bytes], bytes]:
    """Messages, and one of the ways to send them: fragments, with control frames in between."""
    messages: list[str | bytes] = draw(st.lists(st.one_of(st.text(max_size=80), st.binary(max_size=300)), max_size=6))
    wire = b""
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        for each in fragmented(opcode, *(cut(payload, draw(st.lists(st.integers(0, 300), max_size=4))) or [b""])):
            wire += b"".join(draw(st.lists(_controls, max_size=1))) + each
    return messages, wire


@given(conversations(), st.lists(st.integers(0, 5000), max_size=30))
def test_any_split_of_any_frames_gives_the_same_messages(
    conversation: tuple[list[str | bytes], bytes], at: list[int]
) -> None:
    messages, wire = conversation
    seen = receive(*cut(wire, at))
    assert seen.messages == messages
    assert seen.ended is None
    assert receive(*cut(wire, [])) == seen


_anything = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.one_of(
            _controls,
            st.builds(
                frame,
                st.integers(0, 15),
                st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)),
                fin=st.booleans(),
                rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
                mask=st.sampled_from([b"\0\0\0\0", b"abcd", b"abcd", None]),
            ),
            st.builds(close, st.one_of(st.none(), st.integers(0, 65535)), st.text(max_size=20)),
        ),
        max_size=8,
    ).map(b"".join),
)


@hypothesis.settings(max_examples=300)
@given(_anything, st.lists(st.integers(0, 5000), max_size=20), st.booleans())
def test_any_bytes_give_messages_or_an_end_the_same_however_they_are_split(
    wire: bytes, at: list[int], eof: bool
) -> None:
    limit = 50
    end = [b""] if eof else []
    seen = receive(*cut(wire, at), *end, limit=limit)
    assert all(len(each.encode() if isinstance(each, str) else each) <= limit for each in seen.messages)
    if seen.ended is not None and seen.ended.answer:
        code, _ = closing(seen.ended.answer)
        assert code is None or 1000 <= code < 5000
    whole = receive(*cut(wire, []), *end, limit=limit)
    assert (whole.messages, whole.pings) == (seen.messages, seen.pings)
    # A message that is both too long and no UTF-8 breaks the rule whose fault arrives first.
    both = {NOT_UTF_8, TOO_BIG}
    assert whole.code == seen.code or {whole.code, seen.code} == both


# Plain frames are recognized: held against wsproto, which then sees every frame


def both(*incoming: bytes, limit: int) -> tuple[Seen, Seen]:
    """What comes out with the recognizer, and without it."""
    first, second = (
        drive(WebSocketProtocol(max_message_bytes=limit, use_recognizer=use), incoming) for use in (True, False)
    )
    return first, second


#: Plain frames, near misses of them, and whatever else: lengths around those where a head changes.
_nearly_plain = st.builds(
    frame,
    st.sampled_from([TEXT, TEXT, BINARY, BINARY, CONTINUATION, PING, CLOSE, 3]),
    st.one_of(
        st.binary(max_size=40),
        st.text(max_size=20).map(str.encode),
        st.builds(lambda n: b"y" * n, st.sampled_from([0, 1, 125, 126, 127, 300])),
    ),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1, 4]),
    mask=st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.just(None)),
    length_bytes=st.sampled_from([None, None, None, None, 2, 8]),
)


@hypothesis.settings(max_examples=400)
@given(
    st.one_of(_anything, st.lists(_nearly_plain, max_size=8).map(b"".join)),
    st.lists(st.integers(0, 3000), max_size=20),
    st.booleans(),
)
def test_a_recognized_frame_is_what_wsproto_makes_of_it(wire: bytes, at: list[int], eof: bool) -> None:
    limit = 150
    pieces = [*cut(wire, at), *([b""] if eof else [])]
    recognized, parsed = both(*pieces, limit=limit)
    assert recognized.messages == parsed.messages
    assert recognized.pings == parsed.pings
    assert recognized.ended == parsed.ended


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 8192, 8193, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_recognized_frames_of_every_kind_of_head_in_any_two_pieces(opcode: int, length: int) -> None:
    wire = frame(opcode, b"z" * length) + frame(opcode, b"end")
    for at in {*range(20), length // 2, len(wire) - 10, len(wire) - 1}:
        first, second = both(*cut(wire, [at]), limit=100_000)
        assert first == second
        assert [len(message) for message in first.messages] == [length, 3]


@given(st.one_of(st.text(), st.binary(), st.builds(lambda n: b"x" * n, st.sampled_from([125, 126, 65535]))))
def test_a_frame_made_without_wsproto_is_the_one_that_it_makes(message: str | bytes) -> None:
    event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
    expected = Connection(ConnectionType.SERVER).send(event)
    assert WebSocketProtocol(max_message_bytes=LIMIT).frame(message, is_last=True) == expected


def test_the_last_piece_of_a_cut_message_is_a_continuation_and_the_next_message_is_none() -> None:
    protocol = WebSocketProtocol(max_message_bytes=LIMIT)
    sent = protocol.frame("a", is_last=False) + protocol.frame("b", is_last=True) + protocol.frame("c", is_last=True)
    assert [(each.opcode, each.payload, each.fin) for each in parse(sent)] == [
        (TEXT, b"a", False),
        (CONTINUATION, b"b", True),
        (TEXT, b"c", True),
    ]
