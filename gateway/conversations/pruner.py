"""Forgetting what has been kept for long enough, in the background."""

import asyncio
from collections.abc import Callable

from gateway.config.model import StoreConfig
from gateway.conversations.access import milliseconds
from gateway.conversations.store import Store, StoreError

# Seconds between two rounds: what is kept is never kept much longer than it should be.
_INTERVAL = 60.0


async def prune(store: Store, config: StoreConfig, now: int) -> int:
    """One round; how many conversations went. Raises `StoreError`."""
    before = None if config.ttl is None else now - int(config.ttl * 1000)
    return await store.prune(before, config.max_per_user, now)


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
