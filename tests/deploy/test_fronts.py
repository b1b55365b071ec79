"""Through the proxies of deploy/fronts/ a stream is what it is without them: real ones, whose
clients speak HTTP/1.1 and HTTP/2."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from gateway.core.events import Json
from gateway.dialects import DIALECTS
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.wire import json
from tests.deploy.front import CLIENT, REQUEST, Front, address, running
from tests.deploy.programs import FRONTS, NAME, Place, free_port
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config
from tests.e2e.scripted import (
    END,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    openai_text,
    said,
)

pytestmark = [
    pytest.mark.parametrize("front", FRONTS),
    pytest.mark.parametrize("version", ["1.1", "2"]),
]

Put = Callable[..., Awaitable[Front]]

DONE = [chunk(event(finish())), chunk(b"data: [DONE]\n\n"), END]

# What the upstream has said when the client leaves.
STAGES: dict[str, Script] = {"nothing": [Hang], "its first words": [*said("Hello"), Hang]}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
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
async def in_front(front: str, certificate: Path, tmp_path: Path) -> AsyncIterator[Put]:
    """Puts the front in front of a gateway; `gateways` replaces the addresses it has of it."""
    async with AsyncExitStack() as fronts:

        async def put(gateway: Running, *gateways: str) -> Front:
            admin = urlsplit(gateway.gateway.admin.url).port
            assert admin is not None
            addresses = gateways or (address(gateway.url),)
            place = Place(tmp_path, free_port(), addresses, admin, certificate)
            return await fronts.enter_async_context(running(front, place))

        yield put


async def test_events_come_as_they_are_made(
    version: str, start: Start, upstream: ScriptedUpstream, in_front: Put
) -> None:
    """The first one is here while the stream is open, although the client would take it compressed
    and nginx has compression and buffering on."""
    go_on = asyncio.Event()
    upstream.answers([*said("Hello"), Wait(go_on), chunk(event(delta("world"))), *DONE])
    gate = await in_front(await start(config(upstream.url)))

    async with gate.stream(version, *CHATS["v2"]) as stream:
        head = await stream.until(b"\r\n\r\n")
        first = await stream.until(b"\n\n")
        go_on.set()
        rest = await stream.rest()

    assert head.startswith(f"HTTP/{version} 200".encode())
    assert b"content-encoding" not in head.lower()
    assert first == b'data: {"type":"text-delta","text":"Hello"}\n\n'
    assert rest.startswith(b'data: {"type":"text-delta","text":"world"}\n\n')
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_heartbeats_pass(
    version: str,
    start: Start,
    upstream: ScriptedUpstream,
    in_front: Put,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They reach the client while the upstream is silent."""
    monkeypatch.setitem(DIALECTS, "bookbag-v1", replace(BOOKBAG_V1, heartbeat=0.05))
    go_on = asyncio.Event()
    upstream.answers([*said("Hello"), Wait(go_on), *DONE])
    gate = await in_front(await start(config(upstream.url)))

    async with gate.stream(version, *CHATS["v1"]) as stream:
        await stream.until(b"Hello")
        for _ in range(2):
            await stream.until(b": ping\n\n")
        go_on.set()
        assert b"event: done\n" in await stream.rest()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ask", CHATS)
async def test_a_client_that_leaves_takes_its_turn_along(
    version: str,
    ask: str,
    stage: str,
    start: Start,
    upstream: ScriptedUpstream,
    in_front: Put,
) -> None:
    """The gateway hears of it, and the upstream's connection closes."""
    upstream.answers(STAGES[stage])
    gateway = await start(config(upstream.url))
    gate = await in_front(gateway)

    async with gate.stream(version, *CHATS[ask]) as stream:
        await upstream.until_requests(1, timeout=30)
        if ask != "whole" and stage == "its first words":
            await stream.until(b"Hello")
    await upstream.until_open(0, timeout=10)

    await gateway.settled()
    assert await gateway.outcomes() == {"client_gone": 1}


async def test_the_gateway_judges_the_size_of_a_body(
    version: str, start: Start, upstream: ScriptedUpstream, in_front: Put
) -> None:
    """One that it takes passes, and one that it does not is refused in the client's dialect."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    gate = await in_front(gateway)
    path, _ = CHATS["v2"]
    room = gateway.gateway.config.server.max_body
    around = len(_message(0))

    taken = await gate.post(version, path, _message(room - around))
    refused = await gate.answered_early(version, path, _message(room - around + 1))

    assert (taken.status, taken.body[-14:]) == (200, b"data: [DONE]\n\n")
    assert refused.status == 413
    error = json.mapping(json.mapping(json.loads(refused.body)).get("error"))
    assert error["code"] == "VALIDATION_INVALID_BODY"


def _message(length: int) -> bytes:
    said: Json = {"message": "a" * length}
    return json.dumps(said)


async def test_a_gateway_that_is_down_is_passed_over(
    version: str, start: Start, upstream: ScriptedUpstream, in_front: Put
) -> None:
    """Of two, one of which is down, the other one serves every client."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    # By another address of this machine: where nothing listens at the admin listener's port either.
    gate = await in_front(gateway, f"127.0.0.2:{free_port()}", address(gateway.url))
    await gate.until_it_knows()

    replies = [await gate.post(version, *CHATS["v2"]) for _ in range(4)]

    assert [reply.status for reply in replies] == [200] * 4


async def test_what_a_client_says_of_its_address_is_not_passed_on(
    version: str, start: Start, upstream: ScriptedUpstream, in_front: Put
) -> None:
    """The gateway is told the address that the front has seen, whatever the client says."""
    upstream.answers(document({}))
    gate = await in_front(await start(config(upstream.url)), address(upstream.url))

    await gate.post(version, *CHATS["v2"])

    assert upstream.requests[0].headers["x-forwarded-for"] == CLIENT
    assert upstream.requests[0].headers["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    ("server", "client"), [('trusted_proxies = ["127.0.0.1"]', CLIENT), ("", "127.0.0.1")]
)
async def test_the_gateway_knows_whose_a_request_is(
    version: str, server: str, client: str, start: Start, upstream: ScriptedUpstream, in_front: Put
) -> None:
    """By its client's address, once it trusts the front: by default all have the front's. And by
    the id that the client gave it."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, server=server))
    gate = await in_front(gateway)

    await gate.post(version, *CHATS["v2"])

    (line,) = gateway.log_lines()
    assert (line["client"], line["request_id"]) == (client, REQUEST)
