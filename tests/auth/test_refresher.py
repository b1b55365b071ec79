"""A key set at a URL: fetched from a real server that changes, breaks and recovers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from gateway.auth.jwks import Trust
from gateway.auth.keyring import Keyring
from gateway.auth.refresher import MAX_SIZE, MIN_HINT_INTERVAL, JwksRefresher
from gateway.auth.signed import SignedKeys
from gateway.core.errors import ErrorCode, GatewayError
from tests.auth.signers import NOW, RULES, TRUST, key_set, signer

OLD, NEW = signer("ES256"), signer("ES256", 1)
HOUR = 3600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Publisher:
    """Serves a key set on the loopback; each request is counted as it arrives."""

    def __init__(self) -> None:
        self.answer: Handler = says(key_set(OLD.published("old")))
        self.requests: asyncio.Queue[web.Request] = asyncio.Queue()
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.put_nowait(request)
        return await self.answer(request)


def says(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    publisher = Publisher()
    app = web.Application()
    app.router.add_get("/{tail:.*}", publisher.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    publisher.url = f"http://127.0.0.1:{port}/jwks.json"
    yield publisher
    await runner.cleanup()


def refresher_of(
    publisher: Publisher, *, refresh: float = HOUR, timeout: float = 30.0, trust: Trust = TRUST
) -> JwksRefresher:
    return JwksRefresher(publisher.url, trust, refresh=refresh, timeout=timeout, clock=lambda: NOW)


def keyring_of(refresher: JwksRefresher) -> Keyring:
    return Keyring(
        keys=[],
        signed=SignedKeys([], rules=RULES, sources=[refresher]),
        refreshers=[refresher],
    )


def state(refresher: JwksRefresher) -> tuple[int, str | None]:
    return refresher.failures, refresher.problem


def outcome(keyring: Keyring, token: str, now: float = NOW) -> str:
    try:
        return keyring.authenticate(f"Bearer oc_live_{token}", now).key_id
    except GatewayError as error:
        return error.code


async def test_start_fetches_the_set(publisher: Publisher) -> None:
    """Signed keys are admitted from the first request on."""
    refresher = refresher_of(publisher)
    assert outcome(keyring_of(refresher), OLD.token("old")) == ErrorCode.KEY_INVALID
    await refresher.start()
    assert outcome(keyring_of(refresher), OLD.token("old")) == "visitor"
    assert (refresher.fetched_at, refresher.failures, refresher.problem) == (NOW, 0, None)
    await refresher.stop()


async def test_keys_rotate(publisher: Publisher) -> None:
    """Both while both are published; one that has gone takes its remembered tokens with it."""
    refresher = refresher_of(publisher)
    keyring, old, new = keyring_of(refresher), OLD.token("old"), NEW.token("new")
    seen = []
    for published in (
        [OLD.published("old")],
        [OLD.published("old"), NEW.published("new")],
        [NEW.published("new")],
        [],
    ):
        publisher.answer = says(key_set(*published))
        await refresher.refresh()
        seen.append((outcome(keyring, old), outcome(keyring, new)))
    invalid = ErrorCode.KEY_INVALID
    assert seen == [
        ("visitor", invalid),
        ("visitor", "visitor"),
        (invalid, "visitor"),
        (invalid, invalid),
    ]


async def stalls(request: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def trickles(request: web.Request) -> web.StreamResponse:
    """Begins a set and never ends it."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"keys": [')
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def floods(request: web.Request) -> web.StreamResponse:
    """Sends without end, and without a Content-Length."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def compresses(request: web.Request) -> web.StreamResponse:
    """A small body that grows beyond the limit."""
    response = web.Response(body=b" " * (MAX_SIZE + 1))
    response.enable_compression(web.ContentCoding.gzip)
    return response


SMALL_SET = key_set(NEW.published("new"))
FAILURES: dict[str, tuple[Handler, str]] = {
    "500": (says(SMALL_SET, 500), "answered 500, not 200"),
    "404": (says(b"not found", 404), "answered 404, not 200"),
    "204": (says(b"", 204), "answered 204, not 200"),
    "redirect": (says(b"", 302, {"Location": "/elsewhere.json"}), "answered 302, not 200"),
    "garbage": (says(b"\x00\xff<html>"), "no JSON Web Key Set"),
    "other json": (says(b'{"error": "later"}'), "no JSON Web Key Set"),
    "empty": (says(b""), "no JSON Web Key Set"),
    "too large": (says(SMALL_SET.ljust(MAX_SIZE + 1)), "larger than 256 KiB"),
    "endless": (floods, "larger than 256 KiB"),
    "compressed": (compresses, "larger than 256 KiB"),
    "silent": (stalls, "Timeout"),
    "slow": (trickles, "Timeout"),
    "hung up": (hangs_up, "ServerDisconnected"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_last_good_set_outlives_a_failure(publisher: Publisher, failure: str) -> None:
    """The failure is counted and named, and the next good set is taken."""
    refresher = refresher_of(publisher, timeout=30.0)
    keyring = keyring_of(refresher)
    await refresher.refresh()
    good, patient = publisher.answer, refresher._timeout
    publisher.answer, problem = FAILURES[failure]
    if problem == "Timeout":
        refresher._timeout = aiohttp.ClientTimeout(total=0.5)
    await refresher.refresh()
    refresher._timeout = patient
    assert outcome(keyring, OLD.token("old")) == "visitor"
    assert outcome(keyring, NEW.token("new")) == ErrorCode.KEY_INVALID
    assert refresher.failures == 1
    assert problem in (refresher.problem or "")
    publisher.answer = good
    await refresher.refresh()
    assert state(refresher) == (1, None)


async def test_the_largest_set_is_read(publisher: Publisher) -> None:
    """Up to the limit, and not a byte less."""
    publisher.answer = says(SMALL_SET.ljust(MAX_SIZE))
    refresher = refresher_of(publisher)
    await refresher.refresh()
    assert list(refresher.keys) == ["new"]


async def test_a_redirect_is_not_followed(publisher: Publisher) -> None:
    """It could lead away from https, or into a private network."""
    publisher.answer, _ = FAILURES["redirect"]
    await refresher_of(publisher).refresh()
    assert publisher.requests.qsize() == 1


async def test_an_unreachable_publisher_keeps_nobody_from_starting() -> None:
    """The first fetch fails, and is tried again later."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        refresher = JwksRefresher(f"http://127.0.0.1:{deaf.getsockname()[1]}/", TRUST, refresh=HOUR)
        await refresher.start()
    assert (refresher.failures, refresher.fetched_at, dict(refresher.keys)) == (1, None, {})
    assert refresher.problem == "ClientConnectorError"
    await refresher.stop()


async def test_the_set_is_fetched_again_and_again(publisher: Publisher) -> None:
    """Also after a failure. A request that arrives tells that the one before is done with."""
    refresher = refresher_of(publisher, refresh=0.01)
    await refresher.start()
    await publisher.requests.get()
    publisher.answer, _ = FAILURES["500"]
    while refresher.failures < 2:
        await publisher.requests.get()
    publisher.answer = says(SMALL_SET)
    while list(refresher.keys) != ["new"]:
        await publisher.requests.get()
    await refresher.stop()
    assert refresher.problem is None


async def test_a_stopped_refresher_fetches_no_more(publisher: Publisher) -> None:
    """Even in the middle of a fetch; stopping twice, or before the start, does no harm."""
    refresher = refresher_of(publisher, refresh=0.01)
    await refresher.stop()
    await refresher.start()
    publisher.answer = stalls
    await publisher.requests.get()
    await publisher.requests.get()
    await refresher.stop()
    await refresher.stop()
    assert "jwks" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_an_unknown_kid_fetches_early(publisher: Publisher) -> None:
    """In the background: the request that saw it is refused without waiting."""
    refresher = refresher_of(publisher)
    keyring = keyring_of(refresher)
    await refresher.start()
    await publisher.requests.get()
    publisher.answer = says(key_set(OLD.published("old"), NEW.published("new")))
    assert outcome(keyring, NEW.token("new")) == ErrorCode.KEY_INVALID
    await publisher.requests.get()
    assert outcome(keyring, NEW.token("other"), NOW + MIN_HINT_INTERVAL) == ErrorCode.KEY_INVALID
    await publisher.requests.get()
    assert outcome(keyring, NEW.token("new")) == "visitor"
    await refresher.stop()


async def test_unknown_kids_fetch_once_a_minute(publisher: Publisher) -> None:
    """They cost nothing to make up, so they must not become a flood at the publisher's."""
    refresher = refresher_of(publisher)
    keyring = keyring_of(refresher)
    await refresher.start()
    await publisher.requests.get()
    for moment in range(60):
        outcome(keyring, NEW.token(f"made-up-{moment}"), NOW + moment)
        await asyncio.sleep(0)
    await publisher.requests.get()
    outcome(keyring, NEW.token("made-up"), NOW + MIN_HINT_INTERVAL)
    await publisher.requests.get()
    assert publisher.requests.empty()
    await refresher.stop()


async def test_a_reload_takes_the_set_along(publisher: Publisher) -> None:
    """The new refresher serves at once and fetches in the background."""
    before, after = refresher_of(publisher), refresher_of(publisher)
    await before.refresh()
    await publisher.requests.get()
    publisher.answer = stalls
    after.adopt(before)
    await after.start()
    assert outcome(keyring_of(after), OLD.token("old")) == "visitor"
    await publisher.requests.get()
    await after.stop()


async def test_a_set_trusted_with_less_is_not_taken_along(publisher: Publisher) -> None:
    """Its keys would still speak for the workspaces of before."""
    before = refresher_of(publisher)
    await before.refresh()
    for trust in (
        Trust(TRUST.algorithms, frozenset({"globex"})),
        Trust(frozenset({"RS256"}), TRUST.workspaces),
    ):
        after = refresher_of(publisher, trust=trust)
        after.adopt(before)
        assert (dict(after.keys), after.fetched_at) == ({}, None)


async def test_skipped_keys_are_told(publisher: Publisher) -> None:
    """For whoever wonders why a key does not work."""
    publisher.answer = says(key_set({"kty": "oct", "kid": "a"}))
    refresher = refresher_of(publisher)
    await refresher.refresh()
    assert refresher.skipped == ("key 0: its `kty` or `crv` is not supported",)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/jwks.json",
        "http://10.0.0.1/jwks.json",
        "http://localhost.example.com/",
        "https://user:pass@example.com/jwks.json",
        "ftp://example.com/jwks.json",
        "file:///etc/passwd",
        "example.com",
        "",
    ],
)
def test_only_safe_urls_are_fetched(url: str) -> None:
    """https, or this machine."""
    with pytest.raises(ValueError, match="https"):
        JwksRefresher(url, TRUST, refresh=HOUR)


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a?b=c", "http://localhost:8000/", "http://127.0.0.1/", "http://[::1]:1/"],
)
def test_safe_urls_are_accepted(url: str) -> None:
    """As they are written."""
    assert JwksRefresher(url, TRUST, refresh=HOUR).url == url


@pytest.mark.parametrize(
    ("refresh", "failed", "shortest", "longest"),
    [(600.0, False, 540, 660), (600.0, True, 27, 33), (10.0, True, 9, 11)],
)
def test_fetches_are_spread(refresh: float, failed: bool, shortest: float, longest: float) -> None:
    """A fleet does not fetch in step; after a failure it waits for half a minute at most."""
    refresher = JwksRefresher("https://example.com/", TRUST, refresh=refresh)
    refresher.problem = "TimeoutError" if failed else None
    delays = {refresher._delay() for _ in range(50)}
    assert len(delays) > 1
    assert all(shortest <= delay <= longest for delay in delays)
