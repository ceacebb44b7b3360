"""How the server starts: settings, the printed token, the data directory, scripts from a directory, addresses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.server import ADMIN_TOKEN, Client, Server, StartFailed, descendants

MakeServer = Callable[..., Server]


def test_the_first_line_says_where(make_server: MakeServer) -> None:
    server = make_server(listen=("127.0.0.1:0", "127.0.0.1:0"))
    server.start()
    assert len(set(server.addresses)) == 2
    for address in server.addresses:
        assert server.client(address=address).get("/api/users/whoami").status == 200
    assert server.stop() == 0


def test_the_admin_token_is_printed_once(make_server: MakeServer) -> None:
    server = make_server(admin_token="")
    server.start()
    found = re.findall(r"admin token .*: (\S+)$", server.log, re.MULTILINE)
    assert len(found) == 1
    assert server.client(found[0]).get("/api/users/whoami").json()["super_admin"] is True
    assert server.client(found[0]).preview("def main():\n    return 1").json() == 1
    assert server.stop() == 0
    for file in server.data.rglob("*"):
        assert not file.is_file() or found[0].encode() not in file.read_bytes()
    server.start()
    assert "admin token" not in server.log
    assert server.client(found[0]).get("/api/users/whoami").status == 200
    assert server.client("wrong").get("/api/users/whoami").status == 401


def test_the_token_of_the_settings_is_nowhere_to_be_found(make_server: MakeServer) -> None:
    server = make_server("--log-level", "debug")
    client = server.start()
    assert "admin token" not in server.log
    client.deploy("u/admin/env", "import os\ndef main():\n    return dict(os.environ)")
    client.ended(client.submit("u/admin/env"))
    stranger = client.with_token("")
    assert stranger.get(f"/jobs/list?token={ADMIN_TOKEN}").status == 200
    assert stranger.get("/jobs/list", {"Authorization": f"Bearer {ADMIN_TOKEN}x"}).status == 401
    assert stranger.get(f"/jobs/nothing?x=1&token={ADMIN_TOKEN}").status in (401, 404)
    assert ADMIN_TOKEN not in client.run("u/admin/env").text
    secret = ADMIN_TOKEN.encode()
    looked_at = 0
    for pid in descendants(server.pid):
        with contextlib.suppress(OSError):  # a used child may end meanwhile
            looked_at += 1
            names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
            assert names <= {b"", b"PATH", b"HOME"} or names == {b"", b"TZ"}  # the last: processes that compute
            assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert looked_at >= 3  # the fork server is two processes, and some children wait
    assert secret not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.stop() == 0
    assert ADMIN_TOKEN not in server.log
    for file in server.data.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes()


def test_the_data_directory_is_the_owners_alone(make_server: MakeServer) -> None:
    old = os.umask(0)
    try:
        server = make_server()
        server.start()
    finally:
        os.umask(old)
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert sorted(path.name for path in server.data.iterdir() if path.name.startswith("minwebhook.db"))
    assert server.stop() == 0
    assert not (server.data / "sandbox").exists()


def test_a_second_server_on_the_same_data_does_not_harm_the_first(make_server: MakeServer) -> None:
    first = make_server()
    client = first.start()
    second = make_server(data=first.data)
    try:
        second.start()
    except StartFailed as failed:
        assert failed.code in (1, 2)
        assert "Traceback" not in failed.errors
    else:
        second.stop()
    assert client.preview("def main():\n    return 1").json() == 1


@pytest.mark.parametrize(
    ("flags", "environment", "config", "expected"),
    [
        (("--workers", "x"), {}, None, ["workers", "flag --workers"]),
        (("--workers", "-1"), {}, None, ["workers", "flag --workers"]),
        (("--sandbox", "maybe"), {}, None, ["sandbox", "flag --sandbox", "one of"]),
        (("--listen", "nowhere"), {}, None, ["listen", "nowhere"]),
        (("--listen", "127.0.0.1:99999"), {}, None, ["99999"]),
        (("--tls-cert", "/nothing"), {}, None, ["tls_cert", "tls_key"]),
        (("--config", "/nothing.toml"), {}, None, ["/nothing.toml"]),
        ((), {"MINWEBHOOK_MAX_BODY_BYTES": "1k"}, None, ["max_body_bytes", "environment MINWEBHOOK_MAX_BODY_BYTES"]),
        ((), {"MINWEBHOOK_TYPO": "1"}, None, ["typo", "environment MINWEBHOOK_TYPO"]),
        ((), {}, "typo = 1", ["typo", "file "]),
        ((), {}, "workers = true", ["workers", "file "]),
        ((), {}, "workers = [", ["not valid TOML"]),
    ],
)
def test_bad_settings_end_the_start_with_2_and_name_key_and_origin(
    make_server: MakeServer,
    tmp_path: Path,
    flags: tuple[str, ...],
    environment: dict[str, str],
    config: str | None,
    expected: list[str],
) -> None:
    if config is not None:
        (tmp_path / "settings.toml").write_text(config)
        flags = (*flags, "--config", str(tmp_path / "settings.toml"))
    with pytest.raises(StartFailed) as failed:
        make_server(*flags, environment=environment).start()
    assert failed.value.code == 2
    assert "Traceback" not in failed.value.errors
    message = failed.value.errors.strip().splitlines()[-1]
    for text in expected:
        assert text in message


@pytest.mark.parametrize(
    "arguments", [[], ["serve", "--nonsense"], ["nothing"], ["serve", "--admin-token", ADMIN_TOKEN]]
)
def test_a_command_line_that_is_not_understood(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "minwebhook", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: minwebhook" in done.stderr


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--sandbox", "none"), ["--insecure"]),
        (("--python", "/bin/false"), ["/bin/false"]),
        (("--scripts", "/nothing/at/all"), ["cannot read the directory"]),
    ],
)
def test_what_cannot_work_ends_the_start_with_1(
    make_server: MakeServer, flags: tuple[str, ...], expected: list[str]
) -> None:
    with pytest.raises(StartFailed) as failed:
        make_server(*flags).start()
    assert failed.value.code == 1
    assert "Traceback" not in failed.value.errors
    for text in expected:
        assert text in failed.value.errors


def test_a_taken_port(make_server: MakeServer) -> None:
    first = make_server()
    first.start()
    with pytest.raises(StartFailed) as failed:
        make_server(listen=(first.addresses[0].removeprefix("http://"),)).start()
    assert failed.value.code in (1, 2)
    assert "Traceback" not in failed.value.errors


# --- scripts from a directory -----------------------------------------------------------------------------------------


def history(client: Client, path: str) -> list[str]:
    return [item["script_hash"] for item in client.get(f"/scripts/history/p/{path}").json()]


def test_scripts_are_deployed_and_unchanged_files_make_no_new_version(make_server: MakeServer, tmp_path: Path) -> None:
    root = tmp_path / "scripts"
    (root / "u/admin").mkdir(parents=True)
    (root / "f/team").mkdir(parents=True)
    (root / "u/admin/one.py").write_text("def main():\n    return 1")
    (root / "f/team/two.sh").write_text("echo two")
    (root / "u/admin/.hidden").write_text("not a script")
    server = make_server("--scripts", str(root))
    client = server.start()
    assert (client.run("u/admin/one").json(), client.run("f/team/two").json()) == (1, "two")
    versions = history(client, "u/admin/one")
    assert len(versions) == 1
    assert server.stop() == 0

    client = server.start()
    assert history(client, "u/admin/one") == versions
    assert server.stop() == 0

    (root / "u/admin/one.py").write_text("def main():\n    return 'new'")
    client = server.start()
    assert client.run("u/admin/one").json() == "new"
    assert history(client, "u/admin/one")[1:] == versions
    assert history(client, "f/team/two")[1:] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u/admin/readme.txt", b"x"),
        ("bad.py", b"x"),
        ("u/admin/b@d.py", b"x"),
        ("u/admin/latin.py", b"\xff"),
        ("u/admin/big.py", b"#" * (2 * 1024 * 1024)),
    ],
)
def test_a_file_that_cannot_be_deployed_stops_the_start(
    make_server: MakeServer, tmp_path: Path, name: str, content: bytes
) -> None:
    root = tmp_path / "scripts"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(content)
    with pytest.raises(StartFailed) as failed:
        make_server("--scripts", str(root)).start()
    assert failed.value.code == 1
    assert f"cannot deploy {name}" in failed.value.errors
    assert "Traceback" not in failed.value.errors


# --- addresses --------------------------------------------------------------------------------------------------------


def test_tls(make_server: MakeServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    server = make_server(
        "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"), listen=("127.0.0.1:0",)
    )
    server.start()
    assert server.addresses[0].startswith("https://127.0.0.1:")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client = server.client(address=server.addresses[0].replace("127.0.0.1", "localhost"))
    client.tls = context
    assert client.preview("def main():\n    return 'over TLS'").json() == "over TLS"
    environment = client.preview("import os\ndef main():\n    return dict(os.environ)").json()
    assert environment["WM_BASE_URL"] == server.addresses[0]
    plain = server.client(address=server.addresses[0].replace("https", "http"))
    with pytest.raises(OSError), plain.raw(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        if not connection.recv(100).startswith(b"HTTP"):
            raise ConnectionError("closed")
    client.tls = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.get("/api/version")
    client.tls = context
    assert client.get("/api/version").status == 200
    assert server.stop() == 0


@pytest.mark.parametrize(
    "flags", [("--tls-cert", "{0}/none", "--tls-key", "{0}/none"), ("--tls-cert", "{0}/bad", "--tls-key", "{0}/bad")]
)
def test_certificates_that_cannot_be_read(make_server: MakeServer, tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "bad").write_text("not PEM")
    with pytest.raises(StartFailed) as failed:
        make_server(*(flag.format(tmp_path) for flag in flags)).start()
    assert failed.value.code == 2
    assert "tls" in failed.value.errors
    assert "Traceback" not in failed.value.errors


def test_unix_socket(make_server: MakeServer, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = make_server(listen=(f"unix:{path}", "127.0.0.1:0"))
    server.start()
    client = server.client(address=f"unix:{path}")
    assert client.preview("def main():\n    return 'local'").json() == "local"
    assert stat.S_ISSOCK(path.stat().st_mode)
    server.kill()  # leaves the socket file behind, which must not be in the way
    server.start()
    assert client.get("/api/version").status == 200
    assert server.stop() == 0
    assert not path.exists()


def test_settings_are_listed_without_secrets(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "MINWEBHOOK_ADMIN_TOKEN": ADMIN_TOKEN, "MINWEBHOOK_WORKERS": "3"}
    command = [sys.executable, "-m", "minwebhook", "settings", "--grace-s", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ADMIN_TOKEN not in done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (rows["workers"]["value"], rows["workers"]["origin"]) == (3, "environment MINWEBHOOK_WORKERS")
    assert (rows["grace_s"]["value"], rows["grace_s"]["origin"]) == (2, "flag --grace-s")
    assert (rows["admin_token"]["value"], rows["admin_token"]["flag"]) == ("(hidden)", None)
    assert rows["listen"]["origin"] == "default"


def test_a_database_of_another_program(make_server: MakeServer) -> None:
    server = make_server()
    server.data.mkdir()
    with sqlite3.connect(server.data / "minwebhook.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert failed.value.code == 2
    assert "database of another program" in failed.value.errors
