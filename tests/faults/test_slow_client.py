"""A client that does not read: the upstream waits with it, and then it is cut."""

import asyncio
import socket
import tracemalloc
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config, written
from tests.e2e.scripted import ScriptedUpstream, chunk, delta, event, finish, head, said, sse

pytestmark = pytest.mark.parametrize("start", ["plain", "tls"], indirect=True)

TEXT = 30_000
PIECE = chunk(event(delta("x" * TEXT)))


@pytest.mark.parametrize("dialect", ["v1", "v2"])
async def test_a_client_that_never_reads_is_cut(
    dialect: str, start: Start, upstream: ScriptedUpstream, stalled: Callable[[], str]
) -> None:
    """200 MB are to come: the upstream is paused, memory stays flat, the turn ends."""
    upstream.answers([*said("Hello"), *[PIECE] * (200_000_000 // len(PIECE))])
    gateway = await start(
        config(upstream.url, server='write_timeout = "300ms"', upstream='max_answer = "1GiB"')
    )
    await gateway.metrics()
    tracemalloc.start()
    try:
        client = await _deaf_client(gateway, dialect)
        await upstream.until_requests(1)
        grown = 0
        async with asyncio.timeout(60):
            while upstream.open:
                await asyncio.sleep(0.01)
                grown = max(grown, tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    client.close()
    await gateway.settled()

    assert await gateway.outcomes() == {stalled(): 1}
    # What the kernel's buffers took was read, and is kept for the conversation until the end.
    relayed = sum((await gateway.counted("oc_gateway_events_total", "upstream")).values()) * TEXT
    assert relayed < 20_000_000
    assert grown - relayed < 4 << 20
    assert upstream.sent < 100_000_000


async def test_a_slow_client_is_not_the_upstreams_fault(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """While the client reads slowly, no clock of the upstream's runs out; nothing is lost."""
    count = 400
    upstream.answers(
        [
            *said("Hello"),
            *[PIECE] * count,
            chunk(event(finish()) + b"data: [DONE]\n\n"),
            *sse()[-1:],
        ]
    )
    gateway = await start(config(upstream.url, clocks='idle = "1s"'))
    client = await _deaf_client(gateway, "v2")
    await upstream.until_requests(1)
    await asyncio.sleep(1.5)  # longer than the upstream may be silent
    answer = await asyncio.to_thread(_read, client)
    client.close()

    assert answer.count(b"x" * TEXT) == count
    assert await gateway.outcomes() == {"complete": 1}


async def test_the_total_clock_runs_for_slow_clients_too(
    start: Start, upstream: ScriptedUpstream, stalled: Callable[[], str]
) -> None:
    """A turn that takes too long is over, whoever is slow."""
    upstream.answers([head(), *[PIECE] * 4000])
    gateway = await start(
        config(
            upstream.url,
            server='write_timeout = "1500ms"',
            upstream='max_answer = "1GiB"',
            clocks='total = "1s"',
        )
    )
    client = await _deaf_client(gateway, "v2")
    await upstream.until_requests(1)
    await upstream.until_open(0)
    client.close()
    await gateway.settled()
    assert await gateway.outcomes() == {stalled(): 1}


async def _deaf_client(gateway: Running, dialect: str) -> socket.socket:
    """A client that has sent its request, with a small window, and reads nothing."""
    return await asyncio.to_thread(_ask, gateway, written(*CHATS[dialect]))


def _read(client: socket.socket) -> bytes:
    """The answer to its end."""
    answer = bytearray()
    while not answer.endswith(b"0\r\n\r\n"):
        more = client.recv(1 << 20)
        assert more, "the end came too early"
        answer += more
    return bytes(answer)


def _ask(gateway: Running, request: bytes) -> socket.socket:
    parts = urlsplit(gateway.url)
    client = socket.socket()
    client.settimeout(30)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((parts.hostname, parts.port))
    if gateway.tls is not None:
        client = gateway.tls.wrap_socket(client, server_hostname=parts.hostname)
    client.sendall(request)
    return client
