"""A mail lets a user who has forgotten the password set another one, and nobody else."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.server import Client, Server, eventually, serving

EMAIL = "grace@x"
LOGIN = {"email": EMAIL, "password": "a forgotten password"}
TOKEN = re.compile(r"^ {4}([A-Za-z0-9]{32})\r?$", re.MULTILINE)


class Mails:
    """What a mail server got."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.got: list[tuple[str, str]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.got += [(recipient, envelope.content.decode()) for recipient in envelope.rcpt_tos]
        return "250 OK"

    def token(self, number: int) -> str:
        """The one that a mail told, counted from 1."""
        eventually(lambda: len(self.got) >= number, "a mail")
        found = TOKEN.search(self.got[number - 1][1])
        assert found is not None, self.got[number - 1]
        return found[1]


@pytest.fixture
def mails() -> Iterator[Mails]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        box = Mails(int(probe.getsockname()[1]))
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop(no_assert=True)


@pytest.fixture
def server(tmp_path: Path, mails: Mails) -> Iterator[tuple[Server, Client]]:
    where = ("--smtp-host", "127.0.0.1", "--smtp-port", str(mails.port), "--smtp-tls", "none")
    with serving(tmp_path / "data", "--workers", "1", *where) as (server, client):
        assert client.post("/api/users/create", LOGIN).status == 201
        yield server, client


def ask(client: Client, email: str = EMAIL) -> int:
    return client.post("/api/auth/request_password_reset", {"email": email}).status


def reset(client: Client, token: str, password: str) -> int:
    return client.post("/api/auth/reset_password", {"token": token, "new_password": password}).status


def login(client: Client, password: str) -> int:
    return client.post("/api/auth/login", {"email": EMAIL, "password": password}).status


def test_a_mail_sets_a_password_once(server: tuple[Server, Client], mails: Mails) -> None:
    machine, client = server
    stranger = client.with_token("")
    session = stranger.post("/api/auth/login", LOGIN).text
    assert ask(stranger, "nobody@x") == 200 and ask(stranger) == 200
    token = mails.token(1)
    assert [recipient for recipient, _ in mails.got] == [EMAIL]
    assert login(stranger, LOGIN["password"]) == 200, "nothing has changed yet"
    assert reset(stranger, token, "short") == 400
    assert reset(stranger, "x" * 32, "another password") == 400
    assert reset(stranger, token, "another password") == 200
    assert (login(stranger, LOGIN["password"]), login(stranger, "another password")) == (400, 200)
    assert client.with_token(session).get("/api/users/email").status == 401
    assert reset(stranger, token, "yet another password") == 400
    # What was told is nowhere on disk, nor in the log.
    files = [path for path in machine.data.rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in files)
    assert token not in machine.log and "another password" not in machine.log


def test_only_the_newest_mail_counts_and_only_for_those_who_may_log_in(
    server: tuple[Server, Client], mails: Mails
) -> None:
    machine, client = server
    stranger = client.with_token("")
    assert ask(stranger) == 200
    first = mails.token(1)
    assert ask(stranger) == 200
    second = mails.token(2)
    assert reset(stranger, first, "another password") == 400
    assert client.post(f"/api/users/update/{EMAIL}", {"disabled": True}).status == 200
    assert reset(stranger, second, "another password") == 400
    assert ask(stranger) == 200
    assert client.post(f"/api/users/update/{EMAIL}", {"disabled": False}).status == 200
    machine.execute("UPDATE password_reset SET expires_at = 1")
    assert reset(stranger, second, "another password") == 400
    assert ask(stranger) == 200
    third = mails.token(3)
    assert client.post(f"/api/users/set_password_of/{EMAIL}", {"password": "by an admin"}).status == 200
    assert reset(stranger, third, "another password") == 400
    assert len(mails.got) == 3


def test_mails_are_not_sent_without_end(server: tuple[Server, Client], mails: Mails) -> None:
    _, client = server
    stranger = client.with_token("")
    assert [ask(stranger) for _ in range(6)] == [200] * 5 + [429]
    assert [ask(stranger, f"{number}@x") for number in range(6)] == [200] * 5 + [429]


def test_without_a_mail_server_it_is_said_who_helps(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--workers", "1") as (_, client):
        answer = client.with_token("").post("/api/auth/request_password_reset", {"email": EMAIL})
        assert (answer.status, "ask an admin" in answer.text) == (400, True)
