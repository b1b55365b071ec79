"""Clients that shake hands with a gateway, and tell what they were shown."""

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509

from tests.certificates import Pair
from tests.e2e.scripted import PATIENCE


def anyone() -> ssl.SSLContext:
    """A client of its own that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Shaken:
    """What a handshake came to."""

    serial: int
    """Of the certificate."""
    version: str | None
    protocol: str | None


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def shake(
    url: str, context: ssl.SSLContext | None = None, server_hostname: str | None = None
) -> Shaken:
    """A new connection, cut at once. Without a name, no name is sent."""
    async with asyncio.timeout(PATIENCE):
        _, writer = await asyncio.open_connection(
            *address(url), ssl=context or anyone(), server_hostname=server_hostname
        )
    made: ssl.SSLObject = writer.get_extra_info("ssl_object")
    shown = x509.load_der_x509_certificate(made.getpeercert(binary_form=True) or b"")
    writer.transport.abort()
    return Shaken(shown.serial_number, made.version(), made.selected_alpn_protocol())


async def until_shown(url: str, pair: Pair) -> None:
    """Wait until new connections are shown this certificate."""
    async with asyncio.timeout(PATIENCE):
        while (await shake(url)).serial != pair.serial:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)
