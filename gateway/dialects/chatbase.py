"""Chatbase v2 as clients speak it: the AI SDK's stream, with Chatbase's own metadata.

Its pages show several forms of the stream. `CHATBASE` is the newest, which all of Chatbase's own
clients read; `CHATBASE_SEED` the one of the reference page of `POST /agents/{agentId}/chat`, for
integrations written from that.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.codec import Dialect, ErrorAnswer, Resuming
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
)
from gateway.core.turn import UNKNOWN, ChatRequest, Reply, Turn, merged
from gateway.dialects import bookbag_v2
from gateway.dialects.bookbag import complaint, identity
from gateway.dialects.drops import Drops
from gateway.dialects.fields import fields
from gateway.dialects.parts import PARTS, whole, written
from gateway.dialects.records import records
from gateway.dialects.ui_frames import DONE, FRAMES, UIFrames, bare, named
from gateway.wire import json

FINISH_REASONS: dict[FinishReason, str] = {reason: reason.value for reason in FinishReason}

# Bookbag's API follows Chatbase's; this is where they differ.
_WORDS: dict[ErrorCode, tuple[int, str]] = {
    **bookbag_v2.WORDS,
    ErrorCode.INVALID_JSON: (400, "VALIDATION_INVALID_JSON"),
    ErrorCode.KEY_EXPIRED: (401, "AUTH_EXPIRED_API_KEY"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, "CHAT_MODEL_NOT_ALLOWED"),
    ErrorCode.AGENT_NOT_FOUND: (404, "AGENT_NOT_FOUND"),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (422, "RESOURCE_MESSAGE_NOT_ASSISTANT"),
    ErrorCode.UPSTREAM_CREDITS: (402, "CHAT_CREDITS_EXHAUSTED"),
}

# In the order of the pages.
_FLAT = ("messageId", "userMessageId", "conversationId", "userId", "usage")
_METADATA = (*_FLAT[:4], "finishReason", "usage")

# What a type may be that an upstream made up: it may have to stand on a line of its own.
_TYPE = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

# What an upstream's frame without a type and without a name comes as.
_UNTYPED = "message"


class _Variant(Struct, frozen=True):
    """What one form of the stream says in its own way."""

    opening: Callable[[str], bytes]
    start: str
    """The type of the first frame."""
    finish: Callable[[UIFrames, dict[str, Json]], bytes]
    """The last frames before `[DONE]`, of what is known of the turn."""


class ChatbaseEncoder:
    """Events to the frames of one variant."""

    def __init__(self, variant: _Variant, turn: Turn, _ask: ChatRequest) -> None:
        self.dropped = Drops()
        self._variant = variant
        self._turn = turn
        self._metadata = UNKNOWN
        self._begun = False
        self._frames = UIFrames(variant.opening)

    around_text = None  # the first of a part begins it

    def encode(self, event: Event) -> bytes:
        kind = type(event)
        if write := FRAMES.get(kind):
            said: bytes = write(self._frames, event)
        elif write := _TABLE.get(kind):
            said = write(self, event)
        else:
            return self._aside(event)
        return said if self._begun else self._begin() + said

    def _aside(self, event: Event) -> bytes:
        """What begins no message: its ids are known by then, if the upstream names them."""
        match event:
            case Metadata():
                self._metadata = merged(self._metadata, event)
                return b""
            case Failure():
                return self._frames.failure(event.message)
            case _:
                return self.dropped.count(event)

    def _begin(self) -> bytes:
        self._begun = True
        message = identity(self._turn, self._metadata).get("messageId")
        known: dict[str, Json] = {} if message is None else {"messageId": message}
        return self._frames.chunk(self._variant.start, known)

    def _extension(self, event: Extension) -> bytes:
        known = event.vendor == "ai-sdk" and event.name != _UNTYPED
        if not known or not _TYPE.fullmatch(event.name):
            return self.dropped.count(event)
        return self._frames.chunk(event.name, json.mapping(event.data))

    def _finish(self, event: Finish) -> bytes:
        said = _said(self._turn, self._metadata, event.reason)
        return self._frames.close() + self._variant.finish(self._frames, said) + DONE


_TABLE: dict[type, Callable[..., bytes]] = {
    Extension: ChatbaseEncoder._extension,
    Finish: ChatbaseEncoder._finish,
}


def _said(turn: Turn, known: Metadata, reason: FinishReason | None) -> dict[str, Json]:
    """What is known of a turn; of nobody's, the user is null."""
    word = FINISH_REASONS[reason or FinishReason.STOP]
    return {"userId": None, "finishReason": word, **identity(turn, known)}


def _picked(said: dict[str, Json], names: tuple[str, ...]) -> dict[str, Json]:
    return {name: said[name] for name in names if name in said}


def _finish_with_metadata(frames: UIFrames, said: dict[str, Json]) -> bytes:
    # Android reads the reason here, iOS and the command line in the metadata.
    finish: dict[str, Json] = {"finishReason": said["finishReason"]}
    return frames.chunk("finish", {**finish, "messageMetadata": _picked(said, _METADATA)})


def _metadata_after_finish(frames: UIFrames, said: dict[str, Json]) -> bytes:
    return frames.chunk("finish", {}) + frames.chunk("message-metadata", _picked(said, _FLAT))


def _decode(body: Json, agent: str | None, _headers: Mapping[str, str]) -> ChatRequest:
    read = fields(body)
    # A known conversation may go on from the results of its tool calls, without a message.
    needed = read.has("message") or not read.has("conversationId")
    request = ChatRequest(
        agent=agent or "",
        message=read.message("message") if needed else None,
        stream=read.flag("stream", default=True),
        conversation_id=read.string("conversationId", longest=json.MAX_IDENTIFIER),
        user_id=read.user("userId"),
    )
    read.check()
    return request


def _reply(turn: Turn, _ask: ChatRequest, reply: Reply) -> bytes:
    return whole(turn, reply, FINISH_REASONS)


def _flat_reply(turn: Turn, _ask: ChatRequest, reply: Reply) -> bytes:
    # The page has no field for what was said.
    said = _picked(_said(turn, reply.metadata, reply.finish), _FLAT)
    return json.dumps({**said, "parts": written(reply.parts)})


def _error(error: GatewayError) -> ErrorAnswer:
    status, code = _WORDS[error.code]
    return ErrorAnswer(status, json.dumps({"error": complaint(error, code)}))


_CURRENT = _Variant(opening=bare, start="start", finish=_finish_with_metadata)
_SEED = _Variant(opening=named, start="message-start", finish=_metadata_after_finish)

CHATBASE = Dialect(
    name="chatbase",
    family="chatbase",
    beginning="/api/v2/",
    chats=("/api/v2/agents/{agent}/chat",),
    root="/api/v2/agents/{agent}",
    decode=_decode,
    encoder=partial(ChatbaseEncoder, _CURRENT),
    reply=_reply,
    whole=PARTS,
    error=_error,
    # Chatbase's command line gives up after 60 s without a byte.
    heartbeat=15.0,
    records=records(FINISH_REASONS),
    resuming=Resuming(path="/api/v2/agents/{agent}/conversations/{conversation}/stream"),
)
CHATBASE_SEED = replace(CHATBASE, encoder=partial(ChatbaseEncoder, _SEED), reply=_flat_reply)

VARIANTS: dict[str, Dialect] = {"current": CHATBASE, "seed": CHATBASE_SEED}
"""By their names in the config."""
