"""Ranges, headers of objects and dispositions."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest, RangeNotSatisfiable
from minwebhook.storage.model import ByteRange, ObjectHeaders, inline_disposition


@given(st.binary(max_size=20), st.none() | st.integers(0, 25), st.none() | st.integers(0, 25))
def test_a_range_is_the_slice_that_it_says(data: bytes, first: int | None, last: int | None) -> None:
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        with pytest.raises(BadRequest):
            ByteRange(first, last)
        return
    expected = data[len(data) - min(last or 0, len(data)) :] if first is None else data[first:][: _length(first, last)]
    if not expected:
        with pytest.raises(RangeNotSatisfiable) as refused:
            ByteRange(first, last).within(len(data))
        assert refused.value.headers == (("Content-Range", f"bytes */{len(data)}"),)
        return
    start, stop = ByteRange(first, last).within(len(data))
    assert data[start:stop] == expected


def _length(first: int, last: int | None) -> int | None:
    return None if last is None else last - first + 1


@pytest.mark.parametrize("value", [-1, -5])
def test_there_is_nothing_below_zero(value: int) -> None:
    with pytest.raises(BadRequest):
        ByteRange(value)
    with pytest.raises(BadRequest):
        ByteRange(last=value)


@pytest.mark.parametrize("value", ["text/x\r\nSet-Cookie: a=b", "text/é", "a\0", "x" * 1025, "", "  "])
def test_headers_of_an_object_cannot_become_other_headers(value: str) -> None:
    with pytest.raises(BadRequest, match="content_type"):
        ObjectHeaders(value)
    with pytest.raises(BadRequest, match="content_disposition"):
        ObjectHeaders(content_disposition=value)


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("invoice 7.pdf", 'inline; filename="invoice 7.pdf"'),
        ("größe.pdf", "inline; filename=\"gr__e.pdf\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.pdf"),
        ('a"b.txt', "inline; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("../../etc/passwd", 'inline; filename="passwd"'),
        ("C:\\docs\\a.txt", 'inline; filename="a.txt"'),
        ("a\r\nX: y.txt", "inline; filename=\"a__X: y.txt\"; filename*=UTF-8''a%0D%0AX%3A%20y.txt"),
        ("", None),
        ("folder/", None),
    ],
)
def test_a_disposition_names_the_file(filename: str, disposition: str | None) -> None:
    assert inline_disposition(filename) == disposition


@given(st.text(max_size=400))
def test_every_file_name_makes_a_disposition_that_may_be_stored(filename: str) -> None:
    disposition = inline_disposition(filename)
    if disposition is None:
        return
    ObjectHeaders(content_disposition=disposition)
    exact = re.search(r"filename\*=UTF-8''(\S+)$", disposition)
    if exact:
        assert unquote(exact[1], errors="strict") in filename
