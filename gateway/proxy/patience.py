"""A clock for others that does not run while the gateway is the slow one."""

import asyncio
from types import TracebackType

# A timer that comes so much later than it was set for, in seconds, says that the event loop has
# had more to do than it could.
_LATE = 0.05


class Patience:
    """Ends an `async with` block with `TimeoutError` after so many seconds.

    As `asyncio.timeout`, but for what was waited in vain: where a crowd connects at once, the other
    sides' answers may be there for seconds before the loop gets round to them. By as much as the
    timer is late, it is set again.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._set(self._loop.time() + self._seconds)

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._over and not self._task.uncancel() and isinstance(raised, asyncio.CancelledError):
            raise TimeoutError from raised

    def _set(self, when: float) -> None:
        self._when = when
        self._timer = self._loop.call_at(when, self._run_out)

    def _run_out(self) -> None:
        now = self._loop.time()
        late = now - self._when
        if late > _LATE:
            self._set(now + late)
        else:
            self._over = True
            self._task.cancel()
