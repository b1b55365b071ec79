"""So many turns at once, and a queue in front of them that neither grows nor waits without end."""

import asyncio
from collections import OrderedDict

from msgspec import Struct

from gateway.config.upstreams import Queue
from gateway.core.errors import ErrorCode, GatewayError

# The shortest wait that Retry-After can say.
_SOON = 1.0


class _Waiting(Struct, eq=False):
    limit: int
    turn: asyncio.Future[None]


class Slots:
    """One target's. The limit comes with each call: agents may have their own, and a reload may
    change it. None: any number, which is counted all the same."""

    def __init__(self) -> None:
        self.taken = 0
        self._queue: OrderedDict[_Waiting, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def free(self, limit: int | None) -> bool:
        """Whether one is to be had at once. Who waits is first."""
        return limit is None or (self.taken < limit and not self._queue)

    def take(self) -> None:
        """One that is free; whoever takes it gives it back."""
        self.taken += 1

    async def wait(self, limit: int, queue: Queue) -> None:
        """Take one as soon as it is free, first come, first served.

        Raises `GatewayError(UPSTREAM_BUSY)`: at once if the queue is full, else after its timeout.
        """
        if self.free(limit):  # perhaps again, since it was last asked
            self.take()
            return
        if len(self._queue) >= queue.size:
            raise _busy(queue)
        waiting = _Waiting(limit, asyncio.get_running_loop().create_future())
        self._queue[waiting] = None
        try:
            async with asyncio.timeout(queue.timeout):
                await waiting.turn
        except BaseException as exc:
            self._leave(waiting)
            if isinstance(exc, TimeoutError):
                raise _busy(queue) from None
            raise

    def give_back(self) -> None:
        self.taken -= 1
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            first = next(iter(self._queue))
            # Cancelled: its coroutine is still to run, and then it leaves by itself.
            if not first.turn.cancelled():
                if self.taken >= first.limit:
                    return
                self.taken += 1
                first.turn.set_result(None)
            del self._queue[first]

    def _leave(self, waiting: _Waiting) -> None:
        """Given up, perhaps just as its turn came."""
        if waiting.turn.done() and not waiting.turn.cancelled():
            self.give_back()
        else:
            self._queue.pop(waiting, None)  # perhaps it was passed over already
            self._serve()  # who waits behind it may have a higher limit


def _busy(queue: Queue) -> GatewayError:
    return GatewayError(
        ErrorCode.UPSTREAM_BUSY,
        "too many turns are waiting for the upstream, please try again later",
        retry_after=max(_SOON, queue.timeout),
    )
