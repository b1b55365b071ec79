"""Conversations in an SQLite database: one file, for the gateway's processes of one machine."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.conversations import sqlite_queries as queries
from gateway.conversations.claims import Claims
from gateway.conversations.sqlite_schema import create, migrate, opening
from gateway.conversations.sqlite_thread import DatabaseThread, Job
from gateway.conversations.store import (
    Answered,
    Change,
    Figures,
    Found,
    Listed,
    Span,
    StoreError,
)
from gateway.core.conversation import Conversation, Feedback, Place

# The claim of whoever is making the database or migrating it (the others begin at 1), and how long
# that is waited for: a large database takes its time. In seconds.
_OPENING = 0
_OPENING_TIMEOUT = 600.0
_OPENING_POLL = 0.01

# What is looked for at once when pruning, and the most that one write of it deletes: messages, or
# keys. Turns wait for no more than that.
_SEARCH = 10_000
_CHUNK = 500


class SqliteStore:
    """A `Store`. Other processes may have the same file open."""

    def __init__(self, path: Path) -> None:
        # However the file is called, what lies beside it is found.
        self._path = path.resolve()
        self._locks = self._path.with_name(f"{self._path.name}-claims")
        self._writer = DatabaseThread(self._path, "BEGIN IMMEDIATE")
        # Turns read on a thread that never waits for a disk's sync, nor for what reads much.
        self._reader = DatabaseThread(self._path, "BEGIN")
        self._searcher = DatabaseThread(self._path, "BEGIN")
        self._claims: Claims | None = None

    async def open(self) -> int:
        create(self._path)
        with opening(self._locks):
            self._claims = Claims(self._locks)
        try:
            return await self._start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        # The last connection to be closed brings the write-ahead log into the database.
        for thread in (self._searcher, self._reader, self._writer):
            await thread.stop()
        claims, self._claims = self._claims, None
        if claims is not None:
            claims.close()

    async def check(self) -> None:
        await self._writer.ask(queries.probe)

    async def ready(self) -> None:
        pass

    async def claim(self, name: int) -> bool:
        if self._claims is None:
            raise StoreError(f"{self._path} is not open")
        with opening(self._locks):
            return self._claims.take(name)

    async def release(self, name: int) -> None:
        with opening(self._locks):
            self._release((name,))

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        return await self._reader.ask(lambda conn: queries.load(conn, place, conversation, span))

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        done = self._writer.ask(lambda conn: queries.write(conn, change))
        done.add_done_callback(lambda done: self._saved(done, claims))
        await asyncio.shield(done)

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        await self._writer.ask(lambda conn: queries.mark(conn, conversation, message, feedback))

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        return await self._searcher.ask(
            lambda conn: queries.listed(conn, place, user_id, after, limit)
        )

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        return await self._searcher.ask(lambda conn: queries.everything(conn, after, limit))

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        return await self._reader.ask(lambda conn: queries.answered(conn, subject, key, now))

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        gone = 0
        if before is not None:
            gone += await self._forget(lambda conn: queries.old(conn, before, _SEARCH))
        if per_user is not None:
            gone += await self._forget(lambda conn: queries.beyond(conn, per_user, _SEARCH))
        while await self._writer.ask(lambda conn: queries.expire(conn, now, _CHUNK)) == _CHUNK:
            pass
        return gone

    async def figures(self) -> Figures:
        schema, conversations, messages = await self._searcher.ask(queries.counts)
        size = sum(map(_size, (self._path, self._path.with_name(f"{self._path.name}-wal"))))
        return Figures(schema=schema, conversations=conversations, messages=messages, size=size)

    async def _start(self) -> int:
        """The version of the schema before."""
        # Two processes that make one database at once would get in each other's way: SQLite does
        # not wait for everything that the first of them does.
        await self._wait_for(_OPENING)
        try:
            await self._writer.start()
            before = await self._writer.ask(partial(migrate, self._path))
        finally:
            await self.release(_OPENING)
        await self._reader.start()
        await self._searcher.start()
        return before

    async def _wait_for(self, name: int) -> None:
        for _ in range(round(_OPENING_TIMEOUT / _OPENING_POLL)):
            if await self.claim(name):
                return
            await asyncio.sleep(_OPENING_POLL)
        raise StoreError(f"another process has been opening {self._path} for too long: end it")

    def _saved(self, done: asyncio.Future[None], claims: Sequence[int]) -> None:
        if not done.cancelled():
            done.exception()  # nobody may be left to look at it
        self._release(claims)

    def _release(self, names: Iterable[int]) -> None:
        if self._claims is not None:
            for name in names:
                self._claims.give_back(name)

    async def _forget(self, search: Job[list[queries.Stale]]) -> int:
        """What is found, and what is found after that."""
        gone = 0
        while stale := await self._searcher.ask(search):
            for chunk in _chunks(stale):
                gone += await self._writer.ask(partial(queries.forget, stale=chunk))
        return gone


def _chunks(stale: Iterable[queries.Stale]) -> Iterator[list[queries.Stale]]:
    """Of `_CHUNK` messages at most, or one conversation."""
    chunk: list[queries.Stale] = []
    messages = 0
    for each in stale:
        if chunk and messages + each.length > _CHUNK:
            yield chunk
            chunk, messages = [], 0
        chunk.append(each)
        messages += each.length
    yield chunk


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
