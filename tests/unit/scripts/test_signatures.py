"""Signatures that the server checks: how senders sign, and everything that does not fit."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.errors import ApiError, BadRequest, NotAuthorized
from minwebhook.http.messages import Headers
from minwebhook.scripts.signatures import SignatureCheck

SECRETS = {"s": b"secret", "other": b"other"}
BODY = b'{"a": 1}'
NOW = 1_700_000_000.5
GITHUB = {"secret": "s", "header": "X-Hub-Signature-256", "prefix": "sha256="}
SLACK = {
    "secret": "s",
    "header": "X-Slack-Signature",
    "prefix": "v0=",
    "timestamp_header": "X-Slack-Request-Timestamp",
    "message": "v0:{timestamp}:",
}
STANDARD = {
    "secret": "s",
    "header": "webhook-signature",
    "prefix": "v1,",
    "encoding": "base64",
    "id_header": "webhook-id",
    "timestamp_header": "webhook-timestamp",
    "message": "{id}.{timestamp}.",
}
STRIPE = {
    "secret": "s",
    "header": "Stripe-Signature",
    "prefix": "v1=",
    "timestamp_prefix": "t=",
    "message": "{timestamp}.",
}
SHOPIFY = {"secret": "s", "header": "X-Shopify-Hmac-SHA256", "encoding": "base64"}


def mac(message: bytes, algorithm: str = "sha256", secret: bytes = b"secret") -> bytes:
    return hmac.new(secret, message, algorithm).digest()


def verify(check: dict[str, Any], headers: dict[str, str], body: bytes = BODY, pieces: int = 1) -> None:
    fields = Headers([(name.lower(), value) for name, value in headers.items()])
    verification = SignatureCheck.parse("signature", check).begin(fields, SECRETS, NOW)
    for index in range(pieces):
        verification.update(body[len(body) * index // pieces : len(body) * (index + 1) // pieces])
    verification.finish()


GOOD = [
    (GITHUB, {"X-Hub-Signature-256": "sha256=" + mac(BODY).hex()}),
    ({**GITHUB, "algorithm": "sha1", "prefix": "sha1="}, {"X-Hub-Signature-256": "sha1=" + mac(BODY, "sha1").hex()}),
    ({**GITHUB, "algorithm": "sha512", "prefix": ""}, {"X-Hub-Signature-256": mac(BODY, "sha512").hex().upper()}),
    (SHOPIFY, {"X-Shopify-Hmac-SHA256": base64.b64encode(mac(BODY)).decode()}),
    (
        SLACK,
        {
            "X-Slack-Signature": "v0=" + mac(b"v0:1700000000:" + BODY).hex(),
            "X-Slack-Request-Timestamp": "1700000000",
        },
    ),
    (
        STRIPE,
        {"Stripe-Signature": f"t=1700000000,v1={'0' * 64},v1={mac(b'1700000000.' + BODY).hex()},v0=x"},
    ),
    (
        STANDARD,
        {
            "webhook-id": "msg_1",
            "webhook-timestamp": "1700000000",
            "webhook-signature": f"v1,AAAA v1,{base64.b64encode(mac(b'msg_1.1700000000.' + BODY)).decode()} v2,x",
        },
    ),
    ({**SHOPIFY, "encoding": "hex"}, {"X-Shopify-Hmac-SHA256": f"{'0' * 64}, {mac(BODY).hex()}"}),
    ({**SHOPIFY, "encoding": "hex"}, {"X-Shopify-Hmac-SHA256": f"zz {mac(BODY).hex()} {'0' * 64}"}),
]


@pytest.mark.parametrize(("check", "headers"), GOOD)
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_signatures_that_fit(check: dict[str, Any], headers: dict[str, str], pieces: int) -> None:
    verify(check, headers, pieces=pieces)


@pytest.mark.parametrize(("check", "headers"), GOOD)
def test_another_body_or_secret_or_none(check: dict[str, Any], headers: dict[str, str]) -> None:
    for body in (BODY + b"\n", BODY[:-1], b"", BODY.replace(b"1", b"2")):
        with pytest.raises(NotAuthorized, match="does not fit"):
            verify(check, headers, body)
    with pytest.raises(NotAuthorized, match="does not fit"):
        verify({**check, "secret": "other"}, headers)
    with pytest.raises(NotAuthorized, match="has no secret of the name"):
        verify({**check, "secret": "unknown"}, headers)
    for missing in headers:
        with pytest.raises(NotAuthorized, match="is missing"):
            verify(check, {name: value for name, value in headers.items() if name != missing})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "is missing|does not fit"),
        ("sha256=", "does not fit"),
        ("sha256=" + mac(BODY).hex()[:-2], "does not fit"),
        ("sha1=" + mac(BODY).hex(), "does not fit"),
        ("sha256=" + "é" * 64, "does not fit"),
        (" ".join(["sha256=00"] * 1000), "does not fit"),
        (mac(BODY).hex(), "does not fit"),
    ],
)
def test_fields_that_hold_no_signature(value: str, text: str) -> None:
    with pytest.raises(NotAuthorized, match=text):
        verify(GITHUB, {"X-Hub-Signature-256": value})


@pytest.mark.parametrize("timestamp", ["1700000301", "1699999700", "", "x", "1e9", "-1", "٣", "1700000000 ", "9" * 13])
def test_times_that_are_too_far_away_or_none(timestamp: str) -> None:
    signature = "v0=" + mac(f"v0:{timestamp}:".encode() + BODY).hex()
    with pytest.raises(NotAuthorized):
        verify(SLACK, {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": timestamp})


def test_the_tolerance_can_be_set() -> None:
    headers = {
        "X-Slack-Signature": "v0=" + mac(b"v0:1699990000:" + BODY).hex(),
        "X-Slack-Request-Timestamp": "1699990000",
    }
    verify({**SLACK, "tolerance_s": 10_001}, headers)
    with pytest.raises(NotAuthorized, match="not within 300 seconds"):
        verify(SLACK, headers)


def test_a_header_sent_twice_is_refused() -> None:
    value = "sha256=" + mac(BODY).hex()
    fields = Headers([("x-hub-signature-256", value), ("x-hub-signature-256", value)])
    with pytest.raises(NotAuthorized, match="send it once"):
        SignatureCheck.parse("signature", GITHUB).begin(fields, SECRETS, NOW)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "signature must be an object"),
        ({}, "signature.secret is missing"),
        ({"secret": "s"}, "signature.header is missing"),
        ({**GITHUB, "more": 1}, "signature: unknown member 'more'"),
        ({**GITHUB, "header": "a b"}, "signature.header must be the name of a header field"),
        ({**GITHUB, "algorithm": "md5"}, "signature.algorithm must be one of sha1, sha256, sha512"),
        ({**GITHUB, "encoding": "utf-8"}, "signature.encoding must be one of hex, base64"),
        ({**GITHUB, "prefix": 1}, "signature.prefix must be a text"),
        ({**GITHUB, "message": "{timestamp}."}, "signature.message: {timestamp} needs signature.timestamp_header"),
        ({**GITHUB, "message": "{body}"}, "signature.message: {body} needs"),
        ({**STRIPE, "timestamp_header": "a"}, "signature.timestamp_prefix and signature.timestamp_header exclude"),
        ({**GITHUB, "tolerance_s": 0}, "signature.tolerance_s must be"),
        ({**GITHUB, "tolerance_s": True}, "signature.tolerance_s must be"),
        ({**GITHUB, "tolerance_s": 1.5}, "signature.tolerance_s must be"),
        ({**GITHUB, "secret": "a\nb"}, "signature.secret must be a text"),
    ],
)
def test_settings_that_are_refused(value: Any, text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        SignatureCheck.parse("signature", value)
    assert refused.value.detail.startswith(text)


@given(
    st.dictionaries(st.sampled_from(SignatureCheck.__slots__), st.text(max_size=20) | st.integers() | st.none()),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.text(st.characters(codec="latin-1")))),
    st.binary(max_size=50),
)
def test_whatever_is_set_and_sent_it_fits_or_is_refused(
    value: dict[str, Any], fields: list[tuple[str, str]], body: bytes
) -> None:
    try:
        check = SignatureCheck.parse("signature", {"secret": "s", "header": "a", **value})
        verification = check.begin(Headers(fields), {"s": b"x"}, 0)
        verification.update(body)
        verification.finish()
    except ApiError as error:
        assert error.status in (400, 401)
    else:
        raise AssertionError("a random signature fits")


def test_the_algorithms_are_those_of_hashlib() -> None:
    assert {"sha1", "sha256", "sha512"} <= hashlib.algorithms_guaranteed
