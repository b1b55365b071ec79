"""An upstream that is down for a minute, and twenty callers who ask in the meantime.

    python -m tests.drills.outage

Time is compressed: a second of the drill stands for ten. What is printed is how often the upstream
was asked for each caller, and how long the caller waited, without a breaker and with one.
"""

import asyncio
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from gateway.app import Gateway
from gateway.config.load import load
from gateway.observe.logs import build_logger
from tests.e2e.running import Running, config
from tests.e2e.scripted import Hang, ScriptedUpstream, openai_text

CALLERS = 20
OUTAGE = 6.0

# An upstream that accepts and says nothing: the dearest way to be down. Ten times as long in truth.
SETTINGS = """timeouts = { first_event = "500ms" }
retry_after_send = true
breaker = { enabled = %s, failures = 5, open_for = "1s" }"""


@dataclass(frozen=True, slots=True)
class Called:
    """One caller's experience."""

    status: int
    attempts: int
    seconds: float
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class Drill:
    """One outage, and how it ended."""

    calls: Sequence[Called]
    recovered: float
    """Seconds from the end of the outage to the first answer."""

    @property
    def attempts(self) -> int:
        return sum(call.attempts for call in self.calls)

    @property
    def median(self) -> float:
        return median(call.seconds for call in self.calls)


async def outage(folder: Path, *, breaker: bool) -> Drill:
    """Twenty callers spread over the outage; then one after the other, until one is answered."""
    async with ScriptedUpstream() as upstream, aiohttp.ClientSession() as session:
        upstream.answers(*[[Hang]] * (4 * CALLERS))
        path = folder / f"breaker-{breaker}.toml"
        path.write_text(config(upstream.url, upstream=SETTINGS % str(breaker).lower()))
        log = io.BytesIO()
        gateway = Gateway(load(path), folder, build_logger("info", log))
        await gateway.start()
        try:
            running = Running(gateway, session, log)
            calls = await _spread(running)
            upstream.scripts.clear()
            upstream.answers(*[openai_text("Hello")] * CALLERS)
            return Drill(calls, await _recovery(running))
        finally:
            await gateway.stop()


async def _spread(running: Running) -> list[Called]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    calling: list[asyncio.Task[Called]] = []
    for number in range(CALLERS):
        await asyncio.sleep(began + number * OUTAGE / CALLERS - loop.time())
        calling.append(asyncio.ensure_future(_call(running)))
    return await asyncio.gather(*calling)


async def _call(running: Running) -> Called:
    began = time.monotonic()
    answer = await running.chat_v2()
    seconds, request_id = time.monotonic() - began, answer.headers["x-request-id"]
    line = next(line for line in running.log_lines() if line.get("request_id") == request_id)
    attempts, after = line["attempts"], answer.headers.get("retry-after")
    assert isinstance(attempts, int)
    return Called(answer.status, attempts, seconds, int(after) if after else None)


async def _recovery(running: Running) -> float:
    began = time.monotonic()
    while (call := await _call(running)).status != 200:
        # Nothing but the breaker is in the way now; and on a slow machine, the clock once more.
        assert call.status in (503, 504)
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def table(drills: dict[str, Drill]) -> Iterator[str]:
    """What the callers met."""
    yield f"{'caller':>8}" + "".join(f"{name:>36}" for name in drills)
    for number in range(CALLERS):
        row = (_said(drill.calls[number]) for drill in drills.values())
        yield f"{number + 1:>8}" + "".join(f"{said:>36}" for said in row)
    for name, drill in drills.items():
        yield (
            f"{name}: {drill.attempts} attempts, a median wait of {drill.median * 1000:.1f} ms,"
            f" answered again {drill.recovered:.2f} s after the outage"
        )


def _said(call: Called) -> str:
    after = f", retry after {call.retry_after} s" if call.retry_after is not None else ""
    return f"{call.status}{after}, {call.attempts} asked, {call.seconds * 1000:.0f} ms"


async def both(folder: Path) -> dict[str, Drill]:
    """The outage without a breaker, and with one."""
    return {
        "without a breaker": await outage(folder, breaker=False),
        "with one": await outage(folder, breaker=True),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print("\n".join(table(asyncio.run(both(Path(scratch))))))
