"""Signatures of approvals: what is signed, and that nothing else passes."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minwebhook.errors import BadRequest
from minwebhook.flows.signatures import (
    MAX_RESUME_ID,
    approval_signature,
    approval_token,
    is_approval_signature,
    is_approval_token,
    number_of,
)

KEY = "0" * 64
JOBS = st.uuids()
NUMBERS = st.integers(0, MAX_RESUME_ID)
NAMES = st.none() | st.text(min_size=1, max_size=8)


def test_what_is_signed() -> None:
    job = UUID("01890000-0000-7000-8000-0000000000ff")
    message = bytes.fromhex("018900000000700080000000000000ff" + "00000102") + b"ruben"
    expected = hmac.new(KEY.encode(), message, hashlib.sha256).hexdigest()
    assert approval_signature(KEY, job, 258, "ruben") == expected
    assert approval_signature(KEY, job, 258) == approval_signature(KEY, job, 258, "")


@given(JOBS, NUMBERS, NAMES, JOBS, NUMBERS, NAMES)
def test_a_signature_is_for_one_thing(
    job: UUID, number: int, name: str | None, other_job: UUID, other_number: int, other_name: str | None
) -> None:
    signature = approval_signature(KEY, job, number, name)
    assert is_approval_signature(KEY, signature, job, number, name)
    assert is_approval_signature(KEY, signature.upper(), job, number, name)
    assume((job, number, name) != (other_job, other_number, other_name))
    assert not is_approval_signature(KEY, signature, other_job, other_number, other_name)
    assert not is_approval_signature("1" * 64, signature, job, number, name)


@pytest.mark.parametrize("signature", ["", "0" * 63, "0" * 65, "g" * 64, "é" * 64, "\uff10" * 64])
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(BadRequest, match="64 hex digits"):
        is_approval_signature(KEY, signature, UUID(int=1), 1)


@given(JOBS, JOBS, st.text())
def test_tokens(flow: UUID, other: UUID, text: str) -> None:
    token = approval_token(KEY, flow)
    assert is_approval_token(KEY, token, flow)
    assert is_approval_token(KEY, token, other) == (flow == other)
    assert is_approval_token(KEY, text, flow) == (text == token)


@given(st.text())
def test_numbers_of_speakers(name: str) -> None:
    assert 0 <= number_of(name) <= MAX_RESUME_ID
    assert number_of(name) == number_of(name)
