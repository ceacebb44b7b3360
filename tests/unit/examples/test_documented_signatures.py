"""The example scripts accept the signatures that the senders' own documentation shows."""

from __future__ import annotations

import time
from typing import Any

import pytest

from examples.scripts.f.discord import interaction
from examples.scripts.f.github import push
from examples.scripts.f.slack import command
from examples.scripts.f.standard_webhooks import event
from examples.scripts.f.stripe import event as stripe_event


def test_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "DEMO_SECRET", "It's a Secret to Everybody")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert push.is_signed("Hello, World!", signature)
    assert not push.is_signed("Hello, World", signature)


def test_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "DEMO_SECRET", "8f742231b10e8888abcd99yyyzzz85a5")
    body = (
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
        "&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
        "%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121."
        "803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert command.is_signed(body, "1531420618", signature)
    assert not command.is_signed(body, "1531420619", signature)
    monkeypatch.setattr(time, "time", lambda: 1531420618.0 + 299)
    assert command.main(body, signature, "1531420618") == {
        "response_type": "ephemeral",
        "text": "roadrunner: /webhook-collect ",
    }


def test_standard_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "DEMO_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    known = ('{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert event.is_signed(*known, f"v1,bm8= {signature}")
    assert not event.is_signed(*known, signature.replace("v1", "v2"))


@pytest.mark.parametrize("script", [stripe_event, command, interaction, event], ids=lambda script: script.__name__)
@pytest.mark.parametrize(
    ("timestamp", "is_recent"),
    [
        ("1699999700", True),
        ("1699999699", False),
        ("1700000300", True),
        ("1700000301", False),
        ("", False),
        ("now", False),
        ("1700000000.0", False),
        ("1" * 5000, False),
    ],
    ids=lambda value: str(value)[:16],
)
def test_the_tolerance_ends_where_it_says(
    monkeypatch: pytest.MonkeyPatch, script: Any, timestamp: str, is_recent: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.9)
    assert script.is_recent(timestamp) is is_recent
