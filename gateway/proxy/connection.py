"""One HTTP/1.1 connection to an upstream.

A read of the transport runs straight through: HTTP parser, body, sink. No task, future or stream
reader is in between, which is what makes an event cheap.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.remote import RemoteAnswer


class Connection(asyncio.Protocol):
    """The transport's side. Serves one exchange after the other; `idle` between them."""

    __slots__ = (
        "_answer",
        "_on_free",
        "_on_lost",
        "_parser",
        "idle_since",
        "on_body",
        "pieces",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(
        self, on_free: Callable[["Connection"], None], on_lost: Callable[["Connection"], None]
    ) -> None:
        self.idle_since = 0.0
        self._on_free = on_free
        self._on_lost = on_lost
        self._answer: RemoteAnswer | None = None
        self.pieces: list[bytes] = []
        """Of the body that is arriving."""
        # The parser's callback, once per event: not by a call of ours.
        self.on_body = self.pieces.append
        # One for all answers: to make one costs as much as to parse a short answer.
        self._parser: Any = httptools.HttpResponseParser(self)

    def exchange(self, request: bytes, max_answer: int) -> RemoteAnswer:
        """Send a whole request; the answer's head is awaited on what this returns. Raises
        `GatewayError(UPSTREAM_UNREACHABLE)` if the other side spoke or hung up before."""
        if self.transport.is_closing():  # nobody would tell the answer of its end once more
            raise GatewayError(ErrorCode.UPSTREAM_UNREACHABLE, "the upstream cannot be reached")
        self.pieces.clear()
        self._answer = answer = RemoteAnswer(self, max_answer)
        self.transport.write(request)
        return answer

    def free(self, *, reusable: bool) -> None:
        """The exchange is over."""
        self._answer = None
        if reusable and not self.transport.is_closing():
            self.transport.resume_reading()
            self._on_free(self)
        else:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.transport.abort()  # nobody asked: whatever it is, it is no answer to the next one
        else:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                answer.broken()
            answer.received(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.disconnected(clean=exc is None)
        self._parser = None  # which holds our methods
        self._on_lost(self)

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._answer.message()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.field(name, value)

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.begin(self._parser.get_status_code())

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._answer.complete(self._parser.should_keep_alive())
