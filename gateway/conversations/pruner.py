"""Forgetting what has been kept for long enough, in the background."""

import asyncio
from collections import Counter
from collections.abc import Callable

from gateway.config.model import StoreConfig
from gateway.conversations.access import milliseconds
from gateway.conversations.store import Store, StoreError, walk
from gateway.core.conversation import Place

# Seconds between two rounds: what is kept is never kept much longer than it should be.
_INTERVAL = 60.0


async def prune(store: Store, config: StoreConfig, now: int) -> int:
    """One round; how many conversations went. Raises `StoreError`."""
    before = None if config.ttl is None else now - int(config.ttl * 1000)
    return await store.prune(before, config.max_per_user, now)


async def prunable(store: Store, config: StoreConfig, now: int) -> int:
    """How many conversations one round would forget. Raises `StoreError`."""
    before = 0 if config.ttl is None else now - int(config.ttl * 1000)
    most, old, left = config.max_per_user, 0, Counter[tuple[Place, str]]()
    async for each in walk(store):
        if each.updated < before:
            old += 1
        elif each.user_id is not None:
            left[each.place, each.user_id] += 1
    # What is too old is older than all that is left, so it never takes the place of a newer one.
    return old + sum(max(0, count - most) for count in left.values() if most is not None)


class Pruner:
    """Rounds of it, until stopped."""

    def __init__(
        self,
        store: Store,
        config: StoreConfig,
        failed: Callable[[str, Exception], None],
        interval: float = _INTERVAL,
    ) -> None:
        self._store = store
        self._config = config
        self._failed = failed
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def follow(self, config: StoreConfig) -> None:
        """From the next round on, forget by these rules."""
        self._config = config

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await prune(self._store, self._config, milliseconds())
            except StoreError as exc:
                self._failed("prune", exc)
            await asyncio.sleep(self._interval)
