"""Bookbag v2 as clients speak it: bare `data:` frames, ended by `[DONE]`.

The pages document `text-delta`, `finish` and `error`; the `tool-call` and `citations` frames are
this project's, in the shape of Bookbag's message parts.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from gateway.core.codec import Dialect, ErrorAnswer, Resuming
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Citations,
    Event,
    Failure,
    Finish,
    Json,
    Metadata,
    TextDelta,
    ToolCall,
)
from gateway.core.turn import UNKNOWN, ChatRequest, Reply, Turn, merged
from gateway.dialects.bookbag import FINISH_REASONS, citation, complaint, identity
from gateway.dialects.drops import Drops
from gateway.dialects.fields import fields
from gateway.dialects.parts import PARTS, tool_part, whole
from gateway.dialects.records import records
from gateway.wire import json
from gateway.wire.sse import frame

DONE = b"data: [DONE]\n\n"

_TEXT_OPEN, _TEXT_CLOSE = b'data: {"type":"text-delta","text":', b"}\n\n"

WORDS: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_BODY: (400, "VALIDATION_INVALID_BODY"),
    ErrorCode.INVALID_JSON: (400, "VALIDATION_INVALID_BODY"),
    ErrorCode.BODY_TOO_LARGE: (413, "VALIDATION_INVALID_BODY"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "VALIDATION_INVALID_BODY"),
    ErrorCode.KEY_MISSING: (401, "AUTH_MISSING_API_KEY"),
    ErrorCode.KEY_INVALID: (401, "AUTH_INVALID_API_KEY"),
    ErrorCode.KEY_EXPIRED: (401, "AUTH_INVALID_API_KEY"),
    ErrorCode.FORBIDDEN: (403, "AUTH_INSUFFICIENT_PERMISSIONS"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, "AUTH_INSUFFICIENT_PERMISSIONS"),
    ErrorCode.AGENT_NOT_FOUND: (404, "RESOURCE_NOT_FOUND"),
    ErrorCode.CONVERSATION_NOT_FOUND: (404, "RESOURCE_NOT_FOUND"),
    ErrorCode.CONVERSATION_BUSY: (409, "CHAT_CONVERSATION_BUSY"),
    ErrorCode.MESSAGE_NOT_FOUND: (404, "RESOURCE_MESSAGE_NOT_FOUND"),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (400, "RESOURCE_MESSAGE_NOT_ASSISTANT"),
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: (404, "CHAT_RETRY_MESSAGE_NOT_FOUND"),
    ErrorCode.RETRY_NO_USER_MESSAGE: (400, "CHAT_RETRY_NO_USER_MESSAGE"),
    ErrorCode.TOOL_CALL_NOT_FOUND: (404, "RESOURCE_TOOL_CALL_NOT_FOUND"),
    ErrorCode.REQUEST_RUNNING: (409, "CHAT_REQUEST_RUNNING"),
    ErrorCode.PATH_NOT_FOUND: (404, "RESOURCE_NOT_FOUND"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "METHOD_NOT_ALLOWED"),
    ErrorCode.RATE_LIMITED: (429, "RATE_LIMIT_TOO_MANY_REQUESTS"),
    ErrorCode.UPSTREAM_REJECTED: (400, "VALIDATION_INVALID_BODY"),
    ErrorCode.UPSTREAM_REFUSED: (502, "UPSTREAM_ERROR"),
    ErrorCode.UPSTREAM_CREDITS: (503, "UPSTREAM_CREDITS_EXHAUSTED"),
    ErrorCode.UPSTREAM_RATE_LIMITED: (429, "RATE_LIMIT_TOO_MANY_REQUESTS"),
    ErrorCode.UPSTREAM_FAILED: (502, "UPSTREAM_ERROR"),
    ErrorCode.UPSTREAM_MALFORMED: (502, "UPSTREAM_ERROR"),
    ErrorCode.UPSTREAM_OVERSIZED: (502, "UPSTREAM_ERROR"),
    ErrorCode.UPSTREAM_TRUNCATED: (502, "UPSTREAM_ERROR"),
    ErrorCode.UPSTREAM_UNREACHABLE: (503, "SERVICE_UNAVAILABLE"),
    ErrorCode.CONNECT_TIMEOUT: (504, "UPSTREAM_TIMEOUT"),
    ErrorCode.FIRST_EVENT_TIMEOUT: (504, "UPSTREAM_TIMEOUT"),
    ErrorCode.IDLE_TIMEOUT: (504, "UPSTREAM_TIMEOUT"),
    ErrorCode.TOTAL_TIMEOUT: (504, "UPSTREAM_TIMEOUT"),
    ErrorCode.UPSTREAM_DOWN: (503, "SERVICE_UNAVAILABLE"),
    ErrorCode.UPSTREAM_BUSY: (503, "SERVICE_UNAVAILABLE"),
    ErrorCode.UNAVAILABLE: (503, "SERVICE_UNAVAILABLE"),
    ErrorCode.RESTARTING: (503, "SERVICE_UNAVAILABLE"),
    ErrorCode.INTERNAL: (500, "INTERNAL_SERVER_ERROR"),
}


class BookbagV2Encoder:
    """Events to v2 frames."""

    __slots__ = ("_metadata", "_turn", "dropped")

    def __init__(self, turn: Turn, _ask: ChatRequest) -> None:
        self.dropped = Drops()
        self._turn = turn
        self._metadata = UNKNOWN

    around_text = _TEXT_OPEN, _TEXT_CLOSE

    def encode(self, event: Event) -> bytes:
        if type(event) is TextDelta:  # as nearly every one
            return _TEXT_OPEN + json.dumps(event.text) + _TEXT_CLOSE
        write = self._table.get(type(event))
        return write(self, event) if write else self.dropped.count(event)

    def _tool_call(self, event: ToolCall) -> bytes:
        return frame(json.dumps(tool_part(event)))

    def _citations(self, event: Citations) -> bytes:
        items = [citation(item) for item in event.items]
        return frame(json.dumps({"type": "citations", "citations": items}))

    def _remember(self, event: Metadata) -> bytes:
        self._metadata = merged(self._metadata, event)
        return b""

    def _finish(self, event: Finish) -> bytes:
        finish = {
            "type": "finish",
            "finishReason": FINISH_REASONS[event.reason],
            "metadata": identity(self._turn, self._metadata),
        }
        return frame(json.dumps(finish)) + DONE

    def _failure(self, event: Failure) -> bytes:
        return frame(json.dumps({"type": "error", "errorText": event.message})) + DONE

    _table: ClassVar[dict[type, Callable[..., bytes]]] = {
        ToolCall: _tool_call,
        Citations: _citations,
        Metadata: _remember,
        Finish: _finish,
        Failure: _failure,
    }


def _decode(body: Json, agent: str | None, _headers: Mapping[str, str]) -> ChatRequest:
    read = fields(body)
    # A known conversation may go on from the results of its tool calls, without a message.
    needed = read.has("message") or not read.has("conversationId")
    request = ChatRequest(
        agent=agent or "",
        message=read.message("message") if needed else None,
        stream=read.flag("stream", default=True),
        conversation_id=read.conversation("conversationId"),
        user_id=read.user("userId"),
    )
    read.check()
    return request


def _reply(turn: Turn, _ask: ChatRequest, reply: Reply) -> bytes:
    return whole(turn, reply, FINISH_REASONS)


def _error(error: GatewayError) -> ErrorAnswer:
    status, code = WORDS[error.code]
    return ErrorAnswer(status, json.dumps({"error": complaint(error, code)}))


BOOKBAG_V2 = Dialect(
    name="bookbag-v2",
    family="bookbag",
    beginning="/api/v2/",
    chats=("/api/v2/agents/{agent}/chat",),
    root="/api/v2/agents/{agent}",
    decode=_decode,
    encoder=BookbagV2Encoder,
    reply=_reply,
    whole=PARTS,
    error=_error,
    # Bookbag's own guide has clients JSON-parse every line that is not `[DONE]`.
    heartbeat=None,
    records=records(FINISH_REASONS),
    resuming=Resuming(path="/api/v2/agents/{agent}/conversations/{conversation}/stream"),
)
