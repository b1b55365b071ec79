"""The gateway's Prometheus metrics.

Labels are bounded: agents, upstreams, tiers and dialects come from the config, codes and outcomes
from enumerations. A raw path, model, key, user or address is never a label.
"""

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
from gateway.observe.exchange import Exchange

_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_FIRST_EVENTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

_AUTH_FAILURES = frozenset(
    {ErrorCode.KEY_MISSING, ErrorCode.KEY_INVALID, ErrorCode.KEY_EXPIRED, ErrorCode.FORBIDDEN}
)


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
        self._requests = Counter(
            "oc_gateway_requests",
            "Requests answered, by status.",
            ["dialect", "agent", "status"],
            registry=registry,
        )
        self._durations = Histogram(
            "oc_gateway_request_duration_seconds",
            "From a request's arrival to the end of its response.",
            ["dialect", "agent"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._first_events = Histogram(
            "oc_gateway_first_event_seconds",
            "From a request's arrival to the upstream's first content.",
            ["agent", "upstream"],
            buckets=_FIRST_EVENTS,
            registry=registry,
        )
        self._turns = Counter(
            "oc_gateway_turns",
            "Turns put to an upstream, by how they ended.",
            ["dialect", "agent", "upstream", "outcome"],
            registry=registry,
        )
        self._events = Counter(
            "oc_gateway_events",
            "Canonical events received from upstreams.",
            ["agent", "upstream"],
            registry=registry,
        )
        self._active = Gauge(
            "oc_gateway_active_streams",
            "Streams open to clients now.",
            ["dialect", "agent"],
            registry=registry,
        )
        self._rate_limited = Counter(
            "oc_gateway_rate_limit_rejections",
            "Requests refused by the gateway's own limits.",
            ["tier"],
            registry=registry,
        )
        self._auth_failures = Counter(
            "oc_gateway_auth_failures",
            "Requests refused for their key, origin or identity.",
            ["reason"],
            registry=registry,
        )
        self._upstream_errors = Counter(
            "oc_gateway_upstream_errors",
            "Failed attempts at an upstream, before or in its stream.",
            ["upstream", "code"],
            registry=registry,
        )
        self._tokens = Counter(
            "oc_gateway_tokens",
            "Tokens that upstreams reported.",
            ["agent", "upstream", "kind"],
            registry=registry,
        )
        self._credits = Counter(
            "oc_gateway_credits",
            "Credits that upstreams reported or the configuration sets.",
            ["agent", "upstream"],
            registry=registry,
        )
        self._dropped = Counter(
            "oc_gateway_dropped_parts",
            "Events of upstreams that a client's dialect has no words for.",
            ["dialect", "part"],
            registry=registry,
        )
        self._label_children()

    def _label_children(self) -> None:
        # A series that is there from the start can be alerted on; one that appears with its
        # first failure cannot.
        for code in _AUTH_FAILURES:
            self._auth_failures.labels(code)

    def stream_opened(self, exchange: Exchange) -> None:
        self._active.labels(exchange.dialect, exchange.agent).inc()

    def stream_closed(self, exchange: Exchange) -> None:
        self._active.labels(exchange.dialect, exchange.agent).dec()

    def upstream_failed(self, upstream: str, code: ErrorCode) -> None:
        self._upstream_errors.labels(upstream, code).inc()

    def observe(self, exchange: Exchange) -> None:
        """Count a finished request."""
        self._requests.labels(exchange.dialect, exchange.agent, exchange.status).inc()
        self._durations.labels(exchange.dialect, exchange.agent).observe(exchange.duration)
        if exchange.outcome in _AUTH_FAILURES:
            self._auth_failures.labels(exchange.outcome).inc()
        elif exchange.outcome == ErrorCode.RATE_LIMITED:
            self._rate_limited.labels(exchange.tier).inc()
        if exchange.turn:
            self._observe_turn(exchange)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _observe_turn(self, exchange: Exchange) -> None:
        where = exchange.agent, exchange.upstream
        self._turns.labels(exchange.dialect, *where, exchange.outcome).inc()
        self._events.labels(*where).inc(exchange.events)
        if exchange.first_event is not None:
            self._first_events.labels(*where).observe(exchange.first_event)
        for part, count in exchange.dropped.items():
            self._dropped.labels(exchange.dialect, part).inc(count)
        if exchange.usage is not None:
            self._observe_usage(exchange)

    def _observe_usage(self, exchange: Exchange) -> None:
        usage, where = exchange.usage, (exchange.agent, exchange.upstream)
        assert usage is not None
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count is not None:
                self._tokens.labels(*where, kind).inc(count)
        if usage.credits is not None:
            self._credits.labels(*where).inc(usage.credits)
