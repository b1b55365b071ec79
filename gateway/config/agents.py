"""What the file says of an agent: who may speak to it, and which backends answer for it."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints

from gateway.config.addresses import Origin
from gateway.config.values import (
    TOOL,
    AgentId,
    Duration,
    JsonSchema,
    Label,
    Name,
    Params,
    Secret,
    Strict,
    Text,
)


class TargetTimeouts(Strict):
    """The upstream's timeouts, where this target needs others."""

    connect: Duration | None = Field(None, description="To open a connection, TLS included.")
    first_event: Duration | None = Field(None, description="From the request to the first content.")
    idle: Duration | None = Field(None, description="Between two reads.")
    total: Duration | None = Field(None, description="The whole turn.")


class TargetConfig(Strict):
    """An upstream as one agent uses it."""

    upstream: Name = Field(description="Its name under [upstreams].")
    model: Text | None = Field(None, description="The upstream's model; openai needs one.")
    agent: Text | int | None = Field(
        None, description="The upstream's agent; of the remote kinds only openai has none."
    )
    weight: PositiveInt | None = Field(
        None,
        description="Its share of the agent's turns, if every target has one; without, in order.",
    )
    timeouts: TargetTimeouts = Field(
        TargetTimeouts(), description="Where they are others than the upstream's."
    )
    retries: NonNegativeInt | None = Field(None, le=10, description="As of the upstream.")
    retry_after_send: bool | None = Field(None, description="As of the upstream.")
    max_streams: PositiveInt | None = Field(None, description="As of the upstream.")
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
    targets: list[TargetConfig] = Field(
        min_length=1, description="In order, or by weight: where one fails, the next one answers."
    )
    hedge_after: Duration | None = Field(
        None,
        description="Without a first event for so long, the next target is asked as well, and the"
        " one that speaks first answers.",
    )
    open_after: Duration | None = Field(
        None,
        description="Without a first event for so long, the stream begins with heartbeats; from"
        " then on no other target is asked.",
    )
    when_all_open: Literal["fail_fast", "try_anyway"] = Field(
        "fail_fast", description="What to do when the breakers of all targets are open."
    )
    on_disconnect: Literal["cancel", "drain", "keep"] = Field(
        "cancel",
        description='When the client leaves: "cancel" the upstream, "drain" the answer for the'
        ' record, or "keep" it for a client that comes back.',
    )
    drain_max: Duration = Field(60.0, description='How long a turn may "drain".')
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
