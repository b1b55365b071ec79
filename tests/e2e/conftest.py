"""A real gateway on real sockets, as production runs it, in front of scripted upstreams."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import generate_latest

from gateway.app import Gateway
from gateway.config.load import load
from gateway.http.connection import Connection
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED
from gateway.observe.logs import build_logger
from tests.certificates import pair
from tests.e2e.running import KEY, Running
from tests.e2e.scripted import ScriptedUpstream

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that the test scripts."""
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Says what is noted of a client that does not read. Linux itself may give its connection up
    (ETIMEDOUT) before the gateway does, on a machine whose timers are late: then it has gone."""
    lost: list[BaseException | None] = []
    connection_lost = Connection.connection_lost

    def noted(connection: Connection, exc: BaseException | None) -> None:
        lost.append(exc)
        connection_lost(connection, exc)

    monkeypatch.setattr(Connection, "connection_lost", noted)

    def outcome() -> str:
        given_up = any(isinstance(exc, TimeoutError) for exc in lost)
        return CLIENT_GONE if given_up else CLIENT_STALLED

    return outcome


# What clients and upstreams say in these tests, and what upstreams say went wrong.
_SAID = ("Hello", " world", "on fire", "Where is my order")


def assert_silent(running: Running, secrets: Iterable[str]) -> None:
    """Whatever a test does: no key, no credential and no word of what was said is in the log, at
    its lowest level, or in the metrics."""
    told = running.log.getvalue() + generate_latest(running.gateway.metrics.registry)
    found = [word for word in (*secrets, *_SAID) if word.encode() in told]
    assert not found, f"in the log or the metrics: {found}"


@pytest.fixture
async def start(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Starts gateways from the text of a config; they stop with the test. With the parameter
    "tls", clients speak TLS with them."""
    certificate = pair() if getattr(request, "param", None) == "tls" else None
    started: list[Running] = []
    sessions: list[aiohttp.ClientSession] = []
    secrets = {KEY}

    async def start(config: str, **environ: str) -> Running:
        if certificate is not None:
            config += certificate.write(tmp_path)
        path = tmp_path / f"gateway{len(started)}.toml"
        path.write_text(config)
        log = io.BytesIO()
        gateway = Gateway(load(path), tmp_path, build_logger("debug", log), environ)
        await gateway.start()
        tls = certificate.trusting() if certificate is not None else None
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls or True), auto_decompress=False
        )
        sessions.append(session)
        started.append(Running(gateway, session, log, tls))
        secrets.update(environ.values())
        return started[-1]

    yield start
    for session in sessions:
        await session.close()
    for running in started:
        await asyncio.wait_for(running.gateway.stop(), 15)
        assert_silent(running, secrets)
