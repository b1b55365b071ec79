"""What gateway.toml may say, table by table; the texts are an editor's help (JSON schema)."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, StringConstraints

from gateway.config.values import Duration, RateText, Secret, Size, Strict

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]


class Server(Strict):
    """The listener for clients."""

    host: str = "127.0.0.1"
    port: Port = 8080
    workers: Literal[1] = Field(1, description="Processes; more than one is not built yet.")
    max_body: Size = Field(1 << 20, description="The largest request body.")
    body_timeout: Duration = Field(30.0, description="How long a request body may take to arrive.")
    write_timeout: Duration = Field(
        30.0, description="How long a client may leave a full stream unread before it is cut."
    )


class Admin(Strict):
    """The listener for health and metrics; not for the public."""

    host: str = "127.0.0.1"
    port: Port = 9090


class StoreConfig(Strict):
    """Where conversations are kept."""

    url: str = Field("memory://", description='"memory://": in this process, gone with it.')
    max_size: Size = Field(256 << 20, description="How much may be kept; the oldest go first.")
    max_messages: PositiveInt = Field(
        200, description="Messages of a conversation that are kept and sent to the model."
    )


class Tier(Strict):
    """What a key may do."""

    requests: RateText = Field(description='A token bucket: "100/10s" refills 10 a second.')
    concurrency: PositiveInt | None = Field(None, description="Turns at once.")


class Limits(Strict):
    backend: Literal["local"] = "local"
    tiers: dict[Name, Tier] = Field(default_factory=dict)


class Timeouts(Strict):
    """How long an upstream may take. Each has its own error and metric label."""

    connect: Duration = 2.0
    first_event: Duration = Field(30.0, description="From the request to the first content.")
    idle: Duration = Field(60.0, description="Between two reads.")
    total: Duration = 900.0


class Upstream(Strict):
    """A backend."""

    kind: Literal["openai", "bookbag", "chatbase", "echo", "replay"]
    api: Literal["v1", "v2"] | None = Field(None, description="bookbag: which API; v2 by default.")
    base_url: str | None = None
    credential: Secret | None = Field(None, description="Sent as `Authorization: Bearer`.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Further headers of every request; no secrets."
    )
    timeouts: Timeouts = Timeouts()
    blank_lines: bool = Field(
        True, description="false: the events of its streams are lines without a blank line between."
    )
    max_event: Size = Field(1 << 20, description="The largest event of a stream.")
    max_answer: Size = Field(64 << 20, description="The largest answer, all events together.")
    max_connections: PositiveInt = Field(1024, description="Connections open at once.")
    keepalive: Duration = Field(
        4.0, description="How long an idle connection is kept: less than the upstream keeps it."
    )
    verify: bool | str = Field(
        True, description="TLS: true, or the path of a CA bundle; false checks nothing."
    )
    file: str | None = Field(None, description="replay: the transcript.")


class TargetConfig(Strict):
    """An upstream as one agent uses it."""

    upstream: Name
    model: str | None = Field(None, description="openai: the upstream's model.")
    agent: str | int | None = Field(None, description="bookbag, chatbase: the upstream's agent.")
    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="openai: further fields of the body, e.g. temperature."
    )


class Public(Strict):
    """Lets a browser widget speak to the agent without a key (v1)."""

    origins: list[str] = Field(min_length=1, description='"https://www.acme.com", or "*" for any.')
    tier: Name


class ToolConfig(Strict):
    """A client-side tool offered to the model."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default={"type": "object"})


class Agent(Strict):
    """What clients talk to."""

    id: PositiveInt
    workspace: Name
    name: str
    aliases: list[str] = Field(default_factory=list)
    archived: bool = Field(False, description="true: not found.")
    allowed_models: list[str] = Field(
        default_factory=list, description="What v1's `model` may name; none by default."
    )
    credits_per_turn: NonNegativeInt | None = Field(
        None, description="Reported as usage where the upstream reports no credits."
    )
    identity_secret: Secret | None = Field(
        None, description="Widget identity: user ids must come with their HMAC."
    )
    instructions: str | None = Field(None, description="The system prompt of stateless upstreams.")
    targets: list[TargetConfig] = Field(min_length=1, description="In order: fallback.")
    public: Public | None = None
    tools: list[ToolConfig] = Field(default_factory=list)


class Key(Strict):
    """A client's key, by its hash: `oc-gateway keys create` prints the key once, and this."""

    id: Name
    hash: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    workspace: Name
    agents: list[PositiveInt] | None = Field(None, description="Left out: all of the workspace.")
    tier: Name
    expires: str | None = Field(
        None, description='ISO 8601 with an offset: "2027-01-31T00:00:00Z".'
    )
    disabled: bool = False


class SigningKey(Strict):
    """A key that verifies signed keys (`oc_<env>_<JWT>`)."""

    id: Name = Field(description="The JWT's `kid`.")
    algorithm: Algorithm
    secret: Secret | None = Field(None, description="HS256: at least 32 bytes.")
    public_key: Secret | None = Field(None, description="The others: a PEM.")
    workspaces: list[Name] = Field(min_length=1, description="For which it may sign.")


class Jwks(Strict):
    """A set of such keys, as a file or at a URL that is fetched again and again."""

    url: str | None = None
    file: str | None = None
    algorithms: list[Literal["RS256", "ES256", "EdDSA"]] = Field(min_length=1)
    workspaces: list[Name] = Field(min_length=1)
    refresh: Duration = 600.0


class Auth(Strict):
    signing_keys: list[SigningKey] = Field(default_factory=list)
    jwks: list[Jwks] = Field(default_factory=list)
    revoked: list[str] = Field(default_factory=list, description="`jti`s of signed keys.")


class Config(Strict):
    """The whole file."""

    server: Server = Server()
    admin: Admin = Admin()
    store: StoreConfig = StoreConfig()
    limits: Limits = Limits()
    auth: Auth = Auth()
    upstreams: dict[Name, Upstream] = Field(min_length=1)
    agents: list[Agent] = Field(min_length=1)
    keys: list[Key] = Field(default_factory=list)
