"""Settings and targets, as a config would make them. Durations are in seconds."""

from gateway.config.routes import RouteTarget
from gateway.config.upstreams import Breaker, Queue, Upstream
from gateway.core.codec import Target
from gateway.upstreams import UPSTREAMS


def rules(**changed: float | bool | None) -> Breaker:
    return Breaker().model_copy(update=changed)


def queue(size: int = 100, timeout: float = 60.0) -> Queue:
    return Queue().model_copy(update={"size": size, "timeout": timeout})


def target(
    name: str = "main/m", *, kind: str = "openai", weight: int | None = None, **settings: object
) -> RouteTarget:
    """`settings` are the upstream's."""
    upstream, _, model = name.partition("/")
    kept = Upstream.model_validate({"kind": kind, "base_url": "http://upstream.test"})
    return RouteTarget(
        Target(upstream=upstream, model=model or None),
        UPSTREAMS[kind if kind != "bookbag" else "bookbag-v2"],
        kept.model_copy(update=settings),
        name,
        weight,
    )
