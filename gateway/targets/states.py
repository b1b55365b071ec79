"""Every target's state, under its name: it outlives the config that names it."""

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial

from gateway.config.routes import RouteTarget
from gateway.targets.breaker import Breaker, State
from gateway.targets.retries import Budget
from gateway.targets.slots import Slots

# How soon to come back while health checks find it down: nobody knows when they will not.
_UNTIL_CHECKED = 5.0


class Checked:
    """What the health checks of an upstream have found."""

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self.down = False


class TargetState:
    """One target's."""

    def __init__(self, name: str, upstream: str, checked: Checked, breaker: Breaker) -> None:
        self.name = name
        self.upstream = upstream
        self.checked = checked
        self.breaker = breaker
        self.slots = Slots()
        self.budget = Budget()

    def wait(self, now: float, target: RouteTarget) -> float:
        """Seconds until it may be asked; 0.0: now."""
        if self.checked.down:
            return _UNTIL_CHECKED
        return self.breaker.wait(now, target.upstream.breaker)

    def may_retry(self, target: RouteTarget) -> bool:
        """Whether a turn may ask it once more."""
        return not self.wait(time.monotonic(), target) and self.budget.allows(self.slots.taken)


class States:
    """One gateway's."""

    def __init__(self, told: Callable[[str, State], None] = lambda _target, _state: None) -> None:
        """`told`: that a target's breaker has opened, or closed."""
        self._told = told
        self._targets: dict[str, TargetState] = {}
        self._checked: dict[str, Checked] = {}

    def __iter__(self) -> Iterator[TargetState]:
        return iter(self._targets.values())

    def find(self, target: RouteTarget) -> TargetState | None:
        """None if the config has not named it, or does not any more."""
        return self._targets.get(target.name)

    def of(self, target: RouteTarget) -> TargetState:
        state = self._targets.get(target.name)
        if state is None:
            upstream = target.target.upstream
            breaker = Breaker(partial(self._told, target.name))
            state = TargetState(target.name, upstream, self.checked(upstream), breaker)
            self._targets[target.name] = state
        return state

    def well(self, target: RouteTarget) -> bool:
        """Whether nothing at all speaks against asking it."""
        state = self.of(target)
        return state.breaker.closed and not state.checked.down

    def checked(self, upstream: str) -> Checked:
        return self._checked.setdefault(upstream, Checked())

    def track(self, targets: Collection[RouteTarget]) -> None:
        """Those that the config names now. A turn that is open keeps its own."""
        self._targets = {target.name: self.of(target) for target in targets}
        upstreams = {target.target.upstream for target in targets}
        self._checked = {name: self.checked(name) for name in upstreams}

    def renewed(self, upstreams: Collection[str]) -> None:
        """These have another address or credential now: what was learned of them is out of date."""
        for state in self._targets.values():
            if state.upstream in upstreams:
                state.breaker.recovered()
