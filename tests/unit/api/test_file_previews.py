"""What is shown of a stored file, whatever is in it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api.file_previews import MAX_ROWS, PreviewKind, preview


def shown(key: str, data: bytes, separator: str = ",", *, has_header: bool = True) -> dict[str, Any]:
    return preview(key, data, separator=separator, has_header=has_header)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a.csv", PreviewKind.CSV),
        ("a/b.TSV", PreviewKind.CSV),
        ("a.json", PreviewKind.TEXT),
        ("a.YML", PreviewKind.TEXT),
        ("a.log", PreviewKind.TEXT),
        ("a.parquet", PreviewKind.PARQUET),
        ("a.csv.gz", PreviewKind.UNKNOWN),
        ("csv", PreviewKind.UNKNOWN),
        ("a.txt/b", PreviewKind.UNKNOWN),
    ],
)
def test_the_end_of_the_key_says_the_kind(key: str, kind: PreviewKind) -> None:
    assert PreviewKind.of(key) is kind
    answer = shown(key, b"x")
    assert answer["content_type"] == kind.value
    assert (answer["content"] is None) == (answer["msg"] is not None) == (kind.value in ("Parquet", "Unknown"))


def test_tables() -> None:
    assert shown("a.csv", b'a,b\r\n"1,5",2')["content"] == 'a,b\n"1,5",2\n'
    assert shown("a.tsv", b"a\tb\n1,5\t2\n")["content"] == 'a,b\n"1,5",2\n'
    assert shown("a.tsv", b"a;b", ";")["content"] == "a,b\n"
    assert shown("a.csv", b"1;2;3", ";", has_header=False)["content"] == "column_1,column_2,column_3\n1,2,3\n"
    assert shown("a.csv", b"")["content"] == ""
    assert shown("a.csv", b"", has_header=False)["content"] == ""


def test_long_tables_and_fields_end_early() -> None:
    table = shown("a.csv", b"x\n" * (MAX_ROWS + 1))["content"]
    assert table.count("\n") == MAX_ROWS
    assert shown("a.csv", b"a,b\n1,2\n" + b"x" * 200_000)["content"] == "a,b\n1,2\n"


def test_halves_of_characters_are_replaced() -> None:
    assert shown("a.txt", "é".encode()[1:] + b"x" + "é".encode()[:1])["content"] == "\ufffdx\ufffd"


@given(st.binary(max_size=300), st.characters(exclude_characters='"', exclude_categories=("C", "Z")), st.booleans())
def test_any_bytes_make_a_table_that_can_be_read(data: bytes, separator: str, has_header: bool) -> None:
    content = shown("a.csv", data, separator, has_header=has_header)["content"]
    assert content == "" or content.endswith("\n")
    list(csv.reader(io.StringIO(content, newline="")))
