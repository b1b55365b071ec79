"""Many clocks in one timer."""

import asyncio

from gateway.proxy.deadlines import Deadlines
from tests.e2e.scripted import PATIENCE

SOON, NEVER = 0.05, 600.0


class Clocks:
    """Some that run from now, and who hears of them."""

    def __init__(self) -> None:
        self.out: asyncio.Queue[str] = asyncio.Queue()
        self.running = Deadlines(self.out.put_nowait)
        self._loop = asyncio.get_running_loop()

    def start(self, who: str, seconds: float) -> None:
        self.running.start(who, self._loop.time() + seconds)

    async def next(self) -> str:
        """Whose time is up."""
        async with asyncio.timeout(PATIENCE):
            return await self.out.get()


async def test_each_runs_out_in_its_time() -> None:
    """Whatever the order in which they began."""
    loop, clocks = asyncio.get_running_loop(), Clocks()
    began = loop.time()
    for who, seconds in (("last", 3 * SOON), ("never", NEVER), ("first", SOON), ("then", 2 * SOON)):
        clocks.start(who, seconds)
    for after, who in enumerate(("first", "then", "last"), 1):
        assert await clocks.next() == who
        assert loop.time() - began >= after * SOON - 0.002  # a loop's clock may be in milliseconds
    assert len(clocks.running) == 1
    clocks.running.stop("never")


async def test_what_is_stopped_does_not_run_out() -> None:
    clocks = Clocks()
    clocks.start("stopped", SOON)
    clocks.start("left", 2 * SOON)
    clocks.running.stop("stopped")
    assert await clocks.next() == "left"
    assert clocks.out.empty()


async def test_it_goes_on_after_a_pause() -> None:
    """Once none is left, the next one has a timer again."""
    clocks = Clocks()
    for _ in range(2):
        clocks.start("once more", SOON)
        assert await clocks.next() == "once more"
    assert not len(clocks.running)


async def test_who_is_told_may_stop_another() -> None:
    """Also one whose time is up as well."""
    told: list[str] = []

    def run_out(who: str) -> None:
        told.append(who)
        running.stop("other")

    running = Deadlines(run_out)
    now = asyncio.get_running_loop().time()
    running.start("one", now)
    running.start("other", now)
    await asyncio.sleep(SOON)
    assert told == ["one"]
