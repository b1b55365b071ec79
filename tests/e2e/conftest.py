"""A real gateway on real sockets, as production runs it, in front of scripted upstreams."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config.load import load
from gateway.observe.logs import build_logger
from tests.e2e.running import Running
from tests.e2e.scripted import ScriptedUpstream

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that the test scripts."""
    async with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts gateways from the text of a config; they stop with the test."""
    started: list[Running] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(config: str, **environ: str) -> Running:
        path = tmp_path / f"gateway{len(started)}.toml"
        path.write_text(config)
        log = io.BytesIO()
        gateway = Gateway(load(path), tmp_path, build_logger("debug", log), environ)
        await gateway.start()
        session = aiohttp.ClientSession(auto_decompress=False)
        sessions.append(session)
        started.append(Running(gateway, session, log))
        return started[-1]

    yield start
    for session in sessions:
        await session.close()
    for running in started:
        await asyncio.wait_for(running.gateway.stop(), 15)
