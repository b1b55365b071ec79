"""A start that a signal to stop may come before the end of."""

import asyncio
from typing import Protocol


class NotStarted(Exception):
    """No worker serves: what they say of it, and the exit code for that."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Startable(Protocol):
    """What serves, once it has started."""

    async def start(self) -> None: ...


async def started(gateway: Startable, stop: asyncio.Event) -> bool:
    """False: the signal to stop came first. Raises what `start` does."""
    starting = asyncio.ensure_future(gateway.start())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    if starting.cancelled():
        return False
    starting.result()
    return True
