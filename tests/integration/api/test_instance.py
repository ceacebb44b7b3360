"""Sessions that are renewed, keys of workspaces, many variables at once, test mails."""

from __future__ import annotations

import re
import socket

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.server import Client, Server

LOGIN = {"email": "page@x", "password": "a long password"}


def test_a_session_is_renewed_and_no_other_token_becomes_one(client: Client) -> None:
    assert client.post("/api/users/create", {**LOGIN, "name": "", "super_admin": False}).status == 201
    stranger = client.with_token("")
    session = stranger.post("/api/auth/login", LOGIN).text
    refresh = "/api/users/refresh_token"
    cookie = {"Cookie": f"token={session}"}
    kept = stranger.get(refresh, cookie, if_expiring_in_less_than_s=60)
    assert (kept.status, kept.headers.get("set-cookie")) == (200, None)
    assert stranger.call("HEAD", refresh, headers=cookie).status == 200
    answer = stranger.get(refresh, cookie)
    assert answer.status == 200
    found = re.match(r"token=([A-Za-z0-9]{32}); Path=/; HttpOnly; SameSite=Lax", answer.headers["set-cookie"])
    assert found is not None
    assert stranger.get("/api/users/email", cookie).status == 401  # the old one has ended
    fresh = {"Cookie": f"token={found[1]}"}
    assert stranger.get("/api/users/email", fresh).text == "page@x"
    # A page of another site cannot renew it, nor can tokens that may less.
    assert stranger.get(refresh, {**fresh, "Sec-Fetch-Site": "cross-site"}).status == 403
    for asked in ({}, {"allowed_networks": ["127.0.0.1"]}, {"requests_per_minute": 100}):
        token = client.post("/api/users/tokens/create", asked).text
        answer = client.with_token(token).get(refresh)
        assert (answer.status, answer.text) == (
            400,
            "Bad request: only the session of a browser is renewed; this is another token",
        )
    restricted = client.post("/api/users/tokens/create", {"scopes": ["users:write"]}).text
    assert client.with_token(restricted).get(refresh).status == 403
    code = (
        "import os, urllib.request, urllib.error\n"
        "def main():\n"
        "    fields = {'Authorization': 'Bearer ' + os.environ['WM_TOKEN']}\n"
        "    url = os.environ['BASE_INTERNAL_URL'] + '/api/users/refresh_token'\n"
        "    try:\n"
        "        return urllib.request.urlopen(urllib.request.Request(url, headers=fields)).status\n"
        "    except urllib.error.HTTPError as error:\n"
        "        return error.code\n"
    )
    assert client.preview(code).json() == 403


def test_an_impersonating_token_hands_on_its_own_limits(client: Client) -> None:
    near = client.with_token(client.post("/api/users/tokens/create", {"allowed_networks": ["127.0.0.0/8"]}).text)
    asked = {"impersonate_email": "admin@localhost"}
    assert near.post("/api/users/tokens/impersonate", asked).status == 403
    made = near.post("/api/users/tokens/impersonate", {**asked, "allowed_networks": ["127.0.0.1"]})
    assert made.status == 201
    assert client.with_token(made.text).get("/api/users/email").status == 200


def test_a_new_key_of_the_workspace_ends_view_tokens(client: Client) -> None:
    job = client.submit("u/admin/echo")
    client.ended(job)
    shared = client.get(f"/jobs/job_view_token/{job}").text
    stranger = client.with_token("")
    assert stranger.get(f"/jobs_u/get/{job}", view_token=shared).status == 200
    path = "/workspaces/encryption_key"
    key = client.get(path).json()["key"]
    assert re.fullmatch("[A-Za-z0-9]{64}", key)
    assert client.post(path, {"new_key": "Ab1" * 21 + "x", "skip_reencrypt": True}).status == 200
    assert client.get(path).json() == {"key": "Ab1" * 21 + "x"}
    assert stranger.get(f"/jobs_u/get/{job}", view_token=shared).status != 200
    for wrong in ("short", "-" * 64, "é" * 64, 5):
        assert client.post(path, {"new_key": wrong}).status == 400
    assert client.post(path, {"new_key": key}).status == 200
    assert stranger.get(f"/jobs_u/get/{job}", view_token=shared).status == 200


def test_many_variables_go_at_once_or_none(client: Client, server: Server) -> None:
    dana = server.user("dana")
    for path in ("u/dana/a", "u/dana/b", "u/admin/c"):
        new = {"path": path, "value": "x", "is_secret": False, "description": ""}
        assert client.post("/variables/create", new).status == 201
    answer = dana.call("DELETE", "/variables/delete_bulk", data={"paths": ["u/dana/a", "u/admin/c"]})
    assert answer.status == 400
    assert client.get("/variables/exists/u/dana/a").json() is True
    reader = dana.with_token(dana.post("/api/users/tokens/create", {"scopes": ["variables:write:u/dana/a"]}).text)
    assert reader.call("DELETE", "/variables/delete_bulk", data={"paths": ["u/dana/b"]}).status == 403
    answer = dana.call("DELETE", "/variables/delete_bulk", data={"paths": ["u/dana/a", "u/dana/none", "u/dana/b"]})
    assert (answer.status, answer.json()) == (200, ["u/dana/a", "u/dana/b"])
    assert client.get("/variables/exists/u/admin/c").json() is True
    for wrong in (None, "u/dana/a", [1], ["u/dana/a"] * 1001):
        assert dana.call("DELETE", "/variables/delete_bulk", data={"paths": wrong}).status == 400


def test_what_an_instance_says_of_itself(client: Client) -> None:
    stranger = client.with_token("")
    for path in ("is_smtp_configured", "is_password_login_disabled"):
        assert stranger.get(f"/api/auth/{path}").json() is False
    assert client.get("/api/workspaces/create_workspace_require_superadmin").json() is True
    for username, there in (("admin", True), ("nobody", False)):
        answer = client.post("/api/workspaces/exists_username", {"id": "demo", "username": username})
        assert answer.json() is there


class Mailbox:
    """Takes mails."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, envelope.content))
        return "250 OK"


def test_a_test_mail_arrives(client: Client) -> None:
    mailbox = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        smtp = {"host": "127.0.0.1", "port": port, "username": "", "password": "", "from": "me@x", "disable_tls": True}
        answer = client.post("/api/settings/test_smtp", {"to": "ada@example.com", "smtp": smtp})
        assert (answer.status, answer.text) == (200, "sent to ada@example.com")
    finally:
        controller.stop(no_assert=True)
    [(recipients, content)] = mailbox.mails
    assert recipients == ["ada@example.com"]
    assert b"From: me@x" in content


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"to": "a@x"}, "smtp: there is no mail server in the settings"),
        ({"to": "nobody"}, "to: send an e-mail address"),
        ({"to": "a@x", "smtp": {"host": "h", "port": 0}}, "port: send a whole number"),
        (
            {"to": "a@x", "smtp": {"host": "127.0.0.1", "port": 1, "disable_tls": True}},
            "the mail could not be sent: 127.",
        ),
    ],
)
def test_a_mail_that_cannot_be_sent(client: Client, body: object, text: str) -> None:
    answer = client.post("/api/settings/test_smtp", body)
    assert (answer.status, answer.text.startswith(f"Bad request: {text}")) == (400, True), answer.text
