"""Connections over TLS that end: the client's way, ours, and neither."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.http import server
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config, eventually, written
from tests.e2e.scripted import SECOND, Hang, ScriptedUpstream, openai_text, said
from tests.tls.shaking import address

pytestmark = pytest.mark.parametrize("start", ["tls"], indirect=True)

# Far less than a client has for its goodbye, and far more than it takes not to wait for one.
SOON = 10.0


def connect(gateway: Running) -> ssl.SSLSocket:
    """A client on a socket of its own; in a thread, for its handshake takes two."""
    assert gateway.tls is not None
    wire = socket.create_connection(address(gateway.url), timeout=10)
    return gateway.tls.wrap_socket(wire, server_hostname="127.0.0.1")


def _goodbye(client: ssl.SSLSocket) -> None:
    """TLS's own, and the connection stays as it is."""
    client.setblocking(False)
    with suppress(ssl.SSLWantReadError):
        client.unwrap()


def _half_close(client: ssl.SSLSocket) -> None:
    """TCP's, without a goodbye."""
    client.shutdown(socket.SHUT_WR)


def _close(client: ssl.SSLSocket) -> None:
    client.close()


def _reset(client: ssl.SSLSocket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("ask", CHATS)
@pytest.mark.parametrize("leave", [_goodbye, _half_close, _close, _reset])
async def test_however_a_client_leaves(
    start: Start,
    upstream: ScriptedUpstream,
    ask: str,
    leave: Callable[[ssl.SSLSocket], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The upstream is left within a second."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    client = await asyncio.to_thread(connect, gateway)
    await asyncio.to_thread(client.sendall, written(*CHATS[ask]))
    await upstream.until_requests(1)
    if ask != "whole":
        await asyncio.to_thread(_read_until, client, b"Hello")

    leave(client)
    await upstream.until_open(0, timeout=SECOND)
    await gateway.settled()
    client.close()

    assert await gateway.outcomes() == {"client_gone": 1}
    assert not caplog.records


def _read_until(client: ssl.SSLSocket, word: bytes) -> bytes:
    answer = b""
    while word not in answer:
        more = client.recv(1 << 16)
        assert more, f"the end came before {word!r}"
        answer += more
    return answer


async def test_a_stop_waits_for_no_goodbye(start: Start, upstream: ScriptedUpstream) -> None:
    """A client that keeps its connection for the next request does not read that it was closed,
    and so never answers; another one has never asked for anything."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    idle, silent = [await asyncio.to_thread(connect, gateway) for _ in range(2)]
    await asyncio.to_thread(idle.sendall, written(*CHATS["v2"]))
    answer = await asyncio.to_thread(_read_until, idle, b"\r\n0\r\n\r\n")
    assert b"connection: close" not in answer.lower()

    async with asyncio.timeout(SOON):
        await gateway.gateway.stop()

    for client in (idle, silent):
        assert await asyncio.to_thread(client.recv, 1 << 16) == b""
        client.close()


async def test_a_stop_does_not_wait_for_it_in_the_end(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A client that is in the middle of a head when the time is up is hung up on as well."""
    gateway = await start(config(upstream.url, server='drain_timeout = "50ms"'))
    client = await asyncio.to_thread(connect, gateway)
    await asyncio.to_thread(client.sendall, b"POST / HTTP/1.1\r\nHo")
    (connection,) = gateway.gateway.public._runner.connections
    await eventually(lambda: bool(connection._beginning))

    async with asyncio.timeout(SOON):
        await gateway.gateway.stop()
    assert await asyncio.to_thread(client.recv, 1 << 16) == b""
    with socket.socket(fileno=client.detach()) as wire:
        wire.settimeout(SOON)
        assert await asyncio.to_thread(wire.recv, 1) == b"", "only its goodbye came"


# What a client that does not read leaves in this process, and the turn has forgotten.
LEFT = "x" * 60_000


async def _deaf(gateway: Running, **headers: str) -> ssl.SSLSocket:
    """A client that asks and does not read, when its turn is over: little is on its way."""
    client = await asyncio.to_thread(connect, gateway)
    (connection,) = gateway.gateway.public._runner.connections
    assert connection.transport is not None
    wire = connection.transport.get_extra_info("socket")
    for end in (client, wire):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    path, body = CHATS["v2"]
    await asyncio.to_thread(client.sendall, written(path, body, **headers))
    await eventually(lambda: bool(gateway.log_lines()))
    return client


async def test_the_end_of_an_answer_is_not_cut(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has not read it yet has it all the same, although the gateway stops and lets
    go of the connection meanwhile."""
    monkeypatch.setattr(server, "_LAST_REQUEST", 0.1)
    upstream.answers(openai_text(LEFT))
    gateway = await start(config(upstream.url))
    client = await _deaf(gateway)
    (connection,) = gateway.gateway.public._runner.connections
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await eventually(lambda: connection.transport is None)
    await asyncio.sleep(0.3)  # longer than its last words would take

    answer = await asyncio.to_thread(_read_until, client, b"data: [DONE]\n\n")
    assert answer.count(b"x") >= len(LEFT)
    client.close()
    async with asyncio.timeout(SOON):
        await stopping


async def test_who_does_not_read_does_not_break_a_stop(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Its connection was closed with its answer, and is closed again with the gateway."""
    upstream.answers(openai_text(LEFT))
    gateway = await start(config(upstream.url, server='drain_timeout = "50ms"'))
    client = await _deaf(gateway, Connection="close")
    async with asyncio.timeout(SOON):
        await gateway.gateway.stop()
    client.close()


async def test_a_stop_waits_for_handshakes(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was accepted is served, also if the handshake is not over yet."""
    monkeypatch.setattr(server, "_LAST_REQUEST", SOON)
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    wire = socket.create_connection(address(gateway.url), timeout=10)
    await eventually(lambda: gateway.gateway.public._runner.arriving(0.0))
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await _refused(gateway)
    done, _ = await asyncio.wait([stopping], timeout=0.3)
    assert not done

    answer = await asyncio.to_thread(_ask_at_last, gateway, wire)
    async with asyncio.timeout(SOON):
        await stopping
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer


async def _refused(gateway: Running) -> None:
    async with asyncio.timeout(SOON):
        while gateway.gateway.public._runner.sites:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)


def _ask_at_last(gateway: Running, wire: socket.socket) -> bytes:
    assert gateway.tls is not None
    with gateway.tls.wrap_socket(wire, server_hostname="127.0.0.1") as client:
        client.sendall(written(*CHATS["v2"]))
        return _read_until(client, b"data: [DONE]\n\n")


async def test_a_stop_does_not_wait_for_checks(start: Start, upstream: ScriptedUpstream) -> None:
    """Of balancers that connect and hang up, and shake no hands."""
    gateway = await start(config(upstream.url))
    for _ in range(20):
        socket.create_connection(address(gateway.url)).close()
    async with asyncio.timeout(SOON):
        await gateway.gateway.stop()


async def test_what_waits_for_a_client(start: Start, upstream: ScriptedUpstream) -> None:
    """As much as without TLS, before its turn waits as well."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    async with gateway.raw(*CHATS["v2"]) as (reader, _):
        await reader.readuntil(b"Hello")
        (connection,) = gateway.gateway.public._runner.connections
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_limits() == (16 << 10, 64 << 10)
