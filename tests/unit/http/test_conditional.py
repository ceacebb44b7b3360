"""Conditional and range requests: what the fields mean, and that nothing in them can make us fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import RangeNotSatisfiable
from minwebhook.http.conditional import is_not_modified, wanted_range
from minwebhook.http.messages import Headers
from minwebhook.storage.model import ByteRange

TAG = '"abc"'


def fields(*items: tuple[str, str]) -> Headers:
    return Headers(list(items))


@pytest.mark.parametrize(
    ("values", "is_the_same"),
    [
        ([], False),
        (['"abc"'], True),
        (['W/"abc"'], True),  # compared weakly (RFC 9110 §13.1.2)
        (['"other", "abc"'], True),
        (['"other"', '"abc"'], True),
        (['"other",W/"abc" , "x"'], True),
        (["*"], True),
        ([" * "], True),
        (['"other"'], False),
        (["abc"], False),
        (['"ABC"'], False),
        (['"a,b", "abc'], False),
        (['"x *"'], False),
        ([""], False),
    ],
)
def test_if_none_match(values: list[str], is_the_same: bool) -> None:
    assert is_not_modified(fields(*(("if-none-match", value) for value in values)), TAG) is is_the_same


def test_a_comma_in_a_tag_separates_nothing() -> None:
    assert is_not_modified(fields(("if-none-match", '"a,b"')), '"a,b"')
    assert not is_not_modified(fields(("if-none-match", '"a,b"')), '"a"')


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=10-20", (10, 20)),
        ("bytes=10-", (10, None)),
        ("bytes=-5", (None, 5)),
        ("bytes= 1-2", (1, 2)),
        ("bytes=-", None),
        ("bytes=2-1", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=-0", (None, 0)),
        ("bytes=1-2x", None),
        ("items=0-1", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 19 + "-", None),
        ("", None),
    ],
)
def test_ranges(value: str, wanted: tuple[int | None, int | None] | None) -> None:
    assert wanted_range(fields(("range", value)), TAG) == wanted


def test_no_range_and_two_ranges_are_the_whole() -> None:
    assert wanted_range(fields(), TAG) is None
    assert wanted_range(fields(("range", "bytes=0-0"), ("range", "bytes=1-1")), TAG) is None


@pytest.mark.parametrize(
    ("condition", "etag", "counts"),
    [
        (TAG, TAG, True),
        (f" {TAG} ", TAG, True),
        ('"other"', TAG, False),
        (f"W/{TAG}", TAG, False),  # compared strongly (RFC 9110 §13.1.5)
        (f"W/{TAG}", f"W/{TAG}", False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", TAG, False),
    ],
)
def test_if_range(condition: str, etag: str, counts: bool) -> None:
    assert (wanted_range(fields(("range", "bytes=1-2"), ("if-range", condition)), etag) == (1, 2)) is counts


@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF)) | st.from_regex(r"bytes=[0-9]*-[0-9]*(,[0-9]*-)?"),
    st.integers(0, 100),
)
def test_whatever_is_asked_for_is_inside_the_object_or_refused(value: str, size: int) -> None:
    wanted = wanted_range(fields(("range", value)), TAG)
    if wanted is None:
        return
    try:
        start, stop = ByteRange(*wanted).within(size)
    except RangeNotSatisfiable:
        assert wanted == (None, 0) or size == 0 or (wanted[0] is not None and wanted[0] >= size)
        return
    assert 0 <= start < stop <= size


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF)))
def test_any_list_of_tags_is_read(value: str) -> None:
    assert is_not_modified(fields(("if-none-match", value)), TAG) is (
        value.strip() == "*" or is_not_modified(fields(("if-none-match", f"x, {value}")), TAG)
    )
