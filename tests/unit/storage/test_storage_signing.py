"""Signed access: a token opens one object, in one storage, for its time."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import PermissionDenied
from minwebhook.storage.keys import ObjectKey
from minwebhook.storage.signing import Signer

SECRET = b"s" * 32
KEY = ObjectKey("a/b.txt")


def fields(token: str) -> tuple[str, str]:
    """``exp`` and ``sig`` as a server reads them."""
    query = parse_qs(token, strict_parsing=True)
    return query["exp"][0], query["sig"][0]


def test_a_token_opens_its_object_until_it_expires() -> None:
    exp, sig = fields(Signer(SECRET).sign(KEY, 1000))
    Signer(SECRET).check(KEY, exp, sig, 999.9)
    with pytest.raises(PermissionDenied, match="expired"):
        Signer(SECRET).check(KEY, exp, sig, 1000)


@pytest.mark.parametrize(
    "signer", [Signer(b"t" * 32), Signer(SECRET, "second"), Signer(SECRET, "")], ids=["secret", "storage", "empty name"]
)
def test_a_token_is_good_for_one_storage(signer: Signer) -> None:
    exp, sig = fields(Signer(SECRET).sign(KEY, 1000))
    with pytest.raises(PermissionDenied, match="does not fit"):
        signer.check(KEY, exp, sig, 0)


@pytest.mark.parametrize(
    "exp", ["1001", "01000", "+1000", "1e9", "", "999999999999999999999", "\uff11\uff10\uff10\uff10"]
)
def test_the_expiry_cannot_be_changed(exp: str) -> None:
    _, sig = fields(Signer(SECRET).sign(KEY, 1000))
    with pytest.raises(PermissionDenied, match="does not fit"):
        Signer(SECRET).check(KEY, exp, sig, 0)


@given(st.text(max_size=70))
def test_no_other_signature_is_taken(sig: str) -> None:
    with pytest.raises(PermissionDenied, match="does not fit"):
        Signer(SECRET).check(KEY, "1000", sig, 0)


def test_fields_cannot_flow_into_each_other() -> None:
    """With plain concatenation these two would be the same text."""
    _, one = fields(Signer(SECRET, "b").sign(ObjectKey("a"), 1))
    _, other = fields(Signer(SECRET).sign(ObjectKey("a&exp=1&storage=b"), 1))
    assert one != other


def test_a_short_secret_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Signer(b"short")
