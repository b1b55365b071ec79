"""AgentsGT as clients speak it, which is what `useChat` speaks: the AI SDK's UI message stream, v1.

Clients are strict: `ai` 5.0 to 5.0.216 and the first 6.0 and 7.0 refuse a stream with a key that
their release does not know, all of them one with a type they do not know or a null. So only what
5.0.0 declares is written. `finishReason` came to `finish` after 5.0.90: it is in the metadata.
Source: `ai`, `src/ui-message-stream/ui-message-chunks.ts`, `src/ui/process-ui-message-stream.ts`.
"""

import re
from collections.abc import Callable, Mapping

from gateway.core.codec import Dialect, ErrorAnswer, Resuming
from gateway.core.conversation import Role
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Citations,
    Event,
    Extension,
    Failure,
    Finish,
    Json,
    Metadata,
    ReasoningDelta,
    StepFinish,
    StepStart,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolOutput,
)
from gateway.core.turn import UNKNOWN, ChatRequest, Turn, merged
from gateway.dialects.ai_sdk_reading import decode, user
from gateway.dialects.bookbag import identity
from gateway.dialects.drops import Drops
from gateway.dialects.ui_frames import DONE, FRAMES, UIFrames
from gateway.wire import json

_VENDOR = "ai-sdk"

# What has to be within a step, but for what has a check before it.
_CONTENT: frozenset[type] = frozenset(
    {TextDelta, ReasoningDelta, ToolCallStart, ToolCallDelta, ToolCall, Citations}
)

# What a page may show or link to without running it.
_SAFE_URL = re.compile(r"(?:https?:|data:(?!text/html|[^,;]*(?:xml|script)))", re.IGNORECASE)

# The key is the secret part of a pair: AgentsGT's own are `pk_...:sk_...`.
_PAIR = re.compile(r"(bearer) +[^:]*:(oc_.*)", re.IGNORECASE | re.DOTALL)

_HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}

_WORDS: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_BODY: (400, "Bad request"),
    ErrorCode.INVALID_JSON: (400, "Bad request"),
    ErrorCode.BODY_TOO_LARGE: (413, "Body too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "Unsupported media type"),
    ErrorCode.KEY_MISSING: (401, "Unauthorized"),
    ErrorCode.KEY_INVALID: (401, "Unauthorized"),
    ErrorCode.KEY_EXPIRED: (401, "Unauthorized"),
    ErrorCode.FORBIDDEN: (403, "Forbidden"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, "Forbidden"),
    ErrorCode.AGENT_NOT_FOUND: (404, "Agent not found"),
    ErrorCode.CONVERSATION_NOT_FOUND: (404, "Not found"),
    ErrorCode.CONVERSATION_BUSY: (409, "Conversation busy"),
    ErrorCode.MESSAGE_NOT_FOUND: (404, "Not found"),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (400, "Bad request"),
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: (404, "Not found"),
    ErrorCode.RETRY_NO_USER_MESSAGE: (400, "Bad request"),
    ErrorCode.TOOL_CALL_NOT_FOUND: (404, "Tool call not found"),
    ErrorCode.REQUEST_RUNNING: (409, "Conversation busy"),
    ErrorCode.PATH_NOT_FOUND: (404, "Not found"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    ErrorCode.RATE_LIMITED: (429, "Too many requests"),
    ErrorCode.UPSTREAM_REJECTED: (400, "Bad request"),
    ErrorCode.UPSTREAM_REFUSED: (502, "Upstream error"),
    ErrorCode.UPSTREAM_CREDITS: (402, "No credits remaining"),
    ErrorCode.UPSTREAM_RATE_LIMITED: (429, "Too many requests"),
    ErrorCode.UPSTREAM_FAILED: (502, "Upstream error"),
    ErrorCode.UPSTREAM_MALFORMED: (502, "Upstream error"),
    ErrorCode.UPSTREAM_OVERSIZED: (502, "Upstream error"),
    ErrorCode.UPSTREAM_TRUNCATED: (502, "Upstream error"),
    ErrorCode.UPSTREAM_UNREACHABLE: (503, "Service unavailable"),
    ErrorCode.CONNECT_TIMEOUT: (504, "Upstream timeout"),
    ErrorCode.FIRST_EVENT_TIMEOUT: (504, "Upstream timeout"),
    ErrorCode.IDLE_TIMEOUT: (504, "Upstream timeout"),
    ErrorCode.TOTAL_TIMEOUT: (504, "Upstream timeout"),
    ErrorCode.UPSTREAM_DOWN: (503, "Service unavailable"),
    ErrorCode.UPSTREAM_BUSY: (503, "Service unavailable"),
    ErrorCode.UNAVAILABLE: (503, "Service unavailable"),
    ErrorCode.RESTARTING: (503, "Service unavailable"),
    ErrorCode.INTERNAL: (500, "Internal server error"),
}


class AiSdkEncoder:
    """Events to chunks: what is said is within steps, and a step within the message."""

    def __init__(self, turn: Turn, ask: ChatRequest) -> None:
        self.dropped = Drops()
        self._turn = turn
        self._ask = ask
        self._metadata = UNKNOWN
        self._started = False
        self._in_step = False
        self._streaming: set[str] = set()
        """Calls whose arguments are arriving."""
        self._called: set[str] = set()
        # A message may be continued in another turn, and its parts are told apart by their ids.
        self._frames = UIFrames(source=turn.message_id or "source")

    around_text = None  # the first of a part begins it

    def encode(self, event: Event) -> bytes:
        kind = type(event)
        before = b"" if self._in_step or kind not in _CONTENT else self._step_start(event)
        write = _TABLE.get(kind)
        said = write(self, event) if write else FRAMES[kind](self._frames, event)
        return before + said

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message_id = identity(self._turn, self._metadata).get("messageId")
        # Results of tools continue the message that the client has: another id would double it.
        known = message_id is not None and not _continues(self._ask)
        return self._frames.chunk("start", {"messageId": message_id} if known else {})

    def _step_start(self, _event: Event) -> bytes:
        before = self._start() + self._step_finish(_event)
        self._in_step = True
        return before + self._frames.chunk("start-step", {})

    def _step_finish(self, _event: Event) -> bytes:
        if not self._in_step:
            return b""
        self._in_step = False
        return self._frames.close() + self._frames.chunk("finish-step", {})

    # Clients throw at a piece or a result of a call that they have not seen.

    def _input_start(self, event: ToolCallStart) -> bytes:
        self._streaming.add(event.call_id)
        self._called.add(event.call_id)
        return FRAMES[ToolCallStart](self._frames, event)

    def _input_delta(self, event: ToolCallDelta) -> bytes:
        known = event.call_id in self._streaming
        if not known:
            return self.dropped.count(event)
        return FRAMES[ToolCallDelta](self._frames, event)

    def _input(self, event: ToolCall) -> bytes:
        self._streaming.discard(event.call_id)
        self._called.add(event.call_id)
        return FRAMES[ToolCall](self._frames, event)

    def _output(self, event: ToolOutput) -> bytes:
        if event.call_id not in self._called:
            return self.dropped.count(event)
        # A client may be set to ask again by itself once all of its own calls have results.
        result: dict[str, Json] = {"toolCallId": event.call_id, "output": event.output}
        before = self._frames.close() if self._in_step else self._step_start(event)
        return before + self._frames.chunk(
            "tool-output-available", {**result, "providerExecuted": True}
        )

    def _extension(self, event: Extension) -> bytes:
        read = _data if event.name.startswith("data-") else _EXTENSIONS.get(event.name)
        said = read(json.mapping(event.data)) if read and event.vendor == _VENDOR else None
        if not said:
            return self.dropped.count(event)
        # Not a part of the text's own: a client goes on with that behind it.
        return self._start() + self._frames.chunk(event.name, said)

    def _remember(self, event: Metadata) -> bytes:
        self._metadata = merged(self._metadata, event)
        return b""

    def _finish(self, event: Finish) -> bytes:
        known = identity(self._turn, self._metadata)
        metadata: dict[str, Json] = {**known, "finishReason": event.reason.value}
        before = self._start() + self._step_finish(event)
        return before + self._frames.chunk("finish", {"messageMetadata": metadata}) + DONE

    def _failure(self, event: Failure) -> bytes:
        return self._frames.failure(event.message)


_TABLE: dict[type, Callable[..., bytes]] = {
    StepStart: AiSdkEncoder._step_start,
    StepFinish: AiSdkEncoder._step_finish,
    ToolCallStart: AiSdkEncoder._input_start,
    ToolCallDelta: AiSdkEncoder._input_delta,
    ToolCall: AiSdkEncoder._input,
    ToolOutput: AiSdkEncoder._output,
    Extension: AiSdkEncoder._extension,
    Metadata: AiSdkEncoder._remember,
    Finish: AiSdkEncoder._finish,
    Failure: AiSdkEncoder._failure,
}


def _continues(ask: ChatRequest) -> bool:
    """Whether a client hands in the results of its tools."""
    return ask.message is None and bool(ask.history) and ask.history[-1].role is Role.TOOL


def _file(said: Mapping[str, Json]) -> dict[str, Json] | None:
    url, media = json.text(said.get("url")), json.text(said.get("mediaType"))
    return {"url": url, "mediaType": media} if media and _SAFE_URL.match(url) else None


def _data(said: Mapping[str, Json]) -> dict[str, Json]:
    data: dict[str, Json] = {"data": said.get("data")}
    if isinstance(name := said.get("id"), str):
        data["id"] = name
    if isinstance(transient := said.get("transient"), bool):
        data["transient"] = transient
    return data


def _metadata(said: Mapping[str, Json]) -> dict[str, Json] | None:
    # Clients merge it with what the last frame says, and throw where it is a text.
    known = said.get("messageMetadata")
    return {"messageMetadata": known} if isinstance(known, dict) else None


# What every release knows; those of later ones (approvals, custom parts) would kill the others.
_EXTENSIONS: dict[str, Callable[[Mapping[str, Json]], dict[str, Json] | None]] = {
    "file": _file,
    "message-metadata": _metadata,
}


def _credential(authorization: str) -> str:
    """`Bearer <anything>:oc_...` without the first half of the pair."""
    found = _PAIR.fullmatch(authorization.strip(" "))
    return f"{found[1]} {found[2]}" if found else authorization


def _error(error: GatewayError) -> ErrorAnswer:
    status, words = _WORDS[error.code]
    return ErrorAnswer(status, words.encode(), "text/plain")


AI_SDK = Dialect(
    name="agentsgt",
    family="agentsgt",
    beginning="/api/v1/agents/chat",
    chats=("/api/v1/agents/chat/{agent}",),
    decode=decode,
    encoder=AiSdkEncoder,
    reply=None,
    whole=frozenset(),
    error=_error,
    heartbeat=15.0,
    stateless=True,
    replayed=frozenset({TextDelta, ToolCall, ToolOutput}),
    headers=lambda _turn, _ask: _HEADERS,
    credential=_credential,
    # Where the AI SDK's transport looks, behind the chat's path.
    resuming=Resuming(path="/api/v1/agents/chat/{agent}/{conversation}/stream", user=user),
)
