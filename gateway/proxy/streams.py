"""Where the streams are found that a client may come back to."""

import asyncio
from collections import OrderedDict
from typing import Protocol

from msgspec import Struct

from gateway.config.model import Resume
from gateway.core.conversation import Place
from gateway.proxy.feed import Feed


class StreamName(Struct, frozen=True):
    """What a stream is found by: of a conversation, its newest turn."""

    place: Place
    dialect: str
    """A stream is told in one: who asks in another one's words would not understand it."""
    conversation: str
    user: str | None = None
    """Set where clients name conversations themselves: two users' may have the same name."""


class Streams(Protocol):
    """What keeps them: this process, until several share one store of them."""

    def keep(self, name: StreamName, feed: Feed, settings: Resume) -> bool:
        """Keep it, in the place of the turn before it; False if there is no room."""
        ...

    async def find(self, name: StreamName) -> Feed | None: ...

    def ended(self, name: StreamName, feed: Feed, settings: Resume) -> None:
        """Its turn is over: it is kept for a while."""
        ...


class LocalStreams:
    """Those of this process. Where there are too many, those go first that ended first; the ones
    that are running stay."""

    def __init__(self) -> None:
        self._feeds: dict[StreamName, Feed] = {}
        self._ended: OrderedDict[StreamName, asyncio.TimerHandle] = OrderedDict()
        """The end of their time."""

    def __len__(self) -> int:
        return len(self._feeds)

    def keep(self, name: StreamName, feed: Feed, settings: Resume) -> bool:
        self._forget(name)
        while len(self._feeds) >= settings.max_streams and self._ended:
            self._forget(next(iter(self._ended)))
        if len(self._feeds) >= settings.max_streams:
            return False
        self._feeds[name] = feed
        return True

    async def find(self, name: StreamName) -> Feed | None:
        return self._feeds.get(name)

    def ended(self, name: StreamName, feed: Feed, settings: Resume) -> None:
        if self._feeds.get(name) is feed:
            loop = asyncio.get_running_loop()
            self._ended[name] = loop.call_later(settings.ttl, self._forget, name)

    def _forget(self, name: StreamName) -> None:
        self._feeds.pop(name, None)
        if clock := self._ended.pop(name, None):
            clock.cancel()
