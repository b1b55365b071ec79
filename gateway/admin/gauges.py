"""What is so now: read off the gateway's state when Prometheus asks, at no cost in between."""

import time
from collections.abc import Callable, Iterator, Sequence, Sized

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.config.routes import RouteTarget
from gateway.limits.limiter import Limiter
from gateway.observe.families import Counted
from gateway.proxy.open_turns import OpenTurns
from gateway.proxy.snapshot import Snapshot
from gateway.targets.breaker import State
from gateway.targets.states import States

_TARGET = ("target", "upstream")

# By the name behind `oc_gateway_`.
GAUGES = {
    "breaker_state": Counted(
        "Whether a target's circuit breaker is in this state.", (*_TARGET, "state")
    ),
    "target_streams": Counted("Turns that a target has now.", _TARGET),
    "target_queue": Counted("Turns that wait for a target.", _TARGET),
    "target_max_streams": Counted(
        "The turns that a target may have, where it is limited.", _TARGET
    ),
    "upstream_healthy": Counted(
        "Whether an upstream's health checks find it well, where it has some.", ("upstream",)
    ),
    "upstream_connections": Counted("Connections to an upstream.", ("upstream", "state")),
    "open_turns": Counted("Turns and other work on conversations in progress.", ()),
    "limiter_subjects": Counted("Keys and addresses whose rate is remembered.", ()),
    "resumable_streams": Counted("Streams that are kept for clients that come back.", ()),
}

# And this, between `oc_gateway_` and `_total`.
COUNTERS = {
    "breaker_opened": Counted("How often a target's circuit breaker opened.", _TARGET),
}

Add = Callable[[str, Sequence[str], float], None]


class StateCollector(Collector):
    """Registered with the metrics of one gateway. It only looks, for it is asked in a thread."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        states: States,
        open_turns: OpenTurns,
        limiter: Limiter,
        streams: Sized,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._states = states
        self._open_turns = open_turns
        self._limiter = limiter
        self._streams = streams
        self._clock = clock

    def describe(self) -> list[Metric]:
        """The families by name, for the registry."""
        return list(_families().values())

    def collect(self) -> list[Metric]:
        families = _families()

        def add(name: str, labels: Sequence[str], value: float) -> None:
            families[name].add_metric(labels, value)

        snapshot = self._snapshot()
        self._add_targets(add, snapshot)
        self._add_upstreams(add, snapshot)
        add("open_turns", (), self._open_turns.count)
        add("limiter_subjects", (), self._limiter.subjects)
        add("resumable_streams", (), len(self._streams))
        return list(families.values())

    def _add_targets(self, add: Add, snapshot: Snapshot) -> None:
        now, limits = self._clock(), limits_of(snapshot)
        # Agents share a target, and its state.
        for target in {target.name: target for target in targets_of(snapshot)}.values():
            at, state = (target.name, target.target.upstream), self._states.find(target)
            if state is None:
                continue
            is_in = state.breaker.state(now)
            for each in State:
                add("breaker_state", (*at, each), is_in is each)
            add("breaker_opened", at, state.breaker.opened)
            add("target_streams", at, state.slots.taken)
            add("target_queue", at, state.slots.waiting)
            if target.name in limits:
                add("target_max_streams", at, limits[target.name])

    def _add_upstreams(self, add: Add, snapshot: Snapshot) -> None:
        checked = {t.target.upstream: t for t in targets_of(snapshot) if t.upstream.health}
        for upstream, target in checked.items():
            if state := self._states.find(target):
                add("upstream_healthy", (upstream,), not state.checked.down)
        for upstream, client in snapshot.clients.items():
            idle = client.idle_connections
            add("upstream_connections", (upstream, "active"), client.open_connections - idle)
            add("upstream_connections", (upstream, "idle"), idle)


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    return {
        **{
            name: GaugeMetricFamily(f"oc_gateway_{name}", says, labels=labels)
            for name, (says, labels) in GAUGES.items()
        },
        **{
            name: CounterMetricFamily(f"oc_gateway_{name}", says, labels=labels)
            for name, (says, labels) in COUNTERS.items()
        },
    }


def targets_of(snapshot: Snapshot) -> Iterator[RouteTarget]:
    for route in snapshot.routes:
        yield from route.targets


def limits_of(snapshot: Snapshot) -> dict[str, int]:
    """Of each target that is limited, the limit that is met first: agents may have their own."""
    limits: dict[str, int] = {}
    for target in targets_of(snapshot):
        if (limit := target.upstream.max_streams) is not None:
            limits[target.name] = min(limit, limits.get(target.name, limit))
    return limits
