"""How a gateway stops: open turns finish, or end in their dialect's words."""

import asyncio
from urllib.parse import urlsplit

from tests.e2e.conftest import Start
from tests.e2e.running import Running, config, eventually
from tests.e2e.scripted import END, Hang, ScriptedUpstream, Wait, chunk, delta, event, finish, head


async def _refused(gateway: Running) -> None:
    """Wait until new connections are refused."""
    address = urlsplit(gateway.url)
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:  # it was in the queue of a socket that was closed
                continue
            writer.transport.abort()


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


async def test_turns_that_do_not_finish_end_in_their_own_words(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """After `drain_timeout`, a stream ends with the dialect's error, not with silence."""
    upstream.answers([head(), chunk(event(delta("Hi"))), Hang])
    gateway = await start(config(upstream.url, server='drain_timeout = "50ms"'))
    turns = [asyncio.ensure_future(chat()) for chat in (gateway.chat_v1, gateway.chat_v2)]
    await upstream.until_requests(2)
    await gateway.gateway.stop()

    one, two = await asyncio.gather(*turns)
    said = "the gateway is restarting, try again"
    assert one.frames[-1] == ("error", {"code": "unavailable", "message": said})
    assert two.frames[-2:] == [
        ("message", {"type": "error", "errorText": said}),
        ("message", "[DONE]"),
    ]


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
    await asyncio.wait_for(stopping, 10)
    assert (answer.status, answer.error["code"]) == (503, "SERVICE_UNAVAILABLE")
