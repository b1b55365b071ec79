"""The same target is asked again only where that does no harm, and never in a crowd."""

import asyncio
import socket

import pytest

from gateway.core.events import Json
from tests.e2e.conftest import Start
from tests.e2e.running import config, eventually
from tests.e2e.scripted import (
    Close,
    Hang,
    Reset,
    Script,
    ScriptedUpstream,
    document,
    head,
    openai_text,
)

ERROR: Json = {"error": {"message": "GPU 7 is on fire", "type": "server_error"}}
AFTER_SEND = "retry_after_send = true"

TURNED_AWAY: dict[str, Script] = {
    "429": document(ERROR, 429),
    "429 with a short wait": document(ERROR, 429, Retry_After="0"),
    "502": document(ERROR, 502),
    "503": document(ERROR, 503),
    "529": document(ERROR, 529),
    "504": document(ERROR, 504),
}
FINAL: dict[str, Script] = {
    "400": document(ERROR, 400),
    "401": document(ERROR, 401),
    "402": document(ERROR, 402),
    "404": document(ERROR, 404),
    "422": document(ERROR, 422),
    "429 with a long wait": document(ERROR, 429, Retry_After="30"),
    "503 with a long wait": document(ERROR, 503, Retry_After="30"),
    "an error with 200": document(ERROR),
}
PERHAPS_RUN: dict[str, Script] = {
    "500": document(ERROR, 500),
    "a close": [Close],
    "a reset": [Reset],
    "a head and a reset": [head(), Reset],
    "silence": [Hang],
}


def patience(failure: str) -> str:
    """The clock that ends silence. It is the second attempt's as well, which has to be answered
    before it runs out."""
    return 'first_event = "2s"' if failure == "silence" else ""


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", TURNED_AWAY)
async def test_who_was_turned_away_asks_again(
    failure: str, stream: bool, start: Start, upstream: ScriptedUpstream
) -> None:
    """Once, by default."""
    upstream.answers(TURNED_AWAY[failure], openai_text("Hello"))
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2(stream=stream)).status == 200
    assert len(upstream.requests) == 2
    assert sum((await gateway.counted("oc_gateway_retries_total", "code")).values()) == 1
    await gateway.settled()


@pytest.mark.parametrize("failure", [*FINAL, *PERHAPS_RUN])
async def test_what_may_have_run_is_not_asked_again(
    failure: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Nor what would only fail again."""
    upstream.answers({**FINAL, **PERHAPS_RUN}[failure], openai_text("Hello"))
    gateway = await start(config(upstream.url, clocks=patience(failure)))

    assert (await gateway.chat_v2()).status >= 400
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("failure", PERHAPS_RUN)
async def test_what_may_have_run_is_asked_again_where_that_is_wanted(
    failure: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """`retry_after_send`: of upstreams where a second run costs nothing but itself."""
    upstream.answers(PERHAPS_RUN[failure], openai_text("Hello"))
    gateway = await start(config(upstream.url, upstream=AFTER_SEND, clocks=patience(failure)))

    assert (await gateway.chat_v2()).status == 200
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(("status", "asked"), [(502, 1), (504, 1), (503, 2), (429, 2)])
async def test_a_hosted_agent_may_have_heard_what_a_proxy_gave_up(
    status: int, asked: int, start: Start, upstream: ScriptedUpstream
) -> None:
    """Asked again, it would have the question in its conversation twice."""
    upstream.answers(document(ERROR, status), document(ERROR, status))
    gateway = await start(config(upstream.url, kind="bookbag", target='agent = "7"'))

    assert (await gateway.chat_v2()).status >= 400
    assert len(upstream.requests) == asked


async def test_the_wait_that_an_upstream_asks_for_is_passed_on(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """One that is longer than `max_retry_wait`, at once."""
    upstream.answers(document(ERROR, 429, Retry_After="30"))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert (answer.status, answer.headers["retry-after"]) == (429, "30")


async def test_a_connection_that_is_refused_is_tried_again(start: Start) -> None:
    """Nothing was sent: it does no harm."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gateway = await start(config(f"http://127.0.0.1:{closed.getsockname()[1]}"))
        assert (await gateway.chat_v2()).status == 503

    assert await gateway.upstream_errors() == {"upstream_unreachable": 2}


async def test_a_client_that_leaves_ends_the_wait(start: Start, upstream: ScriptedUpstream) -> None:
    """No further attempt for one who is not there."""
    upstream.answers(document(ERROR, 429, Retry_After="2"), openai_text("Hello"))
    gateway = await start(config(upstream.url))
    turn = asyncio.ensure_future(gateway.chat_v2())
    await eventually(lambda: any(state.budget.retrying for state in gateway.gateway.states))
    turn.cancel()
    await asyncio.wait([turn])

    await gateway.settled()
    assert len(upstream.requests) == 1


async def test_retries_do_not_multiply_an_outage(start: Start, upstream: ScriptedUpstream) -> None:
    """Of fifty turns at once a fifth may ask again."""
    count = 50
    upstream.answers(*[document(ERROR, 429, Retry_After="1")] * (2 * count))
    gateway = await start(config(upstream.url))
    answers = await asyncio.gather(*[gateway.chat_v2() for _ in range(count)])

    assert {answer.status for answer in answers} == {429}
    assert count < len(upstream.requests) <= count + count * 0.2
