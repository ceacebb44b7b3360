"""multipart/form-data: what parts mean, that cuts do not matter, limits, and bodies of real clients."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.errors import ApiError, BadRequest, PayloadTooLarge
from minwebhook.http.multipart import (
    Event,
    Field,
    FileData,
    FileEnd,
    FileStart,
    MultipartLimits,
    MultipartReader,
    boundary,
    form_values,
)
from minwebhook.settings import HttpSettings

LIMITS = MultipartLimits()
TYPE = "multipart/form-data; boundary=b"
TEXT = b'Content-Disposition: form-data; name="a"'
FILE = TEXT + b'; filename="f"\r\nContent-Type: x/y'


def body(*parts: tuple[bytes, bytes]) -> bytes:
    """Parts, each a head and its data, between boundaries ``b``."""
    return b"".join(b"--b\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--b--\r\n"


def read(pieces: Iterable[bytes], limits: MultipartLimits = LIMITS, mark: bytes = b"b") -> list[Event]:
    """The events of a body that comes in pieces, the data of each file put together."""
    reader = MultipartReader(mark, limits)
    events: list[Event] = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, FileData) and isinstance(events[-1], FileData):
                events[-1] = FileData(events[-1].data + event.data)
            else:
                events.append(event)
    reader.finish()
    return events


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def outcome(pieces: Iterable[bytes], limits: MultipartLimits = LIMITS) -> list[Event] | None:
    """The events, or None for a refusal. Anything but a 400 or a 413 fails the test."""
    try:
        return read(pieces, limits)
    except ApiError as refusal:
        assert refusal.status in (400, 413)
        return None


# --- the Content-Type of the request ---


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=x", b"x"),
        ("multipart/form-data;boundary=x", b"x"),
        ("Multipart/Form-Data; Boundary=xY", b"xY"),
        ("multipart/form-data; charset=utf-8; boundary=x", b"x"),
        ("multipart/form-data; boundary=x; charset=utf-8", b"x"),
        ("multipart/form-data; boundary=x;", b"x"),
        ('multipart/form-data; boundary="x y:z"', b"x y:z"),
        ("multipart/form-data; boundary=a'()+_,-./:=?", b"a'()+_,-./:=?"),
        ("multipart/form-data; boundary=*****", b"*****"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
    ],
)
def test_the_boundary_is_a_parameter_of_the_content_type(content_type: str, expected: bytes) -> None:
    assert boundary(content_type) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="x',
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=ä",
        "multipart/form-data; boundary=x\x00",
        'multipart/form-data; boundary="x "',
        'multipart/form-data; boundary="x%0D%0A"',
        r'multipart/form-data; boundary="x\"y"',
        "multipart/form-data; boundary=x; boundary=y",
        "multipart/form-data boundary=x",
        "multipart/mixed; boundary=x",
        "application/json; boundary=x",
    ],
)
def test_a_boundary_that_is_missing_or_bad_is_refused_with_what_to_send(content_type: str) -> None:
    with pytest.raises(BadRequest, match=r"^Content-Type: .*boundary"):
        boundary(content_type)


# --- parts ---


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ((TEXT, b"x"), [Field("a", "x")]),
        ((TEXT, b""), [Field("a", "")]),
        ((TEXT, "ä\r\n\x00".encode()), [Field("a", "ä\r\n\x00")]),
        ((TEXT, b"\xef\xbb\xbfx"), [Field("a", "\ufeffx")]),
        ((TEXT, b"ok \xff"), [Field("a", "")]),
        ((TEXT + b'; filename="f"', b"x"), [Field("a", "x")]),
        ((TEXT + b"\r\nContent-Transfer-Encoding: base64", b"eA=="), [Field("a", "eA==")]),
        ((b"content-disposition: FORM-DATA; NAME=a", b"x"), [Field("a", "x")]),
        ((b"Content-Disposition:form-data;name=a[0] ", b"x"), [Field("a[0]", "x")]),
        ((FILE, b"x"), [FileStart("a", "f", "x/y"), FileData(b"x"), FileEnd()]),
        ((FILE, b""), [FileStart("a", "f", "x/y"), FileEnd()]),
        ((b"Content-Type: x/y\r\n" + TEXT, b""), [FileStart("a", None, "x/y"), FileEnd()]),
        ((TEXT + b"\r\nContent-Type:  ", b""), [FileStart("a", None, "application/octet-stream"), FileEnd()]),
        ((TEXT + b'\r\nContent-Type: Text/X; q="Y"', b""), [FileStart("a", None, 'Text/X; q="Y"'), FileEnd()]),
        (
            (TEXT + b"\r\nContent-Type: multipart/mixed; boundary=c", b"--c\r\n\r\n\r\n--c--"),
            [
                FileStart("a", None, "multipart/mixed; boundary=c"),
                FileData(b"--c\r\n\r\n\r\n--c--"),
                FileEnd(),
            ],
        ),
        ((b"Content-Disposition: form-data", b"x"), []),
        ((b'Content-Disposition: form-data; filename="f"\r\nContent-Type: x/y', b"x"), []),
    ],
)
def test_what_a_part_is(part: tuple[bytes, bytes], expected: list[Event]) -> None:
    whole = body(part, (b'Content-Disposition: form-data; name="last"', b"!"))
    assert read([whole]) == read(bytewise(whole)) == [*expected, Field("last", "!")]


@pytest.mark.parametrize("whole", [b"--b--", b"--b--\r\n", b"\r\n--b--\r\n"])
def test_a_form_without_parts(whole: bytes) -> None:
    assert read([whole]) == read(bytewise(whole)) == []


def test_text_around_the_parts_is_ignored() -> None:
    assert read([b"hello --b\r\n--B\r\n" + body((TEXT, b"x")) + b"--b\r\nbye"]) == [Field("a", "x")]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (rb'name="a\"b"', 'a"b'),
        (rb'name="a%22b%0D%0Ac%0d%41"', 'a"b\r\nc%0d%41'),
        (rb'name="a\"%22"', 'a"%22'),
        (rb'name="a\\b\c"', r"a\b\c"),
        (rb'name="a\"; filename="f"', "a\\"),
        (rb'name="a\"', "a\\"),
        (rb'name="a;b=\"c\""', 'a;b="c"'),
        (b'name="\xc3\xa4\x00"', "ä\x00"),
        (rb'filename="name=\"x\""; name="a"', "a"),
        (rb"name*=UTF-8''b; name=a", "a"),
    ],
)
def test_names(disposition: bytes, name: str) -> None:
    assert read([body((b"Content-Disposition: form-data; " + disposition, b""))]) == [Field(name, "")]


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (rb'filename="x.txt"', "x.txt"),
        (rb"filename=x y.txt ; x=y", "x y.txt"),
        (rb'filename="a\"b.txt"', 'a"b.txt'),
        (rb'filename="a%22b%0D%0A.txt"', 'a"b.txt'),
        (rb'filename="C:\docs\new\x.txt"', "x.txt"),
        (rb'filename="C:\\docs\\x.txt"', "x.txt"),
        (rb'filename="\\server\share\x.txt"', "x.txt"),
        (rb'filename="sub\x.txt"', r"sub\x.txt"),
        (rb'filename="../../etc/passwd"', "../../etc/passwd"),
        (rb'filename=""', ""),
        (b'filename="a\x00b\x1b\x7f\xc2\x85\tc"', "abc"),
        (b'filename="\xe6\x96\x87.pdf"', "文.pdf"),
        (rb"filename*=UTF-8''%E2%82%AC%20rates.txt", "€ rates.txt"),
        (rb"filename*=utf-8'en'%E2%82%AC; filename=EUR", "€"),
        (rb"filename=EUR; filename*=iso-8859-1''%A3", "£"),
        (rb"filename=EUR; filename*=UTF-8''%FF", "EUR"),
        (rb"filename=EUR; filename*=utf-7''x", "EUR"),
        (rb"filename=EUR; filename*=x", "EUR"),
        (rb"filename*=UTF-8''%00%0D%0Ax", "x"),
        (b'filename="' + b"x" * 300 + b'.tar"', "x" * 251 + ".tar"),
        (b'filename="' + "ä".encode() * 200 + b'.tar"', "ä" * 125 + ".tar"),
        (b'filename="' + "ä".encode() * 200 + b'"', "ä" * 127),
        (b'filename="x.' + b"y" * 300 + b'"', "x." + "y" * 253),
        (b'filename=".' + b"y" * 300 + b'"', "." + "y" * 254),
        (b"x=y", None),
    ],
)
def test_filenames(disposition: bytes, filename: str | None) -> None:
    head = b'Content-Disposition: form-data; name="a"; ' + disposition + b"\r\nContent-Type: x/y"
    assert read([body((head, b""))])[0] == FileStart("a", filename, "x/y")


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b'Content-Disposition: form-data; name=""', "empty name"),
        (b"Content-Disposition: form-data; name=", "empty name"),
        (b'Content-Disposition: form-data; name="a', "Content-Disposition: malformed parameters"),
        (b'Content-Disposition: form-data; name="a"b', "Content-Disposition: malformed parameters"),
        (b"Content-Disposition: form-data; name", "Content-Disposition: malformed parameters"),
        (b"Content-Disposition: form-data; name=a; NAME=b", "Content-Disposition: two parameters name"),
        (b"Content-Disposition: attachment; name=a", "Content-Disposition"),
        (b"Content-Type: x/y", "Content-Disposition"),
        (TEXT + b"\r\n" + TEXT, "two Content-Disposition headers"),
        (FILE + b"\r\ncontent-type: z", "two Content-Type headers"),
        (TEXT + b"\r\nContent-Type: x\x00y", "Content-Type of a part"),
        (TEXT + b"\r\nContent-Type: \xc3\xa4", "Content-Type of a part"),
        (TEXT + b"\r\nContent-Length: 4", "Content-Length"),
        (TEXT + b"\r\nContent-Length: x", "Content-Length"),
        (TEXT + b"\r\nno colon", "Malformed"),
        (TEXT + b"\r\n folded: x", "Folded"),
        (b'Content-Disposition: form-data; name="a\nb"', "line break"),
        (b'Content-Disposition: form-data; name="a\rb"', "line break"),
        (b'Content-Disposition: form-data; name="\xff"', "decode"),
        (b"", "Content-Disposition"),
    ],
)
def test_malformed_parts(head: bytes, text: str) -> None:
    whole = b"--b\r\n" + head + (b"\r\n" if head else b"") + b"\r\nxyz\r\n--b--\r\n"
    for pieces in ([whole], bytewise(whole)):
        with pytest.raises(BadRequest) as refusal:
            read(pieces)
        assert refusal.value.text.startswith("Bad request: Error reading multipart field: ")
        assert text in refusal.value.text


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (b"", "not in the body"),
        (b"{}", "not in the body"),
        (b"--c\r\n" + TEXT + b"\r\n\r\nx\r\n--c--\r\n", "not in the body"),
        (b"x--b--\r\n", "not in the body"),
        (b"\n--b--\r\n", "not in the body"),
        (b"--b", "before its closing boundary"),
        (b"--b\r\n", "before its closing boundary"),
        (body((TEXT, b"x"))[:-6], "before its closing boundary"),
        (body((TEXT, b"x"))[:-3], "before its closing boundary"),
        (b"--b\n--", "first boundary"),
        (b"--bc\r\n", "first boundary"),
        (b"--b \r\n", "first boundary"),
        (b"--b\r\n" + TEXT + b"\r\n\r\nx\r\n--bc--", "after boundary"),
        (b"--b\r\n" + TEXT + b"\n\nx\n--b--\n", "line break"),
    ],
)
def test_malformed_bodies(whole: bytes, text: str) -> None:
    for pieces in ([whole], bytewise(whole)):
        with pytest.raises(BadRequest) as refusal:
            read(pieces)
        assert refusal.value.text.startswith("Bad request: Error reading multipart field: ")
        assert text in refusal.value.text


def test_after_a_refusal_nothing_more_is_read() -> None:
    reader = MultipartReader(b"b")
    with pytest.raises(BadRequest) as first:
        reader.feed(b"--b\r\nx\r\n")
    for again in (lambda: reader.feed(body((TEXT, b"x"))), reader.finish):
        with pytest.raises(BadRequest) as second:
            again()
        assert second.value is first.value


# --- limits ---


@pytest.mark.parametrize(
    ("limits", "good", "bad", "text"),
    [
        (replace(LIMITS, max_parts=2), body(*[(TEXT, b"")] * 2), body(*[(TEXT, b"")] * 3), "more than 2 parts"),
        (
            replace(LIMITS, max_field_bytes=3),
            body((TEXT, b"123"), (FILE, b"1234")),
            body((TEXT, b"1234")),
            "larger than 3 bytes",
        ),
        (
            replace(LIMITS, max_fields_bytes=4),
            body((TEXT, b"12"), (TEXT, b"34"), (FILE, b"x")),
            body((TEXT, b"12"), (TEXT, b"345")),
            "together larger than 4 bytes",
        ),
        (
            replace(LIMITS, max_file_bytes=3),
            body((FILE, b"123"), (FILE, b"123"), (TEXT, b"1234")),
            body((FILE, b"1234")),
            "file of the form is larger than 3 bytes",
        ),
        (
            replace(LIMITS, max_total_bytes=len(body((TEXT, b"x")))),
            body((TEXT, b"x")),
            body((TEXT, b"xy")),
            "body is larger than",
        ),
        (
            replace(LIMITS, max_part_head_bytes=len(TEXT) + 2),
            body((TEXT, b"x" * 100)),
            body((TEXT + b" ", b"x")),
            "head of a multipart field is larger than",
        ),
        (
            replace(LIMITS, max_part_head_bytes=len(TEXT) + 6),
            body((TEXT + b"\r\nA:", b"x"), (TEXT, b"")),
            body((TEXT + b"\r\nA:b", b"x")),
            "head of a multipart field is larger than",
        ),
        (
            replace(LIMITS, max_part_header_fields=2),
            body((FILE, b"x")),
            body((FILE + b"\r\nA: b", b"x")),
            "more than 2 lines",
        ),
        (
            replace(LIMITS, max_epilogue_bytes=4),
            body((TEXT, b"x")) + b"12",
            body((TEXT, b"x")) + b"123",
            "More than 4 bytes follow",
        ),
    ],
)
def test_a_limit_is_met_exactly(limits: MultipartLimits, good: bytes, bad: bytes, text: str) -> None:
    assert read([good], limits) == read(bytewise(good), limits)
    for pieces in ([bad], bytewise(bad)):
        with pytest.raises(PayloadTooLarge, match=text):
            read(pieces, limits)


def test_the_first_boundary_must_come_soon() -> None:
    limits = replace(LIMITS, max_preamble_bytes=4)
    good, bad = b"12\r\n" + body((TEXT, b"x")), b"123\r\n" + body((TEXT, b"x"))
    assert read([good], limits) == read(bytewise(good), limits) == [Field("a", "x")]
    for pieces in ([bad], bytewise(bad)):
        with pytest.raises(BadRequest, match="not in the first 4 bytes"):
            read(pieces, limits)


def test_limits_follow_the_settings() -> None:
    settings = HttpSettings(max_form_parts=1, max_form_field_bytes=2, max_form_fields_bytes=3, max_form_bytes=4)
    assert MultipartLimits.of(settings, 5) == MultipartLimits(
        max_parts=1, max_field_bytes=2, max_fields_bytes=3, max_total_bytes=4, max_file_bytes=5
    )
    assert MultipartLimits.of(HttpSettings(), 0) == MultipartLimits()


# --- properties ---


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
#: What bodies are made of, good and bad.
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--b\r\n",
            b"\r\n--b\r\n",
            b"\r\n--b--",
            b"\r\n--b--\r\n",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n\r\n",
            b"-",
            b"x",
            b" ",
            b": ",
            TEXT + b"\r\n\r\n",
            FILE + b"\r\n\r\n",
            TEXT,
            b"Content-Length: 1\r\n",
            b"x" * 90,
        ]
    )
    | st.binary(max_size=6),
    max_size=14,
).map(b"".join)
SMALL = MultipartLimits(
    max_parts=3,
    max_field_bytes=60,
    max_fields_bytes=100,
    max_file_bytes=80,
    max_part_head_bytes=100,
    max_part_header_fields=3,
    max_preamble_bytes=9,
    max_epilogue_bytes=9,
)


@given(FRAGMENTS, CUTS, st.sampled_from([LIMITS, SMALL]))
@example(b"--b\r\n" + TEXT[:-1] + b'\n"\r\n\r\n\r\n--b--\r\n', [], LIMITS)
def test_cuts_do_not_matter(whole: bytes, places: list[int], limits: MultipartLimits) -> None:
    expected = outcome([whole], limits)
    assert outcome(cut(whole, places), limits) == expected
    assert outcome(bytewise(whole), limits) == expected


@given(st.lists(st.sampled_from([TEXT, FILE]).flatmap(lambda head: st.tuples(st.just(head), FRAGMENTS))), CUTS)
def test_cuts_do_not_matter_for_forms(parts: list[tuple[bytes, bytes]], places: list[int]) -> None:
    whole = body(*parts)
    assert outcome(cut(whole, places)) == outcome([whole]) == outcome(bytewise(whole))


def browser_quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def mail_quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def is_plain(text: str) -> bool:
    """Whether a browser's escapes say what they seem to say: it does not escape its escapes."""
    return not any(escape in text for escape in ("%22", "%0D", "%0A"))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
NAMES = TEXTS.filter(lambda name: bool(name) and is_plain(name))
FILENAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=60).filter(
    lambda name: is_plain(name) and not name.startswith("\\") and name[1:3] != ":\\"
)
FILES = st.tuples(FILENAMES, st.sampled_from(["text/plain", "x/y; z=1"]), st.binary(max_size=60))


def encode(name: str, value: str | tuple[str, str, bytes], quoted: Callable[[str], str]) -> tuple[bytes, bytes]:
    head = f'Content-Disposition: form-data; name="{quoted(name)}"'
    if isinstance(value, str):
        return head.encode(), value.encode()
    filename, content_type, data = value
    return f'{head}; filename="{quoted(filename)}"\r\nContent-Type: {content_type}'.encode(), data


@given(
    st.lists(st.tuples(NAMES, TEXTS | FILES), max_size=6),
    st.sampled_from([browser_quoted, mail_quoted]),
    CUTS,
)
def test_decoding_gives_what_was_encoded(
    parts: list[tuple[str, str | tuple[str, str, bytes]]], quoted: Callable[[str], str], places: list[int]
) -> None:
    mark = b"boundary that no data has"
    if quoted is mail_quoted:  # mail has no way to write line ends in a parameter
        parts = [(name.replace("\r", "").replace("\n", "") or "x", value) for name, value in parts]
    whole = body(*[encode(name, value, quoted) for name, value in parts]).replace(b"--b", b"--" + mark)
    expected: list[Event] = []
    for name, value in parts:
        if isinstance(value, str):
            expected.append(Field(name, value.replace("--b", "--" + mark.decode())))
        else:
            data = value[2].replace(b"--b", b"--" + mark)
            expected += [FileStart(name, value[0], value[1]), *([FileData(data)] if data else []), FileEnd()]
    assert read(cut(whole, places), mark=mark) == expected


# --- whole bodies ---


def test_a_form_that_is_cut_off_is_refused() -> None:
    for end in range(len(body((TEXT, b"1"))) - 2):
        with pytest.raises(BadRequest, match="Error reading multipart field"):
            read([body((TEXT, b"1"))[:end]])


def test_files_win_over_fields_of_one_name() -> None:
    assert form_values([("a", "1"), ("b", "2"), ("b", "3"), ("c", "4")], [("c", 5), ("d", 6), ("c", 7)]) == {
        "a": "1",
        "b": "3",
        "c": [5, 7],
        "d": [6],
    }
    assert form_values([], []) == {}


# --- real clients ---


def test_httpx() -> None:
    request = httpx.Request(
        "POST",
        "http://x",
        data={'tricky "\\\r\n': "1", "ä": ["ü", "\r\n--"]},
        files=[("f", ('a"\\b.txt', b"\r\n--x", "text/plain")), ("f", ("b", b"", "x/y")), ("g", (None, b"text"))],
    )
    whole = request.read()
    assert read(bytewise(whole), mark=boundary(request.headers["content-type"])) == [
        Field('tricky "\\\r\n', "1"),
        Field("ä", "ü"),
        Field("ä", "\r\n--"),
        FileStart("f", 'a"\\b.txt', "text/plain"),
        FileData(b"\r\n--x"),
        FileEnd(),
        FileStart("f", "b", "x/y"),
        FileEnd(),
        Field("g", "text"),
    ]


@contextmanager
def one_request() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a server that notes the Content-Type and body of each request."""
    seen: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", seen
        finally:
            server.shutdown()
            thread.join()


def test_curl(require_program: Callable[[str], str], tmp_path: Path) -> None:
    curl = require_program("curl")
    file = tmp_path / 'a "b" ä.bin'
    file.write_bytes(bytes(range(256)) * 300)
    quoted = str(file).replace('"', '\\"')
    arguments = [
        "-F",
        "a=1",
        "-F",
        "a=ü",
        "-F",
        f'f=@"{quoted}"',
        "-F",
        f'text=<"{quoted}"',
        "-F",
        "g=x;type=x/y",
    ]
    with one_request() as (url, seen):
        subprocess.run([curl, "-sS", "--noproxy", "*", *arguments, url], check=True, timeout=30)
    ((content_type, whole),) = seen
    assert read(cut(whole, list(range(0, len(whole), 997))), mark=boundary(content_type)) == [
        Field("a", "1"),
        Field("a", "ü"),
        FileStart("f", 'a "b" ä.bin', "application/octet-stream"),
        FileData(file.read_bytes()),
        FileEnd(),
        Field("text", ""),
        FileStart("g", None, "x/y"),
        FileData(b"x"),
        FileEnd(),
    ]
