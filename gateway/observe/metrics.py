"""The gateway's Prometheus metrics.

Labels are bounded: agents, upstreams, tiers and dialects come from the config, codes and outcomes
from enumerations. A raw path, model, key, user or address is never a label.
"""

from collections.abc import Callable
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from gateway import __version__
from gateway.core.errors import ErrorCode
from gateway.core.events import Usage
from gateway.observe.exchange import Exchange

_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_FIRST_EVENTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

_AUTH_FAILURES = frozenset(
    {ErrorCode.KEY_MISSING, ErrorCode.KEY_INVALID, ErrorCode.KEY_EXPIRED, ErrorCode.FORBIDDEN}
)

# Counters: the name without `_total`, what it counts, its labels.
_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "requests": ("Requests answered, by status.", ("dialect", "agent", "status")),
    "turns": (
        "Turns put to an upstream, by how they ended.",
        ("dialect", "agent", "upstream", "outcome"),
    ),
    "events": ("Canonical events received from upstreams.", ("agent", "upstream")),
    "rate_limit_rejections": ("Requests refused by the gateway's own limits.", ("tier",)),
    "auth_failures": ("Requests refused for their key, origin or identity.", ("reason",)),
    "upstream_errors": (
        "Failed attempts at an upstream, before or in its stream.",
        ("upstream", "code"),
    ),
    "retries": (
        "Attempts at the same target again, by what had failed.",
        ("upstream", "code"),
    ),
    "fallbacks": ("Turns that another target than the first answered.", ("agent", "upstream")),
    "hedges": ("Turns for which a second target was asked beside the first.", ("agent", "winner")),
    "tokens": ("Tokens that upstreams reported.", ("agent", "upstream", "kind")),
    "credits": (
        "Credits that upstreams reported or the configuration sets.",
        ("agent", "upstream"),
    ),
    "store_errors": ("Failed operations of the conversation store.", ("operation",)),
    "feedback": (
        "Feedback that was given on answers, or cleared.",
        ("agent", "upstream", "model", "feedback"),
    ),
    "dropped_parts": (
        "Events of upstreams that a client's dialect has no words for.",
        ("dialect", "part"),
    ),
}


class Metrics:
    """All metrics of one gateway, on a registry of their own."""

    def __init__(self) -> None:
        # Beside every counter's series, one that says when it began: nobody asks.
        disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Info("oc_gateway_build", "The gateway's version.", registry=registry).info(
            {"version": __version__}
        )
        counters = {
            name: Counter(f"oc_gateway_{name}", text, labels, registry=registry)
            for name, (text, labels) in _COUNTERS.items()
        }
        durations = Histogram(
            "oc_gateway_request_duration_seconds",
            "From a request's arrival to the end of its response.",
            ["dialect", "agent"],
            buckets=_DURATIONS,
            registry=registry,
        )
        first_events = Histogram(
            "oc_gateway_first_event_seconds",
            "From a request's arrival to the upstream's first content.",
            ["agent", "upstream"],
            buckets=_FIRST_EVENTS,
            registry=registry,
        )
        active = Gauge(
            "oc_gateway_active_streams",
            "Streams open to clients now.",
            ["dialect", "agent"],
            registry=registry,
        )
        # prometheus_client finds a series by its labels under a lock: once each is enough. The
        # labels are bounded, and so are these.
        self._count: Callable[..., Counter] = cache(lambda name, *at: counters[name].labels(*at))
        self._duration: Callable[..., Histogram] = cache(durations.labels)
        self._first_event: Callable[..., Histogram] = cache(first_events.labels)
        self._active: Callable[..., Gauge] = cache(active.labels)
        # A series that is there from the start can be alerted on; one that appears with its
        # first failure cannot.
        for code in _AUTH_FAILURES:
            self._count("auth_failures", code)

    def stream_opened(self, exchange: Exchange) -> None:
        self._active(exchange.dialect, exchange.agent).inc()

    def stream_closed(self, exchange: Exchange) -> None:
        self._active(exchange.dialect, exchange.agent).dec()

    def upstream_failed(self, upstream: str, code: ErrorCode) -> None:
        self._count("upstream_errors", upstream, code).inc()

    def retried(self, upstream: str, code: ErrorCode) -> None:
        """The same target is asked again, after this failure."""
        self._count("retries", upstream, code).inc()

    def fell_back(self, agent: str, upstream: str) -> None:
        """Another target than the first one answers."""
        self._count("fallbacks", agent, upstream).inc()

    def hedged(self, agent: str, winner: str) -> None:
        """A second target was asked; `winner`: `first`, `second` or `none`."""
        self._count("hedges", agent, winner).inc()

    def store_failed(self, operation: str) -> None:
        self._count("store_errors", operation).inc()

    def feedback_given(self, agent: str, upstream: str, model: str, feedback: str) -> None:
        """The upstream and the model have to be some that the config names."""
        self._count("feedback", agent, upstream, model, feedback).inc()

    def observe(self, exchange: Exchange) -> None:
        """Count a finished request."""
        self._count("requests", exchange.dialect, exchange.agent, exchange.status).inc()
        self._duration(exchange.dialect, exchange.agent).observe(exchange.duration)
        if exchange.outcome in _AUTH_FAILURES:
            self._count("auth_failures", exchange.outcome).inc()
        elif exchange.outcome == ErrorCode.RATE_LIMITED:
            self._count("rate_limit_rejections", exchange.tier).inc()
        if exchange.turn:
            self._observe_turn(exchange)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _observe_turn(self, exchange: Exchange) -> None:
        where = exchange.agent, exchange.upstream
        self._count("turns", exchange.dialect, *where, exchange.outcome).inc()
        self._count("events", *where).inc(exchange.events)
        if exchange.first_event is not None:
            self._first_event(*where).observe(exchange.first_event)
        for part, count in exchange.dropped.items():
            self._count("dropped_parts", exchange.dialect, part).inc(count)
        if exchange.usage is not None:
            self._observe_usage(where, exchange.usage)

    def _observe_usage(self, where: tuple[str, str], usage: Usage) -> None:
        if usage.input_tokens is not None:
            self._count("tokens", *where, "input").inc(usage.input_tokens)
        if usage.output_tokens is not None:
            self._count("tokens", *where, "output").inc(usage.output_tokens)
        if usage.credits is not None:
            self._count("credits", *where).inc(usage.credits)
