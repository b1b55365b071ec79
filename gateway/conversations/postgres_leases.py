"""Claims as leases in PostgreSQL: one that is not renewed is free, so a gateway that died holds
nothing for long. The only clock is the database's."""

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from gateway.conversations import postgres_statements as sql
from gateway.conversations.postgres_pool import GOODBYE, Connections
from gateway.conversations.store import StoreError

T = TypeVar("T")

# Two renewals may fail before it is lost.
_LEASE = timedelta(seconds=30)
_RENEWAL = 10.0


class Unbroken:
    """Work that goes on to its end though whoever waits for it is cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Do it without waiting; what it raises need not be looked at."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Do it, and wait."""
        task = self.start(work)
        await asyncio.wait([task])
        return task.result()

    async def settled(self) -> None:
        """Wait for all of it."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


class Leases:
    """The claims that this process holds. `renewal`: seconds between two."""

    def __init__(
        self, connections: Connections, unbroken: Unbroken, renewal: float = _RENEWAL
    ) -> None:
        self.holder = secrets.randbits(62)
        """Who holds them."""
        self._connections = connections
        self._unbroken = unbroken
        self._renewal = renewal
        self._held: set[int] = set()
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Renew what is held, until stopped."""
        self._renewing = asyncio.create_task(self._renew())

    async def stop(self) -> None:
        """Release what is held, and renew no more."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        self._renewing = None
        if held := self.forget(tuple(self._held)):
            with suppress(StoreError):
                await self._give_back(held, GOODBYE)

    async def claim(self, name: int) -> bool:
        """As the store's."""
        # A lease that was lost may be free in the database while its turn still runs here.
        if name in self._held:
            return False
        claiming = self._unbroken.start(self._claim(name))
        try:
            await asyncio.wait([claiming])
        except asyncio.CancelledError:
            self._unbroken.start(self._unwanted(claiming, name))
            raise
        return claiming.result()

    async def release(self, name: int) -> None:
        """As the store's."""
        if held := self.forget([name]):
            await self._unbroken.run(self._give_back(held))

    def release_later(self, names: Sequence[int]) -> None:
        """Without waiting, and whether they are still known here or not."""
        self._unbroken.start(self._give_back(names))

    def forget(self, names: Sequence[int]) -> list[int]:
        """Renew these no more; those of them that were held."""
        known = [name for name in names if name in self._held]
        self._held.difference_update(known)
        return known

    async def _claim(self, name: int) -> bool:
        taken = await self._connections.fetch(sql.CLAIM, name, self.holder, _LEASE)
        if taken:
            self._held.add(name)
        return bool(taken)

    async def _unwanted(self, claiming: asyncio.Task[bool], name: int) -> None:
        if await claiming:
            await self._give_back(self.forget([name]))

    async def _give_back(self, names: Sequence[int], within: float | None = None) -> None:
        await self._connections.fetch(sql.RELEASE, list(names), self.holder, within=within)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renewal)
            with suppress(StoreError):  # the next one may succeed in time
                if self._held:
                    await self._connections.fetch(sql.RENEW, list(self._held), self.holder, _LEASE)
