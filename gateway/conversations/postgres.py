"""Conversations in PostgreSQL, for several gateways.

What guarantees that turns are never interleaved is the version in the conversation's row: a claim,
which keeps a second turn from running at all, can be lost where a gateway or the database stands
still for longer than a lease lasts.
"""

from collections.abc import Sequence

import asyncpg

from gateway.conversations import postgres_rows as rows
from gateway.conversations import postgres_statements as sql
from gateway.conversations.postgres_leases import Leases, Unbroken
from gateway.conversations.postgres_pool import Connections
from gateway.conversations.postgres_schema import migrate
from gateway.conversations.store import (
    Answered,
    Change,
    Conflict,
    Figures,
    Found,
    Listed,
    Span,
    StoreError,
)
from gateway.core.conversation import Conversation, Feedback, Place

# Seconds, for what may take long in a large database: a migration, after another gateway's; what is
# done in the background.
_MIGRATION = 600.0
_BACKGROUND = 60.0


class PostgresStore:
    """A `Store`. `url` has no password in it; without one the usual ways to find it are open
    (PGPASSWORD, ~/.pgpass)."""

    def __init__(self, url: str, password: str | None, max_connections: int) -> None:
        self._connections = Connections(url, password, max_connections)
        self._unbroken = Unbroken()
        self._leases = Leases(self._connections, self._unbroken)

    async def open(self) -> int:
        try:
            await self._connections.open()
            async with self._connections.lend(_MIGRATION) as connection:
                before = await migrate(connection)
        except BaseException:
            await self._connections.close()
            raise
        self._leases.start()
        return before

    async def close(self) -> None:
        await self._unbroken.settled()
        await self._leases.stop()
        await self._connections.close()

    async def check(self) -> None:
        [writable] = await self._connections.fetch(sql.WRITABLE)
        if not writable[0]:
            raise StoreError("this server is a standby, and takes no writes")

    async def ready(self) -> None:
        pass

    async def claim(self, name: int) -> bool:
        return await self._leases.claim(name)

    async def release(self, name: int) -> None:
        await self._leases.release(name)

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        statement, args = rows.loading(place, conversation, span)
        return rows.found(await self._fetch(statement, *args))

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        if not await self._unbroken.run(self._save(change, claims)):
            raise Conflict

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        await self._fetch(sql.MARK, conversation, message, feedback)

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        (count, page), whose, where = rows.listing(place, user_id, after, limit)
        async with self._connections.lend() as connection:
            total: int = await connection.fetchval(count, *whose)
            found = await connection.fetch(page, *whose, *where)
        return Listed(tuple(map(rows.conversation, found)), total)

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        found = await self._connections.fetch(sql.EVERYTHING, after or 0, limit)
        return tuple(map(rows.conversation, found))

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        asked = rows.text(subject), rows.text(key), now
        found = await self._fetch(sql.ANSWERED, *asked)
        return Answered(**found[0]) if found else None

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        count = 0
        if before is not None:
            count += await self._forget(sql.FORGET_OLD, before)
        if per_user is not None:
            count += await self._forget_beyond(per_user)
        await self._forget(sql.FORGET_KEYS, now)
        await self._connections.fetch(sql.FORGET_LEASES)
        return count

    async def figures(self) -> Figures:
        [found] = await self._connections.fetch(sql.FIGURES, within=_BACKGROUND)
        schema, conversations, messages, size = found
        return Figures(schema=schema, conversations=conversations, messages=messages, size=size)

    async def _fetch(self, statement: str, *args: object) -> list[asyncpg.Record]:
        """What a client asks for. One that leaves in the middle must not cost a connection: new
        ones take so long that a few such clients would slow everybody down."""
        return await self._unbroken.run(self._connections.fetch(statement, *args))

    async def _save(self, change: Change, claims: Sequence[int]) -> bool:
        self._leases.forget(claims)
        statement, args = rows.saving(change, self._leases.holder, claims)
        try:
            return bool(await self._connections.fetch(statement, *args))
        except StoreError:
            self._leases.release_later(claims)
            raise

    async def _forget(self, statement: str, limit: int) -> int:
        """Chunk by chunk, so that nobody's turn waits for all of it."""
        count = 0
        while gone := await self._connections.fetch(statement, limit, within=_BACKGROUND):
            count += len(gone)
        return count

    async def _forget_beyond(self, per_user: int) -> int:
        count = before = 0
        while found := await self._connections.fetch(sql.BEYOND, per_user, within=_BACKGROUND):
            for chunk in (found[n : n + sql.CHUNK] for n in range(0, len(found), sql.CHUNK)):
                ids, updated = zip(*chunk, strict=True)
                gone = await self._connections.fetch(sql.FORGET, ids, updated, within=_BACKGROUND)
                count += len(gone)
            if count == before:  # all that is left is being written just now
                break
            before = count
        return count
