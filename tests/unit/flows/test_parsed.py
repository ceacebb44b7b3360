"""Values of large texts that are kept: the same text gives the same value, and together they take no more than they may."""

from __future__ import annotations

import orjson

from minwebhook.flows.parsed import Parsed


def _text(number: int) -> bytes:
    return orjson.dumps([number] * 2000)


def test_a_large_text_is_read_once_and_a_small_one_each_time() -> None:
    parsed, large, small = Parsed(), _text(1), b"[1]"
    assert parsed.of(large) is parsed.of(large)
    assert parsed.of(large) == orjson.loads(large)
    assert parsed.of(small) == parsed.of(small) == [1]
    assert parsed.of(small) is not parsed.of(small)


def test_the_one_unused_for_longest_goes() -> None:
    first, second, third = (_text(number) for number in (1, 2, 3))
    parsed = Parsed(max_bytes=2 * len(first))
    kept, other = parsed.of(first), parsed.of(second)
    assert parsed.of(first) is kept
    parsed.of(third)
    assert parsed.of(first) is kept
    assert parsed.of(second) is not other


def test_what_is_forgotten_or_too_large_is_read_anew() -> None:
    text = _text(1)
    parsed = Parsed()
    value = parsed.of(text)
    parsed.forget(text)
    parsed.forget(b"never asked for")
    assert parsed.of(text) is not value
    parsed = Parsed(max_bytes=len(text) - 1)
    assert parsed.of(text) is not parsed.of(text)
