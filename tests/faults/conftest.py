"""What the fault tests share: a gateway on real sockets, on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.e2e.conftest import stalled, start, upstream
from tests.e2e.scripted import ScriptedUpstream

__all__ = ["second", "stalled", "start", "upstream"]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop in production, asyncio's own where that does not run: they fail in different ways."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    """Another upstream, to fall back to."""
    async with ScriptedUpstream() as running:
        yield running
