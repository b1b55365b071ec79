"""Bookbag v1 as the website widget speaks it: named events, `done` or `error` last.

The pages name the events and not their fields; the fields are this project's, in the style of v2.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from gateway.core.codec import Dialect, ErrorAnswer
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Citations,
    Event,
    Failure,
    Finish,
    Json,
    Metadata,
    TextDelta,
)
from gateway.core.turn import UNKNOWN, ChatRequest, Turn, merged
from gateway.dialects.bookbag import FINISH_REASONS, citation, complaint, number, usage
from gateway.dialects.drops import Drops
from gateway.dialects.fields import fields
from gateway.wire import json
from gateway.wire.sse import frame

MAX_MESSAGE = 8000
MAX_MODEL = 120

_TEXT_OPEN, _TEXT_CLOSE = b'event: token\ndata: {"text":', b"}\n\n"

_WORDS: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_BODY: (400, "validation_error"),
    ErrorCode.INVALID_JSON: (400, "validation_error"),
    ErrorCode.BODY_TOO_LARGE: (413, "body_too_large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "unsupported_media_type"),
    ErrorCode.KEY_MISSING: (401, "unauthorized"),
    ErrorCode.KEY_INVALID: (401, "unauthorized"),
    ErrorCode.KEY_EXPIRED: (401, "unauthorized"),
    ErrorCode.FORBIDDEN: (403, "forbidden"),
    ErrorCode.MODEL_NOT_ALLOWED: (403, "forbidden"),
    ErrorCode.AGENT_NOT_FOUND: (404, "agent_not_found"),
    ErrorCode.CONVERSATION_NOT_FOUND: (404, "conversation_not_found"),
    ErrorCode.CONVERSATION_BUSY: (409, "conversation_busy"),
    ErrorCode.MESSAGE_NOT_FOUND: (404, "not_found"),
    ErrorCode.MESSAGE_NOT_ASSISTANT: (400, "validation_error"),
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: (404, "not_found"),
    ErrorCode.RETRY_NO_USER_MESSAGE: (400, "validation_error"),
    ErrorCode.TOOL_CALL_NOT_FOUND: (404, "not_found"),
    ErrorCode.REQUEST_RUNNING: (409, "request_running"),
    ErrorCode.PATH_NOT_FOUND: (404, "not_found"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "method_not_allowed"),
    ErrorCode.RATE_LIMITED: (429, "rate_limited"),
    ErrorCode.UPSTREAM_REJECTED: (400, "validation_error"),
    ErrorCode.UPSTREAM_REFUSED: (502, "upstream_error"),
    ErrorCode.UPSTREAM_CREDITS: (503, "upstream_credits_exhausted"),
    ErrorCode.UPSTREAM_RATE_LIMITED: (429, "rate_limited"),
    ErrorCode.UPSTREAM_FAILED: (502, "upstream_error"),
    ErrorCode.UPSTREAM_MALFORMED: (502, "upstream_error"),
    ErrorCode.UPSTREAM_OVERSIZED: (502, "upstream_error"),
    ErrorCode.UPSTREAM_TRUNCATED: (502, "upstream_error"),
    ErrorCode.UPSTREAM_UNREACHABLE: (503, "unavailable"),
    ErrorCode.CONNECT_TIMEOUT: (504, "upstream_timeout"),
    ErrorCode.FIRST_EVENT_TIMEOUT: (504, "upstream_timeout"),
    ErrorCode.IDLE_TIMEOUT: (504, "upstream_timeout"),
    ErrorCode.TOTAL_TIMEOUT: (504, "upstream_timeout"),
    ErrorCode.UPSTREAM_DOWN: (503, "unavailable"),
    ErrorCode.UPSTREAM_BUSY: (503, "unavailable"),
    ErrorCode.UNAVAILABLE: (503, "unavailable"),
    ErrorCode.RESTARTING: (503, "unavailable"),
    ErrorCode.INTERNAL: (500, "internal_error"),
}


class BookbagV1Encoder:
    """Events to v1 frames."""

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

    def _citations(self, event: Citations) -> bytes:
        return frame(json.dumps({"citations": [citation(c) for c in event.items]}), "citations")

    def _remember(self, event: Metadata) -> bytes:
        self._metadata = merged(self._metadata, event)
        return b""

    def _done(self, event: Finish) -> bytes:
        conversation = self._turn.conversation_id or self._metadata.conversation_id
        done: dict[str, Json] = {
            "conversationId": number(conversation),
            "messageId": self._turn.message_id or self._metadata.message_id,
            "finishReason": FINISH_REASONS[event.reason],
        }
        if self._metadata.usage:
            done["usage"] = usage(self._metadata.usage)
        known = {name: value for name, value in done.items() if value is not None}
        return frame(json.dumps(known), "done")

    def _failure(self, event: Failure) -> bytes:
        _, code = _WORDS[event.code]
        return frame(json.dumps({"code": code, "message": event.message}), "error")

    _table: ClassVar[dict[type, Callable[..., bytes]]] = {
        Citations: _citations,
        Metadata: _remember,
        Finish: _done,
        Failure: _failure,
    }


def _decode(body: Json, _agent: str | None, _headers: Mapping[str, str]) -> ChatRequest:
    read = fields(body)
    request = ChatRequest(
        agent=read.agent("agentId"),
        message=read.message("message", longest=MAX_MESSAGE),
        stream=True,
        conversation_id=read.conversation("conversationId"),
        user_id=read.user("user_id"),
        user_hash=read.string("user_hash", longest=128),
        model=read.string("model", longest=MAX_MODEL),
    )
    read.check()
    return request


def _error(error: GatewayError) -> ErrorAnswer:
    status, code = _WORDS[error.code]
    return ErrorAnswer(status, json.dumps({"success": False, "error": complaint(error, code)}))


BOOKBAG_V1 = Dialect(
    name="bookbag-v1",
    family="bookbag",
    beginning="/api/v1/",
    chats=("/api/v1/chat",),
    decode=_decode,
    encoder=BookbagV1Encoder,
    reply=None,
    whole=frozenset(),
    error=_error,
    heartbeat=15,
    public=True,
)
