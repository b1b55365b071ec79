"""The turns in progress, so that a stop can wait for them, and then end them in their own words."""

import asyncio

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.relay import Relay


class OpenTurn:
    """One, in the task that serves it, to the end of the block. What `OpenTurns.end` breaks off
    there raises `GatewayError(RESTARTING)`, and so does one that comes after it."""

    __slots__ = ("_all", "broken_off", "relay", "task")

    def __init__(self, all_of_them: "OpenTurns") -> None:
        self._all = all_of_them
        self.task: asyncio.Task[object]
        self.relay: Relay | None = None
        """None: it has not begun to answer."""
        self.broken_off = False

    def __enter__(self) -> "OpenTurn":
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._all.enter(self)
        return self

    def __exit__(self, _type: object, raised: BaseException | None, _traceback: object) -> None:
        self._all.leave(self)
        # Its client may have left in the same moment: then it is cancelled all the same.
        told = self.broken_off and not self.task.uncancel()
        if told and isinstance(raised, asyncio.CancelledError):
            raise restarting() from None


class OpenTurns:
    """Counts turns from their admission to their end, and knows the relays of those that have begun
    to answer."""

    def __init__(self) -> None:
        self._turns: set[OpenTurn] = set()
        self._waiting: list[asyncio.Future[None]] = []
        """Those who wait until there is none."""
        self._over = False

    def turn(self) -> OpenTurn:
        """One turn more, for a `with` block."""
        return OpenTurn(self)

    def enter(self, turn: OpenTurn) -> None:
        if self._over:  # its head was still arriving
            raise restarting()
        self._turns.add(turn)

    def leave(self, turn: OpenTurn) -> None:
        self._turns.discard(turn)
        if not self._turns and self._waiting:
            self._tell()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._turns)

    async def none(self) -> None:
        """Until none is open."""
        while self._turns:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def end(self) -> None:
        """Have all of them fail, as their dialects say it, and who comes from now on."""
        self._over = True
        for turn in list(self._turns):
            if turn.relay is not None:
                turn.relay.eof(restarting())
            else:
                turn.broken_off = True
                turn.task.cancel()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


def restarting() -> GatewayError:
    """What is said to those who are not served any more."""
    message = "the gateway is restarting, try again"
    return GatewayError(ErrorCode.RESTARTING, message, retry_after=1.0)
