"""Names of clients, and networks that hold them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.addresses import address_of, client_name, covers, is_within, parse_address, parse_network

ADDRESSES = st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None)


@given(ADDRESSES, st.none() | st.integers(0, 65535))
def test_a_client_has_the_address_that_it_is_named_by(address: ipaddress.IPv4Address, port: int | None) -> None:
    assert address_of(client_name(address, port)) == address


@given(st.text(max_size=60))
def test_any_text_is_a_client_with_an_address_or_without(text: str) -> None:
    address = address_of(text)
    assert address is None or str(address)


def test_ipv4_in_ipv6_clothes_is_ipv4() -> None:
    assert address_of("[::ffff:10.0.0.1]:80") == parse_address("10.0.0.1")
    assert parse_network("::ffff:10.0.0.0/104") == ipaddress.ip_network("10.0.0.0/8")
    assert parse_network("::fffe:0:0/95").version == 6
    assert is_within("[::ffff:10.1.2.3]:1", [parse_network("10.0.0.0/8")])


@pytest.mark.parametrize(
    "text",
    ["", "*", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "example.com", "10.0.0.1:80", "[::1]", "1.2.3.04", "10"],
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither an address nor a network|^$"):
        parse_network(text)


@given(ADDRESSES, st.integers(0, 128))
def test_a_network_holds_its_addresses_and_covers_what_is_smaller(address: ipaddress.IPv4Address, bits: int) -> None:
    length = min(bits, address.max_prefixlen)
    network = ipaddress.ip_network((address, length), strict=False)
    single = parse_network(str(address))
    assert is_within(client_name(address, 80), [network])
    assert covers([network], [single])
    assert covers([network], [network])
    assert covers([single], [network]) is (length == address.max_prefixlen)
    assert covers([], []) and not covers([], [network])


@pytest.mark.parametrize("client", ["unix", "unknown", "_x1", "", "1.2.3.4.5", "[::1", "::1"])
def test_clients_without_an_address_are_in_no_network(client: str) -> None:
    assert not is_within(client, [parse_network("0.0.0.0/0"), parse_network("::/0")])
