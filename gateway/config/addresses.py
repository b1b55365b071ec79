"""The addresses and headers that a config names, checked as far as text can be.

Each reader raises `ValueError` with what is allowed, never with what was found: an address may
hold a password.
"""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, WithJsonSchema

from gateway.core.codec import HEADER_NAME, HEADER_VALUE

# urlsplit drops line ends and tabs without a word, so they are refused before it sees them.
_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_CREDENTIAL = re.compile(
    r"(?:^|[-_])(?:auth|authorization|cookie|(?:api)?[-_]?key|password|token|secret)s?$"
)
_CREDENTIAL_VALUE = re.compile(r"(?:bearer|basic|token) ", re.IGNORECASE)
_USE_CREDENTIAL = "no credential: the upstream's `credential` is for that"
# Of one connection (RFC 9110 section 7.6.1), or written by the gateway itself.
_RESERVED = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",  # codespell:ignore te
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def base_url(value: str) -> str:
    """An upstream's address, without a final slash."""
    parts = _split(value)
    if parts is None or "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError(
            'an address such as "https://api.example.com/v1": http or https, with neither user nor'
            " query nor fragment"
        )
    return value.rstrip("/")


def key_set_url(value: str) -> str:
    """A key set's address: over plain http anybody on the way could put in a key."""
    parts = _split(value)
    if parts is None or "@" in parts.netloc or not _safe(parts):
        raise ValueError("an https address without user; http only to this machine (127.0.0.1)")
    return value


def origin(value: str) -> str:
    """A browser's origin as browsers write it (lower case, no default port), or "*"."""
    if value == "*":
        return value
    parts = _split(value)
    if parts is None or "@" in parts.netloc or parts[2:] != ("", "", "") or value[-1] in "?#":
        raise ValueError(
            'an origin such as "https://www.acme.com" or "http://localhost:3000": scheme, host and'
            ' port, without a path; or "*" for any'
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def store_url(value: str) -> str:
    """Where conversations are kept. A password is a secret, and stands elsewhere."""
    if value == "memory://":
        return value
    if _PRINTABLE.fullmatch(value) and re.fullmatch(r"sqlite:///[^?#]*[^/?#]", value):
        return value
    if _is_postgres(value):
        return value
    raise ValueError(
        '"memory://", "sqlite:///file.db" (a fourth slash begins an absolute path) or'
        ' "postgresql://user@host:5432/database", without a password: `password` is for that'
    )


def _is_postgres(value: str) -> bool:
    if not _PRINTABLE.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("postgresql", "postgres") and parts.port != 0
    except ValueError:
        return False
    secret = parts.password is not None or "password=" in parts.query
    return known and not secret and len(parts.path) > 1 and not parts.fragment


def _split(url: str) -> SplitResult | None:
    """The parts of an http or https URL with a host that can be one, else None."""
    if not _PRINTABLE.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in _DEFAULT_PORTS and parts.port != 0 and _is_host(parts.hostname)
    except ValueError:  # a port that is no number, a bracket that does not close
        return None
    return parts if known else None


def _is_host(host: str | None) -> bool:
    if host and ":" in host:
        return bool(IPv6Address(host))
    return bool(host and _HOST.fullmatch(host))


def _safe(parts: SplitResult) -> bool:
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, as far as its name says so."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def request_path(value: str) -> str:
    """A path with its query, behind an upstream's base_url."""
    if not value.startswith("/") or not _PRINTABLE.fullmatch(value) or "#" in value:
        raise ValueError('a path such as "/models"')
    return value


def header_name(value: str) -> str:
    """The name of a header that an operator may add."""
    if _CREDENTIAL.search(value.lower()):
        raise ValueError(_USE_CREDENTIAL)
    return credential_header(value)


def credential_header(value: str) -> str:
    """The name of the header that a credential is sent in."""
    name = value.lower()
    if not HEADER_NAME.fullmatch(value):
        raise ValueError("a header's name: letters, digits and hyphens")
    if name in _RESERVED or name.startswith("proxy-"):
        raise ValueError("no header that the gateway sets itself or that is of one connection")
    return value


def header_value(value: str) -> str:
    """The value of a header: one line, so that nothing can be smuggled in after it."""
    if _CREDENTIAL_VALUE.match(value):
        raise ValueError(_USE_CREDENTIAL)
    if not HEADER_VALUE.fullmatch(value):
        raise ValueError("one line of printable ASCII, without space around it")
    return value


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


BaseUrl = Annotated[str, AfterValidator(base_url), _schema("^https?://[^?#@]+$")]
KeySetUrl = Annotated[str, AfterValidator(key_set_url), _schema("^https?://[^@]+$")]
StoreUrl = Annotated[
    str, AfterValidator(store_url), _schema("^(memory://|sqlite:///.+|postgres(ql)?://.+)$")
]
Origin = Annotated[str, AfterValidator(origin), _schema("^(https?://[^/?#@]+|[*])$")]
RequestPath = Annotated[str, AfterValidator(request_path)]
HeaderName = Annotated[str, AfterValidator(header_name)]
CredentialHeader = Annotated[str, AfterValidator(credential_header)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
