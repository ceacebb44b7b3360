"""Behind proxies: who the client is, in the log, in the audit log and for limits; and who is believed."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.server import Client, Server, StartFailed, eventually, serving

#: Where connections begin with a PROXY header, in the addresses of the server.
PLAIN, PROXIED, UNIX = 0, 1, 2
REQUEST = b"GET /api/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("proxied")
    trusted = ("--trusted-proxies", "127.0.0.1", "--trusted-proxies", "10.0.0.0/8", "--trusted-proxies", "unix")
    proxied = ("--proxy-listen", "127.0.0.1:0", "--proxy-listen", f"unix:{directory}/proxied.sock")
    with serving(directory / "data", *trusted, *proxied) as (server, _):
        yield server


def exchange(server: Server, data: bytes, address: int = PROXIED) -> bytes:
    """Everything that is answered to some bytes."""
    where = server.addresses[address]
    if where.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(where.removeprefix("unix:"))
        connection.sendall(data)
    else:
        connection = server.client(address=where).raw(data)
    with connection:
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def client_of(server: Server, marker: str) -> str:
    """Who asked for ``/api/version?marker``, by the log."""

    def probe() -> Any:
        for line in server.log.splitlines():
            if line.startswith("{") and marker in line:
                return json.loads(line)["client"]
        return None

    return str(eventually(probe, f"a line about {marker}"))


def request(marker: str, *fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return (REQUEST % lines.encode()).replace(b"/version", f"/version?{marker}".encode())


def test_a_header_of_either_version_names_the_client(server: Server) -> None:
    v2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 127, 0, 0, 1]) + b"\x10\x00\x01\xbb"
    for name, header, wanted in (
        ("one", b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 443\r\n", "203.0.113.7:4000"),
        ("six", b"PROXY TCP6 2001:db8::7 ::1 4000 443\r\n", "[2001:db8::7]:4000"),
        ("two", v2, "203.0.113.9:4096"),
    ):
        assert exchange(server, header + request(name)).startswith(b"HTTP/1.1 200 ")
        assert client_of(server, name) == wanted
        assert exchange(server, header + request(name + "u"), UNIX).startswith(b"HTTP/1.1 200 ")
        assert client_of(server, name + "u") == wanted


def test_connections_without_a_header_are_cut(server: Server) -> None:
    assert exchange(server, request("bare")) == b""
    assert exchange(server, b"PROXY TCP4 nobody 127.0.0.1 1 2\r\n" + request("bare")) == b""
    # Where none is expected it is a bad request.
    assert exchange(server, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + request("x"), PLAIN).startswith(b"HTTP/1.1 400 ")


def test_fields_count_from_trusted_proxies_alone(server: Server) -> None:
    forged = "X-Forwarded-For: 198.51.100.1"
    assert exchange(server, request("plain", f"{forged}, 203.0.113.7"), PLAIN)
    assert client_of(server, "plain") == "203.0.113.7"
    # The client that the PROXY header names is nobody's proxy: what it writes itself does not count.
    header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 443\r\n"
    assert exchange(server, header + request("stranger", forged))
    assert client_of(server, "stranger") == "203.0.113.7:4000"
    inner = b"PROXY TCP4 10.1.1.1 127.0.0.1 4000 443\r\n"
    assert exchange(server, inner + request("chain", forged + ", 203.0.113.8"))
    assert client_of(server, "chain") == "203.0.113.8"
    assert exchange(server, request("other", "Forwarded: for=198.51.100.1"), PLAIN)
    assert client_of(server, "other").startswith("127.0.0.1:")


def test_nothing_of_a_field_goes_to_the_log_as_it_came(server: Server) -> None:
    assert exchange(server, request("odd", 'X-Forwarded-For: \\r\\n%0a{"a":1}'), PLAIN)
    assert client_of(server, "odd") == "unknown"


def test_limits_and_the_audit_log_go_by_the_client(server: Server) -> None:
    admin = server.client()
    wrong = {"email": "nobody@x", "password": "wrong"}

    def login(address: str, number: int) -> int:
        return admin.post(
            "/api/auth/login", {**wrong, "email": f"{number}@x"}, {"X-Forwarded-For": f"1.2.3.4, {address}"}
        ).status

    assert [login("203.0.113.50", number) for number in range(11)] == [400] * 10 + [429]
    assert login("203.0.113.51", 11) == 400
    made = admin.post("/api/users/tokens/create", {"label": "seen"}, {"X-Forwarded-For": "203.0.113.60"})
    assert made.status == 201
    client = Client(admin.address, made.text)
    client.deploy("u/admin/from_afar", "def main(): pass")
    client.post("/scripts/archive/p/u/admin/from_afar", headers={"X-Forwarded-For": "203.0.113.61"})

    def record() -> Any:
        found = admin.get("/audit/list", resource="u/admin/from_afar", operation="scripts.archive").json()
        return found[0]["parameters"] if found else None

    assert eventually(record, "a record") == {"client": "203.0.113.61", "token": made.text[:10]}


def test_the_cookie_is_secure_and_pages_are_at_home_by_the_word_of_a_proxy(server: Server) -> None:
    admin = server.client()
    admin.post(
        "/api/users/create", {"email": "page@x", "password": "a long password", "name": "", "super_admin": False}
    )
    said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "hooks.example"}
    login = {"email": "page@x", "password": "a long password"}
    answer = Client(admin.address, "").post("/api/auth/login", login, said)
    assert answer.headers["set-cookie"].endswith("; Secure")
    assert not Client(admin.address, "").post("/api/auth/login", login).headers["set-cookie"].endswith("; Secure")


def test_scripts_are_not_believed_on_the_inner_address(server: Server, tmp_path: Path) -> None:
    code = (
        "import os, urllib.request\n"
        "def main():\n"
        "    url = os.environ['BASE_INTERNAL_URL'] + '/api/version?inner'\n"
        "    fields = {'X-Forwarded-For': '203.0.113.99'}\n"
        "    return urllib.request.urlopen(urllib.request.Request(url, headers=fields)).status\n"
    )
    with serving(tmp_path / "data", "--trusted-proxies", "127.0.0.0/8", "--sandbox-network", "none") as (
        started,
        client,
    ):
        answer = client.preview(code)
        assert answer.status == 200, answer.text
        assert answer.json() == 200
        assert not client_of(started, "version?inner").startswith("203.")


def test_tls_begins_after_the_header(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    flags = ("--trusted-proxies", "127.0.0.1", "--proxy-listen", "127.0.0.1:0")
    with serving(tmp_path / "data", *flags, "--tls-cert", str(cert), "--tls-key", str(key)) as (server, _):
        raw = server.client(address=server.addresses[PROXIED]).raw(b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 443\r\n")
        with trust.wrap_socket(raw, server_hostname="127.0.0.1") as secured:
            secured.sendall(request("tls"))
            assert secured.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert client_of(server, "version?tls") == "203.0.113.7:4000"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--trusted-proxies", "10.0.0.1/8"), "trusted_proxies: '10.0.0.1/8' is neither"),
        (("--trusted-proxies", "proxy.example"), "or write unix"),
        (("--proxy-listen", "127.0.0.1:0"), "proxy_listen: nobody may connect there"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, flags: tuple[str, ...], text: str) -> None:
    with pytest.raises(StartFailed) as failed:
        Server(tmp_path / "data", flags).start()
    assert failed.value.code == 2
    assert text in failed.value.errors
