"""Connections to upstreams: used again when that is safe, and never when it is not."""

import asyncio

import pytest

from tests.e2e.conftest import Start
from tests.e2e.running import config, eventually
from tests.e2e.scripted import (
    END,
    Close,
    Hang,
    Script,
    ScriptedUpstream,
    Step,
    Wait,
    chunk,
    document,
    event,
    finish,
    head,
    openai_text,
    said,
)

HELLO: list[Step] = [*said("Hello"), chunk(event(finish()) + b"data: [DONE]\n\n")]
CHUNKED = openai_text("Hello")


def _whole(fields: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body


def _unchunked() -> bytes:
    return event({"choices": [{"delta": {"content": "Hello"}}]}) + b"data: [DONE]\n\n"


# An answer, and whether its connection may be used again.
ANSWERS: dict[str, tuple[Script, bool]] = {
    "chunked": (openai_text("Hello"), True),
    "of a length": ([_whole(f"Content-Length: {len(_unchunked())}", _unchunked())], True),
    "asked to close": ([head(Connection="close"), _unchunked(), Close], False),
    "until the close": ([_whole("X: y", _unchunked()), Close], False),
    "of HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\n" + _unchunked(), Close], False),
    "an interim answer first": (
        [
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n",
            *openai_text("Hello"),
        ],
        True,
    ),
    "longer than its length": (
        [_whole(f"Content-Length: {len(_unchunked())}", _unchunked() + b"garbage")],
        False,
    ),
    "two at once": (
        [b"".join(s for s in [*CHUNKED, *document({}, 500)] if isinstance(s, bytes))],
        False,
    ),
    "with a trailer": (
        [*openai_text("Hello")[:-1], b"0\r\nContent-Encoding: gzip\r\nX-T: 1\r\n\r\n"],
        True,
    ),
    "with extensions of chunks": (
        [head(), b"%x;name=value\r\n%b\r\n" % (len(_unchunked()), _unchunked()), END],
        True,
    ),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_connection_is_used_again_if_that_is_safe(
    kind: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Every answer is right, whatever became of the connection before it."""
    script, reusable = ANSWERS[kind]
    upstream.answers(script)
    gateway = await start(config(upstream.url))
    for _ in range(3):
        assert (await gateway.chat_v2()).text == "Hello"
        await gateway.settled()

    assert upstream.accepted == (1 if reusable else 3)


BROKEN: dict[str, tuple[Script, str]] = {
    "no HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n", Hang], "upstream_malformed"),
    "a head without end": (
        [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n" * 500] * 40],
        "upstream_malformed",
    ),
    "a bad length": ([_whole("Content-Length: -1", b""), Hang], "upstream_malformed"),
    "a bad chunk": ([head(), b"xyz\r\n", Hang], "upstream_malformed"),
    "both lengths": (
        [_whole("Content-Length: 5\r\nTransfer-Encoding: chunked", b""), Hang],
        "upstream_malformed",
    ),
    "another protocol": (
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", Hang],
        "upstream_malformed",
    ),
    "shorter than its length": (
        [_whole("Content-Length: 500", b": hi\n\n"), Close],
        "upstream_truncated",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_http_is_an_error(kind: str, start: Start, upstream: ScriptedUpstream) -> None:
    """A 502, and the connection is closed."""
    script, code = BROKEN[kind]
    upstream.answers(script)
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2()).status == 502
    assert await gateway.upstream_errors() == {code: 1}
    await gateway.settled()
    await upstream.until_open(0)


async def test_what_comes_unasked_closes_an_idle_connection(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """It would be taken for the answer to the next request."""
    speak = asyncio.Event()
    unasked = b"".join(s for s in openai_text("not yours") if isinstance(s, bytes))
    upstream.answers([*openai_text("Hello"), Wait(speak), unasked], openai_text("Hello"))
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).text == "Hello"
    await gateway.settled()
    speak.set()
    await upstream.until_open(0)

    assert (await gateway.chat_v2()).text == "Hello"
    assert upstream.accepted == 2


async def test_a_connection_closed_while_idle_is_not_used(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The next turn opens another."""
    upstream.answers([*openai_text("Hello"), Close])
    gateway = await start(config(upstream.url))
    client = gateway.gateway.snapshot.clients["main"]
    for _ in range(3):
        assert (await gateway.chat_v2()).text == "Hello"
        await eventually(lambda: client.open_connections == 0)
    assert upstream.accepted == 3


async def test_idle_connections_are_given_up(start: Start, upstream: ScriptedUpstream) -> None:
    """After `keepalive`, each in its time."""
    go, go_on = asyncio.Event(), asyncio.Event()
    text = openai_text("Hello")
    upstream.answers([text[0], Wait(go), *text[1:]], [text[0], Wait(go_on), *text[1:]])
    gateway = await start(config(upstream.url, upstream='keepalive = "60ms"'))
    first = asyncio.ensure_future(gateway.chat_v2())
    await upstream.until_requests(1)
    other = asyncio.ensure_future(gateway.chat_v2())
    await upstream.until_requests(2)
    assert upstream.open == 2

    go.set()
    await upstream.until_open(1)
    assert (await first).text == "Hello"
    go_on.set()
    await upstream.until_open(0)
    assert (await other).text == "Hello"
    assert upstream.accepted == 2


# More than any test waits: that it ran out would be no part of one.
LONG_GRACE = 60.0


async def test_a_late_end_within_the_grace_saves_the_connection(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream was complete with `[DONE]`; the message ends a moment later."""
    monkeypatch.setattr("gateway.proxy.remote.RELEASE_GRACE", LONG_GRACE)
    hang_up = asyncio.Event()
    upstream.answers([*HELLO, Wait(hang_up), chunk(b": late\n\n"), END], openai_text("again"))
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).text == "Hello"
    assert gateway.in_use == 1
    hang_up.set()
    await gateway.settled()

    assert (await gateway.chat_v2()).text == "again"
    assert upstream.accepted == 1


async def test_an_end_that_does_not_come_closes_the_connection(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace, it is not worth waiting for."""
    monkeypatch.setattr("gateway.proxy.remote.RELEASE_GRACE", 0.03)
    upstream.answers([*HELLO, Hang])
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).text == "Hello"
    await upstream.until_open(0)
    await gateway.settled()


@pytest.mark.parametrize("after", [[Close], [b"zz\r\n", Hang]])
async def test_a_break_within_the_grace_closes_the_connection(
    after: Script, start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn was complete: nobody is told."""
    monkeypatch.setattr("gateway.proxy.remote.RELEASE_GRACE", LONG_GRACE)
    go = asyncio.Event()
    upstream.answers([*HELLO, Wait(go), *after])
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).text == "Hello"
    go.set()
    await upstream.until_open(0)
    await gateway.settled()
    assert not await gateway.upstream_errors()


async def test_a_short_error_leaves_the_connection_usable(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Its body was read to the end."""
    upstream.answers(document({"error": {"message": "no"}}, 500))
    gateway = await start(config(upstream.url))
    for _ in range(3):
        assert (await gateway.chat_v2()).status == 502
        await gateway.settled()
    assert upstream.accepted == 1


async def test_an_endless_error_is_not_read(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its body a little is read; then the connection is closed."""
    monkeypatch.setattr("gateway.proxy.remote.RELEASE_GRACE", 0.03)
    upstream.answers([head(500, "text/html"), *[chunk(b"x" * 60_000)] * 10, Hang])
    gateway = await start(config(upstream.url))
    assert (await gateway.chat_v2()).status == 502
    await gateway.settled()
    await upstream.until_open(0)


async def test_turns_in_flight_outlive_a_stop_of_the_pool(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """`close` closes what is idle; what is in use closes after its turn."""
    go = asyncio.Event()
    upstream.answers([*said("Hello"), Wait(go), *openai_text()[1:]])
    gateway = await start(config(upstream.url))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await upstream.until_requests(1)
    gateway.gateway.snapshot.clients["main"].close()
    go.set()

    assert (await turn).text == "Hello"
    await upstream.until_open(0)
