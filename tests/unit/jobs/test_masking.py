"""Secrets hidden in a stream, however it is cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.jobs.log import JobLog
from minwebhook.jobs.masking import MAX_BYTES, MIN_LENGTH, STARS, Mask

#: Few letters, so that secrets overlap with each other and with themselves.
WORDS = st.text("ab", min_size=MIN_LENGTH, max_size=9)


def hidden(secrets: list[str], pieces: list[bytes]) -> bytes:
    """What is shown of pieces."""
    mask = Mask()
    for secret in secrets:
        mask.add(secret)
    return b"".join(map(mask.feed, pieces)) + mask.flush()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(WORDS, min_size=1, max_size=4), st.text("abc", max_size=80), st.lists(st.integers(0, 10**6)))
def test_no_secret_is_shown_wherever_the_stream_is_cut(secrets: list[str], text: str, places: list[int]) -> None:
    shown = hidden(secrets, cut(text.encode(), places))
    assert all(secret.encode() not in shown for secret in secrets)
    assert shown == hidden(secrets, [text.encode()])


@given(st.lists(WORDS, max_size=4), st.text("cd *\n", max_size=80), st.lists(st.integers(0, 10**6)))
def test_what_is_no_secret_is_shown_as_it_is(secrets: list[str], text: str, places: list[int]) -> None:
    assert hidden(secrets, cut(text.encode(), places)) == text.encode()


def test_short_and_very_long_secrets_are_left_alone() -> None:
    long = "x" * (MAX_BYTES + 1)
    assert hidden(["yes", "12345", "", long], [b"yes 12345", long.encode()]) == b"yes 12345" + long.encode()


def test_a_secret_is_hidden_as_json_and_line_by_line() -> None:
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nshort\n-----END KEY-----\n"
    quoted = 'tell "nobody" \\ é'
    shown = hidden(
        [pem, quoted], [f"> MIIEvQIBADANBgkqhkiG\n> short\n{json.dumps(quoted, ensure_ascii=False)}".encode()]
    )
    assert shown == b"> " + STARS + b'\n> short\n"' + STARS + b'"'
    assert hidden([pem], [pem.encode()]) == STARS


def test_a_log_hides_what_it_is_told_from_then_on() -> None:
    log = JobLog("BANNER\n", 1000)
    log.write(b"open sesame\n")
    log.hide("open sesame")
    for piece in (b"open se", b"same!\nopen ses", b"am is none\nWM_STREAM: open sesame\nends with open ses"):
        log.write(piece)
    log.close()
    assert log.text() == f"BANNER\nopen sesame\n{STARS.decode()}!\nopen sesam is none\nends with open ses"
    assert log.chunks.text() == STARS.decode()


def covered(secrets: list[str], text: str) -> str:
    """The same by looking at each place."""
    hidden_at = [False] * len(text)
    joins = [False] * len(text)  # with the one before, in one secret
    for secret in secrets:
        for start in range(len(text)):
            if text.startswith(secret, start):
                for at in range(start, start + len(secret)):
                    joins[at] |= at > start
                    hidden_at[at] = True
    shown = ""
    for at, letter in enumerate(text):
        if not hidden_at[at]:
            shown += letter
        elif not joins[at]:
            shown += STARS.decode()
    return shown


@given(st.lists(WORDS, min_size=1, max_size=4), st.text("abc", max_size=80), st.lists(st.integers(0, 10**6)))
def test_what_secrets_cover_that_overlap_is_replaced_once(secrets: list[str], text: str, places: list[int]) -> None:
    assert hidden(secrets, cut(text.encode(), places)).decode() == covered(secrets, text)


@pytest.mark.parametrize(
    ("secrets", "piece"),
    [
        (["zzzzzzz", *("a" * (200 + i) + "b" for i in range(190))], b"a" * 65_536),
        (["a" * 60_000 + f"b{i}" + "x" * 2000 for i in range(5)], b"a" * 30_000 + b"c" + b"a" * 29_000 + b"d"),
        (["a" * (6 + i) for i in range(190)], b"a" * 65_536),
        (["ba" + "ab" * 100 * i for i in range(1, 60)], b"ab" * 32_768),
        (["\n".join("x" * 20 + str(i) for i in range(2000))], b"x" * 65_536),
    ],
    ids=["many with a common beginning", "long ones that nearly begin", "periodic ones", "two letters", "many lines"],
)
def test_texts_made_to_be_hard_to_find_are_hidden_in_linear_time(secrets: list[str], piece: bytes) -> None:
    mask = Mask()
    for secret in secrets:
        mask.add(secret)
    shown = b"".join(mask.feed(piece) for _ in range(3)) + mask.flush()  # within the time that a test has
    assert len(shown) <= 3 * len(piece)
    assert not any(secret.encode() in shown for secret in secrets)
