"""The gateway's Prometheus metrics: what has happened, counted once for each request.

What is so now is read when Prometheus asks (`admin/gauges.py`). With several workers, each takes
reports of its own, and what absorbs them shows the sum.
"""

import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from itertools import chain
from typing import Any

from prometheus_client import CollectorRegistry, Info
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.errors import ErrorCode
from gateway.core.events import Json, Usage
from gateway.observe.exchange import CLIENT_GONE, COMPLETE, Answered, Exchange
from gateway.observe.families import (
    ACROSS_WORKERS,
    ACTIVE_STREAMS,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    RARE_GAUGES,
)
from gateway.observe.faults import FAULTS, Fault
from gateway.observe.gen_ai import GenAi
from gateway.observe.readings import Readings
from gateway.observe.reports import Reports
from gateway.observe.series import Families, KeySeries, RequestSeries, TurnSeries
from gateway.observe.tallies import Counters, Family, Gauges, Histogram, Histograms, Tally

_AUTH_FAILURES = frozenset(
    {ErrorCode.KEY_MISSING, ErrorCode.KEY_INVALID, ErrorCode.KEY_EXPIRED, ErrorCode.FORBIDDEN}
)


class Metrics:
    """All metrics of one gateway, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._readings = Readings(registry)
        self.reads(ProcessCollector(registry=None))
        PlatformCollector(registry=registry)
        Info("oc_gateway_build", "The gateway's version.", registry=registry).info(
            {"version": __version__}
        )
        self._counters = {
            name: Counters(f"oc_gateway_{name}", says, labels, registry)
            for name, (says, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histograms(f"oc_gateway_{name}", says, labels, registry, buckets)
            for name, (says, labels, buckets) in HISTOGRAMS.items()
        }
        says, labels = ACTIVE_STREAMS
        self._active = Gauges("oc_gateway_active_streams", says, labels, registry)
        self._gauges = {name: self._plain(name, says) for name, says in GAUGES.items()}
        self._gen_ai = GenAi(registry)
        registry.register(self._readings)
        self._keep_series()
        families: Iterable[Family[Any]] = chain(
            self._counters.values(),
            self._histograms.values(),
            (self._active, *self._gauges.values()),
            self._gen_ai.families.values(),
        )
        self._families = {family.name: family for family in families}
        self._reports = Reports(self._families, self._family, self._readings)
        self._begin()

    def _keep_series(self) -> None:
        families = Families(self._counters, self._histograms)
        self._of_request: Callable[[str, str, int], RequestSeries] = cache(
            partial(RequestSeries, families)
        )
        self._of_key: Callable[[str, str], KeySeries] = cache(partial(KeySeries, families))
        self._of_turn: Callable[[str, str, str, str], TurnSeries] = cache(
            partial(TurnSeries, families)
        )

    def _begin(self) -> None:
        """A series that is there from the start can be alerted on; one that appears with its first
        failure cannot."""
        for code in sorted(_AUTH_FAILURES):
            self._count("auth_failures", code)
        for result in ("ok", "failed"):
            self._count("config_reloads", result)
        self._measure("event_loop_lag_seconds")
        for gauge in self._gauges.values():
            gauge.at()
        self._took_up_config(time.time())

    def _plain(self, name: str, says: str) -> Gauges:
        name = f"oc_gateway_{name}"
        return Gauges(name, says, (), self.registry, ACROSS_WORKERS[name])

    def _rare(self, name: str) -> Gauges:
        if (gauge := self._gauges.get(name)) is None:
            gauge = self._gauges[name] = self._plain(name, RARE_GAUGES[name])
            self._families[gauge.name] = gauge
        return gauge

    def _count(self, name: str, *labels: str) -> Tally:
        return self._counters[name].at(*labels)

    def _measure(self, name: str, *labels: str) -> Histogram:
        return self._histograms[name].at(*labels)

    def reads(self, collector: Collector) -> None:
        """Have a collector of gauges and counters asked at each scrape, and for reports."""
        self._readings.add(collector)

    def stream_opened(self, exchange: Exchange) -> None:
        self._active.at(exchange.dialect, exchange.agent).value += 1

    def stream_closed(self, exchange: Exchange) -> None:
        self._active.at(exchange.dialect, exchange.agent).value -= 1

    def upstream_failed(self, upstream: str, code: ErrorCode) -> None:
        if code != ErrorCode.RESTARTING:  # we have ended it
            self._count("upstream_errors", upstream, code).value += 1

    def retried(self, upstream: str, code: ErrorCode) -> None:
        """The same target is asked again, after this failure."""
        self._count("retries", upstream, code).value += 1

    def fell_back(self, agent: str, upstream: str) -> None:
        """Another target than the first one answers."""
        self._count("fallbacks", agent, upstream).value += 1

    def hedged(self, agent: str, winner: str) -> None:
        """A second target was asked; `winner`: `first` or `second`."""
        self._count("hedges", agent, winner).value += 1

    def health_checked(self, upstream: str, well: bool) -> None:
        self._count("health_checks", upstream, "ok" if well else "failed").value += 1

    def reloaded(self, now: float, *, ok: bool) -> None:
        """The configuration was read again at `now`, in Unix seconds."""
        self._count("config_reloads", "ok" if ok else "failed").value += 1
        if ok:
            self._took_up_config(now)
        else:
            self._gauges["config_last_reload_successful"].at().value = 0

    def draining(self) -> None:
        """The gateway is about to stop."""
        self._gauges["draining"].at().value = 1

    def store_failed(self, operation: str) -> None:
        self._count("store_errors", operation).value += 1

    def feedback_given(self, agent: str, upstream: str, model: str, feedback: str) -> None:
        """The upstream and the model have to be some that the config names."""
        self._count("feedback", agent, upstream, model, feedback).value += 1

    def store_took(self, operation: str, seconds: float) -> None:
        """However it ended."""
        self._measure("store_duration_seconds", operation).observe(seconds)

    def loop_was_late(self, seconds: float) -> None:
        self._measure("event_loop_lag_seconds").observe(seconds)

    def certificate_expires(self, at: float) -> None:
        """The public listener's, in Unix seconds."""
        self._rare("tls_certificate_expiry_timestamp_seconds").at().value = at

    def observe(self, exchange: Exchange) -> None:
        """Count a finished request."""
        series = self._of_request(exchange.dialect, exchange.agent, exchange.status)
        series.requests.value += 1
        series.duration.observe(exchange.duration, exchange.exemplar)
        if exchange.counted_as:
            self._of_key(exchange.workspace, exchange.counted_as).requests.value += 1
        if exchange.outcome != COMPLETE:
            self._observe_failure(exchange)
        if exchange.turn:
            self._observe_turn(exchange)

    def take_report(self, *, whole: bool = True) -> Json:
        """What this process has counted so far and what is so in it now, for `absorb` in another
        one: JSON, whose figures are sums since the start. So a report may be lost, come twice or
        come late.

        A `whole` one is for scrapes and for the end. One that is not has only what has changed
        since the last, and nothing of what collectors read: for every second. May be called in a
        thread, as collectors take their time with many agents.
        """
        return self._reports.take(whole=whole)

    def absorb(self, report: Json, worker: str) -> None:
        """Show what a worker has taken as a part of what is shown here. On the event loop only.
        What it does not know in a report of another version is left out."""
        self._reports.absorb(report, worker)

    def forget(self, worker: str) -> None:
        """The worker has ended: its gauges go, what it counted stays. Its name is free again, and
        a late report of it must not come any more."""
        self._reports.forget(worker)

    def _family(self, name: str) -> Family[Any] | None:
        rare = name.removeprefix("oc_gateway_")
        return self._rare(rare) if rare in RARE_GAUGES else self._families.get(name)

    def _took_up_config(self, now: float) -> None:
        self._gauges["config_last_reload_successful"].at().value = 1
        self._gauges["config_last_reload_success_timestamp_seconds"].at().value = now

    def _observe_failure(self, exchange: Exchange) -> None:
        outcome = exchange.outcome
        fault = FAULTS.get(outcome, Fault.GATEWAY)
        self._count("failures", exchange.dialect, exchange.agent, outcome, fault).value += 1
        if outcome in _AUTH_FAILURES:
            self._count("auth_failures", outcome).value += 1
        elif outcome == ErrorCode.RATE_LIMITED:
            whose = exchange.workspace, exchange.counted_as
            self._count("rate_limit_rejections", exchange.tier, exchange.limit, *whose).value += 1

    def _observe_turn(self, exchange: Exchange) -> None:
        series = self._of_turn(
            exchange.dialect, exchange.agent, exchange.upstream, exchange.outcome
        )
        series.turns.value += 1
        series.events.value += exchange.events
        if exchange.drained:
            self._count("drained_turns", exchange.agent, exchange.drained).value += 1
        if exchange.dropped:
            for part, times in exchange.dropped.items():
                self._count("dropped_parts", exchange.dialect, part).value += times
        if exchange.answered is not None:
            self._observe_answer(series, exchange, exchange.answered)
        elif exchange.outcome == CLIENT_GONE and not exchange.drained:
            where = exchange.agent, exchange.upstream
            self._measure("left_waiting_seconds", *where).observe(exchange.duration)
        if exchange.usage is not None:
            self._observe_usage(series, exchange, exchange.usage)

    def _observe_answer(self, series: TurnSeries, exchange: Exchange, answered: Answered) -> None:
        exemplar, interval = exchange.exemplar, exchange.event_interval
        if exchange.first_event is not None:
            series.first_event.observe(exchange.first_event, exemplar)
        if interval is not None:
            series.event_interval.observe(interval, exemplar)
        if (overhead := exchange.overhead) is not None:
            series.overhead.observe(overhead, exemplar)
        self._gen_ai.observe(exchange, answered, interval)

    def _observe_usage(self, series: TurnSeries, exchange: Exchange, usage: Usage) -> None:
        key = self._of_key(exchange.workspace, exchange.counted_as)
        if usage.input_tokens is not None:
            series.input_tokens.value += usage.input_tokens
            key.input_tokens.value += usage.input_tokens
        if usage.output_tokens is not None:
            series.output_tokens.value += usage.output_tokens
            key.output_tokens.value += usage.output_tokens
        if usage.credits is not None:
            series.credits.value += usage.credits
