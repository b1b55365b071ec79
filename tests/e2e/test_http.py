"""What is no request at all, and what never gets to a chat: at the public listener's very edge."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.core.events import Json
from gateway.proxy.head import head
from gateway.wire import json
from tests.e2e.conftest import Start
from tests.e2e.running import CHATS, KEY, Answered, Running, config, eventually, written
from tests.e2e.scripted import PATIENCE, SECOND, Hang, ScriptedUpstream, openai_text, said

V1, V2 = "/api/v1/chat", "/api/v2/agents/1/chat"
SITE = "https://site.example"
CODES = {"bookbag-v1": "validation_error", "bookbag-v2": "VALIDATION_INVALID_BODY"}

_KEYED = b"Host: test\r\nAuthorization: Bearer " + KEY.encode()

# After the request line and a key that nobody else may read.
MALFORMED: dict[str, bytes] = {
    "a control character": b"\r\nX-Note: a" + KEY.encode() + b"\x01\r\n\r\n",
    "a control character in the key": b"\x01\r\n\r\n",
    "a long header": b"\r\nX-Note: " + KEY.encode() * 400 + b"\r\n\r\n",
    "many headers": b"".join(b"\r\nX-%d: %b" % (n, KEY.encode()) for n in range(200)) + b"\r\n\r\n",
    "a header without a name": b"\r\n: " + KEY.encode() + b"\r\n\r\n",
    "two lengths": b"\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "a length and chunks": b"\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length beyond all numbers": b"\r\nContent-Length: %d\r\n\r\n" % 10**30,
    "a chunk's size that is none": b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    + KEY.encode()
    + b"\r\n",
}

# Whose path cannot be told, or is nobody's.
STRANGE: dict[str, bytes] = {
    "a long path": b"POST /" + KEY.encode() * 400 + b" HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n",
    "a method that is none": b"P\x00ST / HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n",
    "an unknown method": b"FETCH /x HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n",
    "no host": b"POST /x HTTP/1.1\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + KEY.encode(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a URL that is none": b"GET http://"
    + KEY.encode()
    + b":x/ HTTP/1.1\r\n"
    + _KEYED
    + b"\r\n\r\n",
    "an address to connect to": b"CONNECT a:99999 HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n",
    "a path beyond ASCII": b"GET /\xff HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n",
}


@asynccontextmanager
async def connected(
    gateway: Running,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection; it is cut when the block ends."""
    host, port = gateway.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answered(reader: asyncio.StreamReader) -> Answered:
    """One response with a Content-Length."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines[1:] if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answered(int(lines[0].split(" ")[1]), headers, body)


async def refused(
    gateway: Running, *parts: bytes, dialect: str, caplog: pytest.LogCaptureFixture
) -> Answered:
    """A request that does not parse, in these parts. What holds of every one: an answer, then the
    end; one line, one count; and nobody's key anywhere."""
    async with connected(gateway) as (reader, writer):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)  # for a read of its own
        answer = await answered(reader)
        assert await reader.read() == b""
    assert answer.status == 400
    assert answer.headers["server"] == "oc-gateway"
    assert answer.headers["content-type"].startswith("application/json")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.error["code"] == CODES[dialect]
    assert set(answer.json) == ({"success", "error"} if dialect == "bookbag-v1" else {"error"})
    (line,) = gateway.log_lines()
    assert (line["event"], line["level"], line["status"]) == ("request", "info", 400)
    assert line["outcome"] == "malformed_request"
    assert (line["dialect"], line["request_id"]) == (dialect, answer.headers["x-request-id"])
    assert await gateway.counted("oc_gateway_requests_total", "status") == {"400": 1}
    assert await gateway.counted("oc_gateway_requests_total", "dialect") == {dialect: 1}
    assert not caplog.records, "aiohttp logs on its own"
    for text in (answer.body, str(answer.headers).encode(), gateway.log.getvalue()):
        for secret in (KEY[:20].encode(), b"Traceback", b"aiohttp", b"exception"):
            assert secret not in text
    return answer


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed(
    start: Start,
    upstream: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
    case: str,
    path: str,
) -> None:
    """A head that does not parse is refused in the words of its path; what it held stays with its
    client."""
    gateway = await start(config(upstream.url))
    request = b"POST %b HTTP/1.1\r\n%b%b" % (path.encode(), _KEYED, MALFORMED[case])
    await refused(
        gateway, request, dialect="bookbag-v1" if path == V1 else "bookbag-v2", caplog=caplog
    )


@pytest.mark.parametrize("case", STRANGE)
async def test_strange(
    start: Start, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """What has no path that could be known is refused in v2's words."""
    gateway = await start(config(upstream.url))
    await refused(gateway, STRANGE[case], dialect="bookbag-v2", caplog=caplog)


async def test_malformed_in_pieces(
    start: Start, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The path is known from the head's first piece."""
    gateway = await start(config(upstream.url))
    line = b"POST %b HTTP/1.1\r\n" % V1.encode()
    await refused(gateway, line, _KEYED, b"\x01\r\n\r\n", dialect="bookbag-v1", caplog=caplog)


async def test_malformed_after_a_request(
    start: Start, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """On a connection that has served another path, it is the refused path that decides."""
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        for path, status in ((b"/api/v1/nothing", 404), (b"/api/v2/nothing", 404)):
            writer.write(b"GET %b HTTP/1.1\r\n%b\r\n\r\n" % (path, _KEYED))
            assert (await answered(reader)).status == status
        writer.write(b"POST %b HTTP/1.1\r\n%b\x01\r\n\r\n" % (V1.encode(), _KEYED))
        answer = await answered(reader)
    assert (answer.status, answer.error["code"]) == (400, "validation_error")
    assert not caplog.records


@pytest.mark.parametrize("path", [V1, V2])
async def test_broken_chunk(
    start: Start, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """A body that breaks while it is read is refused at once, and once."""
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        writer.write(
            b'POST %b HTTP/1.1\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"mes\r\n'
            % (path.encode(), _KEYED)
        )
        await eventually(lambda: gateway.gateway.limiter.subjects == 1)
        writer.write(KEY.encode() + b"\r\n")
        answer = await answered(reader)
        assert await reader.read() == b""
    assert answer.status == 400
    assert answer.error["message"] == "the request body cannot be read"
    (line,) = gateway.log_lines()
    assert (line["status"], line["outcome"]) == (400, "invalid_body")
    assert not caplog.records


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_refused_body_is_not_unpacked(
    start: Start, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, coding: str
) -> None:
    """What is left of a refused body is dropped as it comes: nobody notices that it is not even of
    its coding, and the connection goes on."""
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n"
            b"Content-Encoding: %b\r\n\r\n" % (V2.encode(), coding.encode())
        )
        assert (await answered(reader)).status == 401
        writer.write(b"\xff" * 100_000 + b"GET /nothing HTTP/1.1\r\n" + _KEYED + b"\r\n\r\n")
        assert (await answered(reader)).status == 404
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/api/v1/nothing", 404),
        ("GET", V1, 405),
        ("PUT", V2, 405),
        ("GET", "/api/v2/health", 200),
        ("POST", V2, 401),
    ],
)
async def test_unknown_expectation(
    start: Start, upstream: ScriptedUpstream, method: str, path: str, status: int
) -> None:
    """RFC 9110, section 10.1.1: it may be ignored, and is, whatever the path."""
    gateway = await start(config(upstream.url))
    answer = await gateway.request(method, path, key=None, Expect="miracles")
    plain = await gateway.request(method, path, key=None)
    assert answer.status == plain.status == status
    assert answer.headers["server"] == "oc-gateway"
    assert answer.headers["x-request-id"]
    assert answer.json.get("error") == plain.json.get("error")
    assert [line["status"] for line in gateway.log_lines()] == [status, status]


async def test_expectation_in_no_encoding(start: Start, upstream: ScriptedUpstream) -> None:
    """It may be any bytes."""
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        writer.write(b"GET /nothing HTTP/1.1\r\n" + _KEYED + b"\r\nExpect: \xff\r\n\r\n")
        answer = await answered(reader)
    assert (answer.status, answer.error["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert [line["event"] for line in gateway.log_lines()] == ["request"]


@pytest.mark.parametrize("path", [V1, "/nothing"])
async def test_expect_continue(start: Start, upstream: ScriptedUpstream, path: str) -> None:
    """A client that asks is told to go on, and then answered."""
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        writer.write(
            b"POST %b HTTP/1.1\r\n%b\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
            % (path.encode(), _KEYED)
        )
        assert (await answered(reader)).status == 100
        writer.write(b"{}")
        answer = await answered(reader)
    assert answer.status == (400 if path == V1 else 404)
    assert answer.headers["x-request-id"]


PUBLIC = f"""
[limits.tiers.widget]
requests = "100/1s"
[[agents]]
id = 2
workspace = "acme"
name = "Widget"
targets = [ {{ upstream = "main", model = "m" }} ]
[agents.public]
origins = ["{SITE}"]
tier = "widget"
"""


@pytest.mark.parametrize("stream", [True, False])
async def test_origin_in_no_encoding(
    start: Start, upstream: ScriptedUpstream, stream: bool
) -> None:
    """Where any origin may ask, it may be any bytes, and is answered without being named."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url, more=PUBLIC.replace(SITE, "*")))
    asked = written(V2, {"message": "hi", "stream": stream}, Origin="https://?")
    async with connected(gateway) as (reader, writer):
        writer.write(asked.replace(b"?", b"\xff"))
        begun = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"\r\n0\r\n\r\n" if stream else b"}}}")
    assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Access-Control" not in begun
    assert b"Hello" in body


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\n", "\x00", "\x7f", "\udcff"])
async def test_nothing_without_a_head(
    start: Start, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """What cannot stand in a header, wherever it came from, ends the connection: the frames of a
    failure are no answer by themselves."""

    def broken(request: web.BaseRequest, own: str, fields: object, *, keep_alive: bool) -> bytes:
        return head(request, own, {"X-A": value}, keep_alive=keep_alive)

    monkeypatch.setattr("gateway.proxy.downstream.head", broken)
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))
    async with connected(gateway) as (reader, writer):
        writer.write(written(V2, {"message": "hi"}))
        assert await reader.read() == b""
    await gateway.settled()
    assert [line["event"] for line in gateway.log_lines()] == ["internal_error", "request"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nothing", "RESOURCE_NOT_FOUND"),
        ("/api/v2/agents/1", "RESOURCE_NOT_FOUND"),
        ("/api/v1/nothing", "not_found"),
    ],
)
async def test_preflight_of_nothing(
    start: Start, upstream: ScriptedUpstream, path: str, code: str
) -> None:
    """Where there is nothing, a preflight is told so as any other request; so is its page."""
    gateway = await start(config(upstream.url, more=PUBLIC))
    asked = {"Origin": SITE, "Access_Control_Request_Method": "POST"}
    answer = await gateway.request("OPTIONS", path, key=None, **asked)
    assert (answer.status, answer.error["code"]) == (404, code)
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(
    ("path", "methods"), [(V1, "POST"), (V2, "POST"), ("/api/v2/health", "GET, HEAD")]
)
async def test_preflight_names_methods(
    start: Start, upstream: ScriptedUpstream, path: str, methods: str
) -> None:
    """It is told what the path has."""
    gateway = await start(config(upstream.url, more=PUBLIC))
    asked = {"Origin": SITE, "Access_Control_Request_Method": "POST"}
    answer = await gateway.request("OPTIONS", path, key=None, **asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-methods"] == methods


@pytest.mark.parametrize(
    ("path", "code"), [("/api/v1", "not_found"), ("/api/v1x", "RESOURCE_NOT_FOUND")]
)
async def test_words_of_a_bare_prefix(
    start: Start, upstream: ScriptedUpstream, path: str, code: str
) -> None:
    """/api/v1 is v1's without a slash as well; what only begins like it is not."""
    gateway = await start(config(upstream.url))
    assert (await gateway.request("GET", path)).error["code"] == code


async def test_closing_the_sending_side_is_leaving(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The end of what a client sends cannot be told from its leaving: the upstream is left within
    a second."""
    upstream.answers([*said("Hello"), Hang])
    gateway = await start(config(upstream.url))
    path, body = CHATS["v2"]
    async with gateway.raw(path, body) as (reader, writer):
        await reader.readuntil(b"Hello")
        writer.write_eof()
        await upstream.until_open(0, timeout=SECOND)
    await gateway.settled()
    assert await gateway.outcomes() == {"client_gone": 1}


async def test_a_long_head_is_read(start: Start, upstream: ScriptedUpstream) -> None:
    """What is below the limits is served, in however many pieces it comes."""
    upstream.answers(openai_text("Hi"))
    gateway = await start(config(upstream.url))
    body: Json = {"message": "hi", "stream": False}
    data = json.dumps(body)
    head = b"POST %b HTTP/1.1\r\n%b\r\nX-Note: %b\r\nContent-Length: %d\r\n\r\n" % (
        V2.encode(),
        _KEYED,
        b"n" * 8000,
        len(data),
    )
    async with connected(gateway) as (reader, writer):
        for start_at in range(0, len(head), 1000):
            writer.write(head[start_at : start_at + 1000])
            await asyncio.sleep(0)
        writer.write(data)
        assert (await answered(reader)).status == 200
