"""What several processes count together: limits and metrics."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Sequence
from itertools import islice
from pathlib import Path

from tests.e2e.running import KEY
from tests.e2e.scripted import scripted
from tests.workers.several import Several, answering, config, in_front_of, several

CAPACITY, PERIOD = 100, 500.0

REQUEST = (
    b"GET /api/v2/agents/1/conversations HTTP/1.1\r\nHost: test\r\n"
    b"Authorization: Bearer %b\r\n\r\n" % KEY.encode()
)


async def _burst(gateway: Several, requests: int) -> list[int]:
    """So many requests in a row, on a connection of its own: how each was answered."""
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    statuses = []
    try:
        for _ in range(requests):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head.split(b" ", 2)[1]))
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
    finally:
        writer.transport.abort()
    return statuses


async def test_a_bucket_holds_across_workers(tmp_path: Path, full: bool) -> None:
    """A burst at four workers: what the bucket holds and what it is refilled with meanwhile pass,
    within one."""
    requests = 10_000 if full else 2_000
    tier = f'requests = "{CAPACITY}/{PERIOD:.0f}s"'
    async with several(tmp_path, config(4, tier=tier)) as gateway:
        began = time.monotonic()
        each = await asyncio.gather(*(_burst(gateway, requests // 40) for _ in range(40)))
        took = time.monotonic() - began
        served = [worker["worker"] for worker in await gateway.workers()]
        rejected = await gateway.total("oc_gateway_rate_limit_rejections_total", 'key="web"')
    statuses = [status for burst in each for status in burst]
    refilled = took * CAPACITY / PERIOD
    passed = statuses.count(200)

    assert set(statuses) == {200, 429}
    assert CAPACITY - 1 <= passed <= CAPACITY + refilled + 1
    assert passed >= CAPACITY + refilled - 1 - 1
    assert rejected == len(statuses) - passed
    assert served == [1, 2, 3, 4]


async def _ended(turns: Sequence[Awaitable[tuple[int, bytes]]], count: int) -> list[int]:
    """Once so many of them have been answered: how."""
    first = islice(asyncio.as_completed(turns), count)
    return [(await turn)[0] for turn in first]


async def test_turns_at_once_across_workers(tmp_path: Path) -> None:
    """Never more than the tier allows, whichever workers they are in."""
    held = asyncio.Event()
    tier = 'requests = "1000/1s"\nconcurrency = 5'
    async with (
        scripted(answering(held)) as upstream,
        several(tmp_path, config(4, tier=tier, **in_front_of(upstream.url))) as gateway,
    ):
        turns = [asyncio.ensure_future(gateway.chat()) for _ in range(40)]
        statuses = await _ended(turns, 35)
        await upstream.until_requests(5)
        held.set()
        answers = [status for status, _ in await asyncio.gather(*turns)]
    assert set(statuses) == {429}
    assert (answers.count(200), len(upstream.requests)) == (5, 5)


async def test_max_streams_across_workers(tmp_path: Path) -> None:
    """Each has its part of what a target bears: together they never ask for more."""
    held = asyncio.Event()
    limits = 'max_streams = 5\nqueue = { size = 4, timeout = "500ms" }\nbreaker.enabled = false'
    async with (
        scripted(answering(held)) as upstream,
        several(tmp_path, config(3, **in_front_of(upstream.url, limits))) as gateway,
    ):
        turns = [asyncio.ensure_future(gateway.chat()) for _ in range(60)]
        await upstream.until_requests(5)
        # All others have waited for long enough, or have found the queue full.
        statuses = await _ended(turns, 55)
        limit = await gateway.metrics()
        status = await gateway.status()
        asked = len(upstream.requests)
        held.set()
        answers = [status for status, _ in await asyncio.gather(*turns)]
    assert set(statuses) == {503}
    assert answers.count(200) == 5
    assert asked == 5
    assert limit['oc_gateway_target_max_streams{target="main/m",upstream="main"}'] == 5
    assert (status["targets"][0]["streams"], status["targets"][0]["max_streams"]) == (5, 5)


async def test_ten_scrapes(tmp_path: Path) -> None:
    """Without traffic they say the same, whoever had the requests; a worker that is killed leaves
    no gauge behind, and takes no count along."""
    async with several(tmp_path, config(4)) as gateway:
        await asyncio.gather(*(gateway.chat() for _ in range(40)))
        scrapes = [_counted(await gateway.metrics()) for _ in range(10)]
        pid = (await gateway.pids())[0]
        os.kill(pid, signal.SIGKILL)
        await gateway.until(lambda now: now[0]["restarts"] == 1 and now[0]["answers"])
        after = _counted(await gateway.metrics())

    assert all(scrape == scrapes[0] for scrape in scrapes)
    assert sum(v for s, v in scrapes[0].items() if s.startswith("oc_gateway_turns_total")) == 40
    assert after == scrapes[0]


def _counted(scrape: dict[str, float]) -> dict[str, float]:
    """What only requests change."""
    names = ("oc_gateway_requests_", "oc_gateway_turns_", "oc_gateway_events_", "gen_ai_")
    return {series: value for series, value in scrape.items() if series.startswith(names)}
