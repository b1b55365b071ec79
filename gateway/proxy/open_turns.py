"""The turns in progress, so that a stop can wait for them, and then end them in their own words."""

import asyncio
from collections.abc import Coroutine

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.relay import Relay

# How long the last frames may take to reach clients that were told to come back.
_LAST_WORDS = 2.0


class OpenTurns:
    """Counts turns from their admission to their end, and knows the relays of those that stream."""

    def __init__(self) -> None:
        self._count = 0
        self._relays: set[Relay] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        """One turn more, to the end of the block."""
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    def add(self, relay: Relay) -> None:
        self._relays.add(relay)

    def discard(self, relay: Relay) -> None:
        self._relays.discard(relay)

    async def drain(self, window: float, hurry: asyncio.Event) -> None:
        """Let turns finish for `window` seconds or until `hurry`; then those that are left fail, as
        their dialect says it."""
        await _first(window, self._none.wait(), hurry.wait())
        ending = GatewayError(ErrorCode.UNAVAILABLE, "the gateway is restarting, try again")
        for relay in list(self._relays):
            relay.eof(ending)
        await _first(_LAST_WORDS, self._none.wait())


async def _first(seconds: float, *waits: Coroutine[None, None, object]) -> None:
    """Until one of them is over, or the time is."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
