"""Answers of the admin listener that take a while: they are written one after the other."""

import asyncio
import threading
from collections.abc import Iterable

import aiohttp
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.admin.sharing import Shared
from tests.e2e.conftest import Start, start, upstream
from tests.e2e.running import config
from tests.e2e.scripted import ScriptedUpstream

__all__ = ["start", "upstream"]  # fixtures


async def test_who_asks_meanwhile_shares_the_next() -> None:
    """It is not older than their question; one that leaves takes it from nobody."""
    shared: Shared[int] = Shared()
    begun, go_on, written = threading.Event(), threading.Event(), 0

    def write() -> int:
        nonlocal written
        written += 1
        begun.set()
        assert go_on.wait(30)
        return written

    first = asyncio.ensure_future(shared.of("a", write))
    assert await asyncio.to_thread(begun.wait, 30)
    others = [asyncio.ensure_future(shared.of("a", write)) for _ in range(20)]
    another = asyncio.ensure_future(shared.of("b", write))
    await asyncio.sleep(0)
    others[0].cancel()
    go_on.set()

    assert await first == 1
    assert await asyncio.gather(*others[1:]) == [2] * 19
    assert await another == 3


async def test_what_fails_is_asked_again() -> None:
    shared: Shared[int] = Shared()
    answers = iter([0, 1])
    try:
        await shared.of("a", lambda: 1 // next(answers))
    except ZeroDivisionError:
        assert await shared.of("a", lambda: 1 // next(answers)) == 1


class _Meeting(Collector):
    """Waits for a second scrape while there is one; `met`: it came."""

    def __init__(self) -> None:
        self._two = threading.Barrier(2)
        self.met = False

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            self._two.wait(0.2)
            self.met = True
        except threading.BrokenBarrierError:
            self._two.reset()
        return ()


async def test_many_scrapers(start: Start, upstream: ScriptedUpstream) -> None:
    """Whoever reaches the listener may ask for metrics: each is answered, no two at once."""
    gateway = await start(config(upstream.url))
    meeting = _Meeting()
    gateway.gateway.metrics.registry.register(meeting)

    async def scrape(accept: str) -> int:
        async with aiohttp.ClientSession() as session:
            url = gateway.gateway.admin.url + "/metrics"
            async with session.get(url, headers={"Accept": accept}) as response:
                assert b"oc_gateway_build_info" in await response.read()
                return response.status

    accepted = ["text/plain", "application/openmetrics-text", "*/*", ""] * 3
    assert await asyncio.gather(*map(scrape, accepted)) == [200] * 12
    assert not meeting.met
