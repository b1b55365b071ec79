"""One timer for many clocks of which hardly any runs out.

A timer of the loop's for each would cost six times as much.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

# All are looked at where one has run out. Of ten thousand, a look takes about a millisecond, and
# the next one is no sooner than a hundred later.
_PAUSE = 1e-5

_T = TypeVar("_T")


class Deadlines(Generic[_T]):
    """Those of one event loop."""

    def __init__(self, run_out: Callable[[_T], None]) -> None:
        """What is called, once, for whom its time is up."""
        self._run_out = run_out
        self._times: dict[_T, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = inf

    def __len__(self) -> int:
        """How many clocks are running."""
        return len(self._times)

    def start(self, who: _T, deadline: float) -> None:
        """`deadline` is a time of the loop's."""
        self._times[who] = deadline
        if deadline < self._next:
            self._look_at(deadline)

    def stop(self, who: _T) -> None:
        """Nothing, if it has run out."""
        self._times.pop(who, None)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self._next = None, inf
        late = [who for who, deadline in self._times.items() if deadline <= now]
        for who in late:
            if self._times.pop(who, None) is not None:  # unless the one before has stopped it
                self._run_out(who)
        if self._times:
            self._look_at(max(min(self._times.values()), now + _PAUSE * len(self._times)))
