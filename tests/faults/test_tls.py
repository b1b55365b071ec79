"""TLS to upstreams, and addresses other than 127.0.0.1."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, config
from tests.e2e.scripted import SECOND, Close, Hang, Reset, ScriptedUpstream, openai_text, said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted upstream")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[ScriptedUpstream]:
    """An upstream behind TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with ScriptedUpstream([openai_text("Hello")], tls=context) as running:
        yield running


async def test_an_unknown_certificate_is_refused(start: Start, secure: ScriptedUpstream) -> None:
    """By default nothing is sent to a server that cannot say who it is."""
    gateway = await start(config(secure.url))
    answer = await gateway.chat_v2()

    assert answer.status == 503
    assert answer.error["message"] == "the upstream cannot be reached"
    assert not secure.requests
    assert gateway.gateway.snapshot.clients["main"].open_connections == 0


async def test_a_ca_of_ones_own_is_trusted(
    start: Start, secure: ScriptedUpstream, certificate: Path
) -> None:
    """`verify` names a bundle; connections are kept as without TLS."""
    gateway = await start(config(secure.url, upstream=f'verify = "{certificate}"'))

    assert (await gateway.chat_v2()).text == "Hello"
    assert (await gateway.chat_v2()).text == "Hello"
    assert secure.accepted == 1


async def test_checking_can_be_switched_off(start: Start, secure: ScriptedUpstream) -> None:
    """`verify = false` takes any certificate."""
    gateway = await start(config(secure.url, upstream="verify = false"))
    assert (await gateway.chat_v2()).text == "Hello"


@pytest.mark.parametrize("fault", [Close, Reset])
async def test_a_stream_that_breaks_behind_tls(
    fault: type[Close] | type[Reset], start: Start, secure: ScriptedUpstream
) -> None:
    """It is truncated, as without TLS."""
    secure.answers([*said("Hello"), fault])
    gateway = await start(config(secure.url, upstream="verify = false"))

    assert [name for name, _ in (await gateway.chat_v1()).frames] == ["token", "error"]
    await gateway.settled()


async def test_a_client_that_leaves_behind_tls(start: Start, secure: ScriptedUpstream) -> None:
    """The upstream is left within a second, as without TLS."""
    secure.answers([*said("Hello"), Hang])
    gateway = await start(config(secure.url, upstream="verify = false"))
    async with gateway.raw(*CHATS["v2"]) as (reader, _):
        await reader.readuntil(b"Hello")
    await secure.until_open(0, timeout=SECOND)
    await gateway.settled()


async def test_plain_http_from_a_tls_port_is_unreachable(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A server that does not speak TLS at all."""
    upstream.greeting = [b"HTTP/1.1 400 Bad Request\r\n\r\n", Close]
    url = upstream.url.replace("http:", "https:")
    gateway = await start(config(url))
    answer = await gateway.chat_v2()
    assert answer.status == 503
    await gateway.settled()


async def test_an_ipv6_upstream(start: Start) -> None:
    """The brackets are the URL's, not the address's."""
    async with ScriptedUpstream([openai_text("Hello")], host="::1") as upstream:
        gateway = await start(config(upstream.url))
        assert (await gateway.chat_v2()).text == "Hello"
        assert upstream.requests[0].headers["host"] == upstream.url.removeprefix("http://")
