"""What the tests of tracing ask, and of what gateway."""

from tests.e2e.running import Answered, Running, config
from tests.e2e.scripted import ScriptedUpstream
from tests.tracing.collector import Collector, Span

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def traced(url: str, collector: Collector, tracing: str = "", **options: str) -> str:
    """A config with tracing on."""
    more = f'[tracing]\nenabled = true\nendpoint = "{collector.url}"\n{tracing}\n'
    return config(url, **{**options, "more": more + options.get("more", "")})


async def ask(gateway: Running, parent: str, state: str = "") -> Answered:
    """A turn of a client with a trace of its own."""
    headers = {"traceparent": parent} | ({"tracestate": state} if state else {})
    return await gateway.post("/api/v2/agents/1/chat", {"message": "hi"}, **headers)


def told(upstream: ScriptedUpstream, request: int = -1) -> tuple[str | None, str | None]:
    """The trace that an upstream was told of."""
    headers = upstream.requests[request].headers
    return headers.get("traceparent"), headers.get("tracestate")


def parent(upstream: ScriptedUpstream, request: int = -1) -> list[str]:
    """The version, the trace, the span and the flags that an upstream was told of."""
    return (told(upstream, request)[0] or "").split("-")


def names(spans: list[Span]) -> list[str]:
    return [span.name for span in spans]


def beneath(spans: list[Span], above: Span) -> bool:
    """Whether all of them are its children, in its trace and its time."""
    return all(
        (span.trace, span.parent) == (above.trace, above.id)
        and above.began <= span.began <= span.ended <= above.ended
        for span in spans
    )
