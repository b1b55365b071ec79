"""A collector of traces on a real socket: what OTLP over HTTP brings, decoded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.e2e.scripted import PATIENCE

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span, as it was sent."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    """`""`: it begins the trace."""
    state: str
    failed: bool
    said: str
    """The words of its status."""
    attributes: dict[str, Value]
    events: tuple[str, ...]
    began: int
    ended: int
    """Both in nanoseconds."""

    def __getitem__(self, attribute: str) -> Value | None:
        return self.attributes.get(attribute)


@dataclass(slots=True)
class Collector:
    """Whatever it was sent. A status other than 200 is what it answers; without `answers`, none."""

    url: str = ""
    status: int = 200
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    resources: list[dict[str, Value]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int, timeout: float = PATIENCE) -> list[Span]:
        """Wait for so many spans, and have them in the order in which they began."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(lambda: len(self.spans) >= count)
        assert len(self.spans) == count, [span.name for span in self.spans]
        return sorted(self.spans, key=lambda span: span.began)

    async def until_asked(self, timeout: float = PATIENCE) -> None:
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(lambda: bool(self.bodies))

    def heard(self, *words: str | bytes) -> set[str | bytes]:
        """Which of these words are anywhere in what it was sent."""
        everything = b"\0".join(self.bodies)
        return {w for w in words if (w.encode() if isinstance(w, str) else w) in everything}

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        sent = ExportTraceServiceRequest.FromString(body)
        if self.status == 200:
            self.resources += [_attributes(r.resource.attributes) for r in sent.resource_spans]
            self.spans += _spans(sent)
        async with self.changed:
            self.changed.notify_all()
        await self.answers.wait()
        return web.Response(
            status=self.status,
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def _spans(sent: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in sent.resource_spans:
        for scope in resource.scope_spans:
            yield from map(_span, scope.spans)


def _span(span: trace_pb2.Span) -> Span:
    return Span(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        said=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(event.name for event in span.events),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _attributes(pairs: "Iterator[KeyValue] | list[KeyValue]") -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "array_value":
            return tuple(entry.string_value for entry in value.array_value.values)
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "double_value":
            return value.double_value
        case kind:
            assert kind == "string_value", kind
            return value.string_value


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A running collector."""
    collector = Collector()
    collector.answers.set()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        collector.answers.set()
        await runner.cleanup()
