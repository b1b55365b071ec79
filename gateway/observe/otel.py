"""Traces that are recorded as spans, by OpenTelemetry's SDK (the extra `oc-gateway[otel]`).

The names of attributes are those of its semantic conventions for HTTP and generative AI, and
`oc_gateway.` for what they have no word for. No text of a message, no key and no path with its ids
ever gets in.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from gateway.config.routes import RouteTarget
from gateway.config.tracing import Tracing
from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Failure, Finish, FinishReason
from gateway.core.turn import Reply
from gateway.observe.exchange import Exchange
from gateway.observe.gen_ai import OPERATION
from gateway.observe.logs import Logger
from gateway.observe.otel_export import Exporting
from gateway.observe.trace import Attempt, Trace
from gateway.observe.trace_context import Fields, TraceContext, trace_context

Attributes = dict[str, AttributeValue]

FIRST_EVENT = "first_event"

_ERRORS = frozenset(ErrorCode)

# As the conventions have them, which is as OpenAI does.
_FINISH_REASONS: dict[FinishReason, str] = {
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}

# What an upstream says its model is, cut where no name is that long.
_MAX_NAME = 200

_CURRENT: ContextVar["_Request | None"] = ContextVar("oc_gateway_trace", default=None)
"""Whose request the store is asked for: the one thing here that no argument says."""


def build(tracing: Tracing, headers: Mapping[str, str], logger: Logger) -> "SpanTracer":
    """`headers` are those of the requests to the collector. Raises `ValueError` for what the
    variables of OpenTelemetry say and it does not understand."""
    exporting = Exporting(tracing, headers, logger)
    return SpanTracer(exporting.tracer, exporting.close, from_clients=tracing.from_clients)


class SpanTracer:
    """Records what the sampler wants recorded; of the rest, the ids go on all the same."""

    def __init__(
        self,
        tracer: trace.Tracer,
        close: Callable[[], Awaitable[None]],
        *,
        from_clients: bool,
    ) -> None:
        self._tracer = tracer
        self._close = close
        self._from_clients = from_clients

    def begin(self, method: str, path: str, fields: Fields) -> Trace:
        client = trace_context(fields) if self._from_clients else None
        span = self._tracer.start_span(
            f"{method} {path}",
            _beneath(client) if client else Context(),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": path},
        )
        begun = _Request(self._tracer, span)
        _CURRENT.set(begun)
        return begun

    def store(self, operation: str) -> AbstractContextManager[None]:
        current = _CURRENT.get()
        return nullcontext() if current is None else current.step(f"store {operation}")

    async def close(self) -> None:
        await self._close()


class _Request:
    """The span of a request, which all others are beneath."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        self._beneath = trace.set_span_in_context(span, Context())
        context = _context(span)
        self.id, self.headers = context.trace_id, context.headers
        self.recorded = span.is_recording()

    def step(self, name: str) -> AbstractContextManager[None]:
        return _Step(self._tracer.start_span(name, self._beneath))

    def attempt(
        self, target: RouteTarget, model: str | None, conversation: str, *, stream: bool
    ) -> Attempt:
        asked = _asked(target, model)
        if stream:
            asked["gen_ai.request.stream"] = True
        if conversation:
            asked["gen_ai.conversation.id"] = conversation
        what = model or target.target.model or target.target.agent or ""
        name = f"{OPERATION} {what}".rstrip()
        span = self._tracer.start_span(name, self._beneath, SpanKind.CLIENT, asked)
        return _Attempt(span, stream=stream)

    def end(self, exchange: Exchange) -> None:
        if _CURRENT.get() is self:
            _CURRENT.set(None)
        if self._span.is_recording():
            self._span.set_attributes(_served(exchange))
            outcome = exchange.failure or exchange.outcome
            if outcome in _ERRORS:
                self._span.set_attribute("error.type", outcome)
                # What is the client's fault is no error of the server's; that it left is no fault.
                if exchange.status >= 499 or exchange.status < 400:
                    self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _Step:
    """A span for as long as a block takes."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if exc is not None:
            _fail(self._span, exc)
        self._span.end()


class _Attempt:
    """A span for one request to an upstream."""

    __slots__ = ("_began", "_span", "_stream", "headers")

    def __init__(self, span: trace.Span, *, stream: bool) -> None:
        self._span = span
        self._stream = stream
        self._began = time.monotonic()
        self.headers = _context(span).headers

    def answered(self) -> None:
        self._span.add_event(FIRST_EVENT)
        if self._stream:
            waited = time.monotonic() - self._began
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", waited)

    def failed(self, exc: BaseException) -> None:
        _fail(self._span, exc)
        self._span.end()

    def ended(self, reply: Reply, terminal: Finish | Failure | None) -> None:
        self._span.set_attributes(_answer(reply, terminal))
        if terminal is None:
            self._span.set_attribute("oc_gateway.abandoned", True)
        elif isinstance(terminal, Failure):
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _served(exchange: Exchange) -> Attributes:
    """What the record says; without what is not known."""
    known: Attributes = {
        "http.response.status_code": exchange.status,
        "oc_gateway.request_id": exchange.request_id,
        "oc_gateway.dialect": exchange.dialect,
        "oc_gateway.operation": exchange.operation,
        "oc_gateway.outcome": exchange.outcome,
        "oc_gateway.upstream": exchange.upstream,
        "gen_ai.agent.id": exchange.agent,
        "gen_ai.conversation.id": exchange.conversation,
    }
    if exchange.turn:
        known["oc_gateway.attempts"] = exchange.attempts
        known["oc_gateway.events"] = exchange.events
    if exchange.drained:
        known["oc_gateway.drained"] = exchange.drained
    return {name: value for name, value in known.items() if value != ""}


def _asked(target: RouteTarget, model: str | None) -> Attributes:
    used = target.target
    asked: Attributes = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": target.kind.family,
        "oc_gateway.upstream": used.upstream,
    }
    if model := model or used.model:
        asked["gen_ai.request.model"] = model
    if used.agent is not None:
        asked["gen_ai.agent.id"] = used.agent
    if target.upstream.base_url is not None:
        url = urlsplit(target.upstream.base_url)
        asked["server.address"] = url.hostname or ""
        asked["server.port"] = url.port or (443 if url.scheme == "https" else 80)
    return asked


def _answer(reply: Reply, terminal: Finish | Failure | None) -> Attributes:
    said: Attributes = {}
    if isinstance(terminal, Finish):
        reason = terminal.reason
        said["gen_ai.response.finish_reasons"] = [_FINISH_REASONS.get(reason, reason.value)]
    elif terminal is not None:
        said["error.type"] = terminal.code.value
    if reply.metadata.model:
        said["gen_ai.response.model"] = reply.metadata.model[:_MAX_NAME]
    usage = reply.metadata.usage
    if usage is not None and usage.input_tokens is not None:
        said["gen_ai.usage.input_tokens"] = usage.input_tokens
    if usage is not None and usage.output_tokens is not None:
        said["gen_ai.usage.output_tokens"] = usage.output_tokens
    return said


def _fail(span: trace.Span, exc: BaseException) -> None:
    """Of an exception, what it is called: what it says may be an upstream's or a client's text."""
    if isinstance(exc, asyncio.CancelledError):
        span.set_attribute("oc_gateway.abandoned", True)
        return
    if isinstance(exc, GatewayError):
        span.set_attribute("error.type", exc.code.value)
        if exc.upstream_status is not None:
            span.set_attribute("http.response.status_code", exc.upstream_status)
    else:
        span.set_attribute("error.type", type(exc).__qualname__)
    span.set_status(StatusCode.ERROR)


def _context(span: trace.Span) -> TraceContext:
    context = span.get_span_context()
    return TraceContext(
        trace.format_trace_id(context.trace_id),
        trace.format_span_id(context.span_id),
        int(context.trace_flags),
        context.trace_state.to_header(),
    )


def _beneath(client: TraceContext) -> Context:
    """What is begun in it goes on with the client's trace."""
    parent = trace.SpanContext(
        int(client.trace_id, 16),
        int(client.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(client.flags),
        trace_state=trace.TraceState.from_header([client.state]),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
