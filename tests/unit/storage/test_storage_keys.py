"""Object keys: what is refused, and that what is accepted stays where it belongs."""

from __future__ import annotations

import posixpath
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.storage.keys import MAX_KEY_BYTES, extension_of, is_key, parse_key, upload_key

BAD = {
    "": "must be the key",
    "..": ". or ..",
    ".": ". or ..",
    "../etc/passwd": ". or ..",
    "a/../b": ". or ..",
    "a/..": ". or ..",
    "a/./b": ". or ..",
    "/etc/passwd": "begin or end",
    "a/": "begin or end",
    "/": "begin or end",
    "a//b": "//",
    "a\0b": "control",
    "a\nb": "control",
    "a\x7f": "control",
    "a\x85b": "control",
    "a\\..\\b": "backslash",
    "a\ud800": "Unicode",
    "\udcff/a": "Unicode",
    "x" * (MAX_KEY_BYTES + 1): "longer than 1024",
    "é" * 513: "longer than 1024",
    ".minwebhook": "the server's own",
    ".minwebhook/info/aa": "the server's own",
}


@pytest.mark.parametrize(("value", "reason"), BAD.items(), ids=ascii)
def test_bad_keys_are_refused_with_the_reason_and_the_name_of_the_parameter(value: str, reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_key(value, "src_file_key")
    assert refused.value.status == 400
    assert refused.value.detail.startswith("src_file_key ")
    assert reason in refused.value.detail
    assert refused.value.detail.isascii()  # may be shown anywhere
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    "value", [b"\xc0\xaf", b"\xc0\xae\xc0\xae/a", b"\xe0\x80\xaf", b"\xff", b"\xed\xa0\x80", b"caf\xe9"], ids=repr
)
def test_bytes_that_are_not_utf8_are_no_key(value: bytes) -> None:
    """Overlong forms of / and . among them: other decoders read path steps out of these."""
    with pytest.raises(BadRequest, match="must be UTF-8"):
        parse_key(value)


@pytest.mark.parametrize("value", [None, 7, ["a"], {"s3": "a"}, True])
def test_other_things_than_text_are_no_key(value: object) -> None:
    with pytest.raises(BadRequest, match="file_key must be the key of an object"):
        parse_key(value)


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "windmill_uploads/upload_1_2.pdf",
        "a b/c+d",
        "100%",
        "%2e%2e/%2F",
        "...",
        "..a/b..",
        "~/x",
        "日本/é",
        "a" * 1024,
        "u/x/.hidden",
        "a/.minwebhook",
        "C:",
        "*?<>|\"'",
    ],
)
def test_good_keys_stay_as_they_are(value: str) -> None:
    assert parse_key(value) == value
    assert parse_key(value.encode()) == value


texts = st.text(st.one_of(st.sampled_from("./\\\0\n%~ ab"), st.characters()), max_size=40)


@given(texts)
@example("a/b")
def test_an_accepted_key_never_leaves_its_directory(value: str) -> None:
    if not is_key(value):
        return
    path = posixpath.normpath(posixpath.join("/root/objects", value))
    assert path == f"/root/objects/{value}", "nothing in it is a step"
    assert not any(unicodedata.category(character) == "Cc" for character in value)
    assert value.encode().decode() == value


@given(st.binary(max_size=40))
def test_bytes_are_a_key_exactly_when_their_text_is(value: bytes) -> None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        with pytest.raises(BadRequest):
            parse_key(value)
    else:
        if is_key(text):
            assert parse_key(value) == text
        else:
            with pytest.raises(BadRequest):
                parse_key(value)


@pytest.mark.parametrize(
    ("filename", "extension"),
    [
        ("invoice.pdf", "pdf"),
        ("archive.tar.gz", "gz"),
        ("README", "README"),
        ("ends.", "file"),
        ("", "file"),
        (None, "file"),
        (".env", "env"),
        ("evil.p/../df", "df"),
        ("evil.php\0.jpg", "jpg"),
        ("x.a b%c", "abc"),
        ("x.größe", "gre"),
        ("x." + "y" * 100, "y" * 32),
        ("x.日本", "file"),
    ],
)
def test_the_extension_is_what_follows_the_last_dot(filename: str | None, extension: str) -> None:
    assert extension_of(filename) == extension


def test_keys_of_uploads_have_upstreams_form() -> None:
    assert upload_key(1_700_000_000_000, 42, "a.csv") == "windmill_uploads/upload_1700000000000_42.csv"


@given(st.integers(0, 2**50), st.integers(0, 2**64), st.none() | texts)
def test_keys_of_uploads_are_keys(now_ms: int, number: int, filename: str | None) -> None:
    key = upload_key(now_ms, number, filename)
    assert parse_key(key) == key
    assert key.count("/") == 1
