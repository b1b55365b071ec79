"""A real upstream on a real socket that does what a test tells it, byte by byte."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Self

from gateway.core.events import Json
from gateway.wire import json

PATIENCE = 20.0
"""Seconds to wait for what comes at once, on a machine that has other things to do. The clocks that
would bring it about in any case, such as `first_event` and `drain_timeout`, are longer."""


SECOND = 5.0
"""A second that is promised, and what such a machine adds to it."""


@dataclass(slots=True)
class Received:
    """One request, as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> dict[str, Json]:
        return json.mapping(json.loads(self.body))


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on when the test says so."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Slowly:
    """Byte by byte, with so many seconds behind each."""

    data: bytes
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Endless:
    """The same again and again, until the other side leaves."""

    data: bytes
    every: float = 0.0


class Hang:
    """Say nothing more, until the other side leaves."""


class Close:
    """Close the connection (FIN)."""


class Reset:
    """Reset the connection (RST)."""


Step = bytes | Wait | Slowly | Endless | type[Hang] | type[Close] | type[Reset]
Script = Sequence[Step]


def head(status: int = 200, content_type: str = "text/event-stream", **more: str) -> bytes:
    """A response's head; its body is chunked unless `more` says otherwise."""
    fields = {"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in more.items()}}
    if "Content-Length" not in fields and fields.get("Connection") != "close":
        fields["Transfer-Encoding"] = "chunked"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def at_once(script: Script) -> bytes:
    """What it says in a single write: no clock of the gateway's can run out in the middle of it."""
    return b"".join(step for step in script if isinstance(step, bytes))


def sse(*data: bytes | Json, done: bool = True) -> list[Step]:
    """A whole stream: each value is one event, bytes as they stand and others as JSON data."""
    events = [d if isinstance(d, bytes) else event(d) for d in data]
    if done:
        events.append(b"data: [DONE]\n\n")
    return [head(), *(chunk(event) for event in events), END]


def document(body: Json, status: int = 200, **headers: str) -> list[Step]:
    """A JSON answer."""
    data = json.dumps(body)
    return [head(status, "application/json", Content_Length=str(len(data)), **headers) + data]


def delta(text: str) -> Json:
    """One OpenAI chunk of text."""
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def finish(reason: str = "stop") -> Json:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def event(data: Json) -> bytes:
    """One event."""
    return b"data: " + json.dumps(data) + b"\n\n"


def said(*words: str) -> list[Step]:
    """The beginning of a stream."""
    return [head(), *(chunk(event(delta(word))) for word in words)]


def openai_text(*words: str) -> list[Step]:
    """A complete OpenAI stream."""
    usage: Json = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}}
    return sse(*(delta(word) for word in words), finish(), usage)


@dataclass
class ScriptedUpstream:
    """Answers each request with the next script, the last one again and again."""

    scripts: list[Script] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    open: int = 0
    """Connections open now."""
    accepted: int = 0
    sent: int = 0
    """Bytes that its sockets have taken."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any that is free."""
    tls: ssl.SSLContext | None = None
    greeting: Script = ()
    """What it does with a connection before it is asked anything."""

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def answers(self, *scripts: Script) -> None:
        """What the next requests are answered with."""
        self.scripts = list(scripts)

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{host}:{port}"

    async def until_requests(self, count: int, timeout: float = PATIENCE) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def until_open(self, count: int, timeout: float = PATIENCE) -> None:
        """Wait until so many connections are open."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: self.open == count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self.host, self.port, limit=1 << 24, ssl=self.tls
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        await self._count(1)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)
            self._writers.discard(writer)
            await self._count(-1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        going = await self._play(self.greeting, reader, writer)
        while going:
            self.requests.append(await _read(reader))
            async with self._changed:
                self._changed.notify_all()
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            going = await self._play(script, reader, writer)

    async def _play(
        self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        for step in script:
            if not await self._take(step, reader, writer):
                return False
        return True

    async def _take(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        if isinstance(step, bytes):
            await self._send(step, writer)
        elif isinstance(step, (Slowly, Endless)):
            for piece in _pieces(step):
                await self._send(piece, writer)
                await asyncio.sleep(step.every)
                if reader.at_eof():
                    return False
        elif isinstance(step, Wait):
            await _either(step.event.wait(), _gone(reader))
        elif step is Hang:
            await _gone(reader)
            return False
        elif step is Reset:
            _reset(writer)
            return False
        elif step is Close:
            return False
        return not reader.at_eof()

    async def _send(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if writer.is_closing():  # uvloop's transport would say so with a RuntimeError
            raise ConnectionResetError
        writer.write(data)
        await writer.drain()
        self.sent += len(data)

    async def _count(self, by: int) -> None:
        self.open += by
        self.accepted += by > 0
        async with self._changed:
            self._changed.notify_all()


def _pieces(step: Slowly | Endless) -> Iterator[bytes]:
    if isinstance(step, Endless):
        return repeat(step.data)
    return (step.data[place : place + 1] for place in range(len(step.data)))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: that is what a linger of no time does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def _either(*waits: Coroutine[None, None, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Received:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    fields = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedUpstream]:
    """A running upstream."""
    async with ScriptedUpstream(list(scripts)) as upstream:
        yield upstream
