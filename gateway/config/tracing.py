"""What the file says of tracing: whether, where to, and how much."""

from pydantic import Field

from gateway.config.addresses import BaseUrl, CredentialHeader
from gateway.config.values import Secret, Share, Strict, Text


class Tracing(Strict):
    """Spans of turns for an OpenTelemetry collector (OTLP over HTTP); takes the extra
    `oc-gateway[otel]`. What is left out is as OpenTelemetry's own variables (OTEL_...) say."""

    enabled: bool = Field(
        False,
        description="false: a client's traceparent is passed on to upstreams, and that is all.",
    )
    endpoint: BaseUrl | None = Field(
        None,
        description='The collector\'s address: "http://127.0.0.1:4318"; `/v1/traces` is added.',
    )
    headers: dict[CredentialHeader, Secret] = Field(
        default_factory=dict, description="Of every request to the collector, by their names."
    )
    service_name: Text | None = Field(
        None, description='What the gateway is called in traces; "oc-gateway" by default.'
    )
    sample_ratio: Share | None = Field(
        None, description="The share of traces begun here that are recorded; all by default."
    )
    from_clients: bool = Field(
        True,
        description="Whether a client's traceparent is gone on with, and says what is recorded;"
        " false: it is ignored.",
    )
