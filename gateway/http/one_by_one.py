"""A connection's requests, one after the other, without a task for each.

aiohttp makes one, at the cost of two turns of the loop, a fiftieth of a short turn, and a kilobyte
for as long as a stream lasts. Requests that have come whole are served without; all else, with what
follows it on the connection, is left to aiohttp. tests/test_http_connection.py holds aiohttp to
what is relied on here.
"""

import asyncio
from typing import cast

from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter


class OneByOne(web.RequestHandler):
    """Serves requests in the task of their connection."""

    __slots__ = ()

    async def start(self) -> None:
        """Until the connection is over."""
        while not self._force_close:
            if not self._messages:
                await self._next()
            if not self._has_whole():
                await super().start()
                return
            if not await self._serve():
                break
            self._keep()
            if self._messages:  # many may come in one read, and others want to be served as well
                await asyncio.sleep(0)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _next(self) -> None:
        try:
            self._waiter = self._loop.create_future()
            await self._waiter
        finally:
            self._waiter = None

    def _has_whole(self) -> bool:
        """Whether the next request is one, and all of it is here."""
        message, payload = self._messages[0]
        return type(message) is RawRequestMessage and not message.upgrade and payload.is_eof()

    def _make_room(self) -> None:
        """For one more request in the parser."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    async def _serve(self) -> bool:
        """Whether the connection is to be used again. What a request has is not to outlive this: a
        connection may be idle for long."""
        message, payload = self._messages.popleft()
        assert isinstance(message, RawRequestMessage)
        assert self._manager is not None
        assert self._request_factory is not None
        assert self._request_handler is not None
        assert self._task_handler is not None
        self._make_room()
        self._manager.requests_count += 1
        writer = StreamWriter(self, self._loop)
        # Its task in a variable would be a cycle with what it fails of.
        request = self._request_factory(message, payload, self, writer, self._task_handler)
        try:
            response, gone = await self._handle_request(request, None, self._request_handler)
        except ConnectionError:
            return False
        except Exception as exc:
            self.log_exception("Unhandled exception", exc_info=exc)
            self.force_close()
            return False
        except BaseException as exc:
            self.force_close()
            exc.__traceback__ = None  # the task keeps it, and with it what is in the frames
            raise
        finally:
            request._task = cast("asyncio.Task[None]", None)
        self._keepalive = bool(response.keep_alive)
        return not gone and self._keepalive and not self._close and not self._force_close

    def _keep(self) -> None:
        """The connection, for as long as it may be idle."""
        when = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = when
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(when, self._process_keepalive)
