"""What gateway.toml may say, table by table; the texts are an editor's help (JSON schema).

What several fields or tables must say together is in `checks`.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from gateway.config.addresses import KeySetUrl, StoreUrl
from gateway.config.agents import Agent
from gateway.config.clients import ChatbaseClients, Mounts
from gateway.config.listeners import ClientHeader, Network, Tls, Workers
from gateway.config.logs import Logs
from gateway.config.tracing import Tracing
from gateway.config.upstreams import Upstream
from gateway.config.values import (
    HASH,
    AgentId,
    Delay,
    Duration,
    Moment,
    Name,
    RateText,
    Secret,
    Size,
    Strict,
    Text,
)

Port = Annotated[int, Field(ge=0, le=65535)]
PublicAlgorithm = Literal["RS256", "ES256", "EdDSA"]
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]


class Resume(Strict):
    """What is kept of a stream, so that a client that lost it can go on with it."""

    on_request: bool = Field(
        True,
        description="Whether a client may ask for it, with the header `X-Resumable: true`; agents"
        ' with `on_disconnect = "keep"` always do it. With several workers, nobody may.',
    )
    max_log: Size = Field(1 << 20, description="Of one stream; the oldest goes first.")
    max_streams: PositiveInt = Field(1000, description="Kept at once.")
    ttl: Duration = Field(60.0, description="How long after the end of the turn.")


class Server(Strict):
    """The listener for clients."""

    host: Text = Field("127.0.0.1", description='The address to listen at; "0.0.0.0" for all.')
    port: Port = Field(8080, description="0: any that is free.")
    workers: Workers = Field(
        1,
        description='Processes that share the port; "auto": one for each core. They count limits'
        " together, and each has its part of every `max_streams` and `queue`.",
    )
    tls: Tls | None = Field(None, description="Left out: plain HTTP.")
    trusted_proxies: list[Network] = Field(
        default_factory=list,
        description="Who may say, in `client_header`, for whom they ask: load balancers and"
        " reverse proxies in front of the gateway, as networks. By default nobody.",
    )
    client_header: ClientHeader = Field(
        "X-Forwarded-For", description="Where they say it; a client's own is passed over."
    )
    mounts: Mounts = Field(Mounts(), description="The prefix of each family's paths.")
    chatbase: ChatbaseClients = Field(
        ChatbaseClients(), description="How its clients are answered."
    )
    max_body: Size = Field(1 << 20, description="The largest request body.")
    body_timeout: Duration = Field(30.0, description="How long a request body may take to arrive.")
    drain_timeout: Duration = Field(
        30.0, description="How long open turns may go on after a signal to stop."
    )
    drain_delay: Delay = Field(
        0.0,
        description="How long it goes on accepting after a signal to stop, while /readyz says no"
        " already.",
    )
    resume: Resume = Field(Resume(), description="Streams that a client may come back to.")
    write_timeout: Duration = Field(
        30.0, description="How long a client may leave a full stream unread before it is cut."
    )


class Admin(Strict):
    """The listener for health, metrics and status; not for the public."""

    host: Text = Field("127.0.0.1", description="The address to listen at.")
    port: Port = Field(9090, description="0: any that is free.")
    token: Secret | None = Field(
        None,
        description="Sent as `Authorization: Bearer ...` for all but /metrics, /healthz and"
        " /readyz. Without one, these three are all that other machines are answered.",
    )


class StoreConfig(Strict):
    """Where conversations are kept."""

    url: StoreUrl = Field(
        "sqlite:///oc-gateway.db",
        description='"sqlite:///file.db" from this file\'s folder, "postgresql://user@host/database"'
        ' for several gateways, or "memory://": in this process, gone with it.',
    )
    password: Secret | None = Field(None, description="postgresql: of the user in the URL.")
    max_connections: PositiveInt = Field(
        10, description="postgresql: open at once, by each worker."
    )
    max_size: Size = Field(
        256 << 20, description="memory: how much is kept; the least recently used go first."
    )
    timeout: Duration = Field(2.0, description="How long it may take to read or write a turn.")
    ttl: Duration | None = Field(
        None, description="Conversations without activity for so long are deleted."
    )
    max_per_user: PositiveInt | None = Field(
        None, description="Conversations that a user keeps with an agent; the oldest go first."
    )
    tool_call_ttl: Duration = Field(
        3600.0, description="How long a tool call waits for its result."
    )
    repeat_ttl: Duration = Field(86400.0, description="How long an Idempotency-Key is known.")
    thread_ttl: Duration = Field(
        7 * 86400.0,
        description="How long a hosted agent's conversation is found again by what was said in it,"
        " for clients that send the whole history.",
    )
    keep_partial: bool = Field(
        False, description="Whether an answer that broke off is kept, marked as incomplete."
    )


class Tier(Strict):
    """What a key may do."""

    requests: RateText = Field(description='A token bucket: "100/10s" refills 10 a second.')
    concurrency: PositiveInt | None = Field(None, description="Turns at once.")


class Limits(Strict):
    """Rate limits."""

    backend: Literal["local"] = Field("local", description='"local": counted in this process.')
    tiers: dict[Name, Tier] = Field(default_factory=dict, description="By name.")


class Key(Strict):
    """A client's key, by its hash: `oc-gateway keys create` prints the key once, and this."""

    id: Name = Field(description="Whose; several entries may share it while a key is replaced.")
    hash: Annotated[str, StringConstraints(pattern=HASH)] = Field(
        description="The SHA-256 of the whole key in hex."
    )
    workspace: Name = Field(description="Whose agents it may use.")
    agents: list[AgentId] | None = Field(
        None, min_length=1, description="Left out: all of the workspace."
    )
    tier: Name = Field(description="What it may do: a name under [limits.tiers].")
    expires: Moment | None = Field(
        None, description='ISO 8601 with an offset: "2027-01-31T00:00:00Z".'
    )
    disabled: bool = Field(False, description="true: refused.")


class SigningKey(Strict):
    """A key that verifies signed keys (`oc_<env>_<JWT>`)."""

    id: Name = Field(description="The JWT's `kid`.")
    algorithm: Algorithm = Field(description="The only one accepted for it.")
    secret: Secret | None = Field(None, description="HS256: at least 32 bytes.")
    public_key: Secret | None = Field(None, description="The others: a PEM.")
    workspaces: list[Name] = Field(min_length=1, description="For which it may sign.")


class Jwks(Strict):
    """A set of such keys, as a file or at a URL that is fetched again and again."""

    url: KeySetUrl | None = Field(None, description="https; http only to this machine.")
    file: Text | None = Field(
        None, description="A file; a relative path starts at this file's folder."
    )
    algorithms: list[PublicAlgorithm] = Field(min_length=1, description="Those accepted.")
    workspaces: list[Name] = Field(min_length=1, description="For which its keys may sign.")
    refresh: Duration = Field(600.0, description="url: how often it is fetched.")


class Auth(Strict):
    """Signed keys: tokens that another service issues and the gateway verifies."""

    signing_keys: list[SigningKey] = Field(
        default_factory=list, description="Keys that verify them, one by one."
    )
    jwks: list[Jwks] = Field(default_factory=list, description="Key sets that verify them.")
    revoked: list[str] = Field(default_factory=list, description="`jti`s of signed keys.")


class Config(Strict):
    """The whole file."""

    server: Server = Field(Server(), description="The listener for clients.")
    admin: Admin = Field(Admin(), description="The listener for health, metrics and status.")
    logs: Logs = Field(Logs(), description="What is written to standard error.")
    store: StoreConfig = Field(StoreConfig(), description="Where conversations are kept.")
    limits: Limits = Field(Limits(), description="Rate limits.")
    auth: Auth = Field(Auth(), description="Signed keys.")
    tracing: Tracing = Field(Tracing(), description="Spans for an OpenTelemetry collector.")
    upstreams: dict[Name, Upstream] = Field(min_length=1, description="The backends, by name.")
    agents: list[Agent] = Field(min_length=1, description="What clients talk to.")
    keys: list[Key] = Field(default_factory=list, description="The clients' keys, by their hashes.")
