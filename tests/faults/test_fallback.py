"""Another target may answer until the first content is there, and never after it."""

import asyncio
import socket

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import ONCE, config
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    Reset,
    Script,
    ScriptedUpstream,
    chunk,
    document,
    head,
    openai_text,
    said,
    sse,
)

ERROR: Json = {"error": {"message": "GPU 7 is on fire", "type": "server_error"}}
HTML = b"<html>Bad gateway</html>"
NO_RETRIES = "retries = 0"
SOON = 'first_event = "150ms"'

# What the first target does, and what it is counted as.
FAILURES: dict[str, tuple[Script, str]] = {
    "401": (document(ERROR, 401), "upstream_refused"),
    "402": (document(ERROR, 402), "upstream_credits"),
    "403": (document(ERROR, 403), "upstream_refused"),
    "404": (document(ERROR, 404), "upstream_failed"),
    "429": (document(ERROR, 429), "upstream_rate_limited"),
    "500": (document(ERROR, 500), "upstream_failed"),
    "502": (document(ERROR, 502), "upstream_failed"),
    "503": (document(ERROR, 503), "upstream_failed"),
    "a redirect": (document({}, 302, Location="http://127.0.0.1:1/"), "upstream_failed"),
    "HTML with 200": ([head(200, "text/html"), chunk(HTML), END], "upstream_malformed"),
    "a JSON error with 200": (document(ERROR), "upstream_failed"),
    "an error as first event": (sse(ERROR), "upstream_failed"),
    "an empty stream": ([head(), END], "upstream_truncated"),
    "no content with 204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], "upstream_truncated"),
    "no content with 205": (
        [b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"],
        "upstream_truncated",
    ),
    "a close": ([Close], "upstream_truncated"),
    "a reset": ([Reset], "upstream_truncated"),
    "a head and a reset": ([head(), Reset], "upstream_truncated"),
    "silence": ([Hang], "first_event_timeout"),
    "a head and silence": ([head(), Hang], "first_event_timeout"),
    "an error's head and silence": ([head(500), Hang], "upstream_failed"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
async def test_the_second_target_answers(
    failure: str,
    stream: bool,
    start: Start,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
) -> None:
    """The client sees nothing of the first."""
    script, code = FAILURES[failure]
    upstream.answers(script)
    second.answers(openai_text("Hello", " world"))
    clocks = SOON if script[-1] is Hang else ""
    gateway = await start(
        config(upstream.url, upstream=NO_RETRIES, clocks=clocks, second=second.url)
    )
    answer = await gateway.chat_v2(stream=stream)

    assert answer.status == 200
    assert b"fire" not in answer.body
    assert b"error" not in answer.body
    assert not stream or answer.text == "Hello world"
    assert (len(upstream.requests), len(second.requests)) == (1, 1)
    assert await gateway.upstream_errors() == {code: 1}
    assert await gateway.counted("oc_gateway_turns_total", "upstream") == {"second": 1}
    await gateway.settled()


async def test_an_upstream_that_is_down_is_passed_over(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A refused connection costs no time."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(_closed_port(), second=upstream.url, upstream=ONCE))

    assert (await gateway.chat_v2()).text == "Hello"
    assert await gateway.upstream_errors() == {"upstream_unreachable": 1}


async def test_an_upstream_that_does_not_accept_is_passed_over(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A connection that does not come about is given up at the connect timeout."""
    upstream.answers(openai_text("Hello"))
    with socket.socket() as full, socket.socket() as first, socket.socket() as other:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, other):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        clocks = 'connect = "100ms"'
        gateway = await start(config(url, second=upstream.url, upstream=NO_RETRIES, clocks=clocks))
        assert (await gateway.chat_v2()).text == "Hello"
        assert await gateway.upstream_errors() == {"connect_timeout": 1}
        alone = await start(config(url, upstream=NO_RETRIES, clocks=clocks))
        assert (await alone.chat_v2()).status == 504


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_requests_own_fault_is_not_tried_again(
    status: int, start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The next target would say the same."""
    upstream.answers(document(ERROR, status))
    second.answers(openai_text("no"))
    gateway = await start(config(upstream.url, second=second.url))

    assert (await gateway.chat_v2()).status == 400
    assert second.accepted == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", [Close, Reset, Hang])
async def test_nothing_is_tried_again_after_the_first_content(
    fault: type[Close] | type[Reset] | type[Hang],
    stream: bool,
    start: Start,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
) -> None:
    """A second answer would repeat the first's text."""
    upstream.answers([*said("Hello"), fault])
    second.answers(openai_text("no"))
    clocks = 'idle = "150ms"' if fault is Hang else ""
    gateway = await start(
        config(upstream.url, second=second.url, upstream=NO_RETRIES, clocks=clocks)
    )
    answer = await gateway.chat_v2(stream=stream)

    assert b"no" not in answer.body.replace(b"upstream ended", b"")
    assert second.accepted == 0
    assert len(upstream.requests) == 1


async def test_the_last_targets_error_is_the_answer(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """All have failed: its status, in the dialect's words."""
    upstream.answers(document(ERROR, 500))
    second.answers(document(ERROR, 429, Retry_After="7"))
    gateway = await start(config(upstream.url, second=second.url))
    answer = await gateway.chat_v1()

    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.error["code"] == "rate_limited"


async def test_a_name_that_does_not_resolve_is_unreachable(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and nothing of what our network is like."""

    async def nowhere(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known: nothing.invalid")

    gateway = await start(config("http://nothing.invalid", upstream=ONCE))
    client = gateway.gateway.snapshot.clients["main"]
    monkeypatch.setattr(client, "_resolve", nowhere)
    answer = await gateway.chat_v2()

    assert answer.status == 503
    assert b"invalid" not in answer.body
    assert answer.error["message"] == "the upstream cannot be reached"


async def test_a_name_that_no_host_can_have_is_unreachable(start: Start) -> None:
    """Python says UnicodeError for a label of 70 letters."""
    gateway = await start(config(f"http://{'a' * 70}.invalid", upstream=ONCE))
    assert (await gateway.chat_v2()).status == 503
    assert await gateway.upstream_errors() == {"upstream_unreachable": 1}


async def test_all_connections_in_use_is_unavailable(
    start: Start, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """One more than `max_connections` is a 503 that says when, or another target's turn."""
    upstream.answers([*said("Hello"), Hang])
    second.answers(openai_text("second"))
    limit = "max_connections = 1"
    alone = await start(config(upstream.url, upstream=limit))
    body: Json = {"message": "hi"}
    async with alone.raw("/api/v2/agents/1/chat", body) as (reader, _):
        await reader.readuntil(b"Hello")
        refused = await alone.chat_v2()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")

    both = await start(config(upstream.url, upstream=limit, second=second.url))
    async with both.raw("/api/v2/agents/1/chat", body) as (reader, _):
        await reader.readuntil(b"Hello")
        assert (await both.chat_v2()).text == "second"
    await asyncio.gather(alone.settled(), both.settled())


def _closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
