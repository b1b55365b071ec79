"""A store that fails, or hangs, when it is told to."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from gateway.conversations.store import (
    Answered,
    Change,
    Figures,
    Found,
    Listed,
    Span,
    Store,
)
from gateway.core.conversation import Conversation, Feedback, Place

T = TypeVar("T")


class FaultyStore:
    """Does what another store does, unless it has a `fault` or hangs; notes what was tried."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fault: Exception | None = None
        self.failing: str | None = None
        """The one operation that is so; None: all of them."""
        self.working = asyncio.Event()
        """Cleared: it hangs."""
        self.working.set()
        self.tried: asyncio.Queue[str] = asyncio.Queue()

    def operations(self) -> list[str]:
        """What was tried since the last time."""
        return [self.tried.get_nowait() for _ in range(self.tried.qsize())]

    async def _do(self, name: str, doing: Coroutine[object, object, T]) -> T:
        self.tried.put_nowait(name)
        try:
            if self.failing in (None, name):
                await self.working.wait()
                if self.fault is not None:
                    raise self.fault
            return await doing
        finally:
            doing.close()

    async def open(self) -> int:
        return await self._do("open", self._store.open())

    async def close(self) -> None:
        await self._do("close", self._store.close())

    async def check(self) -> None:
        await self._do("check", self._store.check())

    async def ready(self) -> None:
        await self._do("ready", self._store.ready())

    async def claim(self, name: int) -> bool:
        return await self._do("claim", self._store.claim(name))

    async def release(self, name: int) -> None:
        await self._do("release", self._store.release(name))

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        return await self._do("load", self._store.load(place, conversation, span))

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        await self._do("save", self._store.save(change, claims))

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        await self._do("mark", self._store.mark(conversation, message, feedback))

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        return await self._do("listed", self._store.listed(place, user_id, after, limit))

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        return await self._do("everything", self._store.everything(after, limit))

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        return await self._do("answered", self._store.answered(subject, key, now))

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        return await self._do("prune", self._store.prune(before, per_user, now))

    async def figures(self) -> Figures:
        return await self._do("figures", self._store.figures())
