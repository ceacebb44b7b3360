"""Tokens for looking at one job."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from minwebhook.auth.view_tokens import is_view_token, new_workspace_key, view_token

KEY = "0123456789abcdef" * 4
JOB = UUID("01890000-0000-7000-8000-000000000001")


def test_the_form() -> None:
    job_id, _, signature = view_token(KEY, JOB).partition(".")
    assert job_id == str(JOB)
    assert signature == hmac.new(KEY.encode(), JOB.bytes + b"view_token", hashlib.sha256).hexdigest()


def test_keys_differ() -> None:
    keys = {new_workspace_key() for _ in range(10)}
    assert len(keys) == 10
    assert all(len(key) == 64 and int(key, 16) for key in keys)


@given(st.uuids(), st.uuids())
def test_a_token_is_for_one_job_and_one_workspace(job: UUID, other: UUID) -> None:
    token = view_token(KEY, job)
    assert is_view_token(KEY, token, job)
    assert not is_view_token(new_workspace_key(), token, job)
    assert is_view_token(KEY, token, other) is (job == other)


@given(st.text() | st.text("0123456789abcdef.-", max_size=120))
def test_garbage_is_no_token(text: str) -> None:
    assert not is_view_token(KEY, text, JOB)
    assert not is_view_token(KEY, f"{JOB}.{text}", JOB)


def test_every_character_counts() -> None:
    token = view_token(KEY, JOB)
    for index in range(len(token)):
        wrong = token[:index] + ("0" if token[index] != "0" else "1") + token[index + 1 :]
        assert not is_view_token(KEY, wrong, JOB)
    assert not is_view_token(KEY, token.upper(), JOB)
    assert not is_view_token(KEY, token[:-1], JOB)
    assert not is_view_token(KEY, token + "0", JOB)
