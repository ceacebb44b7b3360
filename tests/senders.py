"""What GitHub, Stripe, Slack and others send: their requests, signed as they sign, and their own libraries' verdict.

Signatures are made by the vendor's library where it can, and by PyNaCl for Discord. GitHub, Shopify and GitLab have none;
theirs are made here (GitHub's against the example in its documentation, in the tests).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import discord_interactions
import stripe
from nacl.signing import SigningKey
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

SCRIPTS: Final = Path(__file__).resolve().parents[1] / "examples" / "scripts"
#: What all the examples are made with; of the size of an Ed25519 seed.
SECRET: Final = "demo-secret-that-everybody-knows"
OTHER_SECRET: Final = "another-secret-of-the-same-size-"
MESSAGE_ID: Final = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_ADDRESS: Final = re.compile(r"^\.\.\.(?P<address>/jobs/run_wait_result/p/\S+)&token=\.\.\.$", re.MULTILINE)

#: The headers for a body, a time in Unix seconds and a secret.
Sign = Callable[[bytes, int, str], dict[str, str]]
#: Whether the vendor's library takes a body with these headers for genuine. It may raise anything instead of saying no.
Verdict = Callable[[bytes, Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body and the headers that came with it."""

    body: bytes
    headers: Mapping[str, str]
    content_type: str = JSON

    def without(self, *names: str) -> Delivery:
        """The same with some headers left out."""
        headers = {name: value for name, value in self.headers.items() if name not in names}
        return Delivery(self.body, headers, self.content_type)

    def replace(self, name: str, old: str, new: str) -> Delivery:
        """The same with another text in a header, which must be there."""
        assert old in self.headers[name], self.headers
        return Delivery(self.body, {**self.headers, name: self.headers[name].replace(old, new)}, self.content_type)


@dataclass(frozen=True, slots=True)
class Sender:
    """A vendor, the script that takes its events, one event, and what the script makes of it."""

    name: str
    script: str
    event: Mapping[str, Any]
    result: Any
    sign: Sign
    #: The header with the signature, and what comes before the signature itself.
    signature: str
    scheme: str = ""
    #: The same for a scheme that is not to be believed.
    other_scheme: str = ""
    #: The header with the signed time, if one is signed.
    time: str = ""
    signs_body: bool = True
    content_type: str = JSON
    verdict: Verdict | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        """Path and query as the script's docstring tells them."""
        found = _ADDRESS.search((SCRIPTS / f"{self.script}.py").read_text(encoding="utf-8"))
        assert found, f"{self.script} does not say how it is called"
        return found["address"]

    @property
    def body(self) -> bytes:
        """The event as the sender would write it."""
        return (form if self.content_type == FORM else compact)(self.event)

    def deliver(self, body: bytes, at: int, secret: str = SECRET) -> Delivery:
        """A body, signed."""
        return Delivery(body, self.sign(body, at, secret), self.content_type)

    def library_believes(self, delivery: Delivery) -> bool:
        """What the vendor's library says; an exception is a no."""
        assert self.verdict is not None
        try:
            return self.verdict(delivery.body, delivery.headers)
        except Exception:
            return False


def compact(event: Mapping[str, Any]) -> bytes:
    """JSON without blanks."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def form(event: Mapping[str, Any]) -> bytes:
    """A form."""
    return urllib.parse.urlencode(event).encode()


def _digest(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def sign_github(body: bytes, at: int, secret: str) -> dict[str, str]:
    """By hand."""
    return {"X-Hub-Signature-256": "sha256=" + _digest(secret, body).hex()}


def sign_shopify(body: bytes, at: int, secret: str) -> dict[str, str]:
    """By hand."""
    return {"X-Shopify-Hmac-Sha256": base64.b64encode(_digest(secret, body)).decode()}


def sign_gitlab(body: bytes, at: int, secret: str) -> dict[str, str]:
    """The secret itself."""
    return {"X-Gitlab-Token": secret}


def sign_stripe(body: bytes, at: int, secret: str) -> dict[str, str]:
    """By Stripe's library."""
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), f"whsec_{secret}", at)
    return {"Stripe-Signature": header}


def believed_by_stripe(body: bytes, headers: Mapping[str, str]) -> bool:
    """Raises if it is not."""
    event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], f"whsec_{SECRET}")
    return bool(event)


def sign_slack(body: bytes, at: int, secret: str) -> dict[str, str]:
    """By Slack's library."""
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(at), body=body)
    assert signature is not None
    return {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(at)}


def believed_by_slack(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether it is, or an exception."""
    return SignatureVerifier(SECRET).is_valid_request(body, dict(headers))


def sign_discord(body: bytes, at: int, secret: str) -> dict[str, str]:
    """By PyNaCl; the secret is the seed of the key."""
    signed = SigningKey(secret.encode()).sign(str(at).encode() + body)
    return {"X-Signature-Ed25519": signed.signature.hex(), "X-Signature-Timestamp": str(at)}


def believed_by_discord(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether it is, or an exception."""
    key = SigningKey(SECRET.encode()).verify_key.encode().hex()
    signature, timestamp = headers["X-Signature-Ed25519"], headers["X-Signature-Timestamp"]
    return bool(discord_interactions.verify_key(body, signature, timestamp, key))


def _standard(secret: str) -> Webhook:
    return Webhook("whsec_" + base64.b64encode(secret.encode()).decode())


def sign_standard(body: bytes, at: int, secret: str, message_id: str = MESSAGE_ID) -> dict[str, str]:
    """By the library of Standard Webhooks."""
    signature = _standard(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def believed_by_standard(body: bytes, headers: Mapping[str, str]) -> bool:
    """Raises if it is not."""
    _standard(SECRET).verify(body, dict(headers), json_parse=False)
    return True


GITHUB: Final = Sender(
    "GitHub",
    "f/github/push",
    {"ref": "refs/heads/größer-🚀", "commits": [{"id": "17", "message": "a/b"}]},
    "1 commits on größer-🚀",
    sign_github,
    signature="X-Hub-Signature-256",
    scheme="sha256=",
    other_scheme="sha1=",
)
STRIPE: Final = Sender(
    "Stripe",
    "f/stripe/event",
    {
        "id": "evt_17",
        "object": "event",
        "type": "invoice.paid",
        "data": {"object": {"id": "in_1", "object": "invoice", "amount_paid": 4200, "description": "größer 🚀 a/b"}},
    },
    {
        "id": "evt_17",
        "type": "invoice.paid",
        "object": {"id": "in_1", "object": "invoice", "amount_paid": 4200, "description": "größer 🚀 a/b"},
    },
    sign_stripe,
    signature="Stripe-Signature",
    scheme="v1=",
    other_scheme="v0=",
    time="Stripe-Signature",
    verdict=believed_by_stripe,
)
SLACK: Final = Sender(
    "Slack",
    "f/slack/command",
    {
        "token": "old",
        "user_name": "ada",
        "command": "/build",
        "text": "größer 🚀 & 17+1",
        "response_url": "https://x/y",
    },
    {"response_type": "ephemeral", "text": "ada: /build größer 🚀 & 17+1"},
    sign_slack,
    signature="X-Slack-Signature",
    scheme="v0=",
    other_scheme="v1=",
    time="X-Slack-Request-Timestamp",
    content_type=FORM,
    verdict=believed_by_slack,
)
DISCORD: Final = Sender(
    "Discord",
    "f/discord/interaction",
    {
        "id": "17",
        "type": 2,
        "token": "for the answer",
        "data": {"name": "say", "options": [{"name": "what", "type": 3, "value": "größer 🚀 a/b"}]},
    },
    {"type": 4, "data": {"content": "/say größer 🚀 a/b", "allowed_mentions": {"parse": []}}},
    sign_discord,
    signature="X-Signature-Ed25519",
    time="X-Signature-Timestamp",
    verdict=believed_by_discord,
)
STANDARD: Final = Sender(
    "Standard Webhooks",
    "f/standard_webhooks/event",
    {"type": "contact.created", "timestamp": "2022-11-03T20:26:10Z", "data": {"id": "17", "name": "größer 🚀 a/b"}},
    {"id": MESSAGE_ID, "type": "contact.created", "data": {"id": "17", "name": "größer 🚀 a/b"}},
    sign_standard,
    signature="webhook-signature",
    scheme="v1,",
    other_scheme="v1a,",
    time="webhook-timestamp",
    verdict=believed_by_standard,
)
SHOPIFY: Final = Sender(
    "Shopify",
    "f/shopify/order",
    {"id": 17, "name": "#1017", "total_price": "42.00", "line_items": [{"title": "größer 🚀 a/b", "quantity": 1}]},
    {"order": "#1017", "total": "42.00", "items": ["größer 🚀 a/b"]},
    sign_shopify,
    signature="X-Shopify-Hmac-Sha256",
)
GITLAB: Final = Sender(
    "GitLab",
    "f/gitlab/push",
    {"ref": "refs/heads/größer-🚀", "total_commits_count": 17, "project": {"path_with_namespace": "ada/engine"}},
    "17 commits on größer-🚀 of ada/engine",
    sign_gitlab,
    signature="X-Gitlab-Token",
    signs_body=False,
)
SENDERS: Final = (GITHUB, STRIPE, SLACK, DISCORD, STANDARD, SHOPIFY, GITLAB)
