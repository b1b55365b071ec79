"""How late the event loop is: whatever keeps it busy keeps every stream waiting."""

import asyncio
import time
from collections.abc import Callable

_INTERVAL = 0.25


class LoopLag:
    """Asks for a timer again and again, between `start` and `stop`. `late` hears, in seconds, how
    much later than that each one came."""

    def __init__(self, late: Callable[[float], None], interval: float = _INTERVAL) -> None:
        self._late = late
        self._interval = interval
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        # uvloop's own clock stands still within a turn of the loop, and knows milliseconds only.
        self._due = time.monotonic() + self._interval
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._rung)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _rung(self) -> None:
        # uvloop may be early by what its clock does not know.
        self._late(max(0.0, time.monotonic() - self._due))
        self.start()
