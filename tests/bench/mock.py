"""The upstream: OpenAI-compatible chat completions of which every token is known.

The path says what to answer: `/64x20/v1/chat/completions` is 64 tokens, 20 ms apart if streamed.
"""

import asyncio
import functools
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import httptools
import uvloop

from gateway.core.events import Json
from gateway.wire import json
from tests.bench.process import announce

_PLAN = re.compile(rb"/([0-9]+)x([0-9]+)/")
_BACKLOG = 8192


def tokens(count: int) -> list[str]:
    """What an answer consists of: `~000`, `~001`, ..."""
    return [f"~{number:03d}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Script:
    """A stream, write by write."""

    opening: bytes
    tokens: list[bytes]
    closing: list[bytes]


@functools.cache
def script(count: int) -> Script:
    """One event for the role, for each token, for the finish, for the usage, and `[DONE]`."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    closing = [
        _event(_chunk({}, "stop")),
        _event({**_chunk({}), "choices": [], "usage": _usage(count)}),
        _written(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    ]
    spoken = [_event(_chunk({"content": token})) for token in tokens(count)]
    return Script(head + _event(_chunk({"role": "assistant", "content": ""})), spoken, closing)


@functools.cache
def document(count: int) -> bytes:
    """The answer to a request that does not stream."""
    message = {"role": "assistant", "content": "".join(tokens(count))}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    said = _known("chat.completion")
    body = json.dumps({**said, "choices": [choice], "usage": _usage(count)})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def _known(what: str) -> dict[str, Json]:
    return {"id": "chatcmpl-bench", "object": what, "created": 1760000000, "model": "bench"}


def _usage(count: int) -> Json:
    return {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": count + 9}


def _chunk(delta: dict[str, Json], reason: str | None = None) -> dict[str, Json]:
    choice: Json = {"index": 0, "delta": delta, "finish_reason": reason}
    return {**_known("chat.completion.chunk"), "choices": [choice]}


def _event(chunk: dict[str, Json]) -> bytes:
    return _written(b"data: " + json.dumps(chunk) + b"\n\n")


def _written(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection. httptools calls the `on_` methods."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""
        self._left: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._file: int = transport.get_extra_info("socket").fileno()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        plan = _PLAN.match(self._url)
        assert plan is not None, "the path says what to answer"
        if not json.mapping(json.loads(self._body)).get("stream"):
            self._write(document(int(plan[1])))
            return
        played = script(int(plan[1]))
        self._left.extend(played.tokens)
        self._write(played.opening)
        self._play(played.closing, int(plan[2]) / 1000, asyncio.get_running_loop().time())

    def _play(self, closing: Iterable[bytes], pause: float, due: float) -> None:
        """The tokens that are due, each on its own; after the last one, the closing."""
        while self._left:
            self._write(self._left.popleft())
            if pause and self._left:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_at(due + pause, self._play, closing, pause, due + pause)
                return
        for data in closing:
            self._write(data)

    def _write(self, data: bytes) -> None:
        # Not by the transport: uvloop's joins all writes of one turn of the loop into one, and no
        # upstream would be seen to send events one by one.
        try:
            waiting = self._transport.get_write_buffer_size()
            sent = 0 if waiting else os.write(self._file, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.abort()
            return
        if sent < len(data):
            self._transport.write(data[sent:])


async def serve() -> None:
    """Until the process is ended; on two addresses, for each has a range of ports to itself."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=_BACKLOG)
    port = server.sockets[0].getsockname()[1]
    await loop.create_server(Upstream, "127.0.0.2", port, backlog=_BACKLOG)
    announce("mock", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
