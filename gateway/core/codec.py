"""The seam between protocols: what a client dialect and an upstream kind are made of.

Codecs are sans-IO: bytes in, events out, and the reverse. They import no network, clock, random
source, log or metric, and one object of theirs serves one turn.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from gateway.core.conversation import Conversation, Feedback, StoredMessage
from gateway.core.errors import GatewayError
from gateway.core.events import Event, Json, TextDelta, ToolCall
from gateway.core.turn import ChatRequest, Prompt, Reply, ToolAnswer, Turn


class Decoder(Protocol):
    """An upstream's bytes to events; nothing follows the terminal event, whatever is fed."""

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by these bytes; never raises for what an upstream sent."""
        ...

    def eof(self) -> list[Event]:
        """The end of the body: a terminal event, unless one was given already."""
        ...

    def lost(self) -> list[Event]:
        """The same for a body that broke off, or whose time was up: it is a `Finish` only if the
        upstream had said that it was done."""
        ...


class Encoder(Protocol):
    """Events to a client's bytes. It owns what it emits: ids come with its constructor."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many events this dialect had no words for, by type."""
        ...

    @property
    def around_text(self) -> tuple[bytes, bytes] | None:
        """What stands before and after the JSON of each `TextDelta`'s text; None where that is not
        the same for all, or not yet."""
        ...

    def encode(self, event: Event) -> bytes:
        """The frames for one event; `b""` where the dialect says nothing here."""
        ...


class ErrorAnswer(Struct, frozen=True):
    """An error before the stream, in a dialect's own words."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Dialect(Struct, frozen=True, kw_only=True):
    """A protocol that clients speak."""

    name: str
    family: str
    """Whose protocol it is: an upstream of the same family knows the same ids. Its paths are behind
    the family's mount."""
    beginning: str
    """What its paths begin with, those where nothing is included: errors there are in its words."""
    chats: tuple[str, ...]
    """The paths of chat requests; `{agent}` is an id, a name or an alias."""
    decode: Callable[[Json, str | None, Mapping[str, str]], ChatRequest]
    """A request's JSON body, the agent that the path names, if the path does, and the headers
    (whatever the case of their names). Raises `GatewayError(INVALID_BODY)`."""
    encoder: Callable[[Turn, ChatRequest], Encoder]
    reply: Callable[[Turn, ChatRequest, Reply], bytes] | None
    """The whole answer as one JSON body, for a client that asked for no stream; None where the
    dialect knows only streams."""
    whole: frozenset[type]
    """The parts of an answer that `reply` has words for."""
    error: Callable[[GatewayError], ErrorAnswer]
    heartbeat: float | None
    """Seconds between comments on a silent stream; None where clients do not bear comments."""
    public: bool = False
    """Whether a public agent may be spoken to without a key."""
    stateless: bool = False
    """Whether clients send the whole conversation with every request."""
    replayed: frozenset[type] = frozenset({TextDelta, ToolCall})
    """Then the parts of an answer that they tell as they were; of calls those that the upstream has
    not run itself, unless `ToolOutput` is among these."""
    headers: Callable[[Turn, ChatRequest], Mapping[str, str]] | None = None
    """Further headers of a turn's answer."""
    credential: Callable[[str], str] | None = None
    """The `Authorization` header as `Bearer oc_...`, where clients write it in another way."""
    root: str | None = None
    """The path of an agent, behind which are the requests about its conversations."""
    records: "Records | None" = None
    """What it says of conversations beside chatting; None where it says nothing."""
    resuming: "Resuming | None" = None
    """How clients come back to a stream that they lost; None where they do not."""


class Resuming(Struct, frozen=True, kw_only=True):
    """A GET for the rest of a stream."""

    path: str
    """`{agent}` is as in chats, `{conversation}` what its client or the gateway calls it."""
    user: Callable[[Mapping[str, str]], str | None] | None = None
    """Whose it is, by the headers, where clients name conversations themselves."""


Around = tuple[bytes, bytes]
"""What stands before something in a body, and what after it: long ones are written in pieces."""


class Records(Struct, frozen=True, kw_only=True):
    """A dialect's words for conversations that are kept: their reads, and what can be done to them.

    The readers take a request's JSON body and raise `GatewayError(INVALID_BODY)`.
    """

    retry: Callable[[Json, str, str], ChatRequest]
    """With the agent and the conversation that the path names."""
    tool_result: Callable[[Json], ToolAnswer]
    feedback: Callable[[Json], Feedback | None]
    accepted: bytes
    """The answer to a tool's result that was taken."""
    rated: Callable[[StoredMessage], bytes]
    """The answer to feedback that was set, on the message as it is now."""
    message: Callable[[StoredMessage], bytes]
    conversation: Callable[[Conversation], bytes]
    """One of a list of these."""
    whole: Callable[[Conversation], Around]
    """A conversation, around its messages separated by commas."""
    page: Callable[[str | None, int], Around]
    """A body, around the JSON of what it is about: with the cursor of the next page (None: there is
    none), and how many there are in all."""


class Transcript(Struct, frozen=True):
    """A recorded answer: each step is the seconds since the one before, and the bytes sent then."""

    kind: str
    """The upstream kind that sent it."""
    steps: tuple[tuple[float, bytes], ...]


class Target(Struct, frozen=True, kw_only=True):
    """One upstream, as one agent uses it.

    `model` and `agent` are the upstream's own names; `params` go into the request's body as they
    stand (temperature, max_tokens).
    """

    upstream: str
    """Its name in the config: a label of metrics."""
    model: str | None = None
    agent: str | None = None
    params: Mapping[str, Json] = {}
    blank_lines: bool = True
    """False: its events are single lines, with no blank line between them (seen at Fireworks)."""
    max_event: int = 1 << 20
    """The most bytes one event may have."""
    transcript: Transcript | None = None
    """What a replay plays."""


HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[!-~](?:[ -~\t]*[!-~])?")
"""One line of printable ASCII, so that nothing can be smuggled in after it."""


class UpstreamRequest(Struct, frozen=True):
    """What to ask: `path` is relative to the upstream's base URL. Raises `ValueError` for a header
    that is not one line."""

    path: str
    body: bytes
    method: str = "POST"
    """A GET has no body, whatever `body` says."""
    headers: Mapping[str, str] = {}
    """Further ones of this request; they hold against the upstream's own of the same name."""

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            if not (HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value)):
                raise ValueError("a header must be one line of printable ASCII")


class Pause(Struct, frozen=True):
    """A silence of an embedded upstream, in seconds."""

    seconds: float


class UpstreamKind(Struct, frozen=True, kw_only=True):
    """A protocol that upstreams speak.

    A remote kind has `request` and `error`; an embedded one (echo, replay) has `script`, the bytes
    it would have sent and its pauses between them, which the shell plays.
    """

    name: str
    family: str
    """Whose protocol it is: a dialect of the same family knows the same ids."""
    decoder: Callable[[Target], Decoder]
    stateful: bool = False
    """Whether it keeps conversations itself and takes one message at a time."""
    result: Callable[[Target, str, str, Json], UpstreamRequest] | None = None
    """Hands it a tool's result: its own ids of the conversation and of the call, and the output.
    None where it has no such request."""
    passage: Callable[[Target, str, str, bytes], UpstreamRequest] | None = None
    """A client's request about a conversation, for one that keeps them: method, the path behind
    the agent's with its query, and the body."""
    request: Callable[[Target, Prompt], UpstreamRequest] | None = None
    error: Callable[[int, Mapping[str, str], bytes], GatewayError] | None = None
    """A status other than 2xx with its headers (lower-case names) and the start of its body."""
    script: Callable[[Target, Prompt], Iterator[bytes | Pause]] | None = None
