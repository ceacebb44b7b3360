"""Who the client is behind proxies: nothing that a client writes itself counts."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.addresses import client_name
from minwebhook.http.forwarded import FORWARDED, Client, TrustedProxies, parse_forwarded
from minwebhook.http.messages import Headers

PROXY = "10.0.0.1:4000"
X = TrustedProxies.of(["10.0.0.0/8", "fd00::/8", "unix"])
F = TrustedProxies.of(["10.0.0.0/8", "fd00::/8"], FORWARDED)
#: What can come in a field: h11 and our own parser let nothing else through.
FIELD = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=80)
STRANGERS = st.ip_addresses(v=4, network="203.0.113.0/24") | st.ip_addresses(v=6, network="2001:db8::/32")
NAME = re.compile(r"(?:[0-9.]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|unix|(?:unknown|_[A-Za-z0-9._-]+)(?::[A-Za-z0-9._-]+)?")


def of(proxies: TrustedProxies | None, *fields: tuple[str, str], peer: str = PROXY, scheme: str = "http") -> Client:
    assert proxies is not None
    return proxies.client(peer, scheme, Headers(list(fields)))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([], PROXY),
        (["203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7:51234"], "203.0.113.7:51234"),
        (["203.0.113.7:99999"], "203.0.113.7"),
        (["2001:db8::7"], "[2001:db8::7]"),
        (["[2001:db8::7]"], "[2001:db8::7]"),
        (["[2001:db8::7]:443"], "[2001:db8::7]:443"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),  # the client wrote the left one
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (["203.0.113.7, 10.0.0.2, fd00::2"], "203.0.113.7"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # a client among the proxies
        ([", 203.0.113.7 ,,"], "203.0.113.7"),
        (["203.0.113.7, garbage"], "unknown"),  # nobody steps over what cannot be read
        (["203.0.113.7, unknown"], "unknown"),
        (["203.0.113.7, unix"], "unknown"),
        (["203.0.113.7, 999.1.1.1"], "unknown"),
        (["fe80::1%eth0"], "unknown"),
        (["127.0.0.1\t"], "127.0.0.1"),
    ],
)
def test_x_forwarded_for(values: list[str], name: str) -> None:
    assert of(X, *(("x-forwarded-for", value) for value in values)).name == name


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (["for=203.0.113.7"], "203.0.113.7"),
        (["For=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
        (['for="203.0.113.7:80"'], "203.0.113.7:80"),
        (["for=203.0.113.7:80"], "203.0.113.7:80"),
        (['for="[2001:db8:cafe::17]:4711"'], "[2001:db8:cafe::17]:4711"),
        (['for="[2001:db8:cafe::17]:_p1"'], "[2001:db8:cafe::17]"),
        (["for=198.51.100.1, for=203.0.113.7"], "203.0.113.7"),
        (["for=198.51.100.1", "for=203.0.113.7, for=10.0.0.3"], "203.0.113.7"),
        (["for=198.51.100.1, for=_hidden"], "_hidden"),
        (["for=unknown"], "unknown"),
        (["for=_SEVKISEK"], "_SEVKISEK"),
        (["for=192.0.2.43, proto=http"], "unknown"),  # a proxy that does not tell whom it serves
        (['for="_a b"'], "unknown"),
        (['for="203.0.113.7'], "unknown"),
        (['for="quoted, for=198.51.100.1', "for=203.0.113.7"], "203.0.113.7"),  # ours is a field of its own
        (["for=203.0.113.7;for=198.51.100.1"], "unknown"),
        (['for="\\203.0.113.7"'], "203.0.113.7"),
        (["", " ;, "], PROXY),
    ],
)
def test_forwarded(values: list[str], name: str) -> None:
    assert of(F, *((FORWARDED, value) for value in values)).name == name


def test_only_the_kind_that_the_proxies_write_counts() -> None:
    fields = ("x-forwarded-for", "203.0.113.1"), (FORWARDED, "for=203.0.113.2")
    assert of(X, *fields).name == "203.0.113.1"
    assert of(F, *fields).name == "203.0.113.2"


def test_scheme_and_host_are_those_that_the_client_used() -> None:
    chain = ("x-forwarded-for", "198.51.100.9, 203.0.113.7, 10.0.0.2")
    made_up, real = "ftp, https, http", "evil.example, hooks.example.com, inner"
    several = of(X, chain, ("x-forwarded-proto", made_up), ("x-forwarded-host", real))
    assert several == Client("203.0.113.7", "https", "hooks.example.com")
    single = of(X, chain, ("x-forwarded-proto", "https"), ("x-forwarded-host", "hooks.example.com"))
    assert single == Client("203.0.113.7", "https", "hooks.example.com")
    assert of(F, (FORWARDED, 'for=203.0.113.7;proto=HTTPS;host="h.example:8443"')) == Client(
        "203.0.113.7", "https", "h.example:8443"
    )
    for host in ("a b", "a/b", "x@y", "a\\b", "a:b", "<a>"):
        assert of(X, chain, ("x-forwarded-host", host)).host is None
    assert of(X, chain, ("x-forwarded-proto", "gopher"), scheme="https").scheme == "https"
    # Without a client there is nothing to tell of it.
    assert of(X, ("x-forwarded-proto", "https"), ("x-forwarded-host", "h.example")).scheme == "http"


def test_who_is_trusted() -> None:
    assert X is not None and X.trusts("unix") and X.trusts("10.9.8.7:1") and X.trusts("[::ffff:10.0.0.1]:1")
    assert F is not None and not F.trusts("unix")
    for name in ("11.0.0.1:1", "unknown", "_x", "", "203.0.113.7"):
        assert not X.trusts(name)
    assert TrustedProxies.of([]) is None


@given(st.lists(FIELD, max_size=4), STRANGERS, st.integers(0, 3), st.booleans())
def test_the_client_is_whom_the_first_trusted_proxy_saw(
    made_up: list[str], address: ipaddress.IPv4Address, more: int, own_field: bool
) -> None:
    seen = [str(address), *(f"10.1.0.{number}" for number in range(more))]
    fields = [*made_up[:-1], ", ".join([*made_up[-1:], *seen])] if not own_field else [*made_up, ", ".join(seen)]
    assert of(X, *(("x-forwarded-for", value) for value in fields)).name == client_name(address)
    written = ", ".join(f'for="{client_name(parsed)}"' for parsed in map(ipaddress.ip_address, seen))
    assert of(F, *((FORWARDED, value) for value in [*made_up, written])).name == client_name(address)


@given(st.lists(FIELD, max_size=4), FIELD, FIELD)
def test_nothing_goes_on_as_it_came(values: list[str], scheme: str, host: str) -> None:
    for proxies, name in ((X, "x-forwarded-for"), (F, FORWARDED)):
        fields = [*((name, value) for value in values), ("x-forwarded-proto", scheme), ("x-forwarded-host", host)]
        client = of(proxies, *fields)
        assert NAME.fullmatch(client.name)
        assert client.scheme in ("http", "https")
        assert client.host is None or re.fullmatch(r"[A-Za-z0-9._~:\[\]-]+", client.host)


PAIRS = st.dictionaries(
    st.from_regex(r"[a-z0-9!#$-]{1,8}", fullmatch=True),
    st.text(st.characters(max_codepoint=255), min_size=1, max_size=9),
)


@given(st.lists(PAIRS.filter(bool), max_size=4))
def test_what_is_written_as_the_rfc_says_is_read_as_it_was(elements: list[dict[str, str]]) -> None:
    def quote(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = " , ".join(";".join(f"{name}={quote(value)}" for name, value in each.items()) for each in elements)
    assert parse_forwarded(text.replace("\n", " ")) == [
        {name: value.replace("\n", " ") for name, value in each.items()} for each in elements
    ]


def test_long_chains_end() -> None:
    assert of(X, ("x-forwarded-for", ",".join(["10.0.0.9"] * 20_000))).name == "10.0.0.9"
