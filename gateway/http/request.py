"""A client's request: aiohttp's, with what each turn asks it for in plain attributes.

There they are properties that are found out when they are first asked for, and then kept in a dict:
for those of one turn that is a hundredth of all it costs. tests/test_http_connection.py holds
aiohttp to what is relied on here.
"""

import asyncio
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion, RawRequestMessage
from multidict import CIMultiDictProxy


class Request(web.Request):
    """One request."""

    __slots__ = ("content", "headers", "keep_alive", "method", "raw_path", "version")

    ATTRS = web.Request.ATTRS | frozenset(__slots__)

    content: StreamReader
    headers: CIMultiDictProxy[str]
    keep_alive: bool
    method: str
    raw_path: str
    version: HttpVersion

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
        loop: asyncio.AbstractEventLoop,
        *,
        client_max_size: int,
        client_max_fields: int,
        **further: Any,  # of a clone
    ) -> None:
        """As aiohttp's own, which asks more of what it is given and takes twice as long."""
        url = message.url
        if further or url.absolute:
            further |= {"client_max_size": client_max_size, "client_max_fields": client_max_fields}
            super().__init__(message, payload, protocol, writer, task, loop, **further)
        else:
            self._message = message
            self._protocol = protocol
            self._payload_writer = writer
            self._payload = payload
            self._headers = message.headers
            self._method = message.method
            self._version = message.version
            self._cache = {}
            self._rel_url = url
            self._state = {}
            self._task = task
            self._client_max_size = client_max_size
            self._client_max_fields = client_max_fields
            self._loop = loop
            self._transport_sslcontext = protocol.ssl_context
            self._transport_peername = protocol.peername
            self._transport_sockname = protocol.sockname
        self.content = payload
        self.headers = message.headers
        self.keep_alive = not message.should_close
        self.method = message.method
        self.raw_path = message.path
        self.version = message.version
