"""Whose a request is: the way back from us, as far as it is told by somebody who is trusted."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.config.listeners import ClientHeader
from gateway.config.model import Server
from gateway.http.forwarded import Address, Network, client_of, farthest

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "198.51.100.7"
TRUSTED = ("10.0.0.0/8", "fd00::/8")


def client(
    *said: str,
    peer: str = PROXY,
    header: ClientHeader = "X-Forwarded-For",
    sent: str = "",
    trusted: tuple[str, ...] = TRUSTED,
) -> str:
    """Whose a request with these headers is."""
    server = Server.model_validate({"trusted_proxies": list(trusted), "client_header": header})
    headers = CIMultiDict([(sent or header, line) for line in said])
    request = make_mocked_request("POST", "/", headers)
    return client_of(request.clone(remote=peer), server)


# Forms.


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("198.51.100.7", CLIENT),
        ("198.51.100.7:4711", CLIENT),
        ('"198.51.100.7:4711"', CLIENT),
        (" \t198.51.100.7 ", CLIENT),
        ("2001:db8::9", "2001:db8::9"),
        ("2001:DB8:0:0:0:0:0:9", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ('"[2001:db8::9]:4711"', "2001:db8::9"),
        ("::ffff:198.51.100.7", CLIENT),
        ("[::ffff:c633:6407]:4711", CLIENT),
    ],
)
def test_an_address(hop: str, address: str) -> None:
    """However proxies write it, it is one: an address of IPv4 is no other one in IPv6."""
    assert client(hop) == address
    assert client(f"198.51.100.99, {hop}") == address


@pytest.mark.parametrize(
    "hop",
    [
        *("", "unknown", "_hidden", "client.example", "198.51.100", "198.51.100.7.8"),
        *("198.51.100.256", "198.51.100.07", "198.51.100.7:", "198.51.100.7:http", "::g"),
        *("198.51.100.7:123456", "[2001:db8::9", "2001:db8::9]", "[198.51.100.7", "[]", "[:]"),
        *("fe80::1%eth0", "[fe80::1%25eth0]", "198.51.100.7/32", "198.51.100.7;", "١٩٨.51.100.7"),
        *("0x7f000001", "2130706433", "1" * 5000, "[" * 5000, '"' * 9, "198.51.100.7 8.8.8.8"),
    ],
)
def test_no_address(hop: str) -> None:
    """The walk ends before it, at the proxy that said it: what is behind it anybody may say."""
    assert client(f"{CLIENT}, {hop}") == PROXY
    assert client(f"{CLIENT}, {hop}, {INNER}") == INNER


# The way back.


@pytest.mark.parametrize(
    ("said", "peer", "address"),
    [
        ((), PROXY, PROXY),
        (("9.9.9.9",), CLIENT, CLIENT),
        ((f"9.9.9.9, {CLIENT}",), PROXY, CLIENT),
        ((f"9.9.9.9,{CLIENT},{INNER}",), PROXY, CLIENT),
        (("9.9.9.9", CLIENT, INNER), PROXY, CLIENT),
        ((f"9.9.9.9, {INNER}", CLIENT), PROXY, CLIENT),
        (("10.0.0.3, 10.0.0.2",), PROXY, "10.0.0.3"),
        ((CLIENT,), "::ffff:10.0.0.1", CLIENT),
        ((CLIENT,), "fd00::1", CLIENT),
        (("fd00::2, 2001:db8::9, fd00::1",), PROXY, "2001:db8::9"),
        ((f"{CLIENT}, ::ffff:10.0.0.2",), PROXY, CLIENT),
        ((CLIENT,), "", ""),
        (("10.0.0.2, " * 5000,), PROXY, PROXY),
    ],
)
def test_the_way_back(said: tuple[str, ...], peer: str, address: str) -> None:
    """From the peer, over everybody who is trusted, to the first who is not."""
    assert client(*said, peer=peer) == address


def test_a_long_list_is_not_all_looked_at() -> None:
    """Nobody has so many proxies; whoever is reached by then is somebody who is trusted."""
    assert client(", ".join(["9.9.9.9", *[INNER] * 5000])) == INNER


def test_nobody_is_trusted_by_default() -> None:
    """Nor is any other header than the one that was chosen."""
    assert client(CLIENT, trusted=()) == PROXY
    assert client(CLIENT, sent="X-Real-IP") == PROXY
    assert client(f"for={CLIENT}", sent="Forwarded") == PROXY
    assert client(CLIENT, header="Forwarded", sent="X-Forwarded-For") == PROXY


def test_networks_of_the_config() -> None:
    """An address is a network of one; those of IPv4 in IPv6 are those of IPv4."""
    assert client(CLIENT, trusted=(PROXY,)) == CLIENT
    assert client(f"{CLIENT}, {INNER}", trusted=(PROXY,)) == INNER
    assert client(CLIENT, trusted=("::ffff:10.0.0.0/104",)) == CLIENT


# Forwarded.


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (("for=198.51.100.7",), CLIENT),
        (("For=198.51.100.7;proto=https;by=10.0.0.1",), CLIENT),
        (('by="_x";for="198.51.100.7:4711"',), CLIENT),
        (("for=198.51.100.7:4711",), CLIENT),
        (('for="[2001:db8::9]:4711"',), "2001:db8::9"),
        (('for="\\[2001:db8::9\\]"',), PROXY),
        (("for=9.9.9.9, for=198.51.100.7",), CLIENT),
        (("for=9.9.9.9", "for=198.51.100.7 , for=10.0.0.2"), CLIENT),
        (('for=9.9.9.9, for=198.51.100.7;host="a,b;for=8.8.8.8"',), CLIENT),
        (("for=198.51.100.7, proto=https",), PROXY),
        (("for=198.51.100.7;for=8.8.8.8",), PROXY),
        (("for=198.51.100.7, for=unknown",), PROXY),
        (("for=198.51.100.7, ",), PROXY),
        (("198.51.100.7",), PROXY),
        (('for="198.51.100.7',), PROXY),
        (("for=198.51.100.7" + " " * 9000,), PROXY),
        (("for=198.51.100.7, for=" + "10.0.0.2, for=" * 2000,), PROXY),
    ],
)
def test_forwarded(said: tuple[str, ...], address: str) -> None:
    """The newer header, as RFC 7239 has it; one that is not well-formed says nothing."""
    assert client(*said, header="Forwarded") == address


_FORGED = st.text(st.sampled_from('for=98.[:],;"\\ \tby_'), max_size=60)
_ADDED = st.sampled_from(
    [
        *("for=198.51.100.7", "for=198.51.100.7;proto=https", 'for="198.51.100.7:4711"'),
        *('by="10.0.0.1";for="198.51.100.7"', 'for=198.51.100.7;host="a,b"'),
    ]
)


@given(forged=_FORGED, added=_ADDED)
def test_no_quote_of_a_clients_hides_what_a_proxy_adds(forged: str, added: str) -> None:
    """Whatever it sends, in one line with the proxy's words or before it."""
    for said in ((f"{forged}, {added}",), (forged, added)):
        assert client(*said, header="Forwarded") in (CLIENT, PROXY)


# Any.

_V4 = st.ip_addresses(v=4)
_V6 = st.ip_addresses(v=6).filter(lambda address: address not in ip_network("::ffff:0:0/96"))
_ADDRESSES = st.one_of(_V4, _V6)
_INSIDE = st.one_of(st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="fd00::/8"))
_OUTSIDE = _ADDRESSES.filter(lambda address: not _is_inside(address))
NETWORKS: tuple[Network, ...] = (ip_network(TRUSTED[0]), ip_network(TRUSTED[1]))


def _is_inside(address: Address) -> bool:
    return any(address in network for network in NETWORKS)


def _written(address: Address, way: int) -> str:
    """In one of the forms in which proxies write it."""
    if isinstance(address, IPv4Address):
        mapped = IPv6Address(f"::ffff:{address}")
        return [f"{address}", f"{address}:80", f'"{address}"', f"{mapped}", f"[{mapped}]:1"][way]
    return [f"{address}", f"[{address}]:80", f'"[{address}]"', address.exploded, f"[{address}]"][
        way
    ]


@given(
    forged=st.lists(st.text(max_size=20), max_size=5),
    client_address=_OUTSIDE,
    proxies=st.lists(_INSIDE, min_size=1, max_size=5),
    way=st.integers(0, 4),
)
def test_nothing_that_a_client_says_counts(
    forged: list[str], client_address: Address, proxies: list[Address], way: int
) -> None:
    """Whatever stands before what the first proxy saw."""
    *passed, peer = proxies
    hops = [*forged, _written(client_address, way), *(_written(proxy, way) for proxy in passed)]

    assert farthest(str(peer), reversed(hops), NETWORKS) == str(client_address)


@given(peer=_OUTSIDE, hops=st.lists(st.one_of(st.text(max_size=20), _ADDRESSES.map(str))))
def test_nothing_that_a_stranger_says_counts(peer: Address, hops: list[str]) -> None:
    """Who is not trusted is who asks."""
    assert farthest(str(peer), hops, NETWORKS) == str(peer)


@given(peer=_INSIDE, hops=st.lists(st.one_of(st.text(max_size=20), _INSIDE.map(str))))
def test_it_is_an_address_in_any_case(peer: Address, hops: list[str]) -> None:
    """One that was said, in the one form in which it is written: a text of a client's that gets
    into limits and logs would be anything."""
    found = farthest(str(peer), hops, NETWORKS)

    assert str(ip_address(found)) == found


@given(said=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=200))
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_any_header(header: ClientHeader, said: str) -> None:
    """Nothing fails."""
    ip_address(client(said, header=header))
