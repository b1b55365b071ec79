"""A circuit breaker: whether a target that failed again and again is left alone.

Closed, it lets every turn through. So many failures in a row, or such a share of the last turns,
open it: nobody is let through for `open_for` seconds. Then it is half open: one turn tries, and
what becomes of it closes the breaker or opens it again. Times are monotonic seconds.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum

from gateway.config.upstreams import Breaker as Rules

# Of the window that a failure rate looks back on.
_SLOTS = 10

# How long another turn should wait for the one that tries: nobody knows when it will be over.
_PROBING = 1.0


class State(StrEnum):
    """The values are in metrics and in the status."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """One target's. The rules come with each call: a reload may change them."""

    def __init__(self, told: Callable[[State], None] = lambda _state: None) -> None:
        """`told`: that it has opened, perhaps once more, or closed."""
        self._told = told
        self.opened = 0
        """How often, so far."""
        self._failures = 0
        self._recent = _Recent()
        self.closed = True
        """Whether every turn is let through."""
        self._open_until = 0.0
        self._probing = False

    def state(self, now: float) -> State:
        if self.closed:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def wait(self, now: float, rules: Rules) -> float:
        """Seconds until a turn may ask the target; 0.0 if it may now."""
        if self.closed or not rules.enabled:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        return _PROBING if self._probing else 0.0

    def enter(self, now: float) -> bool:
        """A turn asks the target; whether it is the one that tries, which then tells
        `recovered`, `failed` or `let_go`."""
        if self.closed or self._probing or now < self._open_until:
            return False
        self._probing = True
        return True

    def recovered(self) -> None:
        """The turn that tries has its answer."""
        was_open, self.closed, self._probing = not self.closed, True, False
        self._failures, self._recent = 0, _Recent()
        if was_open:
            self._told(State.CLOSED)

    def succeeded(self, now: float, rules: Rules) -> None:
        """A turn ended well."""
        self._failures = 0
        self._recent.add(now, rules.window, failed=False)

    def failed(self, now: float, rules: Rules, *, probe: bool, for_sure: bool = False) -> None:
        """It did not, for a reason of its own; `for_sure`: the next turn would fail as well."""
        self._failures += 1
        self._recent.add(now, rules.window, failed=True)
        if probe:
            self._probing = False
            self._open(now, rules)
        elif self.closed and (for_sure or self._has_failed_enough(now, rules)):
            self._open(now, rules)

    def let_go(self) -> None:
        """The turn that tries ended without a word about the target: its client left."""
        self._probing = False

    def _has_failed_enough(self, now: float, rules: Rules) -> bool:
        if self._failures >= rules.failures:
            return True
        if rules.failure_rate is None:
            return False
        turns, failures = self._recent.counts(now, rules.window)
        # Divided, as 0.07 * 100 is more than 7.
        return turns >= rules.min_turns and failures / turns >= rules.failure_rate

    def _open(self, now: float, rules: Rules) -> None:
        if rules.enabled:
            self.opened += 1
            self.closed = False
            self._open_until = now + rules.open_for
            self._told(State.OPEN)


class _Recent:
    """Turns and failures of the last seconds, counted in slots."""

    def __init__(self) -> None:
        self._slots: deque[list[float]] = deque(maxlen=_SLOTS + 1)
        """When each began, its turns and its failures."""

    def add(self, now: float, window: float, *, failed: bool) -> None:
        slots = self._slots
        if not slots or now - slots[-1][0] >= window / _SLOTS:
            slots.append([now, 0, 0])
        last = slots[-1]
        last[1] += 1
        last[2] += failed

    def counts(self, now: float, window: float) -> tuple[float, float]:
        """Turns and failures of the last `window` seconds, or up to a slot less."""
        live = [slot for slot in self._slots if now - slot[0] <= window]
        return sum(slot[1] for slot in live), sum(slot[2] for slot in live)
