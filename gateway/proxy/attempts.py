"""Asking an agent's targets until one has begun to answer.

All of this is before the client's first byte: until a target's first content is in hand, any
failure that is not the request's own fault passes on to the next target. After it, nothing is
tried again.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing
from itertools import chain

from gateway.config.routes import RouteTarget
from gateway.core.errors import ErrorCode, GatewayError
from gateway.observe.exchange import Exchange
from gateway.observe.metrics import Metrics
from gateway.proxy.opening import Opened, Opening, open_at
from gateway.targets import retries
from gateway.targets.lease import Lease
from gateway.targets.order import in_order
from gateway.targets.states import States, TargetState

# What the next target would say as well.
_OWN_FAULT = frozenset({ErrorCode.UPSTREAM_REJECTED})

# What says nothing of why the turn fails, if another target has said it.
_NOT_ASKED = frozenset({ErrorCode.UPSTREAM_BUSY, ErrorCode.UPSTREAM_DOWN})


class Attempts:
    """Opens turns at their agents' targets."""

    def __init__(self, states: States, metrics: Metrics) -> None:
        self._states = states
        self._metrics = metrics
        self._draw = random.SystemRandom().random

    def open(self, opening: Opening) -> Coroutine[object, object, Opened]:
        """To be awaited: a relay whose first content is here, and who answers.

        Raises `GatewayError`: the last target's, or `UPSTREAM_DOWN` and `UPSTREAM_BUSY` if none
        could be asked.
        """
        targets = opening.route.targets
        if len(targets) == 1:
            return self._at(opening, self._well(opening, targets)[0])
        return self._among(opening)

    async def _among(self, opening: Opening) -> Opened:
        route = opening.route
        wanted = in_order(route.targets, opening.affinity())
        targets = self._well(opening, wanted)
        ordered = self._by_room(targets)
        if route.hedge_after is None or len(targets) == 1:
            opened = await self._first_of(opening, ordered)
        else:
            opened = await self._hedged(opening, ordered, route.hedge_after)
        opening.exchange.upstream = opened.target.target.upstream
        opening.exchange.target = opened.target.name
        if opened.target is not wanted[0]:
            self._metrics.fell_back(opening.exchange.agent, opening.exchange.upstream)
        return opened

    def _well(self, opening: Opening, targets: Sequence[RouteTarget]) -> Sequence[RouteTarget]:
        """Those that are not left alone. Raises `GatewayError(UPSTREAM_DOWN)` if all are."""
        if all(map(self._states.well, targets)):
            return targets
        now = time.monotonic()
        waits = [self._states.of(target).wait(now, target) for target in targets]
        if not any(waits):
            return targets
        well = [target for target, wait in zip(targets, waits, strict=True) if not wait]
        if well or opening.route.try_anyway:
            return well or targets
        _name(opening.exchange, targets[0])
        raise _down(min(waits))

    async def _first_of(self, opening: Opening, targets: Iterator[RouteTarget]) -> Opened:
        """Where one fails, the next."""
        failure: GatewayError | None = None
        try:
            for target in targets:
                try:
                    return await self._at(opening, target)
                except GatewayError as exc:
                    if exc.code in _OWN_FAULT or opening.committed:
                        raise
                    if failure is None or exc.code not in _NOT_ASKED:
                        failure = exc
            assert failure is not None
            raise failure
        finally:
            del failure  # its traceback leads here: a cycle for each target that fails

    def _by_room(self, targets: Sequence[RouteTarget]) -> Iterator[RouteTarget]:
        """Those without a free stream come last, and are waited for."""
        full: list[RouteTarget] = []
        for target in targets:
            if self._states.of(target).slots.free(target.max_streams):
                yield target
            else:
                full.append(target)
        yield from full

    async def _hedged(
        self, opening: Opening, targets: Iterator[RouteTarget], hedge_after: float
    ) -> Opened:
        """Two walk along the same targets, the second one later: whoever has an answer first."""
        first = asyncio.ensure_future(self._first_of(opening, targets))
        ways = {first}
        try:
            await asyncio.wait(ways, timeout=hedge_after)
            other = None if first.done() or opening.committed else next(targets, None)
            if other is not None:
                rest = chain((other,), targets)
                ways.add(asyncio.ensure_future(self._first_of(opening, rest)))
            hedged = other is not None
            winner = await _first(ways)
            ways.discard(winner)
            if hedged:
                first_won = "first" if winner is first else "second"
                self._metrics.hedged(opening.exchange.agent, first_won)
            return winner.result()
        finally:
            _give_up(ways)

    async def _at(self, opening: Opening, target: RouteTarget) -> Opened:
        """At one target, as often as it may be asked."""
        state, most = self._states.of(target), target.max_streams
        if state.slots.free(most):
            state.slots.take()
        else:
            await self._queue(target, state, opening.exchange)
        lease, retried = Lease(state, target), 0
        attempt = self._once(opening, target, lease)
        try:
            while True:
                try:
                    return await attempt
                except GatewayError as exc:
                    wait = retries.wait(exc, target, retried, self._draw)
                    if wait is None or opening.committed or not state.may_retry(target):
                        raise
                    self._metrics.retried(target.target.upstream, exc.code)
                retried += 1
                attempt = self._later(wait, state, self._once(opening, target, lease))
        except BaseException:
            lease.end()
            raise

    async def _queue(self, target: RouteTarget, state: TargetState, exchange: Exchange) -> None:
        settings = target.upstream
        assert settings.max_streams is not None
        try:
            with exchange.waits():
                await state.slots.wait(settings.max_streams, settings.queue)
        except GatewayError as exc:
            self._metrics.upstream_failed(target.target.upstream, exc.code)
            _name(exchange, target)
            _note(exchange, target, exc)
            raise

    async def _later(
        self, wait: float, state: TargetState, attempt: Coroutine[None, None, Opened]
    ) -> Opened:
        with state.budget, closing(attempt):
            await asyncio.sleep(wait)
            return await attempt

    async def _once(self, opening: Opening, target: RouteTarget, lease: Lease) -> Opened:
        upstream = target.target.upstream
        if not self._states.well(target) and not opening.route.try_anyway:
            wait = self._states.of(target).wait(time.monotonic(), target)
            if wait:
                raise _down(wait)
        exchange = opening.exchange
        exchange.attempts += 1
        exchange.upstream, exchange.target = upstream, target.name
        lease.ask()
        try:
            relay, attempt = await open_at(opening, target, self._metrics)
        except GatewayError as exc:
            self._metrics.upstream_failed(upstream, exc.code)
            _note(exchange, target, exc)
            lease.failed(exc.code)
            raise
        lease.answered()
        return Opened(relay, target, lease, attempt)


async def _first(ways: set[asyncio.Task[Opened]]) -> asyncio.Task[Opened]:
    """The first of them that has an answer. Raises the last one's `GatewayError`, and at once that
    of a request which is to blame itself."""
    failure: BaseException | None = None
    left = set(ways)
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for way in done:
            error = way.exception()
            if error is None:
                return way
            code = error.code if isinstance(error, GatewayError) else None
            if code in _OWN_FAULT:
                raise error
            if failure is None or code not in _NOT_ASKED:
                failure = error
    assert failure is not None
    raise failure


def _give_up(ways: set[asyncio.Task[Opened]]) -> None:
    """What nobody waits for any more. It is not awaited: who is cancelled meanwhile would lose the
    answer that is there."""
    for way in ways:
        way.cancel()
        way.add_done_callback(_close)


def _close(way: asyncio.Task[Opened]) -> None:
    if not way.cancelled() and way.exception() is None:
        way.result().close()


def _name(exchange: Exchange, target: RouteTarget) -> None:
    """It was not asked, and that is where the turn came to its end."""
    exchange.upstream, exchange.target = target.target.upstream, target.name


def _note(exchange: Exchange, target: RouteTarget, exc: GatewayError) -> None:
    """For the record, also where another attempt answers."""
    exchange.tried = (*exchange.tried, f"{target.name}: {exc.code}")


def _down(wait: float) -> GatewayError:
    return GatewayError(
        ErrorCode.UPSTREAM_DOWN,
        "the upstream has failed too often and is left alone for now, please try again later",
        retry_after=wait,
    )
