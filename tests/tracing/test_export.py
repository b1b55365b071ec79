"""How spans get to a collector: as the file and OpenTelemetry's variables say, and at no cost to
anybody who is served meanwhile."""

import asyncio
import logging.handlers
import socket
import sys
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config.load import load
from gateway.config.problems import ConfigError
from gateway.core.events import Json
from gateway.observe import otel_export
from gateway.observe.logs import build_logger
from gateway.reload.fixed import needs_restart
from tests.e2e.conftest import Start
from tests.e2e.running import KEY, KEY_HASH, Running, config, eventually
from tests.e2e.scripted import PATIENCE, ScriptedUpstream, document, openai_text, sse
from tests.e2e.speaking import ASK
from tests.serving import ROOT, cli
from tests.tracing.asking import SPAN, TRACE, ask, names, traced
from tests.tracing.collector import Collector

SECRET = "Bearer canary-collector"
ALONE = "retries = 0\nbreaker = { enabled = false }"
HEADERS = 'headers = { Authorization = { env = "COLLECTOR" } }'


def troubles(gateway: Running) -> list[str]:
    """What the log says of tracing."""
    return [str(line["trouble"]) for line in gateway.log_lines() if line["event"] == "tracing"]


# Where to, and as whom.


async def test_what_a_collector_is_sent(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Protobuf, with the file's headers, from a service with a name and a version."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector, HEADERS), COLLECTOR=SECRET)
    await gateway.chat_v2()
    await collector.until(3)

    assert collector.headers[0]["authorization"] == SECRET
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    assert collector.resources[0]["service.name"] == "oc-gateway"
    assert collector.resources[0]["service.version"] == "0.1.0"
    assert SECRET not in gateway.log.getvalue().decode()


async def test_opentelemetrys_variables(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They say what the file leaves out."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url, more="[tracing]\nenabled = true"))
    await gateway.chat_v2()
    await collector.until(3)

    assert collector.headers[0]["x-tenant"] == "acme"
    assert collector.resources[0]["service.name"] == "edge"
    assert collector.resources[0]["deployment.environment.name"] == "test"


async def test_the_file_is_right(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where both say something."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    upstream.answers(openai_text("Hi"))
    ours = 'service_name = "gate"\nsample_ratio = 1.0'
    gateway = await start(traced(upstream.url, collector, ours))
    await gateway.chat_v2()
    await collector.until(3)

    assert collector.resources[0]["service.name"] == "gate"


async def test_the_sdk_disabled(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its own variable: then it is as if tracing were off."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await ask(gateway, f"00-{TRACE}-{SPAN}-01")
    await gateway.gateway.stop()

    assert not collector.bodies
    assert upstream.requests[0].headers["traceparent"] == f"00-{TRACE}-{SPAN}-01"


async def test_a_sample(start: Start, upstream: ScriptedUpstream, collector: Collector) -> None:
    """A share of what is begun here, and whatever a client has begun to record."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector, "sample_ratio = 0.000001"))
    for _ in range(20):
        await gateway.chat_v2()
    await ask(gateway, f"00-{TRACE}-{SPAN}-01")
    await gateway.gateway.stop()

    assert {span.trace for span in collector.spans} == {TRACE}
    assert len(collector.spans) == 3
    assert len({line["trace_id"] for line in gateway.log_lines()}) == 21


async def test_a_stop_sends_what_is_left(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long it would have waited for more."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await gateway.chat_v2()
    assert not collector.bodies
    await gateway.gateway.stop()

    assert len(collector.spans) == 3
    assert not troubles(gateway)


# A collector that does not do its part.


async def test_nobody_listens(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Turns are served, the log says so once, and a stop comes to its end."""
    monkeypatch.setattr(otel_export, "FLUSH", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        collector.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        upstream.answers(openai_text("Hi"))
        gateway = await start(traced(upstream.url, collector))
        for _ in range(5):
            assert (await gateway.chat_v2()).text == "Hi"
        await eventually(lambda: bool(troubles(gateway)))
        assert (await gateway.chat_v2()).text == "Hi"
        await asyncio.wait_for(gateway.gateway.stop(), PATIENCE)

    assert len(set(troubles(gateway))) == len(troubles(gateway))
    assert collector.url.rpartition(":")[2] not in "".join(troubles(gateway))


async def test_one_that_never_answers(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No turn waits for it, and a stop gives it up."""
    monkeypatch.setattr(otel_export, "FLUSH", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    collector.answers.clear()
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await gateway.chat_v2()
    await collector.until_asked()
    for _ in range(10):
        assert (await gateway.chat_v2()).text == "Hi"
    assert len(collector.bodies) == 1
    await asyncio.wait_for(gateway.gateway.stop(), PATIENCE)

    assert "traces could not be sent in time before the stop" in troubles(gateway)


async def test_one_that_is_slow(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for it is bounded: it gets the newest."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "6")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    collector.answers.clear()
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await gateway.chat_v2()
    await collector.until_asked()
    for _ in range(10):
        await gateway.chat_v2()
    collector.answers.set()
    await gateway.gateway.stop()

    traces = [line["trace_id"] for line in gateway.log_lines() if line["event"] == "request"]
    assert [span.trace for span in collector.spans[:3]] == traces[:1] * 3
    assert {span.trace for span in collector.spans[3:]} == set(traces[-2:])


async def test_one_that_refuses(
    start: Start,
    upstream: ScriptedUpstream,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log has its status, and none of its words; nor does the SDK write lines of its own."""
    lines = logging.handlers.BufferingHandler(1000)
    monkeypatch.setattr(logging.root, "handlers", [lines])
    collector.status = 401
    upstream.answers(openai_text("Hi"))
    gateway = await start(traced(upstream.url, collector))
    await gateway.chat_v2()
    await eventually(lambda: bool(troubles(gateway)))

    [trouble] = troubles(gateway)
    assert "401" in trouble
    assert "Unauthorized" not in trouble
    assert not [line for line in lines.buffer if line.name.startswith("opentelemetry")]


# What is never told.


async def test_no_text_and_no_key(
    start: Start, upstream: ScriptedUpstream, collector: Collector
) -> None:
    """Of no turn in any dialect, nor of what fails."""
    gateway = await start(
        traced(
            upstream.url,
            collector,
            HEADERS,
            upstream=f'credential = {{ env = "CREDENTIAL" }}\n{ALONE}',
            agent='instructions = "canary-instructions"\nidentity_secret = { env = "IDENTITY" }',
            store='url = "sqlite:///traced.db"',
        ),
        COLLECTOR=SECRET,
        CREDENTIAL="canary-credential",
        IDENTITY="canary-identity",
    )
    wrong: Json = {"error": {"message": "canary-error", "type": "canary-type"}}
    answers = [openai_text("canary-answer"), document(wrong, 400), document(wrong, 500)]
    answers += [sse(wrong), sse(b"canary-frame")]
    for script in answers:
        upstream.answers(script)
        for dialect in ASK.values():
            path, body = dialect("1", "canary-message", True)
            await gateway.post(f"{path}?query=canary-query", {**body, "user": "canary-user"})
    await gateway.post("/api/v2/agents/1/chat", b'{"canary-json')
    await gateway.post("/api/v2/agents/canary-agent/chat", {"message": "hi"}, "oc_test_canary-key")
    await gateway.request("GET", "/api/v2/agents/1/users/canary-user/conversations")
    await gateway.request("canary-METHOD", "/api/v1/chat", traceparent="canary-parent")
    await gateway.gateway.stop()

    # v1 asks for a user who does not prove to be one.
    assert names(collector.spans).count("chat m") == len(answers) * (len(ASK) - 1)
    assert not collector.heard("canary", "CANARY", KEY, KEY_HASH, SECRET, "127.0.0.1:")
    assert "canary" not in "".join(troubles(gateway))


# The file.


def build(folder: Path, text: str, **environ: str) -> Gateway:
    path = folder / "gateway.toml"
    path.write_text(text)
    return Gateway(load(path), folder, build_logger("error"), environ)


def test_a_header_that_is_missing(tmp_path: Path) -> None:
    """Or could not be sent: like any secret."""
    text = config("http://127.0.0.1:1", more=f"[tracing]\n{HEADERS}")
    with pytest.raises(ConfigError, match=r"tracing\.headers\.Authorization"):
        build(tmp_path, text)
    with pytest.raises(ConfigError, match="line break"):
        build(tmp_path, text, COLLECTOR="a\nb")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named; without tracing, nobody asks for it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(ValueError, match=r"oc-gateway\[otel\]"):
        build(tmp_path, config("http://127.0.0.1:1", more="[tracing]\nenabled = true"))
    build(tmp_path, config("http://127.0.0.1:1"))


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_the_extra_at_the_command_line(command: str, tmp_path: Path) -> None:
    """The gateway does not start; a check elsewhere only warns."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError")
    text = config("http://127.0.0.1:1", more="[tracing]\nenabled = true")
    (tmp_path / "gateway.toml").write_text(text)
    options = ["--config"] if command == "run" else []
    done = cli(command, *options, "gateway.toml", cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")

    assert done.returncode == (2 if command == "run" else 0), done.stderr
    assert "oc-gateway[otel]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_change_takes_a_restart(tmp_path: Path) -> None:
    """A reload says so."""
    path = tmp_path / "gateway.toml"
    path.write_text(config("http://127.0.0.1:1"))
    before = load(path)
    path.write_text(config("http://127.0.0.1:1", more="[tracing]\nsample_ratio = 0.5"))

    assert needs_restart(before, load(path)) == ("tracing.sample_ratio",)
