"""Mails on tokens that expire, with a real mail server: once each, in spite of restarts and a server that is down."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from minwebhook.auth.expiry import WARN_BEFORE_MS, TokenExpiry
from minwebhook.auth.requests import NewToken
from minwebhook.auth.store import AuthStore
from minwebhook.auth.token_store import TokenStore
from minwebhook.db.database import Database
from minwebhook.mail.outbox import MAX_AGE_MS, Outbox
from minwebhook.mail.smtp import Delivery, Mail, MailError
from minwebhook.settings import MailSettings
from minwebhook.times import now_ms

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
PASSWORD = "smtp-canary"


class Mailbox:
    """What a mail server got; answers ``RCPT`` with ``answer``."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.recipients: list[str] = []
        self.answer = "250 OK"
        self.was_encrypted: list[bool] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(BytesParser().parsebytes(envelope.content))
        self.recipients += envelope.rcpt_tos
        assert server.transport is not None
        self.was_encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"


def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    fits = isinstance(data, LoginPassword) and (data.login, data.password) == (b"me", PASSWORD.encode())
    return AuthResult(success=fits)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def controller(mailbox: Mailbox) -> Iterator[Controller]:
    """A mail server without TLS."""
    with Running(mailbox) as controller:
        yield controller


class Running:
    """A mail server that runs in the block, in a thread of its own."""

    def __init__(self, mailbox: Mailbox, **more: Any) -> None:
        self.controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **more)

    def __enter__(self) -> Controller:
        self.controller.start()
        return self.controller

    def __exit__(self, *error: object) -> None:
        self.controller.stop(no_assert=True)


def free_port() -> int:
    """A port that nobody uses now: the controller wants to know it beforehand."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(controller: Controller, **more: Any) -> MailSettings:
    return MailSettings(
        smtp_host="127.0.0.1", smtp_port=controller.port, smtp_timeout_s=5, **{"smtp_tls": "none", **more}
    )


class World:
    """A database with tokens, and what looks after them."""

    def __init__(self, db: Database, settings: MailSettings | None) -> None:
        self.db = db
        self.auth = AuthStore(db)
        self.tokens = TokenStore(db, self.auth)
        self.outbox = Outbox(db, Delivery(settings or MailSettings()))
        self.expiry = TokenExpiry(
            db, sends_mail=settings is not None, on_deleted=self.auth.evict, on_mail=self.outbox.wake
        )

    def waiting(self) -> list[Any]:
        return self.db.read("SELECT * FROM mail ORDER BY id")


async def opened(path: Path, nursery: trio.Nursery) -> Database:
    db = Database.open(path / "minwebhook.db")
    await nursery.start(db.run)
    return db


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> Any:
    db = await opened(tmp_path, nursery)
    await AuthStore(db).bootstrap(1)
    yield db
    db.close()


async def make_token(world: World, expiration_ms: int | None, label: str | None = "door") -> str:
    world.auth.forget()
    admin = world.auth.principal_of("admin@localhost", None)
    return await world.tokens.create(admin, NewToken(label, expiration_ms), 1)


async def until(test: Any) -> None:
    with trio.fail_after(20):
        while not test():  # noqa: ASYNC110 - a mail server in a thread changes it
            await trio.sleep(0.01)


async def test_each_token_is_told_of_once_before_and_once_after(
    db: Database, controller: Controller, mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    world = World(db, settings(controller))
    end = now_ms() + 30 * DAY_MS
    token = await make_token(world, end)
    await make_token(world, None)
    for label in ("session", "Ephemeral-Script", "mcp-oauth-x"):
        await make_token(world, end, label)
    nursery.start_soon(world.outbox.run)
    for at, number in ((end - 8 * DAY_MS, 0), (end - 7 * DAY_MS, 1), (end - 6 * DAY_MS, 1), (end, 2), (end + 1, 2)):
        await world.expiry.look(at)
        await db.write("UPDATE mail SET next_attempt_at = 0")  # that time has come
        world.outbox.wake()
        await until(lambda: not world.waiting())
        assert len(mailbox.mails) == number
    assert mailbox.recipients == ["admin@localhost"] * 2
    assert [mail["Subject"].rpartition(" ")[2] for mail in mailbox.mails] == ["soon", "expired"]
    for mail in mailbox.mails:
        text = str(mail.get_payload())
        assert f"'door' ({token[:10]}****)" in text and token not in text
        assert mail["To"] == "admin@localhost"
    assert db.read("SELECT count(*) FROM token WHERE expiration IS NOT NULL")[0][0] == 0


async def test_a_token_with_less_than_a_week_to_live_is_told_of_at_once_and_a_short_one_only_afterwards(
    db: Database,
) -> None:
    world = World(db, MailSettings(smtp_host="x"))
    start = now_ms()
    await make_token(world, start + HOUR_MS)
    assert await world.expiry.look(start) == (1, 0)
    await make_token(world, start + 1)
    assert await world.expiry.look(start + 2) == (0, 1)
    assert len(world.waiting()) == 2


async def test_without_a_mail_server_tokens_are_deleted_silently(db: Database) -> None:
    world = World(db, None)
    await make_token(world, 5)
    assert await world.expiry.look(now_ms()) == (0, 1)
    assert world.waiting() == []


async def test_a_mail_waits_for_a_server_that_is_down_and_for_the_next_start(
    tmp_path: Path, controller: Controller, mailbox: Mailbox
) -> None:
    dead = MailSettings(smtp_host="127.0.0.1", smtp_port=1, smtp_tls="none")
    async with trio.open_nursery() as first:
        db = await opened(tmp_path, first)
        world = World(db, dead)
        await world.auth.bootstrap(1)
        await make_token(world, now_ms() + DAY_MS)
        await world.expiry.look(now_ms())
        first.start_soon(world.outbox.run)
        await until(lambda: world.waiting()[0]["attempts"] == 1)
        assert world.waiting()[0]["next_attempt_at"] > now_ms()
        first.cancel_scope.cancel()
    db.close()
    async with trio.open_nursery() as second:
        db = await opened(tmp_path, second)
        world = World(db, settings(controller))
        assert await world.expiry.look(now_ms()) == (0, 0)
        await db.write("UPDATE mail SET next_attempt_at = 0")  # the pause is over
        second.start_soon(world.outbox.run)
        await until(lambda: not world.waiting())
        assert len(mailbox.mails) == 1
        second.cancel_scope.cancel()
    db.close()


async def test_who_is_refused_for_good_is_given_up_and_who_is_not_waits(
    db: Database, controller: Controller, mailbox: Mailbox, nursery: trio.Nursery
) -> None:
    world = World(db, settings(controller))
    nursery.start_soon(world.outbox.run)
    await make_token(world, now_ms() + DAY_MS)
    mailbox.answer = "450 later"
    await world.expiry.look(now_ms())
    await until(lambda: world.waiting()[0]["attempts"] == 1)
    mailbox.answer = "550 nobody"
    await db.write("UPDATE mail SET next_attempt_at = 0")
    world.outbox.wake()
    await until(lambda: not world.waiting())
    mailbox.answer = "450 later"
    await make_token(world, now_ms() + DAY_MS)
    await world.expiry.look(now_ms())
    await until(world.waiting)
    await db.write("UPDATE mail SET next_attempt_at = 0, created_at = ?", (now_ms() - MAX_AGE_MS - 1,))
    world.outbox.wake()
    await until(lambda: not world.waiting())
    assert mailbox.mails == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it has TLS from the start
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_mails_go_encrypted_to_a_server_that_is_known_and_wants_a_login(
    tls: str, mailbox: Mailbox, authority: trustme.CA, ca_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    how: dict[str, Any] = {"authenticator": login, "auth_required": True}
    how |= {"tls_context": context} if tls == "starttls" else {"ssl_context": context, "auth_require_tls": False}
    mail = Mail("a@example.com", "s", "b")
    with Running(mailbox, **how) as controller:
        good = settings(controller, smtp_tls=tls, smtp_ca=ca_file, smtp_username="me", smtp_password=PASSWORD)
        await Delivery(good).send(mail)
        assert mailbox.was_encrypted == [True]
        for bad in (
            settings(controller, smtp_tls=tls, smtp_username="me", smtp_password=PASSWORD),  # unknown authority
            settings(controller, smtp_tls=tls, smtp_ca=ca_file, smtp_username="me", smtp_password="wrong-canary"),
        ):
            with pytest.raises(MailError) as refused:
                await Delivery(bad).send(mail)
            assert "canary" not in str(refused.value) and not refused.value.is_final
    assert len(mailbox.mails) == 1


async def test_starttls_is_never_left_out(controller: Controller, mailbox: Mailbox) -> None:
    with pytest.raises(MailError, match="STARTTLS"):
        await Delivery(settings(controller, smtp_tls="starttls")).send(Mail("a@example.com", "s", "b"))
    assert mailbox.mails == []


@pytest.mark.parametrize("recipient", ["", "nobody", "a@b\r\nBcc: c@d", "a@b, c@d", "a@b>\r\nRCPT TO:<c@d"])
async def test_an_address_cannot_be_more_than_one(controller: Controller, mailbox: Mailbox, recipient: str) -> None:
    with pytest.raises(MailError) as refused:
        await Delivery(settings(controller)).send(Mail(recipient, "s", "b"))
    assert refused.value.is_final
    assert mailbox.mails == []


async def test_a_label_cannot_add_fields(controller: Controller, mailbox: Mailbox) -> None:
    await Delivery(settings(controller)).send(Mail("a@example.com", "s\r\nBcc: c@d", ".\r\nb\r\n.\r\nQUIT"))
    assert mailbox.recipients == ["a@example.com"]
    assert mailbox.mails[0]["Bcc"] is None
    assert "QUIT" in str(mailbox.mails[0].get_payload())


def test_a_week_is_seven_days() -> None:
    assert WARN_BEFORE_MS == 7 * DAY_MS
