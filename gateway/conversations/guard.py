"""A store that may fail, made safe to serve by: nothing hangs, and one that is down is not asked
again by every request."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TypeVar

from gateway.conversations.store import (
    Answered,
    Change,
    Conflict,
    Figures,
    Found,
    Listed,
    Span,
    Store,
    StoreError,
)
from gateway.core.conversation import Conversation, Feedback, Place
from gateway.core.errors import ErrorCode, GatewayError

T = TypeVar("T")

# How long a store that failed is left alone, in seconds: then one request tries it again.
_PAUSE = 1.0

_READING, _WRITING = "reading", "writing"
_BOTH = frozenset({_READING, _WRITING})

# What works again, if this did. A full disk can be read, and a claim may need no disk at all.
_SHOWN = {
    "load": frozenset({_READING}),
    "listed": frozenset({_READING}),
    "answered": frozenset({_READING}),
    "check": _BOTH,
    "mark": _BOTH,
    "save": _BOTH,
}


class GuardedStore:
    """A `Store` over another one. Every failure is `GatewayError(UNAVAILABLE)`, within `timeout`
    seconds; while the store is down, at once. `failed` is told of each, with the operation,
    and `took` of every operation, and how long. Each is done inside of what `around` gives."""

    def __init__(
        self,
        store: Store,
        timeout: float,
        failed: Callable[[str, Exception], None],
        clock: Callable[[], float] = time.monotonic,
        took: Callable[[str, float], None] = lambda operation, seconds: None,
        around: Callable[[str], AbstractContextManager[None]] = lambda operation: nullcontext(),
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._failed = failed
        self._clock = clock
        self._took = took
        self._around = around
        self._down: frozenset[str] = frozenset()
        self._again = 0.0
        """When what is down may be tried."""

    async def open(self) -> int:
        return await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def check(self) -> None:
        await self._try("check", self._store.check())

    async def ready(self) -> None:
        if _WRITING in self._down:
            self._refuse(_WRITING)
            await self.check()

    async def claim(self, name: int) -> bool:
        await self.ready()  # it is for the sake of a write
        return await self._try("claim", self._store.claim(name))

    async def release(self, name: int) -> None:
        with suppress(GatewayError):  # a claim that is not released expires
            await self._try("release", self._store.release(name))

    async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
        self._refuse(_READING)
        return await self._try("load", self._store.load(place, conversation, span))

    async def save(self, change: Change, claims: Sequence[int]) -> None:
        # A turn that has been answered already is worth a try in any case.
        await self._try("save", self._store.save(change, claims))

    async def mark(self, conversation: int, message: int, feedback: Feedback | None) -> None:
        self._refuse(_WRITING)
        await self._try("mark", self._store.mark(conversation, message, feedback))

    async def listed(
        self, place: Place, user_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> Listed:
        self._refuse(_READING)
        return await self._try("listed", self._store.listed(place, user_id, after, limit))

    async def everything(self, after: int | None, limit: int) -> tuple[Conversation, ...]:
        return await self._store.everything(after, limit)

    async def answered(self, subject: str, key: str, now: int) -> Answered | None:
        self._refuse(_READING)
        return await self._try("answered", self._store.answered(subject, key, now))

    async def prune(self, before: int | None, per_user: int | None, now: int) -> int:
        return await self._store.prune(before, per_user, now)

    async def figures(self) -> Figures:
        return await self._store.figures()

    def _refuse(self, doing: str) -> None:
        """While the store is down only one request in a while has to wait for it to fail again."""
        if doing not in self._down:
            return
        now = self._clock()
        if now < self._again:
            raise _unavailable()
        self._again = now + self._timeout + _PAUSE

    async def _try(self, operation: str, doing: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            with self._around(operation):
                async with asyncio.timeout(self._timeout):
                    done = await doing
        except (StoreError, TimeoutError) as exc:
            self._down, self._again = _BOTH, self._clock() + _PAUSE
            self._failed(operation, exc)
            raise _unavailable() from exc
        except Conflict:
            self._works(operation)  # it took a store that works to find it
            raise
        finally:
            self._took(operation, time.monotonic() - began)
        self._works(operation)
        return done

    def _works(self, operation: str) -> None:
        if self._down and (shown := _SHOWN.get(operation, frozenset()) & self._down):
            self._down -= shown
            self._again = self._clock()  # this was the try that the others waited for


def _unavailable() -> GatewayError:
    return GatewayError(
        ErrorCode.UNAVAILABLE,
        "conversations cannot be read or written just now, try again",
        retry_after=_PAUSE,
    )
