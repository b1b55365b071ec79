"""Answers of upstreams by OpenTelemetry's names, beside ours: dashboards for models know these.

https://github.com/open-telemetry/semantic-conventions-genai, as Prometheus writes them. Ours are
observed once for each turn that an upstream began to answer, so its chunks are in the histogram as
their mean; attempts that failed before count in `oc_gateway_upstream_errors_total`.
"""

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial

from prometheus_client import CollectorRegistry

from gateway.observe.exchange import Answered, Exchange
from gateway.observe.families import Measured
from gateway.observe.tallies import Histogram, Histograms

OPERATION = "chat"

_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

# The conventions' own.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))

HISTOGRAMS = {
    "gen_ai_client_token_usage": Measured(
        "Number of input and output tokens used.", (*_LABELS, "gen_ai_token_type"), _TOKENS
    ),
    "gen_ai_client_operation_duration_seconds": Measured(
        "GenAI operation duration.", _LABELS, _SECONDS
    ),
    "gen_ai_client_operation_time_to_first_chunk_seconds": Measured(
        "From the start of the attempt that answered to its first content.", _LABELS, _SECONDS
    ),
    "gen_ai_client_operation_time_per_output_chunk_seconds": Measured(
        "The mean time between two events of an answer.", _LABELS, _SECONDS
    ),
}
_USAGE, _DURATION, _FIRST, _EACH = HISTOGRAMS


class TargetSeries:
    """Of one target's answers."""

    def __init__(self, families: Mapping[str, Histograms], provider: str, model: str) -> None:
        self._families = families
        self._target = OPERATION, provider, model
        self.duration = families[_DURATION].at(*self._target)
        self.first = families[_FIRST].at(*self._target)

    @cached_property
    def each(self) -> Histogram:
        return self._families[_EACH].at(*self._target)

    @cached_property
    def input_tokens(self) -> Histogram:
        return self._families[_USAGE].at(*self._target, "input")

    @cached_property
    def output_tokens(self) -> Histogram:
        return self._families[_USAGE].at(*self._target, "output")


class GenAi:
    """These families of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.families = {
            name: Histograms(name, says, labels, registry, buckets)
            for name, (says, labels, buckets) in HISTOGRAMS.items()
        }
        self._target: Callable[[str, str], TargetSeries] = cache(
            partial(TargetSeries, self.families)
        )

    def observe(self, exchange: Exchange, answered: Answered, interval: float | None) -> None:
        """One turn that an upstream began to answer, and the mean time between its events."""
        target, first = self._target(answered.provider, answered.model), answered.first_event
        target.duration.observe(first + answered.streaming, exchange.exemplar)
        target.first.observe(first, exchange.exemplar)
        if interval is not None:
            target.each.observe(interval)
        if (usage := exchange.usage) is not None:
            if usage.input_tokens is not None:
                # As floats: Python takes four times as long to compare another number with one.
                target.input_tokens.observe(float(usage.input_tokens))
            if usage.output_tokens is not None:
                target.output_tokens.observe(float(usage.output_tokens))
