"""What gateway.toml may say of how clients reach a listener: over TLS, through proxies, and in how
many processes."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.config.values import Strict, Text

TlsVersion = Literal["1.2", "1.3"]
ClientHeader = Literal["X-Forwarded-For", "Forwarded"]

# What a zone of limits has places for.
MAX_WORKERS = 256

# Those of IPv6 that stand for addresses of IPv4.
_MAPPED = IPv6Network("::ffff:0:0/96")


def network(value: object) -> IPv4Network | IPv6Network:
    """ "10.0.0.0/8" -> the network; an address alone is one of itself."""
    found = _network(value)
    if found is None:
        raise ValueError('a network such as "10.0.0.0/8" or "fd00::/8", or an address')
    if not found.prefixlen:
        raise ValueError("a network that is not everybody: whoever is in it may say any address")
    return found


def _network(value: object) -> IPv4Network | IPv6Network | None:
    try:
        found = ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        first = found.network_address.ipv4_mapped
        return IPv4Network((first or 0, found.prefixlen - _MAPPED.prefixlen))
    return found


Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(network),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]}),
]


def workers(value: object) -> object:
    """ "auto", or so many."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (whole and value in range(1, MAX_WORKERS + 1)):
        return value
    raise ValueError(f'a whole number from 1 to {MAX_WORKERS}, or "auto" for one on each core')


Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(workers),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}]}
    ),
]


class Tls(Strict):
    """A certificate and its key, in files that are read again when they change."""

    certificate: Text = Field(
        description="A PEM: the certificate, then those that lead to a root. A relative path starts"
        " at this file's folder."
    )
    key: Text = Field(description="A PEM: the certificate's private key, not encrypted.")
    min_version: TlsVersion = Field("1.2", description="The oldest version of TLS that is spoken.")
