"""Addresses as people write them, and the files of unix sockets."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
import trustme

from minwebhook.errors import SettingsError
from minwebhook.http.listeners import open_listeners
from minwebhook.http.tls import make_context


def test_port_0_is_reported() -> None:
    (listener,) = open_listeners(["127.0.0.1:0"])
    port = listener.socket.getsockname()[1]
    assert listener.address == f"http://127.0.0.1:{port}"
    listener.close()
    listener.close()


def test_ipv6_in_brackets() -> None:
    try:
        (listener,) = open_listeners(["[::1]:0"])
    except SettingsError:
        pytest.skip("no IPv6 on this machine")
    assert listener.address.startswith("http://[::1]:")
    listener.close()


def test_a_name_listens_on_all_its_addresses_with_one_port() -> None:
    listeners = open_listeners(["localhost:0"])
    assert len({listener.socket.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "address",
    [
        *("", "8000", ":8000", "a:", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:٣"),
        *("::1:8000", "[::1]", "unix:", "unix:/nonexistent/x.sock", "unix:/" + "x" * 200, "no such host.invalid:80"),
    ],
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(SettingsError, match="listen"):
        open_listeners([address])


def test_no_address_at_all() -> None:
    with pytest.raises(SettingsError):
        open_listeners([])


def test_a_taken_port_ends_the_start_and_closes_the_others(tmp_path: Path) -> None:
    (taken,) = open_listeners(["127.0.0.1:0"])
    path = tmp_path / "x.sock"
    with pytest.raises(SettingsError, match="cannot listen"):
        open_listeners([f"unix:{path}", taken.address.removeprefix("http://")])
    assert not path.exists()
    taken.close()


def test_unix_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (listener,) = open_listeners([f"unix:{path}"])
    assert listener.address == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(SettingsError, match="another server"):
        open_listeners([f"unix:{path}"])
    listener.close()
    assert not path.exists()


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (listener,) = open_listeners([f"unix:{path}"])
    listener.close()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(SettingsError, match="not a socket"):
        open_listeners([f"unix:{path}"])
    assert path.read_text() == "precious"


def test_the_file_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (first,) = open_listeners([f"unix:{path}"])
    path.unlink()
    (second,) = open_listeners([f"unix:{path}"])
    first.close()
    assert path.exists()
    second.close()


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    one, other = trustme.CA().issue_cert("a"), trustme.CA().issue_cert("a")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    one.cert_chain_pems[0].write_to_path(str(certificate))
    with pytest.raises(SettingsError, match="tls_cert"):
        make_context(str(certificate), str(key))
    other.private_key_pem.write_to_path(str(key))
    with pytest.raises(SettingsError, match="tls_cert"):
        make_context(str(certificate), str(key))
    one.private_key_pem.write_to_path(str(key))
    assert make_context(str(certificate), str(key))
