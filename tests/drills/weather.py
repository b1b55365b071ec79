"""An upstream that fails in every way it can, by chance."""

import asyncio
import contextlib
import random
import struct
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Self

from tests.e2e.scripted import chunk, delta, event, finish

_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LAST = chunk(event(finish())) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Weather:
    """Speaks OpenAI's protocol on a port of its own. Mostly it is fair."""

    def __init__(self, seed: int, pace: float) -> None:
        """`pace` is the seconds between two words."""
        self._random = random.Random(seed)
        self._pace = pace
        self.served = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._request(reader):
                    self.served += 1
                    if not await self._answer(writer):
                        break
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        return True

    async def _answer(self, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may serve again."""
        [way] = self._random.choices(list(_WAYS), list(_WAYS.values()))
        return await way(self, writer)

    async def fair(self, writer: asyncio.StreamWriter) -> bool:
        await self._words(writer)
        writer.write(_LAST)
        await writer.drain()
        return True

    async def cut(self, writer: asyncio.StreamWriter) -> bool:
        await self._words(writer)
        return False

    async def reset(self, writer: asyncio.StreamWriter) -> bool:
        await self._words(writer)
        if not writer.is_closing():
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        writer.transport.abort()
        return False

    async def half(self, writer: asyncio.StreamWriter) -> bool:
        await self._words(writer)
        writer.write(chunk(event(delta("lost"))[:-9]))
        await writer.drain()
        return False

    async def stall(self, writer: asyncio.StreamWriter) -> bool:
        await self._words(writer)
        await asyncio.sleep(60)
        return False

    async def silent(self, _writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(60)
        return False

    async def gone(self, _writer: asyncio.StreamWriter) -> bool:
        return False

    async def garbage(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/9 what?\r\n\r\n" + self._random.randbytes(200))
        return False

    async def broken(self, writer: asyncio.StreamWriter) -> bool:
        status = self._random.choice((500, 502, 503, 504))
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)
        return True

    async def busy(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno")
        return True

    async def _words(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_STREAM)
        for number in range(self._random.randint(1, 20)):
            writer.write(chunk(event(delta(f"word {number} "))))
            await writer.drain()
            await asyncio.sleep(self._pace * self._random.random() * 2)


_WAYS: dict[Callable[[Weather, asyncio.StreamWriter], Awaitable[bool]], int] = {
    Weather.fair: 80,
    Weather.cut: 2,
    Weather.reset: 2,
    Weather.half: 2,
    Weather.stall: 1,
    Weather.silent: 1,
    Weather.gone: 2,
    Weather.garbage: 2,
    Weather.broken: 5,
    Weather.busy: 3,
}
