"""The gateway's Prometheus metrics: what has happened, counted once for each request.

What is so now is read when Prometheus asks (`admin/gauges.py`).
"""

import time
from collections.abc import Callable
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from gateway import __version__
from gateway.core.errors import ErrorCode
from gateway.core.events import Usage
from gateway.observe.exchange import COMPLETE, Answered, Exchange
from gateway.observe.families import ACTIVE_STREAMS, COUNTERS, GAUGES, HISTOGRAMS, RARE_GAUGES
from gateway.observe.faults import FAULTS, Fault
from gateway.observe.gen_ai import GenAi

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
        counters = {
            name: Counter(f"oc_gateway_{name}", says, labels, registry=registry)
            for name, (says, labels) in COUNTERS.items()
        }
        histograms = {
            name: Histogram(f"oc_gateway_{name}", says, labels, buckets=buckets, registry=registry)
            for name, (says, labels, buckets) in HISTOGRAMS.items()
        }
        active = Gauge(
            "oc_gateway_active_streams",
            ACTIVE_STREAMS.says,
            ACTIVE_STREAMS.labels,
            registry=registry,
        )
        gauges = {
            name: Gauge(f"oc_gateway_{name}", says, registry=registry)
            for name, says in GAUGES.items()
        }
        self._gauge = gauges.__getitem__
        self._rare: Callable[[str], Gauge] = cache(
            lambda name: Gauge(f"oc_gateway_{name}", RARE_GAUGES[name], registry=registry)
        )
        self._gen_ai = GenAi(registry)
        # prometheus_client finds a series by its labels under a lock: once each is enough. The
        # labels are bounded, and so are these.
        self._count: Callable[..., Counter] = cache(lambda name, *at: counters[name].labels(*at))
        self._measure: Callable[..., Histogram] = cache(
            lambda name, *at: histograms[name].labels(*at) if at else histograms[name]
        )
        self._active: Callable[..., Gauge] = cache(active.labels)
        # A series that is there from the start can be alerted on; one that appears with its
        # first failure cannot.
        for code in _AUTH_FAILURES:
            self._count("auth_failures", code)
        for result in ("ok", "failed"):
            self._count("config_reloads", result)
        self._took_up_config(time.time())

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
        """A second target was asked; `winner`: `first` or `second`."""
        self._count("hedges", agent, winner).inc()

    def health_checked(self, upstream: str, well: bool) -> None:
        self._count("health_checks", upstream, "ok" if well else "failed").inc()

    def reloaded(self, now: float, *, ok: bool) -> None:
        """The configuration was read again at `now`, in Unix seconds."""
        self._count("config_reloads", "ok" if ok else "failed").inc()
        if ok:
            self._took_up_config(now)
        else:
            self._gauge("config_last_reload_successful").set(0)

    def draining(self) -> None:
        """The gateway is about to stop."""
        self._gauge("draining").set(1)

    def store_failed(self, operation: str) -> None:
        self._count("store_errors", operation).inc()

    def feedback_given(self, agent: str, upstream: str, model: str, feedback: str) -> None:
        """The upstream and the model have to be some that the config names."""
        self._count("feedback", agent, upstream, model, feedback).inc()

    def store_took(self, operation: str, seconds: float) -> None:
        """However it ended."""
        self._measure("store_duration_seconds", operation).observe(seconds)

    def loop_was_late(self, seconds: float) -> None:
        self._measure("event_loop_lag_seconds").observe(seconds)

    def certificate_expires(self, at: float) -> None:
        """The public listener's, in Unix seconds."""
        self._rare("tls_certificate_expiry_timestamp_seconds").set(at)

    def observe(self, exchange: Exchange) -> None:
        """Count a finished request."""
        dialect, agent = exchange.dialect, exchange.agent
        self._count("requests", dialect, agent, exchange.status).inc()
        self._measure("request_duration_seconds", dialect, agent).observe(
            exchange.duration, exchange.exemplar
        )
        if exchange.counted_as:
            self._count("key_requests", exchange.workspace, exchange.counted_as).inc()
        if exchange.outcome != COMPLETE:
            self._observe_failure(exchange)
        if exchange.turn:
            self._observe_turn(exchange)

    def _took_up_config(self, now: float) -> None:
        self._gauge("config_last_reload_successful").set(1)
        self._gauge("config_last_reload_success_timestamp_seconds").set(now)

    def _observe_failure(self, exchange: Exchange) -> None:
        outcome = exchange.outcome
        fault = FAULTS.get(outcome, Fault.GATEWAY)
        self._count("failures", exchange.dialect, exchange.agent, outcome, fault).inc()
        if outcome in _AUTH_FAILURES:
            self._count("auth_failures", outcome).inc()
        elif outcome == ErrorCode.RATE_LIMITED:
            self._count("rate_limit_rejections", exchange.tier, exchange.limit).inc()

    def _observe_turn(self, exchange: Exchange) -> None:
        where = exchange.agent, exchange.upstream
        self._count("turns", exchange.dialect, *where, exchange.outcome).inc()
        self._count("events", *where).inc(exchange.events)
        if exchange.drained:
            self._count("drained_turns", exchange.agent, exchange.drained).inc()
        for part, count in exchange.dropped.items():
            self._count("dropped_parts", exchange.dialect, part).inc(count)
        if exchange.answered is not None:
            self._observe_answer(exchange, exchange.answered)
        if exchange.usage is not None:
            self._observe_usage(exchange, exchange.usage)

    def _observe_answer(self, exchange: Exchange, answered: Answered) -> None:
        where, exemplar = (exchange.agent, exchange.upstream), exchange.exemplar
        if exchange.first_event is not None:
            self._measure("first_event_seconds", *where).observe(exchange.first_event, exemplar)
        if (interval := exchange.event_interval) is not None:
            self._measure("event_interval_seconds", *where).observe(interval, exemplar)
        if (overhead := exchange.overhead) is not None:
            self._measure("overhead_seconds", exchange.dialect).observe(overhead, exemplar)
        self._gen_ai.observe(exchange, answered)

    def _observe_usage(self, exchange: Exchange, usage: Usage) -> None:
        where, key = (exchange.agent, exchange.upstream), (exchange.workspace, exchange.counted_as)
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens is not None:
                self._count("tokens", *where, kind).inc(tokens)
                self._count("key_tokens", *key, kind).inc(tokens)
        if usage.credits is not None:
            self._count("credits", *where).inc(usage.credits)
