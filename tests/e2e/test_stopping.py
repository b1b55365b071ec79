"""How a gateway stops: open turns finish, or end in their dialect's words."""

import asyncio
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest
from prometheus_client import generate_latest

from gateway.http import accepting, server
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, Running, config, eventually, written
from tests.e2e.scripted import (
    END,
    PATIENCE,
    Hang,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    event,
    finish,
    head,
    openai_text,
    said,
)
from tests.e2e.speaking import ASK


async def _refused(gateway: Running) -> None:
    """Wait until new connections are refused."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection(*address(gateway))
            except ConnectionRefusedError:
                return
            writer.transport.abort()


def address(gateway: Running) -> tuple[str, int]:
    parts = urlsplit(gateway.url)
    return parts.hostname or "", parts.port or 0


DONE = chunk(b"data: [DONE]\n\n")


async def test_open_turns_finish(start: Start, upstream: ScriptedUpstream) -> None:
    """A stop waits for the turns that are open, and takes no new connections meanwhile."""
    go_on = asyncio.Event()
    upstream.answers(
        [head(), chunk(event(delta("Hi"))), Wait(go_on), chunk(event(finish())), DONE, END]
    )
    gateway = await start(config(upstream.url))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await upstream.until_requests(1)
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await _refused(gateway)
    go_on.set()

    answer = await turn
    await stopping
    assert answer.frames[-1] == ("message", "[DONE]")
    assert "error" not in answer.body.decode()


@pytest.mark.parametrize("policy", ["cancel", "drain", "keep"])
async def test_turns_that_do_not_finish_end_in_their_own_words(
    start: Start, upstream: ScriptedUpstream, policy: str
) -> None:
    """After `drain_timeout`, a stream ends with the dialect's error, not with silence."""
    upstream.answers([head(), chunk(event(delta("Hi"))), Hang])
    gateway = await start(
        config(upstream.url, server='drain_timeout = "50ms"', agent=f'on_disconnect = "{policy}"')
    )
    turns = [asyncio.ensure_future(chat()) for chat in (gateway.chat_v1, gateway.chat_v2)]
    await gateway.until_answering(2)
    await gateway.gateway.stop()

    one, two = await asyncio.gather(*turns)
    said = "the gateway is restarting, try again"
    assert one.frames[-1] == ("error", {"code": "unavailable", "message": said})
    assert two.frames[-2:] == [
        ("message", {"type": "error", "errorText": said}),
        ("message", "[DONE]"),
    ]
    told = [(line["outcome"], line["level"]) for line in gateway.log_lines()]
    assert told == [("restarting", "warning")] * 2
    shown = generate_latest(gateway.gateway.metrics.registry).decode()
    assert 'fault="gateway",outcome="restarting"} 1.0' in shown
    assert "oc_gateway_upstream_errors_total{" not in shown, "it is not to blame"


async def test_a_second_signal_waits_no_longer(start: Start, upstream: ScriptedUpstream) -> None:
    """`hurry` ends at once what would have had the whole window; a whole answer gets a 503."""
    upstream.answers([head(), chunk(event(delta("Hi"))), Hang])
    gateway = await start(config(upstream.url, server='drain_timeout = "1h"'))
    turn = asyncio.ensure_future(gateway.chat_v2(stream=False))
    await upstream.until_requests(1)
    await eventually(lambda: upstream.sent > 0)
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    gateway.gateway.hurry()

    answer = await turn
    await asyncio.wait_for(stopping, PATIENCE)
    assert (answer.status, answer.error["code"]) == (503, "SERVICE_UNAVAILABLE")


@asynccontextmanager
async def connected(
    gateway: Running,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection; it is cut when the block ends."""
    reader, writer = await asyncio.open_connection(*address(gateway))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ready(gateway: Running) -> int:
    """The status of /readyz."""
    async with gateway.session.get(gateway.gateway.admin.url + "/readyz") as response:
        return response.status


async def test_it_wants_no_traffic_before_it_takes_none(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """With a `drain_delay` it says so at once, and accepts all the same; each answer tells its
    client to come back on another connection."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, server='drain_delay = "1h"'))
    draining = "oc_gateway_draining"
    assert (await ready(gateway), (await gateway.metrics())[draining]) == (200, 0)
    assert (await gateway.chat_v2()).headers["connection"] == "keep-alive"

    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await asyncio.sleep(0)
    assert (await ready(gateway), (await gateway.metrics())[draining]) == (503, 1)
    for chat in (gateway.chat_v1, gateway.chat_v2):
        answer = await chat()
        assert (answer.text, answer.headers["connection"]) == ("Hello", "close")
    nowhere = await gateway.request("GET", "/nowhere")
    assert (nowhere.status, nowhere.headers["connection"]) == (404, "close")

    gateway.gateway.hurry()
    await asyncio.wait_for(stopping, PATIENCE)


@pytest.mark.parametrize("policy", ["cancel", "keep"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", ASK)
async def test_turns_that_have_not_begun_get_a_503(
    start: Start, upstream: ScriptedUpstream, dialect: str, stream: bool, policy: str
) -> None:
    """At the end of the window, in the dialect's words and with a time to come back: one whose
    upstream is silent, and one that waits for its turn there."""
    upstream.answers([Hang])
    gateway = await start(
        config(
            upstream.url,
            server='drain_timeout = "50ms"',
            upstream="max_streams = 1",
            agent=f'on_disconnect = "{policy}"',
        )
    )
    turns = [asyncio.ensure_future(gateway.post(*ASK[dialect]("1", "hi", stream)))]
    await upstream.until_requests(1)
    turns.append(asyncio.ensure_future(gateway.post(*ASK[dialect]("1", "hi", stream))))
    await eventually(lambda: any(state.slots.waiting for state in gateway.gateway.states))
    await gateway.gateway.stop()

    for answer in await asyncio.gather(*turns):
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] != "text/event-stream"
        assert answer.headers["connection"] == "close"
    outcomes = [line["outcome"] for line in gateway.log_lines() if line["event"] == "request"]
    assert outcomes == ["restarting"] * 2
    assert not gateway.gateway.limiter.busy
    await eventually(lambda: upstream.open == 0)


async def test_a_body_that_is_still_arriving(start: Start, upstream: ScriptedUpstream) -> None:
    """It has the window to arrive, and a 503 after it."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, server='drain_timeout = "3s"'))
    request = written(*CHATS["whole"])
    async with connected(gateway) as (slow, first), connected(gateway) as (slower, second):
        for writer in (first, second):
            writer.write(request[:-5])
        stopping = asyncio.ensure_future(gateway.gateway.stop())
        await _refused(gateway)
        first.write(request[-5:])
        async with asyncio.timeout(PATIENCE):
            served, late = await slow.read(), await slower.read()
            await stopping
    assert served.startswith(b"HTTP/1.1 200 ")
    assert b"Hello" in served
    assert late.startswith(b"HTTP/1.1 503 ")
    assert b"SERVICE_UNAVAILABLE" in late
    assert b"internal_error" not in gateway.log.getvalue()


async def test_a_head_that_is_complete_too_late(start: Start, upstream: ScriptedUpstream) -> None:
    """A turn that begins after the end of the window is refused: nobody would end its stream."""
    upstream.answers([head(), chunk(event(delta("Hi"))), Hang])
    gateway = await start(config(upstream.url, server='drain_timeout = "50ms"'))
    request = written(*CHATS["v2"])
    async with connected(gateway) as (reader, writer), connected(gateway) as (late, last):
        writer.write(request)
        await reader.readuntil(b"Hi")
        last.write(request[:40])
        stopping = asyncio.ensure_future(gateway.gateway.stop())
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"the gateway is restarting, try again")
            last.write(request[40:])
            answer = await late.read()
            await stopping
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"SERVICE_UNAVAILABLE" in answer


async def test_a_stop_with_no_descriptors_left(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is when too many are connected that a gateway is restarted."""
    go_on = asyncio.Event()
    upstream.answers([*said("Hi"), Wait(go_on), chunk(event(finish())), DONE, END])
    gateway = await start(config(upstream.url))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: upstream.sent > 0)
    settled = asyncio.Event()

    async def without(sockets: Iterable[int], *, busy: bool) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            await accepting.settle(sockets, busy=busy)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            settled.set()

    monkeypatch.setattr(server, "settle", without)
    stopping = asyncio.ensure_future(gateway.gateway.stop())
    await settled.wait()
    go_on.set()
    await stopping
    assert (await turn).frames[-1] == ("message", "[DONE]")


async def test_what_is_to_be_kept_of_a_turn_that_was_ended(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """With `keep_partial`, the next gateway finds what there was of it."""
    upstream.answers([head(), chunk(event(delta("Half"))), Hang])
    text = config(
        upstream.url,
        server='drain_timeout = "50ms"',
        store='url = "sqlite:///kept.db"\nkeep_partial = true',
    )
    gateway = await start(text)
    turn = asyncio.ensure_future(gateway.chat_v2())
    await gateway.until_answering(1)
    await gateway.gateway.stop()
    assert "Half" in (await turn).text
    second = await start(text)
    listed = json.array((await second.request("GET", f"{AGENT}/conversations")).json["data"])
    conversation = json.text(json.mapping(listed[0])["id"])
    path = f"{AGENT}/conversations/{conversation}/messages"
    assert "Half" in (await second.request("GET", path)).body.decode()


AGENT = "/api/v2/agents/1"

# A request whose answer ends with these.
LAST = b"\r\n0\r\n\r\n"


async def test_a_kept_connection_has_time_for_one_more(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """A request that comes on it when no new connection is accepted any more is answered; one
    without is closed soon, and no request was lost on it."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    async with connected(gateway) as used, connected(gateway) as idle:
        for reader, writer in (used, idle):
            writer.write(written(*CHATS["v2"]))
            assert b"Connection: close" not in await reader.readuntil(LAST)
        await gateway.gateway.public.refuse()
        used[1].write(written(*CHATS["v2"]))
        async with asyncio.timeout(PATIENCE):
            await gateway.gateway.stop()
            answer = await used[0].read()
            assert await idle[0].read() == b""
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(LAST)


async def test_pipelined_requests_are_all_answered(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Only the last answer is the connection's last."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    gateway.gateway.public.part()
    async with connected(gateway) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(written(*CHATS["v2"]) * 3)
        answers = await reader.read()
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert answers.count(b"Connection: close") == 1
    assert answers.endswith(LAST)


def read_all(client: socket.socket) -> bytes:
    client.settimeout(30)
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


async def test_what_the_kernel_has_accepted_is_served(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """Requests on connections that nobody has accepted when the socket is closed."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    with ExitStack() as opened:
        # Nothing is awaited here, so the gateway knows nothing of them.
        make = socket.create_connection
        clients = [opened.enter_context(make(address(gateway))) for _ in range(50)]
        for client in clients:
            client.sendall(written(*CHATS["v2"]))
        await gateway.gateway.public.refuse()
        await gateway.gateway.stop()
        for client in clients:
            assert read_all(client).endswith(LAST)


class Storm(threading.Thread):
    """One connection after the other, each with one request, until there is nobody to connect to.

    What is lost is what was accepted, by the kernel or by the gateway, and has no whole answer.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self._address = address
        self.served = 0
        self.lost: list[object] = []

    def run(self) -> None:
        while True:
            try:
                client = socket.create_connection(self._address, timeout=30)
            except OSError:
                return
            with client:
                self._ask(client)

    def _ask(self, client: socket.socket) -> None:
        try:
            client.sendall(written(*CHATS["v2"], Connection="close"))
            answer = read_all(client)
        except OSError as exc:
            self.lost.append(exc)
            return
        self.served += 1
        if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(LAST)):
            self.lost.append(answer)


async def test_a_stop_under_load_loses_nothing(start: Start, upstream: ScriptedUpstream) -> None:
    """Clients that connect as fast as they can, and do not know of it."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, tier='requests = "100000/1s"'))
    storms = [Storm(address(gateway)) for _ in range(8)]
    for storm in storms:
        storm.start()
    await eventually(lambda: sum(storm.served for storm in storms) > 100, 60)
    await gateway.gateway.stop()
    await asyncio.gather(*(asyncio.to_thread(storm.join) for storm in storms))
    assert [storm.lost for storm in storms] == [[]] * len(storms)
