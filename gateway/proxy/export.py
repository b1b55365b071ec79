"""All of an agent's conversations in one answer: streamed, and never more than a page of them in
memory."""

import asyncio
from collections.abc import Iterable

from aiohttp import web

from gateway.conversations.access import Scope
from gateway.conversations.store import Found, Listed, Span, Store
from gateway.core.codec import Records
from gateway.core.conversation import Conversation, StoredMessage
from gateway.core.errors import ErrorCode, GatewayError
from gateway.observe.exchange import CLIENT_GONE, CLIENT_STALLED
from gateway.observe.logs import Logger
from gateway.proxy.call import Call
from gateway.proxy.document import write

# Of the messages of one conversation: what is read at once.
_PAGE = 100

# Of conversations, without their messages. Each page of a list counts the whole list as well, which
# in a large one is more than all that is read for it: so there are few pages.
_LISTED = 500

# What is written at once: a write is a frame of the body, and may wait for the client.
_BATCH = 64 << 10


class Export:
    """One answer. It is no snapshot: conversations that go on while it is written may be in it as
    they were, or be missed."""

    def __init__(self, call: Call, words: Records, scope: Scope, store: Store) -> None:
        self._call = call
        self._words = words
        self._scope = scope
        self._store = store
        self._timeout = call.snapshot.server.write_timeout
        self._response = web.StreamResponse(headers=call.exchange.headers)
        self._response.content_type = "application/json"
        self._batch = bytearray()

    async def answer(self, logger: Logger) -> web.StreamResponse:
        """The response. Raises where nothing has been sent yet; from then on what fails cuts the
        connection, for half an answer must not look like a whole one."""
        exchange = self._call.exchange
        try:
            await self._write()
        except TimeoutError:
            self._cut(CLIENT_STALLED)
        except ConnectionError:
            self._cut(CLIENT_GONE)
        except Exception as exc:
            if not self._response.prepared:
                raise
            if not isinstance(exc, GatewayError):
                logger.exception("internal_error", request_id=exchange.request_id)
            self._cut(exc.code if isinstance(exc, GatewayError) else ErrorCode.INTERNAL)
        return self._response

    def _cut(self, outcome: str) -> None:
        self._call.exchange.outcome = outcome
        if self._call.request.transport is not None:
            self._call.request.transport.abort()

    async def _write(self) -> None:
        """Raises `ConnectionError` if the client has gone, `TimeoutError` if it does not read."""
        opening, _ = self._words.page(None, 0)
        await self._put(opening + b"[")
        count, listed = 0, await self._listed(None)
        while listed.conversations:
            for each in listed.conversations:
                if found := await self._load(each, 0):  # it may have gone since
                    await self._put(b"," if count else b"")
                    await self._put_whole(*found)
                    count += 1
            listed = await self._listed(listed.conversations[-1])
        _, closing = self._words.page(None, count)
        await self._put(b"]" + closing)
        await self._send()
        async with asyncio.timeout(self._timeout):
            await self._response.write_eof()

    async def _put_whole(self, found: Conversation, messages: tuple[StoredMessage, ...]) -> None:
        opening, closing = self._words.whole(found)
        await self._put(opening + self._joined(messages))
        for start in range(_PAGE, found.length, _PAGE):
            later = await self._load(found, start)
            # The last page begins before this, with messages that were written already.
            if fresh := [m for m in later[1] if m.position >= start] if later else []:
                await self._put(b"," + self._joined(fresh))
        await self._put(closing)

    async def _put(self, piece: bytes) -> None:
        self._batch += piece
        if len(self._batch) >= _BATCH:
            await self._send()
            # With a client that is fast and a store in memory nothing here ever waits, and others
            # want their turn.
            await asyncio.sleep(0)

    async def _send(self) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._call.request)
        await write(self._response, bytes(self._batch), self._timeout)
        self._batch.clear()

    def _joined(self, messages: Iterable[StoredMessage]) -> bytes:
        return b",".join(map(self._words.message, messages))

    async def _listed(self, after: Conversation | None) -> Listed:
        place, user = self._scope.place, self._scope.user_id
        last = (after.updated, after.id) if after else None
        return await self._store.listed(place, user, last, _LISTED)

    async def _load(self, found: Conversation, start: int) -> Found | None:
        span = Span(limit=_PAGE, before=start + _PAGE)
        return await self._store.load(self._scope.place, found.id, span)
