"""The turns in progress, so that a stop can wait for them, and then end them in their own words."""

import asyncio

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.relay import Relay


class OpenTurns:
    """Counts turns from their admission to their end, each in the task that serves it, and knows
    the relays of those that have begun to answer."""

    def __init__(self) -> None:
        self._turns: dict[asyncio.Task[object], Relay | None] = {}
        """By the task that serves it; None: it has not begun to answer."""
        self._broken_off: set[asyncio.Task[object]] = set()
        self._waiting: list[asyncio.Future[None]] = []
        """Those who wait until there is none."""
        self._over = False

    def __enter__(self) -> None:
        """One turn more, to the end of the block. What `end` breaks off there raises
        `GatewayError(UNAVAILABLE)`, and so does one that comes after it."""
        if self._over:  # its head was still arriving
            raise restarting()
        self._turns[_task()] = None

    def __exit__(self, _type: object, raised: BaseException | None, _traceback: object) -> None:
        task = _task()
        del self._turns[task]
        if not self._turns and self._waiting:
            self._tell()
        if task not in self._broken_off:
            return
        self._broken_off.discard(task)
        # Its client may have left in the same moment: then it is cancelled all the same.
        if not task.uncancel() and isinstance(raised, asyncio.CancelledError):
            raise restarting() from None

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._turns)

    def add(self, relay: Relay) -> None:
        """The turn of this task begins to answer."""
        self._turns[_task()] = relay

    async def none(self) -> None:
        """Until none is open."""
        while self._turns:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def end(self) -> None:
        """Have all of them fail, as their dialects say it, and who comes from now on."""
        self._over = True
        for task, relay in list(self._turns.items()):
            if relay is not None:
                relay.eof(restarting())
            else:
                self._broken_off.add(task)
                task.cancel()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


def restarting() -> GatewayError:
    """What is said to those who are not served any more."""
    message = "the gateway is restarting, try again"
    return GatewayError(ErrorCode.UNAVAILABLE, message, retry_after=1.0)


def _task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
