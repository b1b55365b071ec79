"""Answers that take a while to write, one after the other."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Has them written in a thread, and never in two: threads take turns with the event loop, and
    with a few of them every stream would wait. Those who ask while one is being written share the
    next."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._queued: dict[str, asyncio.Future[T]] = {}

    async def of(self, name: str, write: Callable[[], T]) -> T:
        """What `write` makes of a state that is not older than the question. Callers of one name
        bring the same `write`, and there are few names."""
        if name not in self._queued:
            self._queued[name] = asyncio.ensure_future(self._written(name, write))
        # Whoever leaves does not take it from the others.
        return await asyncio.shield(self._queued[name])

    async def _written(self, name: str, write: Callable[[], T]) -> T:
        async with self._lock:
            del self._queued[name]
            return await asyncio.to_thread(write)
