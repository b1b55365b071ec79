"""What gateway.toml may say of the families of dialects, and of the clients that speak them."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.config.values import MOUNT, Strict

Mount = Annotated[str, StringConstraints(pattern=MOUNT)]


class Mounts(Strict):
    """What each family's paths begin with on the public listener."""

    bookbag: Mount = Field("", description="/api/v1/chat, /api/v2/agents/{agent}/chat, ...")
    chatbase: Mount = Field("/chatbase", description="/chatbase/api/v2/agents/{agent}/chat, ...")
    sonzai: Mount = Field("/sonzai", description="/sonzai/api/v1/agents/{agent}/chat")
    agentsgt: Mount = Field("/agentsgt", description="/agentsgt/api/v1/agents/chat/{agent}")
    openai: Mount = Field("", description="/v1/chat/completions, /v1/models")


class ChatbaseClients(Strict):
    """How Chatbase's clients are answered."""

    variant: Literal["current", "seed"] = Field(
        "current", description='"seed": as the reference page of its API has streams and answers.'
    )
