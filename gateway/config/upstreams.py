"""What the file says of a backend: its address, and how the gateway bears its failures."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from gateway.config.addresses import (
    BaseUrl,
    CredentialHeader,
    HeaderName,
    HeaderValue,
    RequestPath,
)
from gateway.config.values import Delay, Duration, Secret, Share, Size, Strict, Text


class Timeouts(Strict):
    """How long an upstream may take. Each has its own error and metric label."""

    connect: Duration = Field(2.0, description="To open a connection, TLS included.")
    first_event: Duration = Field(30.0, description="From the request to the first content.")
    idle: Duration = Field(60.0, description="Between two reads.")
    total: Duration = Field(900.0, description="The whole turn.")


class Queue(Strict):
    """Who waits while all streams of a target are taken."""

    size: NonNegativeInt = Field(
        100, description="Turns that may wait; whoever comes after gets a 503 at once."
    )
    timeout: Duration = Field(5.0, description="How long a turn waits at most.")


class Breaker(Strict):
    """When a target that fails is left alone, and for how long."""

    enabled: bool = Field(True, description="false: it is asked whatever it does.")
    failures: PositiveInt = Field(5, description="So many in a row open it.")
    failure_rate: Share | None = Field(
        None, description="Or such a share of the turns of the last `window`: 0.5 is half of them."
    )
    window: Duration = Field(30.0, description="What `failure_rate` looks back on.")
    min_turns: PositiveInt = Field(
        20, description="So many turns in the window, or `failure_rate` says nothing."
    )
    open_for: Duration = Field(
        10.0, description="How long it is left alone before one turn tries it again."
    )


class Health(Strict):
    """A request again and again to see whether the upstream answers."""

    path: RequestPath = Field(
        description='Behind the base_url: "/models"; a GET with our credential.'
    )
    interval: Duration = Field(10.0, description="How often.")
    timeout: Duration = Field(2.0, description="How long the answer may take.")
    failures: PositiveInt = Field(
        3, description="So many in a row, and its targets are passed over; one success ends it."
    )


class Upstream(Strict):
    """A backend."""

    kind: Literal["openai", "bookbag", "chatbase", "sonzai", "agentsgt", "echo", "replay"] = Field(
        description="The protocol it speaks; echo and replay are built in, for trying out."
    )
    api: Literal["v1", "v2"] | None = Field(None, description="bookbag: which API; v2 by default.")
    base_url: BaseUrl | None = Field(
        None, description="Its address; the gateway adds the path of the kind's endpoint."
    )
    credential: Secret | None = Field(None, description="Sent as `Authorization: Bearer`.")
    credential_header: CredentialHeader | None = Field(
        None, description='The header to send it in instead, as it stands: "api-key".'
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Further headers of every request; no secrets."
    )
    timeouts: Timeouts = Field(Timeouts(), description="How long it may take.")
    retries: NonNegativeInt = Field(
        1, le=10, description="How often the same target is asked again before the next one is."
    )
    retry_after_send: bool = Field(
        False,
        description="true: also where the request was sent and may have run, as after a reset.",
    )
    max_retry_wait: Delay = Field(
        2.0, description="An upstream that asks for a longer wait (Retry-After) is not asked again."
    )
    max_streams: PositiveInt | None = Field(
        None, description="Turns that a target has open at once; without it, any number."
    )
    queue: Queue = Field(Queue(), description="Who waits for one of `max_streams`.")
    breaker: Breaker = Field(Breaker(), description="When it is left alone.")
    health: Health | None = Field(None, description="A check beside the traffic.")
    blank_lines: bool = Field(
        True, description="false: the events of its streams are lines without a blank line between."
    )
    max_event: Size = Field(1 << 20, description="The largest event of a stream.")
    max_answer: Size = Field(64 << 20, description="The largest answer, all events together.")
    max_connections: PositiveInt = Field(
        1024, description="Connections open at once, by each worker."
    )
    keepalive: Duration = Field(
        4.0, description="How long an idle connection is kept: less than the upstream keeps it."
    )
    verify: bool | str = Field(
        True, description="TLS: true, or the path of a CA bundle; false checks nothing."
    )
    file: Text | None = Field(
        None,
        description="replay: the transcript; a relative path starts at this file's folder.",
    )
