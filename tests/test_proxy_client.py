"""What goes over the wire to an upstream, by the request's method."""

import pytest

from gateway.config.model import Upstream
from gateway.core.codec import UpstreamRequest
from gateway.proxy.client import Client
from tests.e2e.scripted import Received, ScriptedUpstream, document


async def sent(*requests: UpstreamRequest) -> list[Received]:
    """What one upstream receives, one after the other, on one connection."""
    async with ScriptedUpstream([document({})]) as upstream:
        client = Client(Upstream(kind="chatbase", base_url=upstream.url), "secret")
        for request in requests:
            answer = await client.send(request, "req_1")
            await answer.head
            answer.release()
        assert upstream.accepted == 1
        client.close()
        return upstream.requests


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_with_a_body(method: str) -> None:
    """It says what the body is, and how long."""
    (got,) = await sent(UpstreamRequest("/a?b=c", b'{"d":1}', method))

    assert (got.method, got.path, got.body) == (method, "/a?b=c", b'{"d":1}')
    assert got.headers["content-type"] == "application/json"
    assert got.headers["content-length"] == "7"
    assert got.headers["x-request-id"] == "req_1"
    assert got.headers["authorization"] == "Bearer secret"


async def test_a_get_has_no_body() -> None:
    """Nor says it anything of one, whatever it was given: servers refuse that, or wait for it. The
    connection is as good for the next request as before."""
    get, post = await sent(UpstreamRequest("/a", b"{}", "GET"), UpstreamRequest("/b", b"{}"))

    assert (get.method, get.path, get.body) == ("GET", "/a", b"")
    assert get.headers.keys().isdisjoint({"content-type", "content-length", "transfer-encoding"})
    assert get.headers["authorization"] == "Bearer secret"
    assert (post.method, post.path, post.body) == ("POST", "/b", b"{}")


async def test_an_empty_body_is_a_body() -> None:
    """A POST without one says so, as HTTP asks for."""
    (got,) = await sent(UpstreamRequest("/a", b""))

    assert got.headers["content-length"] == "0"
