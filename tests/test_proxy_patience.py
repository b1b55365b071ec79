"""A clock that does not run while the event loop is behind."""

import asyncio
import time

import pytest

from gateway.proxy.patience import Patience


async def test_it_runs_out() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with Patience(0.05):
            await asyncio.Event().wait()
    assert loop.time() - began >= 0.049  # a loop's clock may be in milliseconds


async def test_what_is_in_time_is_let_be() -> None:
    async with Patience(5):
        await asyncio.sleep(0)


async def test_a_loop_that_is_behind_is_nobody_elses_fault() -> None:
    """What had come before the time was over counts, also if nobody has looked."""
    come = asyncio.Event()

    async def busy() -> None:
        asyncio.get_running_loop().call_later(0.01, come.set)
        time.sleep(0.3)  # noqa: ASYNC251 - it is what keeps the loop

    behind = asyncio.ensure_future(busy())
    async with Patience(0.05):
        await come.wait()
        await asyncio.sleep(0.01)
    await behind


async def test_who_cancels_it_is_not_told_of_a_clock() -> None:
    async def waiting() -> None:
        async with Patience(5):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_its_own_passes_through() -> None:
    with pytest.raises(KeyError):
        async with Patience(5):
            raise KeyError
