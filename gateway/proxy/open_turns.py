"""The turns in progress, so that a stop can wait for them, and then end them in their own words."""

import asyncio

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.relay import Relay


class OpenTurns:
    """Counts turns from their admission to their end, each in the task that serves it, and knows
    the relays of those that have begun to answer."""

    def __init__(self) -> None:
        self._unbegun: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()
        self._count = 0
        self._relays: set[Relay] = set()
        self._none = asyncio.Event()
        self._none.set()
        self._over = False

    def __enter__(self) -> None:
        """One turn more, to the end of the block. What `end` breaks off there raises
        `GatewayError(UNAVAILABLE)`, and so does one that comes after it."""
        if self._over:  # its head was still arriving
            raise restarting()
        self._count += 1
        self._unbegun.add(_task())
        self._none.clear()

    def __exit__(self, _type: object, raised: BaseException | None, _traceback: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()
        task = _task()
        self._unbegun.discard(task)
        if task not in self._ended:
            return
        self._ended.discard(task)
        # Its client may have left in the same moment: then it is cancelled all the same.
        if not task.uncancel() and isinstance(raised, asyncio.CancelledError):
            raise restarting() from None

    @property
    def count(self) -> int:
        """How many are open."""
        return self._count

    def add(self, relay: Relay) -> None:
        """The turn of this task begins to answer."""
        self._unbegun.discard(_task())
        self._relays.add(relay)

    def discard(self, relay: Relay) -> None:
        self._relays.discard(relay)

    async def none(self) -> None:
        """Until none is open."""
        await self._none.wait()

    def end(self) -> None:
        """Have all of them fail, as their dialects say it, and who comes from now on."""
        self._over = True
        for relay in list(self._relays):
            relay.eof(restarting())
        self._ended |= self._unbegun
        for task in self._unbegun:
            task.cancel()
        self._unbegun = set()


def restarting() -> GatewayError:
    """What is said to those who are not served any more."""
    message = "the gateway is restarting, try again"
    return GatewayError(ErrorCode.UNAVAILABLE, message, retry_after=1.0)


def _task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
