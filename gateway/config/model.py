"""What gateway.toml may say, table by table; the texts are an editor's help (JSON schema).

What several fields or tables must say together is in `checks`.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints

from gateway.config.addresses import (
    BaseUrl,
    CredentialHeader,
    HeaderName,
    HeaderValue,
    KeySetUrl,
    Origin,
    StoreUrl,
)
from gateway.config.clients import ChatbaseClients, Mounts
from gateway.config.values import (
    HASH,
    TOOL,
    AgentId,
    Duration,
    JsonSchema,
    Label,
    Moment,
    Name,
    Params,
    RateText,
    Secret,
    Size,
    Strict,
)

Port = Annotated[int, Field(ge=0, le=65535)]
PublicAlgorithm = Literal["RS256", "ES256", "EdDSA"]
Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
Text = Annotated[str, StringConstraints(min_length=1)]


class Server(Strict):
    """The listener for clients."""

    host: Text = Field("127.0.0.1", description='The address to listen at; "0.0.0.0" for all.')
    port: Port = Field(8080, description="0: any that is free.")
    workers: Literal[1] = Field(1, description="Processes; more than one is not built yet.")
    mounts: Mounts = Field(Mounts(), description="The prefix of each family's paths.")
    chatbase: ChatbaseClients = Field(
        ChatbaseClients(), description="How its clients are answered."
    )
    max_body: Size = Field(1 << 20, description="The largest request body.")
    body_timeout: Duration = Field(30.0, description="How long a request body may take to arrive.")
    drain_timeout: Duration = Field(
        30.0, description="How long open turns may go on after a signal to stop."
    )
    write_timeout: Duration = Field(
        30.0, description="How long a client may leave a full stream unread before it is cut."
    )


class Admin(Strict):
    """The listener for health and metrics; not for the public."""

    host: Text = Field("127.0.0.1", description="The address to listen at.")
    port: Port = Field(9090, description="0: any that is free.")


class StoreConfig(Strict):
    """Where conversations are kept."""

    url: StoreUrl = Field(
        "sqlite:///oc-gateway.db",
        description='"sqlite:///file.db" from this file\'s folder, "postgresql://user@host/database"'
        ' for several gateways, or "memory://": in this process, gone with it.',
    )
    password: Secret | None = Field(None, description="postgresql: of the user in the URL.")
    max_connections: PositiveInt = Field(10, description="postgresql: open at once.")
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


class Timeouts(Strict):
    """How long an upstream may take. Each has its own error and metric label."""

    connect: Duration = Field(2.0, description="To open a connection, TLS included.")
    first_event: Duration = Field(30.0, description="From the request to the first content.")
    idle: Duration = Field(60.0, description="Between two reads.")
    total: Duration = Field(900.0, description="The whole turn.")


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
    file: Text | None = Field(
        None,
        description="replay: the transcript; a relative path starts at this file's folder.",
    )


class TargetConfig(Strict):
    """An upstream as one agent uses it."""

    upstream: Name = Field(description="Its name under [upstreams].")
    model: Text | None = Field(None, description="The upstream's model; openai needs one.")
    agent: Text | int | None = Field(
        None, description="The upstream's agent; of the remote kinds only openai has none."
    )
    params: Params = Field(
        default_factory=dict, description="Further fields of the request's body, e.g. temperature."
    )


class Public(Strict):
    """Lets a browser widget speak to the agent without a key (v1)."""

    origins: list[Origin] = Field(
        min_length=1, description='"https://www.acme.com", or "*" for any.'
    )
    tier: Name = Field(description="What each client address may do.")


class ToolConfig(Strict):
    """A client-side tool offered to the model."""

    name: Annotated[str, StringConstraints(pattern=TOOL)] = Field(
        description="What the model calls it."
    )
    description: str = Field("", description="What it does and when to call it.")
    parameters: JsonSchema = Field(
        default={"type": "object"}, description="A JSON Schema of its arguments."
    )


class History(Strict):
    """How much of a conversation a stateless upstream is sent."""

    max_messages: PositiveInt = Field(200, description="The newest so many messages.")
    max_tokens: PositiveInt | None = Field(
        None, description="Instructions included, by a rough count: a quarter of the bytes."
    )


class Agent(Strict):
    """What clients talk to."""

    id: AgentId = Field(description="Unique in this file.")
    workspace: Name = Field(description="Whose it is; keys of other workspaces do not see it.")
    name: Label = Field(description="Unique in the workspace, with the aliases.")
    aliases: list[Label] = Field(default_factory=list, description="Further names.")
    archived: bool = Field(False, description="true: not found.")
    allowed_models: list[Text] = Field(
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
    history: History = Field(History(), description="What stateless upstreams are sent.")
    conversations: Literal["stored", "passthrough"] = Field(
        "stored",
        description='"passthrough": the upstream keeps them, and clients see its own ids; for'
        " targets that speak the clients' own protocol.",
    )
    public: Public | None = Field(None, description="Who may speak to it without a key.")
    tools: list[ToolConfig] = Field(
        default_factory=list, description="Client-side tools offered to the model."
    )


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
    admin: Admin = Field(Admin(), description="The listener for health and metrics.")
    store: StoreConfig = Field(StoreConfig(), description="Where conversations are kept.")
    limits: Limits = Field(Limits(), description="Rate limits.")
    auth: Auth = Field(Auth(), description="Signed keys.")
    upstreams: dict[Name, Upstream] = Field(min_length=1, description="The backends, by name.")
    agents: list[Agent] = Field(min_length=1, description="What clients talk to.")
    keys: list[Key] = Field(default_factory=list, description="The clients' keys, by their hashes.")
