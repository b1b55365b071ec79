"""Turns that a stop waits for, and those that it ends."""

import asyncio
from typing import cast

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.open_turns import OpenTurns
from gateway.proxy.relay import Relay


class Relayed:
    """What a turn that has begun is told of its end by."""

    def __init__(self) -> None:
        self.ended: GatewayError | None = None

    def eof(self, error: GatewayError) -> None:
        self.ended = error


async def turn(open_turns: OpenTurns, over: asyncio.Event, relay: Relayed | None = None) -> str:
    """One that goes on until it is over."""
    with open_turns.turn() as open_turn:
        open_turn.relay = cast("Relay | None", relay)
        await over.wait()
        return "answered"


async def begun(open_turns: OpenTurns, count: int) -> None:
    while open_turns.count < count:  # noqa: ASYNC110 - it takes a turn of the loop
        await asyncio.sleep(0)


async def test_it_waits_for_the_last() -> None:
    open_turns, over = OpenTurns(), asyncio.Event()
    turns = [asyncio.ensure_future(turn(open_turns, over)) for _ in range(3)]
    await begun(open_turns, 3)
    waiting = asyncio.ensure_future(open_turns.none())
    await asyncio.sleep(0)
    assert not waiting.done()
    over.set()
    await waiting
    assert await asyncio.gather(*turns) == ["answered"] * 3


async def test_one_that_comes_after_the_end_is_refused() -> None:
    open_turns = OpenTurns()
    open_turns.end()
    with pytest.raises(GatewayError) as caught:
        await turn(open_turns, asyncio.Event())
    assert (caught.value.code, caught.value.retry_after) == (ErrorCode.RESTARTING, 1.0)
    assert open_turns.count == 0


async def test_one_that_has_not_begun_is_broken_off() -> None:
    """With an error that says when to come back; its task is not cancelled for anybody else."""
    open_turns, seen = OpenTurns(), []

    async def served() -> str:
        try:
            return await turn(open_turns, asyncio.Event())
        except GatewayError as exc:
            await asyncio.sleep(0)  # it goes on, and may await
            seen.append((exc.code, exc.retry_after))
            return "apologized"

    task = asyncio.ensure_future(served())
    await begun(open_turns, 1)
    open_turns.end()
    assert await task == "apologized"
    assert seen == [(ErrorCode.RESTARTING, 1.0)]
    assert task.cancelling() == 0
    await open_turns.none()


async def test_one_that_has_begun_is_told() -> None:
    """It ends its answer by itself."""
    open_turns, over, relay = OpenTurns(), asyncio.Event(), Relayed()
    task = asyncio.ensure_future(turn(open_turns, over, relay))
    await begun(open_turns, 1)
    open_turns.end()
    assert relay.ended is not None
    assert relay.ended.code is ErrorCode.RESTARTING
    over.set()
    assert await task == "answered"


@pytest.mark.parametrize("first", ["client", "gateway"])
async def test_a_client_that_leaves_in_the_same_moment(first: str) -> None:
    """Has left: there is nobody to tell."""
    open_turns = OpenTurns()
    task = asyncio.ensure_future(turn(open_turns, asyncio.Event()))
    await begun(open_turns, 1)
    if first == "client":
        task.cancel()
    open_turns.end()
    if first == "gateway":
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await open_turns.none()


async def test_one_that_ends_in_the_same_moment() -> None:
    """Its answer was there before it was broken off, and what it raises is its own."""
    open_turns = OpenTurns()

    async def failing() -> None:
        with open_turns.turn():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise GatewayError(ErrorCode.UPSTREAM_FAILED, "its own") from None

    task = asyncio.ensure_future(failing())
    await begun(open_turns, 1)
    open_turns.end()
    with pytest.raises(GatewayError, match="its own"):
        await task
    assert task.cancelling() == 0
