"""What goes over the wire to an upstream, by the request's method."""

import pytest

from gateway.config.upstreams import Upstream
from gateway.core.codec import UpstreamRequest
from gateway.proxy.client import Client
from tests.e2e.scripted import Received, ScriptedUpstream, document


async def sent(
    *requests: UpstreamRequest,
    credential: str | None = "secret",
    credential_header: str | None = None,
    headers: dict[str, str] | None = None,
) -> list[Received]:
    """What one upstream receives, one after the other, on one connection."""
    async with ScriptedUpstream([document({})]) as upstream:
        config = Upstream(
            kind="chatbase",
            base_url=upstream.url,
            credential_header=credential_header,
            headers=headers or {},
        )
        client = Client(config, credential)
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


async def test_a_credential_in_its_own_header() -> None:
    """It is sent as it stands, and nowhere else."""
    (got,) = await sent(UpstreamRequest("/a", b"{}"), credential_header="api-key")

    assert got.headers["api-key"] == "secret"
    assert "authorization" not in got.headers


async def test_a_credential_in_another_scheme() -> None:
    """The header may be the usual one: then what the credential says is the scheme."""
    (got,) = await sent(
        UpstreamRequest("/a", b"{}"), credential="Token t", credential_header="authorization"
    )

    assert got.headers["authorization"] == "Token t"


async def test_a_pair_is_one_credential() -> None:
    """AgentsGT's two keys are one secret."""
    (got,) = await sent(UpstreamRequest("/a", b"{}"), credential="pk_a:sk_b")

    assert got.headers["authorization"] == "Bearer pk_a:sk_b"


async def test_no_credential() -> None:
    """Servers of one's own often want none."""
    (got,) = await sent(UpstreamRequest("/a", b"{}"), credential=None)

    assert "authorization" not in got.headers


async def test_headers_of_one_request() -> None:
    """They come beside the upstream's own, and in the place of one of the same name; the next
    request has none of them."""
    one, next_one = await sent(
        UpstreamRequest("/a", b"{}", headers={"X-Agent-Identifier": "u1", "X-B": "2"}),
        UpstreamRequest("/b", b"", "GET"),
        headers={"x-agent-identifier": "all", "X-A": "1"},
    )

    assert (one.headers["x-agent-identifier"], one.headers["x-a"]) == ("u1", "1")
    assert one.headers["x-b"] == "2"
    assert one.headers["authorization"] == "Bearer secret"
    assert next_one.headers["x-agent-identifier"] == "all"
    assert "x-b" not in next_one.headers


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\n"),
        ("X-A", ""),
        ("X-A", "\u00e9"),
        ("X-A: b\r\nX-B", "b"),
        ("X-A\n", "b"),
        ("", "b"),
    ],
)
def test_no_header_holds_another(header: tuple[str, str]) -> None:
    """A request with a header that is not one line cannot be made."""
    with pytest.raises(ValueError, match="one line"):
        UpstreamRequest("/a", b"", headers=dict([header]))
