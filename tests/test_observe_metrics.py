"""Metrics of single requests; what they look like after a load is an end-to-end test."""

from prometheus_client.parser import text_string_to_metric_families

from gateway.core.errors import ErrorCode
from gateway.core.events import Usage
from gateway.observe.exchange import Exchange
from gateway.observe.exposition import exposition
from gateway.observe.metrics import Metrics


def read(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Name and one label's value, joined, to the value."""
    return {
        (sample.name.removeprefix("oc_gateway_"), " ".join(sorted(sample.labels.values()))): (
            sample.value
        )
        for family in text_string_to_metric_families(exposition(metrics.registry).body.decode())
        for sample in family.samples
    }


def exchange(**fields: object) -> Exchange:
    made = Exchange("r1", "bookbag-v2", 0.0, agent="1", upstream="main", status=200)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_request_that_asked_nobody() -> None:
    """It is a request, and no turn."""
    metrics = Metrics()
    metrics.observe(exchange(status=404, outcome=ErrorCode.AGENT_NOT_FOUND))
    values = read(metrics)
    assert values["requests_total", "1 404 bookbag-v2"] == 1
    assert not any(name == "turns_total" for name, _ in values)


def test_usage_that_is_unknown_is_not_zero() -> None:
    """A figure that the upstream did not give makes no series."""
    metrics = Metrics()
    metrics.observe(exchange(turn=True, usage=Usage(output_tokens=7)))
    values = read(metrics)
    assert values["tokens_total", "1 main output"] == 7
    assert ("tokens_total", "1 input main") not in values
    assert not any(name == "credits_total" for name, _ in values)


def test_auth_failures_are_there_from_the_start() -> None:
    """A series that appears with its first failure cannot be alerted on."""
    reasons = {at for name, at in read(Metrics()) if name == "auth_failures_total"}
    assert reasons == {"key_missing", "key_invalid", "key_expired", "forbidden"}


def test_each_gateway_has_its_own() -> None:
    """Two in one process share nothing."""
    one, other = Metrics(), Metrics()
    one.observe(exchange())
    assert ("requests_total", "1 200 bookbag-v2") not in read(other)


def test_streams_that_end() -> None:
    """What was opened and closed is at 0."""
    metrics, one = Metrics(), exchange()
    metrics.stream_opened(one)
    metrics.stream_opened(one)
    metrics.stream_closed(one)
    assert read(metrics)["active_streams", "1 bookbag-v2"] == 1


def test_a_certificate_that_expires() -> None:
    """Where there is none, none is told of."""
    metrics = Metrics()
    name = "oc_gateway_tls_certificate_expiry_timestamp_seconds"
    assert metrics.registry.get_sample_value(name) is None
    metrics.certificate_expires(1.9e9)
    metrics.certificate_expires(2e9)
    assert metrics.registry.get_sample_value(name) == 2e9
