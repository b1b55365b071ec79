"""A turn's frames on their way to its clients: to one, to several, or to none for a while.

    relay -> encoder -> log -> readers

Per batch of frames there are plain calls only, as everywhere on the hot path. A client that is
behind is not written to: its own coroutine catches up from the log. Only if all of them are behind
does the upstream wait; if there is none, it does not.
"""

import asyncio
from collections.abc import Mapping

from gateway.core.codec import Encoder
from gateway.core.errors import ErrorCode
from gateway.core.events import Failure
from gateway.proxy.downstream import ClientStalled, ClientStream
from gateway.proxy.turn_log import TurnLog, split


class Feed:
    """What the relay writes to (its `Downstream`), and what clients read from."""

    def __init__(self) -> None:
        self.log = TurnLog()
        self.encoder: Encoder | None = None
        """Once it is known what the turn is called."""
        self.user: str | None = None
        """Whose conversation it is."""
        self.headers: Mapping[str, str] = {}
        """What clients are told of it before they read."""
        self.over = False
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """The answer has begun."""
        self.stream: ClientStream | None = None
        """That of the client who asked, from there on until it has been served."""
        self._readers: list[Reader] = []
        self._room: asyncio.Future[None] | None = None

    @property
    def deserted(self) -> bool:
        """Whether nobody reads, and nobody will."""
        return not self._readers and self.log.turn is None

    def remember(self, turn: str, max_bytes: int) -> None:
        """Keep what is said, for clients that come back, under the name of the turn."""
        self.log = TurnLog(turn, max_bytes)

    def join(self, at: int, *, ids: bool) -> "Reader":
        """One more client, who needs the frames from this number on, with their ids if it can read
        them."""
        reader = Reader(self, at, ids=ids)
        self._readers.append(reader)
        return reader

    def leave(self, reader: "Reader") -> None:
        """Nothing if it has left already."""
        if reader in self._readers:
            self._readers.remove(reader)
            self.make_room()
        if not self._readers:
            self.log.trim()

    def open(self, stream: ClientStream) -> ClientStream:
        """The answer begins: from here on a failure is one in the stream. The one that was opened
        first is the client's."""
        if self.stream is None:
            self.stream = stream
            self.opened.set_result(None)
        return self.stream

    def settle(self) -> None:
        """The turn has ended, and the client who asked has been served: what stays is for those who
        come back."""
        self.encoder = self.stream = None

    def write(self, data: bytes) -> bool:
        # What all are waiting for is not much, for the upstream waits with them: it is kept.
        self.log.append(data, trim=not self._all_behind())
        for reader in self._readers:
            if not reader.behind:
                reader.take(data)
        return self._all_behind()

    async def drain(self) -> None:
        """Wait until one of the clients has caught up, or all have left."""
        while self._all_behind():
            self._room = self._loop.create_future()
            await self._room

    def make_room(self) -> None:
        """Somebody has caught up, or left."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def end(self, last: bytes) -> None:
        """These frames are the last."""
        if last:
            self.write(last)
        self.over = True
        for reader in self._readers:
            reader.wake()

    def fail(self, code: ErrorCode, message: str) -> None:
        """End in the dialect's words what did not come to its end."""
        if not self.over and self.encoder is not None:
            self.end(self.encoder.encode(Failure(code, message)))

    def _all_behind(self) -> bool:
        return bool(self._readers) and all(reader.behind for reader in self._readers)


class Reader:
    """One client of a feed, who has all frames before the number `at`."""

    def __init__(self, feed: Feed, at: int, *, ids: bool) -> None:
        self.behind = True
        self._feed = feed
        self._at = at
        self._ids = ids
        self._stream: ClientStream
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, data: bytes) -> None:
        """Send what has just been said."""
        log = self._feed.log
        numbered = self._ids and log.turn is not None
        frames = log.numbered(split(data), self._at) if numbered else data
        self._at = log.next
        if self._stream.write(frames):
            self.behind = True
            self.wake()

    def wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def follow(self, stream: ClientStream) -> None:
        """Open the stream, and send all from `at` to the end. Raises `ConnectionError`, and
        `ClientStalled` also for a client that is so slow that the log has lost what it needs."""
        self._stream = stream
        await stream.open(self._more)
        while self.behind or not self._feed.over:
            if self.behind:
                await stream.drain()
                if frames := self._more():
                    self.behind |= stream.write(frames)
            else:
                self._feed.make_room()
                await self._woken
                self._woken = asyncio.get_running_loop().create_future()
        await stream.finish(b"")

    def _more(self) -> bytes:
        """The next frames of the log; from the last of them on the client takes what comes."""
        log = self._feed.log
        found = log.since(self._at, ids=self._ids and log.turn is not None)
        if found is None:
            raise ClientStalled
        frames, self._at = found
        self.behind = self._at < log.next
        return frames
