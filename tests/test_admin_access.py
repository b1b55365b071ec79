"""Who is answered on the admin listener."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from gateway.admin.access import OPEN, guard, is_loopback
from gateway.http.server import Listener
from gateway.wire import json

TOKEN = "a token of operators: näh"
GUARDED = ("/status", "/status/keys/demo", "/debug/tasks", "/nothing", "/metrics/", "/")

Ask = Callable[..., Awaitable[tuple[int, str]]]


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("gateway", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_loopback(host: str, alone: bool) -> None:
    """A name may lead anywhere, but for the one that never does."""
    assert is_loopback(host) is alone


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Asks a listener that is guarded as if it were at `host`: the status, and the error's code."""
    listeners: list[Listener] = []
    session = aiohttp.ClientSession()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    async def ask(
        path: str = "/status",
        *,
        method: str = "GET",
        host: str = "127.0.0.1",
        token: str | None = None,
        **headers: str,
    ) -> tuple[int, str]:
        app = web.Application(middlewares=[guard(lambda: token, host)])
        app.router.add_route("*", "/{any:.*}", answer)
        listeners.append(listener := Listener(app, "admin", "127.0.0.1", 0))
        await listener.start()
        async with session.request(method, listener.url + path, headers=headers) as response:
            body = await response.read()
            code = json.mapping(json.mapping(json.loads(body)).get("error")) if body else {}
            assert ("WWW-Authenticate" in response.headers) is (response.status == 401)
            return response.status, json.text(code.get("code"))

    yield ask
    await session.close()
    for listener in listeners:
        await listener.stop()


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_metrics_and_health_are_open(ask: Ask, path: str, host: str) -> None:
    """To scrapers and orchestrators, which bring no token and any name."""
    for token in (None, TOKEN):
        assert await ask(path, host=host, token=token, Host="gateway.monitoring") == (200, "")


@pytest.mark.parametrize("path", GUARDED)
async def test_without_a_token(ask: Ask, path: str) -> None:
    """This machine is answered, and others are not."""
    assert await ask(path) == (200, "")
    assert await ask(path, host="localhost") == (200, "")
    assert await ask(path, host="0.0.0.0") == (403, "forbidden")


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_with_a_token(ask: Ask, path: str, host: str) -> None:
    """Who has it is answered wherever the listener is, and by any name."""
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert await ask(path, host=host, token=TOKEN) == (401, "unauthorized")
    assert await ask(path, host=host, token=TOKEN, **right) == (200, "")
    assert await ask(path, host=host, token=TOKEN, Host="gateway", **right) == (200, "")


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
    ],
)
async def test_a_wrong_token(ask: Ask, sent: str) -> None:
    """Whatever is wrong with it, the answer is the same."""
    assert await ask(token=TOKEN, Authorization=sent) == (401, "unauthorized")


async def test_the_scheme_has_any_case(ask: Ask) -> None:
    """As schemes of authentication have."""
    assert await ask(token=TOKEN, Authorization=f"bearer  {TOKEN}") == (200, "")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9090"])
async def test_pages_are_not_answered(ask: Ask, origin: str) -> None:
    """A form on any page can post to this machine: it does not reload a configuration."""
    assert await ask("/reload", method="POST", Origin=origin) == (403, "forbidden")
    assert await ask(Origin=origin) == (403, "forbidden")
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert await ask("/reload", method="POST", token=TOKEN, Origin=origin, **right) == (
        403,
        "forbidden",
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9090", 200),
        ("localhost:8000", 200),
        ("[::1]:9090", 200),
        ("evil.example", 403),
        ("evil.example:9090", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
async def test_a_name_that_came_to_lead_here(ask: Ask, host: str, status: int) -> None:
    """A page's own name may be made to lead to this machine: then the page could read all."""
    assert (await ask(Host=host))[0] == status
