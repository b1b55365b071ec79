"""Sonzai's chat as clients speak it: streams only, the whole conversation in every request.

Sources: the schema `ChatSSEChunk` of its OpenAPI document, which allows no further field at any
level, and the parsers of its Python and TypeScript SDKs. They split a stream also at the line ends
that SSE does not know, which our JSON escapes, and want `data: ` with its space.
"""

from collections.abc import Callable, Mapping

from gateway.core.codec import Dialect, ErrorAnswer
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import (
    Event,
    Extension,
    Failure,
    Finish,
    FinishReason,
    Json,
    Metadata,
    TextDelta,
    ToolCall,
)
from gateway.core.turn import ChatRequest, Turn
from gateway.dialects.drops import Drops
from gateway.dialects.sonzai_request import decode
from gateway.wire import json
from gateway.wire.sse import frame

DONE = b"data: [DONE]\n\n"

_VENDOR = "sonzai"

_TEXT_OPEN, _TEXT_CLOSE = b'data: {"choices":[{"delta":{"content":', b'},"index":0}]}\n\n'

_FINISH_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}

# What a frame with a type may have beside it, and of which JSON type: None is any. The SDK refuses
# a chunk whose fields have others.
_FIELDS: dict[str, type | None] = {
    "build_duration_ms": int,
    "data": None,
    "enriched_context": None,
    "message_index": int,
    "phase": str,
    "tool": str,
    "used_fast_path": bool,
}

_STATUSES: dict[ErrorCode, int] = {
    ErrorCode.INVALID_BODY: 400,
    ErrorCode.INVALID_JSON: 400,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.KEY_MISSING: 401,
    ErrorCode.KEY_INVALID: 401,
    ErrorCode.KEY_EXPIRED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.MODEL_NOT_ALLOWED: 403,
    ErrorCode.AGENT_NOT_FOUND: 404,
    ErrorCode.CONVERSATION_NOT_FOUND: 404,
    ErrorCode.CONVERSATION_BUSY: 409,
    ErrorCode.MESSAGE_NOT_FOUND: 404,
    ErrorCode.MESSAGE_NOT_ASSISTANT: 400,
    ErrorCode.RETRY_MESSAGE_NOT_FOUND: 404,
    ErrorCode.RETRY_NO_USER_MESSAGE: 400,
    ErrorCode.TOOL_CALL_NOT_FOUND: 404,
    ErrorCode.REQUEST_RUNNING: 409,
    ErrorCode.PATH_NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UPSTREAM_REJECTED: 400,
    ErrorCode.UPSTREAM_REFUSED: 502,
    ErrorCode.UPSTREAM_CREDITS: 402,
    ErrorCode.UPSTREAM_RATE_LIMITED: 429,
    ErrorCode.UPSTREAM_FAILED: 502,
    ErrorCode.UPSTREAM_MALFORMED: 502,
    ErrorCode.UPSTREAM_OVERSIZED: 502,
    ErrorCode.UPSTREAM_TRUNCATED: 502,
    ErrorCode.UPSTREAM_UNREACHABLE: 503,
    ErrorCode.CONNECT_TIMEOUT: 504,
    ErrorCode.FIRST_EVENT_TIMEOUT: 504,
    ErrorCode.IDLE_TIMEOUT: 504,
    ErrorCode.TOTAL_TIMEOUT: 504,
    ErrorCode.UPSTREAM_DOWN: 503,
    ErrorCode.UPSTREAM_BUSY: 503,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.RESTARTING: 503,
    ErrorCode.INTERNAL: 500,
}

# RFC 9110's; Python's own change between its versions.
_TITLES: dict[int, str] = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class SonzaiEncoder:
    """Events to chunks. Tool calls are side effects, and those come with the last chunk."""

    def __init__(self, _turn: Turn, _ask: ChatRequest) -> None:
        self.dropped = Drops()
        self._calls: list[Json] = []
        self._side_effects: Json = None

    around_text = _TEXT_OPEN, _TEXT_CLOSE

    def encode(self, event: Event) -> bytes:
        write = _TABLE.get(type(event))
        return write(self, event) if write else self.dropped.count(event)

    def _text(self, event: TextDelta) -> bytes:
        return _TEXT_OPEN + json.dumps(event.text) + _TEXT_CLOSE

    def _call(self, event: ToolCall) -> bytes:
        # The SDK's type says `parameters`, the page on custom tools `arguments`.
        said = {"parameters": event.arguments, "arguments": event.arguments}
        self._calls.append({"id": event.call_id, "name": event.name, **said})
        return b""

    def _extension(self, event: Extension) -> bytes:
        if event.vendor != _VENDOR:
            return self.dropped.count(event)
        said = json.mapping(event.data)
        if said.get("side_effects") is not None:
            self._side_effects = said["side_effects"]
        if not event.name:
            return b""
        return frame(json.dumps({"type": event.name, **_allowed(said)}))

    def _metadata(self, event: Metadata) -> bytes:
        if event.usage:
            self.dropped[Metadata.__name__] = 1  # once: the chunk's schema has no place for it
        return b""

    def _finish(self, event: Finish) -> bytes:
        reason = _FINISH_REASONS[event.reason]
        chunk: dict[str, Json] = {"choices": [{"delta": {}, "finish_reason": reason, "index": 0}]}
        if self._calls:
            known = json.mapping(self._side_effects)
            chunk["side_effects"] = {**known, "externalToolCalls": self._calls}
        elif self._side_effects is not None:
            chunk["side_effects"] = self._side_effects
        return frame(json.dumps(chunk)) + DONE

    def _failure(self, event: Failure) -> bytes:
        return frame(json.dumps({"error": {"message": event.message}})) + DONE


_TABLE: dict[type, Callable[..., bytes]] = {
    TextDelta: SonzaiEncoder._text,
    ToolCall: SonzaiEncoder._call,
    Extension: SonzaiEncoder._extension,
    Metadata: SonzaiEncoder._metadata,
    Finish: SonzaiEncoder._finish,
    Failure: SonzaiEncoder._failure,
}


def _allowed(said: Mapping[str, Json]) -> dict[str, Json]:
    return {
        name: said[name]
        for name, kind in _FIELDS.items()
        if name in said and (kind is None or type(said[name]) is kind)
    }


def _error(error: GatewayError) -> ErrorAnswer:
    """RFC 9457, with the message also where the SDKs look for it: `message` and `error`."""
    status = _STATUSES[error.code]
    said: dict[str, Json] = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": error.message,
        "message": error.message,
        "error": error.message,
    }
    if error.details:
        said["errors"] = [_problem(*problem) for problem in error.details.items()]
    return ErrorAnswer(status, json.dumps(said), "application/problem+json")


def _problem(name: str, problem: str) -> Json:
    # Without `field` the Python SDK takes the whole body for nothing, the message included.
    return {"location": f"body.{name}", "message": problem, "field": name}


def _headers(turn: Turn, _ask: ChatRequest) -> dict[str, str]:
    return {"X-Session-ID": turn.conversation_id} if turn.conversation_id else {}


SONZAI = Dialect(
    name="sonzai",
    family="sonzai",
    beginning="/api/v1/agents/",
    chats=("/api/v1/agents/{agent}/chat", "/api/v1/agents/{agent}/playground/chat"),
    decode=decode,
    encoder=SonzaiEncoder,
    reply=None,
    whole=frozenset(),
    error=_error,
    heartbeat=15,
    stateless=True,
    replayed=frozenset({TextDelta}),
    headers=_headers,
)
