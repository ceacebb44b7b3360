"""PROXY headers: what is one is read to its last byte and no further, whatever the pieces it comes in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.addresses import client_name
from minwebhook.http.proxy_protocol import MAX_HEADER_BYTES, BadProxyHeader, Proxied, missing, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PORTS = st.integers(0, 65535)
TAILS = st.binary(max_size=40)


def v1(source: object, target: object, port: int, target_port: int) -> bytes:
    family = 4 if isinstance(source, ipaddress.IPv4Address) else 6
    return f"PROXY TCP{family} {source} {target} {port} {target_port}\r\n".encode()


def v2(family: int, body: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def read(stream: bytes) -> tuple[Proxied, bytes]:
    """What a reader that takes no byte too many reads, and what it leaves."""
    header = b""
    while wanted := missing(header):
        taken = stream[len(header) : len(header) + wanted]
        if not taken:
            raise BadProxyHeader("cut off")
        header += taken
    return parse(header), stream[len(header) :]


PLAIN = st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None)


@given(PLAIN, PORTS, PORTS, TAILS, st.lists(st.tuples(st.integers(0x21, 0xFF), st.binary(max_size=30)), max_size=3))
def test_both_versions_say_the_same(
    address: ipaddress.IPv4Address, port: int, target_port: int, tail: bytes, more: list[tuple[int, bytes]]
) -> None:
    wanted = Proxied(client_name(address, port)), tail
    assert read(v1(address, address, port, target_port) + tail) == wanted
    packed = address.packed * 2 + port.to_bytes(2) + target_port.to_bytes(2)
    family = 0x11 if len(address.packed) == 4 else 0x21
    assert read(v2(family, packed + b"".join(tlv(*each) for each in more)) + tail) == wanted


@given(
    st.binary(max_size=200) | st.builds(bytes.__add__, st.sampled_from([b"PROXY ", SIGNATURE]), st.binary(max_size=300))
)
def test_garbage_is_refused_or_a_header(stream: bytes) -> None:
    try:
        proxied, left = read(stream)
    except BadProxyHeader:
        return
    assert stream.endswith(left) and len(stream) - len(left) >= 15
    assert proxied.client is None or proxied.client.isprintable()


def test_what_is_not_the_clients() -> None:
    assert read(b"PROXY UNKNOWN\r\nGET") == (Proxied("unknown"), b"GET")
    assert read(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET") == (Proxied("unknown"), b"GET")
    assert read(v2(0x00, b"", command=0x20) + b"x") == (Proxied(None), b"x")
    assert read(v2(0x31, bytes(216))) == (Proxied("unknown"), b"")
    assert read(v2(0x12, bytes(12))) == (Proxied("unknown"), b"")
    mapped = ipaddress.ip_address("::ffff:203.0.113.7")
    assert read(v2(0x21, mapped.packed * 2 + b"\0\1\0\2"))[0].client == "203.0.113.7:1"


def test_whether_the_client_spoke_tls() -> None:
    body = bytes(12)
    assert read(v2(0x11, body + tlv(0x20, b"\x01" + bytes(4))))[0].is_tls
    assert not read(v2(0x11, body + tlv(0x20, b"\x02" + bytes(4))))[0].is_tls
    assert not read(v2(0x11, body))[0].is_tls


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 80\r\n",
        b"PROXY TCP4 ::1 ::1 80 80\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 80 80\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 80 65536\r\n",
        b"PROXY TCP4 999.0.113.7 10.0.0.1 80 80\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 80 80 \r\n",
        b"PROXY  TCP4 203.0.113.7 10.0.0.1 80 80\r\n",
        b"proxy TCP4 203.0.113.7 10.0.0.1 80 80\r\n",
        b"PROXY UNKNOWNS and more\r\n",
        b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11" + MAX_HEADER_BYTES.to_bytes(2) + bytes(MAX_HEADER_BYTES),
        SIGNATURE + b"\x21\x11\x00\x0e" + bytes(12) + b"\x20\x00",
        SIGNATURE + b"\x21\x11\x00\x0f" + bytes(12) + b"\x20\x00\x09",
    ],
)
def test_what_is_no_header(stream: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read(stream)
