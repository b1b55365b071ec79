"""Clients of streams that they may come back to, each on a bare socket."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.kept import CONVERSATIONS
from tests.e2e.running import KEY, Running
from tests.e2e.scripted import PATIENCE

AGENTSGT = "/agentsgt/api/v1/agents/chat/1"
ASKING: Json = [{"role": "user", "content": "hi"}]

CHATS: dict[str, tuple[str, Json]] = {
    "v2": ("/api/v2/agents/1/chat", {"message": "hi"}),
    "chatbase": ("/chatbase/api/v2/agents/1/chat", {"message": "hi"}),
    "agentsgt": (AGENTSGT, {"id": "chat 7/ü", "messages": ASKING}),
}
STREAMS = {
    "v2": CONVERSATIONS + "/{}/stream",
    "chatbase": "/chatbase" + CONVERSATIONS + "/{}/stream",
    "agentsgt": AGENTSGT + "/chat%207%2F%C3%BC/stream",
}


@dataclass
class Reading:
    """A client on a bare socket: what it has got so far, and its response's headers."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""
    body: bytearray = field(default_factory=bytearray)

    async def begin(self) -> "Reading":
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return self

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*?)\r$", self.head, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else None

    async def until(self, word: bytes) -> "Reading":
        """Read on until it has come."""
        async with asyncio.timeout(PATIENCE):
            while word not in self.body:
                self.body += await self._chunk()
        return self

    async def until_count(self, word: bytes, count: int) -> "Reading":
        """The same for a word that comes so often."""
        async with asyncio.timeout(60):
            while count > 0:
                piece = await self._chunk()
                count -= piece.count(word)
                self.body += piece
        return self

    async def rest(self) -> bytearray:
        """All of it, to the end of the response."""
        async with asyncio.timeout(PATIENCE):
            while piece := await self._chunk():
                self.body += piece
        return self.body

    @property
    def last_id(self) -> str:
        ids: list[bytes] = re.findall(rb"^id: (.*)$", self.body, re.MULTILINE)
        return ids[-1].decode()

    @property
    def turn(self) -> str:
        """What its events' ids begin with."""
        return self.last_id.partition(":")[0]

    def leave(self) -> None:
        self.writer.transport.abort()

    def pause(self, *, paused: bool = True) -> None:
        """Read nothing, or again."""
        transport = cast("asyncio.Transport", self.writer.transport)
        if paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    async def _chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


class Readers:
    """All of them, so that none is left at the end."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def ask(self, gateway: Running, dialect: str, **more: Json) -> Reading:
        """A chat, of a client that can read ids; its answer has still to `begin`."""
        path, body = CHATS[dialect]
        data = json.dumps({**json.mapping(body), **more})
        head = (
            f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {KEY}\r\nX-Resumable: true\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        return await self._connect(gateway, head.encode() + data)

    async def resume(
        self,
        gateway: Running,
        dialect: str,
        conversation: str | None = None,
        last: str | None = None,
        key: str = KEY,
        **headers: str,
    ) -> Reading:
        """A client that comes back, once it has the head of its answer."""
        path = STREAMS[dialect].format(conversation)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if last is not None:
            more["Last-Event-ID"] = last
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        head = f"GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n{lines}\r\n"
        return await (await self._connect(gateway, head.encode())).begin()

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        closing = [writer.wait_closed() for writer in self._writers]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _connect(self, gateway: Running, request: bytes) -> Reading:
        parts = urlsplit(gateway.url)
        client = socket.socket()
        client.setblocking(False)
        # Small, so that a client that reads nothing is behind soon.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await asyncio.get_running_loop().sock_connect(client, (parts.hostname, parts.port))
        reader, writer = await asyncio.open_connection(sock=client, limit=1 << 24)
        self._writers.append(writer)
        writer.write(request)
        return Reading(reader, writer)


@asynccontextmanager
async def reading() -> AsyncIterator[Readers]:
    """Clients, until the block ends."""
    readers = Readers()
    try:
        yield readers
    finally:
        await readers.close()
