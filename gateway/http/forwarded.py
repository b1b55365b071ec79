"""Whose a request is, where proxies in front of the gateway hand it on.

Each of them adds the address that it was asked from. So the last one was written by the proxy that
is connected to us, and the first ones by anybody: what is believed is the way back from us, for as
long as those who say it are trusted.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

from gateway.config.listeners import ClientHeader
from gateway.config.model import Server

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# So many proxies stand behind each other nowhere; a header may be long.
_MOST = 32

_HOP = re.compile(
    r'"?(?:'
    r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?"
    r"|([0-9.]{7,15})(?::[0-9]{1,5})?"
    r'|([0-9A-Fa-f:.]{2,45}))"?'
)

# RFC 7239, section 4, but for what values may hold without quotes: ports are sent as they are, too.
_PIECE = re.compile(
    r"[ \t]+|[,;]"
    r'|([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;\\]+))'
)
_LONGEST = 8 << 10


def client_of(request: web.BaseRequest, server: Server) -> str:
    """The address of the client that this request is from; `""` if the connection has gone."""
    peer = request.remote or ""
    if not server.trusted_proxies:
        return peer
    said = request.headers.getall(server.client_header, ())
    return farthest(peer, _HOPS[server.client_header](said), server.trusted_proxies)


def farthest(peer: str, hops: Iterable[str], trusted: Sequence[Network]) -> str:
    """The first address on the way back from `peer` that is not trusted, or the last before
    something that is no address. `hops` are what the proxies said, the nearest to us first."""
    at = _address(peer)
    if at is None:
        return peer
    for hop in hops:
        if not any(at in network for network in trusted):
            break
        found = _HOP.fullmatch(hop.strip(" \t"))
        further = _address(next(filter(None, found.groups()), "")) if found else None
        if further is None:
            break
        at = further
    return str(at)


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _listed(said: Sequence[str]) -> Iterator[str]:
    """X-Forwarded-For, of which several are one."""
    return reversed(",".join(said).rsplit(",", _MOST))


def _forwarded(said: Sequence[str]) -> Iterator[str]:
    """Forwarded (RFC 7239). Of one that is not well-formed nothing is believed: a quote that a
    client opens would make words of its own out of what proxies add behind it."""
    text = ",".join(said)
    hops: list[list[str]] = [[]]
    at = 0
    while at < len(text) <= _LONGEST:
        piece = _PIECE.match(text, at)
        if piece is None:
            break
        at = piece.end()
        if piece[0] == ",":
            hops.append([])
        elif (piece[1] or "").lower() == "for":
            hops[-1].append(piece[2] or piece[3] or "")
    well_formed = at == len(text)
    return (hop[0] if len(hop) == 1 else "" for hop in reversed(hops if well_formed else []))


_HOPS: Final[dict[ClientHeader, Callable[[Sequence[str]], Iterator[str]]]] = {
    "X-Forwarded-For": _listed,
    "Forwarded": _forwarded,
}
