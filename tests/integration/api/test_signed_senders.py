"""The example scripts for GitHub, Stripe, Slack, Discord and others believe what these sign, and nothing else.

Every request goes over a socket to a server with the scripts of the examples, at the address that the script's docstring
tells, with the token in the URL, as senders do it. Where the vendor has a library, it must come to the same verdict, but
for differences that are named.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

from tests import senders
from tests.senders import (
    DISCORD,
    GITHUB,
    GITLAB,
    OTHER_SECRET,
    SENDERS,
    SLACK,
    STANDARD,
    STRIPE,
    Delivery,
    Sender,
)
from tests.server import ADMIN_TOKEN, Answer, Client, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the scripts of the examples, and a client that sends no Authorization.

    Without idempotency keys: the samples have one delivery id in many versions of a request.
    """
    data = tmp_path_factory.mktemp("senders") / "data"
    with serving(data, "--scripts", str(senders.SCRIPTS), "--workers", "2", "--idempotency-headers", "") as (_, client):
        yield client.with_token("")


def send(client: Client, sender: Sender, delivery: Delivery, more_query: str = "") -> Answer:
    """A POST of ``delivery`` to the sender's script."""
    target = f"{sender.address}{more_query}&token={ADMIN_TOKEN}"
    return client.call("POST", target, delivery.body, {**delivery.headers, "Content-Type": delivery.content_type})


def assert_refused(answer: Answer) -> None:
    """401 with a reason."""
    assert (answer.status, answer.headers["content-type"]) == (401, "application/json"), answer.text
    assert isinstance(answer.json(), str)


def now() -> int:
    """Unix seconds."""
    return int(time.time())


# --- what is genuine: however the body is written ---------------------------------------------------------------------

Event = Mapping[str, Any]


def text(event: Event) -> str:
    """The usual form of an event."""
    return senders.compact(event).decode()


#: Ways to write one JSON object. Whoever decodes the body and encodes it again gets other bytes for most of them.
WRITTEN_AS_JSON: Final[dict[str, Callable[[Event], str]]] = {
    "compact": text,
    "blanks": lambda event: json.dumps(event, ensure_ascii=False),
    "tabs and CRLF": lambda event: json.dumps(event, ensure_ascii=False, indent="\t").replace("\n", "\r\n"),
    "escaped": lambda event: json.dumps(event, separators=(",", ":")),
    "escaped in capitals": lambda event: text(event).replace("ö", "\\u00F6").replace("🚀", "\\uD83D\\uDE80"),
    "escaped slashes": lambda event: text(event).replace("/", "\\/"),
    "another order": lambda event: text(dict(reversed([*event.items()]))),
    "newline at the end": lambda event: text(event) + "\n",
    "blank at the start": lambda event: " " + text(event),
    "twice the same key": lambda event: f'{{"{next(iter(event))}":"overruled",' + text(event)[1:],
    "numbers": lambda event: text(event)[:-1] + ',"numbers":[1.0,1e2,-0,0.1e-7,12345678901234567890123]}',
    "members named like arguments": lambda event: text(
        {"raw_string": "{}", "stripe_signature": "t=1", "webhook_id": 1, "x_hub_signature_256": [], **event}
    ),
}


def escaped(value: str) -> str:
    """A field of a form with no more escaped than must be."""
    return value.replace("&", "%26").replace("+", "%2B").replace(" ", "+")


#: The same for a form.
WRITTEN_AS_FORM: Final[dict[str, Callable[[Event], str]]] = {
    "usual": urllib.parse.urlencode,
    "%20": lambda event: urllib.parse.urlencode(event, quote_via=urllib.parse.quote),
    "small digits": lambda event: urllib.parse.urlencode(event).replace("%C3%B6", "%c3%b6"),
    "escaped letters": lambda event: urllib.parse.urlencode(event).replace("build", "%62%75ild"),
    "not escaped": lambda event: "&".join(f"{name}={escaped(value)}" for name, value in event.items()),
    "another order": lambda event: urllib.parse.urlencode(dict(reversed([*event.items()]))),
    "twice the same key": lambda event: "text=overruled&" + urllib.parse.urlencode(event),
    "& at the end": lambda event: urllib.parse.urlencode(event) + "&",
    "fields named like arguments": lambda event: urllib.parse.urlencode(
        {"raw_string": "", "x_slack_signature": 1, **event}
    ),
}


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        pytest.param(sender, written, id=f"{sender}, {how}")
        for sender in SENDERS
        for how, written in (WRITTEN_AS_FORM if sender is SLACK else WRITTEN_AS_JSON).items()
    ],
)
def test_a_genuine_event_is_taken_however_it_is_written(
    client: Client, sender: Sender, written: Callable[[Event], str]
) -> None:
    delivery = sender.deliver(written(sender.event).encode(), now())
    answer = send(client, sender, delivery)
    assert (answer.status, answer.json()) == (200, sender.result)
    assert sender.verdict is None or sender.library_believes(delivery)


@pytest.mark.parametrize("sender", [sender for sender in SENDERS if sender.time], ids=str)
@pytest.mark.parametrize("age_s", [-299, 270])
def test_a_clock_may_be_wrong_by_some_minutes(client: Client, sender: Sender, age_s: int) -> None:
    assert send(client, sender, sender.deliver(sender.body, now() - age_s)).json() == sender.result


def test_discord_s_ping_is_answered(client: Client) -> None:
    answer = send(client, DISCORD, DISCORD.deliver(b'{"type":1,"id":"1"}', now()))
    assert (answer.status, answer.json()) == (200, {"type": 1})


def test_an_interaction_of_another_kind_is_a_400(client: Client) -> None:
    assert send(client, DISCORD, DISCORD.deliver(b'{"type":5,"id":"1"}', now())).status == 400


def test_github_s_ping_is_no_push(client: Client) -> None:
    answer = send(client, GITHUB, GITHUB.deliver(b'{"zen":"Design for failure.","hook_id":1}', now()))
    assert (answer.status, answer.json()) == (200, "not a push")


@pytest.mark.parametrize("sender", [STRIPE, STANDARD], ids=str)
@pytest.mark.parametrize("order", [1, -1])
def test_while_a_secret_is_replaced_either_signature_will_do(client: Client, sender: Sender, order: int) -> None:
    at = now()
    theirs, ours = (sender.sign(sender.body, at, secret)[sender.signature] for secret in (OTHER_SECRET, senders.SECRET))
    if sender is STRIPE:
        both = ",".join([f"t={at}", *(header.partition(",")[2] for header in (theirs, ours)[::order]), "v0=1234"])
    else:
        both = " ".join([*(theirs, ours)[::order], "v1a,1234", "v2,"])
    delivery = sender.deliver(sender.body, at)
    delivery = delivery.replace(sender.signature, delivery.headers[sender.signature], both)
    assert send(client, sender, delivery).json() == sender.result
    assert sender.library_believes(delivery)


# --- what is not ------------------------------------------------------------------------------------------------------

Tamper = Callable[[Sender], Delivery]


def genuine(sender: Sender, age_s: int = 0) -> Delivery:
    """What the sender would send."""
    return sender.deliver(sender.body, now() - age_s)


def signature(change: Callable[[str], str]) -> Tamper:
    """A change of the signature alone, without its scheme."""

    def tamper(sender: Sender) -> Delivery:
        delivery = genuine(sender)
        before = delivery.headers[sender.signature].rpartition(sender.scheme or "\n")[2]
        return delivery.replace(sender.signature, before, change(before))

    return tamper


def body(change: Callable[[bytes], bytes]) -> Tamper:
    """Another body than the signed one."""

    def tamper(sender: Sender) -> Delivery:
        changed = change(sender.body)
        assert changed != sender.body
        return Delivery(changed, genuine(sender).headers, sender.content_type)

    return tamper


def moved(age_s: int, to: Callable[[int], str]) -> Tamper:
    """Another time than the signed one."""

    def tamper(sender: Sender) -> Delivery:
        at = now() - age_s
        return sender.deliver(sender.body, at).replace(sender.time, str(at), to(at))

    return tamper


#: Other first digits, in hexadecimal and in base64.
_OTHER: Final = str.maketrans("0123456789abcdefABCDEF", "1032547698badcfeBADCFE")

OF_ANY_SENDER: Final[dict[str, Tamper]] = {
    "another secret": lambda sender: sender.deliver(sender.body, now(), OTHER_SECRET),
    "no signature header": lambda sender: genuine(sender).without(sender.signature),
    "no headers": lambda sender: genuine(sender).without(*genuine(sender).headers),
    "empty signature": signature(lambda _: ""),
    "half of the signature": signature(lambda digits: digits[: len(digits) // 2]),
    "signature without its end": signature(lambda digits: digits[:-1]),
    "signature with one more at the end": signature(lambda digits: digits + "0"),
    "signature with one changed": signature(lambda digits: digits[:5] + digits[5:].translate(_OTHER)),
    "signature not ASCII": signature(lambda digits: digits + "é"),
    "signature of accents": signature(lambda digits: "é" * len(digits)),
}
WITH_SIGNED_BODY: Final[dict[str, Tamper]] = {
    "a byte of the body": body(lambda signed: signed.replace(b"7", b"8", 1)),
    "a byte more": body(lambda signed: signed + b" "),
    "a byte less": body(lambda signed: signed.replace(b"r", b"", 1)),
}
WITH_SCHEME: Final[dict[str, Tamper]] = {
    "another scheme": lambda sender: genuine(sender).replace(sender.signature, sender.scheme, sender.other_scheme),
    "no scheme": lambda sender: genuine(sender).replace(sender.signature, sender.scheme, ""),
    "scheme in capitals": lambda sender: genuine(sender).replace(
        sender.signature, sender.scheme, sender.scheme.upper()
    ),
}
WITH_TIME: Final[dict[str, Tamper]] = {
    "old": lambda sender: genuine(sender, age_s=301),
    "of last year": lambda sender: genuine(sender, age_s=365 * 86400),
    "from the future": lambda sender: genuine(sender, age_s=-330),
    "old, the time replaced": moved(600, lambda _: str(now())),
    "the time a second later": moved(0, lambda at: str(at + 1)),
    "the time not a number": moved(0, lambda _: "now"),
    "the time endless": moved(0, lambda at: f"{at}" + "0" * 5000),
    "the time infinite": moved(0, lambda _: "inf"),
    "no time": moved(0, lambda _: ""),
}

#: Where a library believes what the script does not: Stripe's takes what comes from the future, Discord's looks at no
#: time, and that of Standard Webhooks decodes base64 with more behind it.
LIBRARY_BELIEVES: Final = {
    (STANDARD.name, "signature with one more at the end"),
    (STRIPE.name, "from the future"),
    (DISCORD.name, "old"),
    (DISCORD.name, "of last year"),
    (DISCORD.name, "from the future"),
}


def tampered(sender: Sender) -> dict[str, Tamper]:
    """What can be tampered with in a delivery of ``sender``."""
    return {
        **OF_ANY_SENDER,
        **(WITH_SIGNED_BODY if sender.signs_body else {}),
        **(WITH_SCHEME if sender.scheme else {}),
        **(WITH_TIME if sender.time else {}),
    }


@pytest.mark.parametrize(
    ("sender", "what", "tamper"),
    [
        pytest.param(sender, what, tamper, id=f"{sender}, {what}")
        for sender in SENDERS
        for what, tamper in tampered(sender).items()
    ],
)
def test_what_is_not_genuine_is_refused(client: Client, sender: Sender, what: str, tamper: Tamper) -> None:
    delivery = tamper(sender)
    assert_refused(send(client, sender, delivery))
    if sender.verdict is not None:
        assert sender.library_believes(delivery) == ((sender.name, what) in LIBRARY_BELIEVES)


@pytest.mark.parametrize(
    ("sender", "header"),
    [(sender, header) for sender in SENDERS for header in genuine(sender).headers],
    ids=str,
)
@pytest.mark.parametrize("value", ["x", "é", None, 5, ["x"], {"x": 1}], ids=json.dumps)
def test_a_member_of_the_body_is_no_header(client: Client, sender: Sender, header: str, value: Any) -> None:
    written = senders.compact({**sender.event, header.lower().replace("-", "_"): value})
    delivery = sender.deliver(written, now()).without(header)
    assert_refused(send(client, sender, Delivery(written, delivery.headers)))  # as JSON, where any type can be had


@pytest.mark.parametrize("sender", SENDERS, ids=str)
def test_the_query_does_not_change_what_was_signed(client: Client, sender: Sender) -> None:
    names = [name for name in (*sender.event, "raw_string") if name != "token"]
    more = f"&include_query={','.join(names)}&" + urllib.parse.urlencode(dict.fromkeys(names, "{}"))
    answer = send(client, sender, genuine(sender), more)
    assert (answer.status, answer.json()) == (200, sender.result)


@pytest.mark.parametrize("sender", SENDERS, ids=str)
def test_without_raw_nothing_is_taken(client: Client, sender: Sender) -> None:
    """A body may bring its own ``raw_string``; a signature that once fitted it makes its other members no truer."""
    delivery = genuine(sender)
    target = f"{sender.address}&token={ADMIN_TOKEN}".replace("raw=true&", "")
    headers = {**delivery.headers, "Content-Type": delivery.content_type}
    answer = client.call("POST", target, delivery.body, headers)
    if sender.signs_body:
        assert_refused(answer)
    else:
        assert answer.error["name"] == "JSONDecodeError"
    headers["Content-Type"] = senders.JSON
    replayed = client.call("POST", target, senders.compact({"ref": "x", "raw_string": sender.body.decode()}), headers)
    assert replayed.json() == sender.result


@pytest.mark.parametrize("take", [-1, 1], ids=["from the time to the body", "from the body to the time"])
def test_discord_s_time_ends_where_it_ended(client: Client, take: int) -> None:
    """Nothing stands between the two in what is signed."""
    at = now()
    signed = f"{at}".encode() + DISCORD.body
    end = len(f"{at}") + take
    delivery = Delivery(
        signed[end:],
        {**DISCORD.sign(DISCORD.body, at, senders.SECRET), "X-Signature-Timestamp": signed[:end].decode()},
        "text/plain",
    )
    assert_refused(send(client, DISCORD, delivery))
    assert DISCORD.library_believes(delivery)


def test_an_id_of_standard_webhooks_ends_at_the_first_dot(client: Client) -> None:
    """Or else an old delivery whose body holds a time could be sent again, as a newer and shorter one."""
    old, new = now() - 3600, now()
    signed = f'{{"type":"note","data":".{new}.'.encode(), b'rest"}'
    sent = STANDARD.deliver(b"".join(signed), old)
    start = signed[0].decode().removesuffix(f".{new}.")
    headers = {**sent.headers, "webhook-id": f"{senders.MESSAGE_ID}.{old}.{start}", "webhook-timestamp": str(new)}
    delivery = Delivery(signed[1], headers, "text/plain")
    assert STANDARD.library_believes(delivery)
    assert_refused(send(client, STANDARD, delivery))


@pytest.mark.parametrize("sender", [sender for sender in SENDERS if sender is not DISCORD], ids=str)
def test_secrets_are_compared_in_constant_time(sender: Sender) -> None:
    code = (senders.SCRIPTS / f"{sender.script}.py").read_text(encoding="utf-8")
    assert "hmac.compare_digest(" in code
    assert "expected ==" not in code
    assert "== expected" not in code


def test_gitlab_s_token_says_nothing_about_the_body(client: Client) -> None:
    delivery = body(lambda sent: sent.replace(b"17", b"18"))(GITLAB)
    assert send(client, GITLAB, delivery).json() == "18 commits on größer-🚀 of ada/engine"


# --- more of the surroundings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "is_believed"), [(b"Hello, World!", True), (b"Hello, world!", False)])
def test_github_s_documented_example(client: Client, sent: bytes, is_believed: bool) -> None:
    code = (senders.SCRIPTS / "f/github/push.py").read_text(encoding="utf-8")
    code = code.replace(f'"{senders.SECRET}"', '"It\'s a Secret to Everybody"')
    client.with_token(ADMIN_TOKEN).deploy("f/github/documented", code)
    digits = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    target = GITHUB.address.replace("/push?", "/documented?") + f"&token={ADMIN_TOKEN}"
    headers = {"X-Hub-Signature-256": f"sha256={digits}", "Content-Type": "text/plain"}
    answer = client.call("POST", target, sent, headers)
    if is_believed:
        assert answer.error["name"] == "JSONDecodeError"  # it is believed, and then it is no event
    else:
        assert_refused(answer)


def test_a_sender_that_does_not_wait_is_refused_in_the_job(client: Client) -> None:
    target = GITHUB.address.replace("/run_wait_result/", "/run/") + f"&token={ADMIN_TOKEN}"
    delivery = OF_ANY_SENDER["another secret"](GITHUB)
    answer = client.call("POST", target, delivery.body, {**delivery.headers, "Content-Type": delivery.content_type})
    assert answer.status == 201
    job = client.with_token(ADMIN_TOKEN).ended(answer.text)
    assert job["result"] == {"wm_status_code": 401, "result": "the signature does not fit the body"}
