"""What a supervisor and a worker say to each other, over a real pair of sockets."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.core.events import Json
from gateway.observe.logs import build_logger
from gateway.workers.channel import Channel, NoAnswer, open_channel

PATIENT = 20.0


async def double(value: Json) -> Json:
    assert isinstance(value, int)
    return 2 * value


@asynccontextmanager
async def talking(
    answers: dict[str, Callable[[Json], Awaitable[Json]]], log: io.BytesIO | None = None
) -> AsyncIterator[tuple[Channel, Channel, asyncio.Queue[Json]]]:
    """Both ends, and what was told to the second one, who answers."""
    told: asyncio.Queue[Json] = asyncio.Queue()
    logger = build_logger(stream=log or io.BytesIO())
    one, other = socket.socketpair()
    asking = await open_channel(one, logger, told={})
    answering = await open_channel(other, logger, told={"word": told.put_nowait}, answers=answers)
    listening = [asyncio.ensure_future(channel.listen()) for channel in (asking, answering)]
    try:
        yield asking, answering, told
    finally:
        await asyncio.gather(asking.close(), answering.close())
        await asyncio.gather(*listening)


async def test_told_and_asked() -> None:
    """In order, several questions at once, and texts of any length and script."""
    text = "line\nend \u2028 é " * 100_000
    async with talking({"double": double}) as (asking, _, told):
        asking.tell("word", text)
        answers = await asyncio.gather(
            *(asking.ask("double", n, within=PATIENT) for n in range(20))
        )
        assert answers == [2 * n for n in range(20)]
        assert told.get_nowait() == text


async def test_words_of_another_version() -> None:
    """They are passed over, and what comes after them is heard."""
    async with talking({}) as (asking, _, told):
        asking.tell("news", {"a": 1})
        with pytest.raises(NoAnswer):
            await asking.ask("news", within=0.01)
        asking.tell("word", 1)
        assert await told.get() == 1


async def test_too_slow() -> None:
    """An answer that comes too late is nobody's, and not the next one's."""
    slow = asyncio.Event()

    async def wait(value: Json) -> Json:
        await slow.wait()
        return value

    async with talking({"wait": wait, "double": double}) as (asking, _, _told):
        with pytest.raises(NoAnswer):
            await asking.ask("wait", 1, within=0.01)
        slow.set()
        assert await asking.ask("double", 4, within=PATIENT) == 8


async def test_gone() -> None:
    """Whoever waits for it hears of it at once, and whoever asks later; a word to it is lost."""
    never = asyncio.Event()

    async def wait(_value: Json) -> Json:
        await never.wait()
        return None

    async with talking({"wait": wait}) as (asking, answering, _):
        waiting = asyncio.ensure_future(asking.ask("wait", within=1e6))
        await asyncio.sleep(0)
        await answering.close()
        with pytest.raises(NoAnswer):
            await waiting
        with pytest.raises(NoAnswer):
            await asking.ask("wait", within=1e6)
        asking.tell("word")
        never.set()


async def test_a_bug_behind_an_answer() -> None:
    """It is in the log, and the others are still answered."""

    async def fail(_value: Json) -> Json:
        raise ValueError

    log = io.BytesIO()
    async with talking({"fail": fail, "double": double}, log) as (asking, _, _told):
        with pytest.raises(NoAnswer):
            await asking.ask("fail", within=0.05)
        assert await asking.ask("double", 1, within=PATIENT) == 2
    assert b"internal_error" in log.getvalue()


async def test_killed_in_the_middle_of_a_word() -> None:
    """Half a line says nothing."""
    told: list[Json] = []
    one, other = socket.socketpair()
    channel = await open_channel(one, build_logger(stream=io.BytesIO()), told={"a": told.append})
    with other:
        other.sendall(b'{"tell":"a","value":1}\n{"tell":"a","va')
    await channel.listen()
    await channel.close()
    assert told == [1]
