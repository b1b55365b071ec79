"""What only the SDK's side of tracing knows: an answer's attributes, and the SDK's own troubles."""

import io
import logging
from pathlib import Path
from unittest.mock import Mock

import pytest
from multidict import CIMultiDict
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.config.load import load
from gateway.config.routes import RouteTarget, build_routes
from gateway.core.events import Failure, Finish, FinishReason, Metadata, Usage
from gateway.core.turn import Reply
from gateway.observe.exchange import Exchange
from gateway.observe.logs import build_logger
from gateway.observe.otel import SpanTracer
from gateway.observe.otel_export import _Troubles
from gateway.proxy.opening import Opened
from gateway.wire import json
from tests.e2e.running import config


def target(folder: Path, **options: str) -> RouteTarget:
    path = folder / "gateway.toml"
    path.write_text(config("https://models.example/v1", **options))
    return build_routes(load(path), folder, {}).find("1", "acme").targets[0]


async def nothing() -> None:
    pass


def recording() -> tuple[SpanTracer, InMemorySpanExporter]:
    """A tracer, and where its spans come out."""
    provider, exported = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    return SpanTracer(provider.get_tracer("test"), nothing, from_clients=True), exported


def attempted(
    asked: RouteTarget,
    reply: Reply,
    terminal: Finish | Failure | None,
    model: str | None = None,
) -> ReadableSpan:
    """The span of one attempt."""
    tracer, exported = recording()
    attempt = tracer.begin("POST", "/", CIMultiDict()).attempt(asked, model, "", stream=True)
    attempt.ended(reply, terminal)
    [span] = exported.get_finished_spans()
    return span


def test_what_an_answer_says(tmp_path: Path) -> None:
    """The model by its full name, and the figures that are known."""
    usage = Usage(input_tokens=0, credits=2.0)
    reply = Reply(metadata=Metadata(model="m-2026-01-01", usage=usage))
    span = attempted(target(tmp_path), reply, Finish(FinishReason.OTHER))
    said = span.attributes or {}

    assert said["gen_ai.response.model"] == "m-2026-01-01"
    assert said["gen_ai.response.finish_reasons"] == ("other",)
    assert said["gen_ai.usage.input_tokens"] == 0
    assert "gen_ai.usage.output_tokens" not in said
    assert (said["server.address"], said["server.port"]) == ("models.example", 443)


def test_no_name_without_end(tmp_path: Path) -> None:
    """An upstream may say anything."""
    span = attempted(target(tmp_path), Reply(metadata=Metadata(model="m" * 5000)), None)

    assert (span.attributes or {})["gen_ai.response.model"] == "m" * 200


def test_a_model_of_the_clients(tmp_path: Path) -> None:
    """One that the agent allows: it is the one that is asked."""
    span = attempted(target(tmp_path), Reply(), None, model="m2")

    assert span.name == "chat m2"
    assert (span.attributes or {})["gen_ai.request.model"] == "m2"


def test_a_hosted_agent(tmp_path: Path) -> None:
    """Which has no model, and an id."""
    hosted = target(tmp_path, kind="bookbag", target="agent = 77")
    span = attempted(hosted, Reply(), None)
    asked = span.attributes or {}

    assert (span.name, asked["gen_ai.agent.id"]) == ("chat 77", "77")
    assert asked["gen_ai.provider.name"] == "bookbag"
    assert "gen_ai.request.model" not in asked


def test_the_store_is_asked_for_the_request_that_is_served() -> None:
    """For none before it and none after it, as the connection stays."""
    tracer, exported = recording()
    with tracer.store("check"):
        pass
    request = tracer.begin("POST", "/", CIMultiDict())
    with tracer.store("load"):
        pass
    request.end(Exchange("r1", "bookbag-v2", 0.0))
    with tracer.store("prune"):
        pass

    assert [span.name for span in exported.get_finished_spans()] == ["store load", "POST /"]


def test_a_target_that_was_slower(tmp_path: Path) -> None:
    """Also where its answer had begun: the attempt ends, as nobody reads on."""
    tracer, exported = recording()
    attempt = tracer.begin("POST", "/", CIMultiDict()).attempt(
        target(tmp_path), None, "", stream=False
    )
    relay, lease = Mock(reply=Reply(), terminal=None), Mock()
    Opened(relay, target(tmp_path), lease, attempt).close()

    [span] = exported.get_finished_spans()
    assert (span.attributes or {})["oc_gateway.abandoned"] is True


class Troubled:
    """A log of the SDK's, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stream = io.BytesIO()
        troubles = _Troubles(build_logger("info", self.stream), lambda: self.now)
        self.log = logging.Logger("opentelemetry.test")
        self.log.addHandler(troubles)

    @property
    def told(self) -> list[str]:
        lines = map(json.loads, self.stream.getvalue().splitlines())
        return [json.text(json.mapping(line)["trouble"]) for line in lines]


@pytest.mark.parametrize(
    ("words", "arguments", "told"),
    [
        ("failed with %s: %s", (401, "canary"), "failed with 401: ..."),
        ("again in %.2fs after %s", (1.5, "canary"), "again in 1.50s after ..."),
        ("%d of %s", ("canary", "canary"), "%d of %s"),
        ("%(header)s is wrong", ({"header": "canary"},), "in opentelemetry.test"),
        ("put together with canary", (), "in opentelemetry.test"),
    ],
)
def test_of_troubles_the_sdks_own_words(
    words: str, arguments: tuple[object, ...], told: str
) -> None:
    """What it puts into them may be a header, or what a collector said; numbers are neither."""
    troubled = Troubled()
    troubled.log.error(words, *arguments, exc_info=ValueError("canary"))

    assert troubled.told == [told]
    assert b"canary" not in troubled.stream.getvalue()


def test_the_same_trouble_once_a_minute() -> None:
    """Whatever its numbers; another one is told at once, and what is none is not."""
    troubled = Troubled()
    for seconds in (0.5, 1.5):
        troubled.log.warning("again in %.2fs", seconds)
    troubled.log.warning("queue full: %s", "spans")
    troubled.log.info("all is well with %s", "spans")
    assert troubled.told == ["again in 0.50s", "queue full: ..."]
    troubled.now += 60
    troubled.log.warning("again in %.2fs", 2.5)

    assert troubled.told[2:] == ["again in 2.50s"]
