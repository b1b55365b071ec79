"""The families of metrics: what each says, and its labels.

Labels are bounded: agents, targets, tiers and keys' ids come from the config, dialects, codes and
outcomes from enumerations. A raw path, model, key, user or address is never a label. What is read
off the gateway's state is in `admin/gauges.py`, the names of OpenTelemetry in `gen_ai.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Counted(NamedTuple):
    """A counter."""

    says: str
    labels: tuple[str, ...]


class Measured(NamedTuple):
    """A histogram, with the upper bounds of its buckets but the last, which has none."""

    says: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]


# By the name between `oc_gateway_` and `_total`.
COUNTERS = {
    "requests": Counted("Requests answered, by status.", ("dialect", "agent", "status")),
    "failures": Counted(
        "Requests that did not end well, by what happened and whose fault it is.",
        ("dialect", "agent", "outcome", "fault"),
    ),
    "turns": Counted(
        "Turns put to an upstream, by how they ended.",
        ("dialect", "agent", "upstream", "outcome"),
    ),
    "drained_turns": Counted(
        "Turns that went on without their clients, by how they ended.", ("agent", "ending")
    ),
    "events": Counted("Canonical events received from upstreams.", ("agent", "upstream")),
    "key_requests": Counted(
        "Requests by key: its id in the configuration, (signed) or (public).", ("workspace", "key")
    ),
    "key_tokens": Counted(
        "Tokens that upstreams reported, by the key that asked.", ("workspace", "key", "kind")
    ),
    "rate_limit_rejections": Counted(
        "Requests refused by the gateway's own limits.", ("tier", "limit", "workspace", "key")
    ),
    "auth_failures": Counted("Requests refused for their key, origin or identity.", ("reason",)),
    "upstream_errors": Counted(
        "Failed attempts at an upstream, before or in its stream.", ("upstream", "code")
    ),
    "retries": Counted(
        "Attempts at the same target again, by what had failed.", ("upstream", "code")
    ),
    "fallbacks": Counted(
        "Turns that another target than the first answered.", ("agent", "upstream")
    ),
    "hedges": Counted(
        "Turns for which a second target was asked beside the first.", ("agent", "winner")
    ),
    "health_checks": Counted(
        "Checks of upstreams beside the traffic, by what they found.", ("upstream", "result")
    ),
    "tokens": Counted("Tokens that upstreams reported.", ("agent", "upstream", "kind")),
    "credits": Counted(
        "Credits that upstreams reported or the configuration sets.", ("agent", "upstream")
    ),
    "config_reloads": Counted("Readings of the configuration after the start.", ("result",)),
    "store_errors": Counted("Failed operations of the conversation store.", ("operation",)),
    "feedback": Counted(
        "Feedback that was given on answers, or cleared.",
        ("agent", "upstream", "model", "feedback"),
    ),
    "dropped_parts": Counted(
        "Events of upstreams that a client's dialect has no words for.", ("dialect", "part")
    ),
}

_MILLISECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
_FIRST_EVENT = (*_MILLISECONDS, 1, 2.5, 5, 10, 20, 30, 60)

# By the name behind `oc_gateway_`.
HISTOGRAMS = {
    "request_duration_seconds": Measured(
        "From a request's arrival to the end of its response.",
        ("dialect", "agent"),
        (*_MILLISECONDS, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
    ),
    "first_event_seconds": Measured(
        "From a request's arrival to the upstream's first content.",
        ("agent", "upstream"),
        _FIRST_EVENT,
    ),
    "left_waiting_seconds": Measured(
        "From a request's arrival to its client's leaving, where there was no first content yet.",
        ("agent", "upstream"),
        _FIRST_EVENT,
    ),
    "event_interval_seconds": Measured(
        "The mean time between two events of a turn, once for each turn.",
        ("agent", "upstream"),
        (0.001, 0.0025, *_MILLISECONDS, 1, 2.5, 5, 10),
    ),
    "overhead_seconds": Measured(
        "The gateway's own share of the time to an answer's first byte: until the upstream is"
        " asked, and from its first content until that is sent.",
        ("dialect",),
        (5e-05, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0025, *_MILLISECONDS[:6]),
    ),
    "event_loop_lag_seconds": Measured(
        "How late a timer of the event loop was, four times a second.",
        (),
        (0.0005, 0.001, 0.0025, *_MILLISECONDS, 1, 2.5),
    ),
    "store_duration_seconds": Measured(
        "What operations of the conversation store took, those that failed as well.",
        ("operation",),
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_MILLISECONDS, 1, 2.5, 5),
    ),
}

# By the name behind `oc_gateway_`; none has labels.
GAUGES = {
    "config_last_reload_successful": "Whether the last reading of the configuration was taken up.",
    "config_last_reload_success_timestamp_seconds": (
        "When the configuration that is in force was read."
    ),
    "draining": "Whether the gateway is stopping: it wants no traffic any more.",
}

# Those that are there only where there is something to tell.
RARE_GAUGES = {
    "tls_certificate_expiry_timestamp_seconds": (
        "When the certificate of the public listener expires."
    ),
}

ACTIVE_STREAMS = Counted("Streams open to clients now.", ("dialect", "agent"))

# How one gauge is made of those of several workers, where they do not add up.
ACROSS_WORKERS: dict[str, Callable[[Sequence[float]], float]] = {
    "oc_gateway_config_last_reload_successful": min,
    "oc_gateway_config_last_reload_success_timestamp_seconds": min,
    "oc_gateway_draining": max,
    "oc_gateway_tls_certificate_expiry_timestamp_seconds": min,
    "oc_gateway_upstream_healthy": min,
    # Each sees the whole zone that they share.
    "oc_gateway_limiter_subjects": max,
    "process_start_time_seconds": min,
    # A process runs out of them by itself: these are of the one that is closest to it.
    "process_open_fds": max,
    "process_max_fds": min,
}

# Of gauges with a series for each state, one of which is 1, the label and its values: of what the
# workers are in, the first that is here counts.
WORST_STATE = {"oc_gateway_breaker_state": ("state", ("open", "half_open", "closed"))}
