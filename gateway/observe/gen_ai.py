"""Answers of upstreams by OpenTelemetry's names, beside ours: dashboards for models know these.

https://github.com/open-telemetry/semantic-conventions-genai, as Prometheus writes them. Ours are
observed once for each turn that an upstream began to answer, so its chunks are in the histogram as
their mean; attempts that failed before count in `oc_gateway_upstream_errors_total`.
"""

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Histogram

from gateway.core.events import Usage
from gateway.observe.exchange import Answered, Exchange
from gateway.observe.families import Measured

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


class GenAi:
    """These families of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        families = {
            name: Histogram(name, says, labels, buckets=buckets, registry=registry)
            for name, (says, labels, buckets) in HISTOGRAMS.items()
        }
        self._measure: Callable[..., Histogram] = cache(
            lambda name, *at: families[name].labels(OPERATION, *at)
        )

    def observe(self, exchange: Exchange, answered: Answered) -> None:
        """One turn that an upstream began to answer."""
        target = answered.provider, answered.model
        whole = answered.first_event + answered.streaming
        self._measure(_DURATION, *target).observe(whole, exchange.exemplar)
        self._measure(_FIRST, *target).observe(answered.first_event, exchange.exemplar)
        if (interval := exchange.event_interval) is not None:
            self._measure(_EACH, *target).observe(interval)
        if exchange.usage is not None:
            self._observe_usage(target, exchange.usage)

    def _observe_usage(self, target: tuple[str, str], usage: Usage) -> None:
        if usage.input_tokens is not None:
            self._measure(_USAGE, *target, "input").observe(usage.input_tokens)
        if usage.output_tokens is not None:
            self._measure(_USAGE, *target, "output").observe(usage.output_tokens)
