"""The requests that are open, and the last of those that failed: what an operator asks about."""

import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import chain

from msgspec import Struct

from gateway.observe.exchange import COMPLETE, Exchange
from gateway.observe.faults import FAULTS, Fault

# Of those that failed, so many are known. Those that were to blame themselves are kept apart:
# a flood of them would hide the others.
_KEPT = 100


class Failed(Struct, frozen=True):
    """A request that did not end well. As in its record, there is no text of a message."""

    at: float
    """Its end, in Unix seconds."""
    request_id: str
    trace_id: str
    """`""`: it had no trace."""
    operation: str
    dialect: str
    agent: str
    upstream: str
    target: str
    outcome: str
    fault: Fault
    status: int
    attempts: int
    duration: float
    """Seconds."""


class Ledger:
    """One gateway's: it hears of every request when it comes, and when it is over."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.turns: Counter[tuple[str, str]] = Counter()
        """How many turns ended, by agent and outcome."""
        self._open: dict[Exchange, None] = {}
        self._failures: deque[Failed] = deque(maxlen=_KEPT)
        self._refusals: deque[Failed] = deque(maxlen=_KEPT)
        self._clock = clock

    def begin(self, exchange: Exchange) -> None:
        self._open[exchange] = None

    def end(self, exchange: Exchange) -> None:
        """It is over, and its record is complete."""
        self._open.pop(exchange, None)  # what does not parse has never begun
        if exchange.turn:
            self.turns[exchange.agent, exchange.outcome] += 1
        if exchange.outcome != COMPLETE:
            failed = self._failed(exchange)
            blameless = failed.fault is not Fault.CLIENT
            (self._failures if blameless else self._refusals).append(failed)

    @property
    def open(self) -> list[Exchange]:
        """The oldest first."""
        return list(self._open)

    @property
    def failures(self) -> list[Failed]:
        """The last that the gateway or an upstream is to blame for, the newest first."""
        return list(self._failures)[::-1]

    def find(self, request_id: str) -> list[Failed]:
        """Those of this id, clients' own fault as well, the newest first: callers may choose ids,
        and so use one twice."""
        kept = chain(list(self._failures), list(self._refusals))
        found = [failed for failed in kept if failed.request_id == request_id]
        return sorted(found, key=lambda failed: failed.at, reverse=True)

    def _failed(self, exchange: Exchange) -> Failed:
        return Failed(
            at=self._clock(),
            request_id=exchange.request_id,
            trace_id=exchange.trace.id,
            operation=exchange.operation,
            dialect=exchange.dialect,
            agent=exchange.agent,
            upstream=exchange.upstream,
            target=exchange.target,
            outcome=exchange.outcome,
            fault=FAULTS.get(exchange.outcome, Fault.GATEWAY),
            status=exchange.status,
            attempts=exchange.attempts,
            duration=exchange.duration,
        )
