"""Which streams are kept, and for how long."""

import asyncio

from gateway.config.model import Resume
from gateway.core.conversation import Owner, Place
from gateway.proxy.feed import Feed
from gateway.proxy.streams import LocalStreams, StreamName

PLACE = Place(Owner("acme"), 1)
LONG = Resume(ttl="1h", max_streams=2)  # type: ignore[arg-type]


def name(conversation: str, user: str | None = None) -> StreamName:
    return StreamName(PLACE, "v2", conversation, user)


async def test_what_ended_is_forgotten_in_time() -> None:
    """After its `ttl`, and not before its end."""
    streams, feed = LocalStreams(), Feed()
    short = Resume(ttl="10ms")  # type: ignore[arg-type]
    assert streams.keep(name("1"), feed, short)
    await asyncio.sleep(0.05)
    assert await streams.find(name("1")) is feed
    streams.ended(name("1"), feed, short)
    assert await streams.find(name("1")) is feed
    async with asyncio.timeout(5):
        while len(streams):  # noqa: ASYNC110 - a timer has no event
            await asyncio.sleep(0.005)


async def test_a_conversation_has_one() -> None:
    """The newest turn's; the end of the one before it does not end that."""
    streams, old, new = LocalStreams(), Feed(), Feed()
    streams.keep(name("1"), old, LONG)
    streams.keep(name("1"), new, Resume(ttl="1ms"))  # type: ignore[arg-type]
    streams.ended(name("1"), old, LONG)
    assert await streams.find(name("1")) is new
    assert await streams.find(name("1", "somebody")) is None
    assert await streams.find(name("2")) is None


async def test_there_are_never_too_many() -> None:
    """What ended first goes first; what is running stays, and keeps new ones out."""
    streams = LocalStreams()
    feeds = [Feed() for _ in range(4)]
    assert streams.keep(name("0"), feeds[0], LONG)
    assert streams.keep(name("1"), feeds[1], LONG)
    assert not streams.keep(name("2"), feeds[2], LONG)
    streams.ended(name("1"), feeds[1], LONG)
    streams.ended(name("0"), feeds[0], LONG)
    assert streams.keep(name("2"), feeds[2], LONG)
    assert await streams.find(name("1")) is None
    assert await streams.find(name("0")) is feeds[0]
    assert streams.keep(name("3"), feeds[3], LONG)
    assert await streams.find(name("0")) is None
    assert len(streams) == 2
