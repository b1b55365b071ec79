"""How a gateway leaves: it stops wanting, then accepting, then waiting.

Every step is for those who do not know of the one before it yet: load balancers ask for readiness
every few seconds, proxies keep connections, clients read a stream to its end.
"""

import asyncio
from collections.abc import Coroutine

from gateway.http.server import Listener
from gateway.proxy.open_turns import OpenTurns, restarting

# How long the last frames may take to reach clients that were told to come back.
_LAST_WORDS = 2.0


class Leaving:
    """One gateway's way out of its public listener."""

    def __init__(self, listener: Listener, open_turns: OpenTurns) -> None:
        self._listener = listener
        self._open_turns = open_turns
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Wait no longer, now or later."""
        self._hurried.set()

    async def leave(self, delay: float, window: float) -> None:
        """Accept for `delay` seconds more, and let what has been accepted go on for `window`
        seconds; then what is left fails, as its dialect says it. Nobody is connected afterwards,
        but for those that do not read what they were sent."""
        self._listener.part()
        await _first(delay, self._hurried.wait())
        await self._listener.refuse()
        await _first(window, self._empty(), self._hurried.wait())
        self._open_turns.end()
        self._listener.end(restarting())
        await _first(_LAST_WORDS, self._empty())

    async def _empty(self) -> None:
        await self._listener.emptied()
        await self._open_turns.none()  # one may outlive its client


async def _first(seconds: float, *waits: Coroutine[None, None, object]) -> None:
    """Until one of them is over, or the time is."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
