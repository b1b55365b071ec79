"""How late the event loop is."""

import asyncio
import time

from gateway.observe.loop_lag import LoopLag
from tests.e2e.running import eventually
from tests.e2e.scripted import PATIENCE

TICK = 0.01


async def test_a_loop_that_is_kept_busy_is_late() -> None:
    """By as long as it was busy, less what was left of the interval."""
    late: list[float] = []
    lag = LoopLag(late.append, TICK)
    lag.start()
    await eventually(lambda: len(late) >= 2)
    before = len(late)
    time.sleep(0.3)  # noqa: ASYNC251 - that is what is measured
    await eventually(lambda: len(late) > before)
    lag.stop()
    assert 0.25 <= late[before] <= PATIENCE
    assert min(late) >= 0


async def test_a_stop_is_the_end_of_it() -> None:
    """No timer is left behind."""
    late: list[float] = []
    lag = LoopLag(late.append, TICK)
    lag.stop()  # nothing, before a start
    lag.start()
    await eventually(lambda: bool(late))
    lag.stop()
    seen = len(late)
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(5 * TICK, rung.set)
    await rung.wait()
    assert len(late) == seen
