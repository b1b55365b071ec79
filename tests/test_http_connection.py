"""A client's connection: its clocks, bugs on it, and with them what is relied on of aiohttp."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gateway.config.clients import Mounts
from gateway.core.errors import ErrorCode, GatewayError
from gateway.http.connection import OUTERMOST
from gateway.http.middleware import Handler, Outermost
from gateway.http.paths import Paths
from gateway.http.request import Request
from gateway.http.server import Listener
from gateway.observe.ledger import Ledger
from gateway.observe.logs import build_logger
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import Passing
from tests.e2e.scripted import PATIENCE

HEAD, KEEPALIVE = 0.5, 2.0
FOREVER = 60.0
"""A clock that runs out in no test."""

REQUEST = b"GET / HTTP/1.1\r\nHost: canary\r\n\r\n"
OK = b"HTTP/1.1 200 OK"

Connect = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def outermost(log: io.BytesIO) -> Outermost:
    """The middleware, writing its log there."""
    paths = Paths(Mounts().model_dump())
    logger, tracer = build_logger("info", log), Passing(from_clients=True)
    return Outermost(paths, Metrics(), logger, tracer, Ledger(), lambda: ())


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects to a listener of its own, with short clocks."""
    listeners: list[Listener] = []
    writers: list[asyncio.StreamWriter] = []

    async def connect(
        app: web.Application, keepalive: float = KEEPALIVE
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        listener = Listener(app, "server", "127.0.0.1", 0, keepalive=keepalive, head_timeout=HEAD)
        await listener.start()
        listeners.append(listener)
        port = int(listener.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()
    for listener in listeners:
        await listener.stop()


def serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/", handler)
    return app


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def closed_after(reader: asyncio.StreamReader) -> float:
    """Seconds until the other side closes, and nothing comes before."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    return loop.time() - began


async def answer(reader: asyncio.StreamReader) -> bytes:
    """A response without a body."""
    async with asyncio.timeout(PATIENCE):
        return await reader.readuntil(b"\r\n\r\n")


async def test_silence_from_the_start(connect: Connect) -> None:
    """A connection that never sends anything has the time of a head."""
    reader, _ = await connect(serving(echo), FOREVER)
    assert await closed_after(reader) > HEAD * 0.5


@pytest.mark.parametrize("served", [0, 1, 2])
async def test_slow_head(connect: Connect, served: int) -> None:
    """A head that drips has the same time as one that stops, on a new connection or a kept one."""
    reader, writer = await connect(serving(echo), FOREVER)
    for _ in range(served):
        writer.write(REQUEST)
        assert (await answer(reader)).startswith(OK)
    dripping = asyncio.ensure_future(_drip(writer))
    await closed_after(reader)
    dripping.cancel()


async def _drip(writer: asyncio.StreamWriter) -> None:
    for byte in REQUEST:
        writer.write(bytes([byte]))
        await asyncio.sleep(HEAD / 4)


async def test_idle(connect: Connect) -> None:
    """A connection that has served is kept for the next request, but not for ever."""
    reader, writer = await connect(serving(echo))
    writer.write(REQUEST)
    assert (await answer(reader)).startswith(OK)
    await asyncio.sleep(HEAD * 2)
    writer.write(REQUEST)
    assert (await answer(reader)).startswith(OK)
    assert await closed_after(reader) > KEEPALIVE * 0.9


async def test_head_in_pieces_within_its_time(connect: Connect) -> None:
    """Its clock is no longer there when the request is served."""

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(HEAD * 1.5)
        return web.Response()

    reader, writer = await connect(serving(slow))
    for _ in range(2):
        writer.write(REQUEST[:20])
        await asyncio.sleep(0.01)
        writer.write(REQUEST[20:])
        assert (await answer(reader)).startswith(OK)


async def test_body_has_its_own_time(connect: Connect) -> None:
    """The head's clock is not the body's, also where that comes byte by byte."""
    reader, writer = await connect(serving(echo))
    writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n")
    for _ in range(6):
        await asyncio.sleep(HEAD / 3)
        writer.write(b"x")
    assert (await answer(reader)).startswith(OK)
    assert await reader.readexactly(6) == b"xxxxxx"


async def test_rest_of_a_refused_body_is_no_head(connect: Connect) -> None:
    """What is still sent of a body that nobody reads starts no clock."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=413)

    reader, writer = await connect(serving(refuse), FOREVER)
    writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n")
    assert b" 413 " in await answer(reader)
    writer.write(b"xxx")
    await asyncio.sleep(0.01)
    writer.write(b"xxx")
    await asyncio.sleep(HEAD * 2)
    writer.write(REQUEST)
    assert b" 413 " in await answer(reader)


async def test_pipelined_requests(connect: Connect) -> None:
    """Each is answered, in order; the body of one is not broken by the head of the next."""
    reader, writer = await connect(serving(echo))
    request = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"
    writer.write(request + b"one" + request + b"two" + request + b"th")
    await asyncio.sleep(0.01)
    writer.write(b"3")
    for body in (b"one", b"two", b"th3"):
        assert (await answer(reader)).startswith(OK)
        assert await reader.readexactly(3) == body


async def test_more_requests_than_wait_in_a_queue(connect: Connect) -> None:
    """All are answered, though the first one's body has come in two reads."""
    reader, writer = await connect(serving(echo))
    request = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\none"
    writer.write(request[:-1])
    await asyncio.sleep(0.01)
    writer.write(request[-1:] + request * 99)
    for _ in range(100):
        assert (await answer(reader)).startswith(OK)
        assert await reader.readexactly(3) == b"one"


async def test_many_requests_in_one_read_leave_others_their_turn(connect: Connect) -> None:
    """Each is served in another turn of the loop, though nothing has to be waited for."""
    loop, turn, served = asyncio.get_running_loop(), 0, list[int]()

    def tick() -> None:
        nonlocal turn
        turn += 1
        if len(served) < 100:
            loop.call_soon(tick)

    async def at_once(_request: web.Request) -> web.Response:
        served.append(turn)
        return web.Response()

    reader, writer = await connect(serving(at_once))
    writer.write(REQUEST * 100)
    tick()
    for _ in range(100):
        assert (await answer(reader)).startswith(OK)

    assert len(set(served)) == 100


async def test_whole_requests_before_and_after_one_in_pieces(connect: Connect) -> None:
    """What has come whole is served without a task of its own, and the rest by aiohttp: both in
    order, on one connection."""
    reader, writer = await connect(serving(echo))
    request = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"
    for pieces in ((request + b"one",), (request, b"t", b"wo"), (request + b"thr",)):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        assert (await answer(reader)).startswith(OK)
        assert await reader.readexactly(3) == b"".join(pieces)[-3:]


async def test_a_client_that_leaves_cancels_its_request(connect: Connect) -> None:
    """Also without a task of its own."""
    over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def hang(_request: web.Request) -> web.Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            over.set_result(True)
            raise
        return web.Response()

    _, writer = await connect(serving(hang))
    writer.write(REQUEST)
    await asyncio.sleep(0.01)
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE):
        assert await over


@pytest.mark.parametrize("target", ["/?a=%62", "http://test/?a=%62"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kept", ["close", "keep-alive"])
async def test_what_a_request_has(connect: Connect, target: str, version: str, kept: str) -> None:
    """All that aiohttp's own has; and what is an attribute of ours says what its property does."""
    differ: list[str] = []

    async def compare(ours: web.Request) -> web.Response:
        assert isinstance(ours, Request)
        theirs = web.Request(
            ours._message,
            ours._payload,
            ours._protocol,
            ours._payload_writer,
            ours._task,
            ours._loop,
            client_max_size=ours._client_max_size,
            client_max_fields=ours._client_max_fields,
        )
        has, should = vars(ours), vars(theirs)
        differ.extend(has.keys() ^ should.keys() ^ {"_match_info"})  # which is the router's
        given = should.keys() - {"_cache"}  # of what it was asked since
        differ.extend(name for name in given if has[name] != should[name])
        said = ("url", "host", "remote", "path", *Request.__slots__)
        differ.extend(name for name in said if getattr(ours, name) != getattr(theirs, name))
        return web.Response()

    app = web.Application()
    app.router.add_put("/", compare)
    reader, writer = await connect(app)
    lines = f"PUT {target} HTTP/{version}\r\nHost: test\r\nConnection: {kept}\r\n\r\n"
    writer.write(lines.encode())
    assert b" 200 " in await answer(reader)
    assert not differ


async def broken(request: web.Request) -> web.Response:
    raise RuntimeError(request.host)


async def test_bug_past_the_middleware(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """A 500 in the path's words; the log says where it was raised, and not what it said."""
    log = io.BytesIO()
    app = serving(broken)
    app[OUTERMOST] = outermost(log)
    reader, writer = await connect(app)
    writer.write(REQUEST)
    head = await answer(reader)
    assert b" 500 " in head.partition(b"\r\n")[0]
    assert b"Server: oc-gateway\r\n" in head
    assert b"X-Request-Id: " in head
    assert b"the gateway failed to serve this request" in await reader.read()
    error, request = log.getvalue().splitlines()
    assert b"internal_error" in error
    assert b"RuntimeError" in error
    assert b'"status":500' in request
    assert b"canary" not in log.getvalue()
    assert not caplog.records


async def test_bug_after_the_head(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """What has begun is cut, not answered twice."""

    async def handler(request: web.Request) -> web.Response:
        response = web.StreamResponse()
        await response.prepare(request)
        return await broken(request)

    log = io.BytesIO()
    app = serving(handler)
    app[OUTERMOST] = outermost(log)
    reader, writer = await connect(app)
    writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).count(b"HTTP/1.1 ") == 1
    assert b"internal_error" in log.getvalue()
    assert b"canary" not in log.getvalue()
    assert not caplog.records


async def test_error_after_the_head(connect: Connect) -> None:
    """Behind the middleware, too: the client sees that the answer is not whole."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise GatewayError(ErrorCode.UNAVAILABLE, "the gateway is restarting, try again")

    log = io.BytesIO()
    answers = outermost(log)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await answers(request, handler)

    app = web.Application(middlewares=[middleware])
    app.router.add_get("/", half)
    reader, writer = await connect(app)
    writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
            assert answer.count(b"HTTP/1.1 ") == 1
            assert not answer.endswith(b"0\r\n\r\n")
    assert b'"outcome":"unavailable"' in log.getvalue()
    assert b"internal_error" not in log.getvalue()


async def test_application_without_words(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The admin's: what does not parse is refused without a word of it, and bugs are logged."""
    reader, writer = await connect(serving(echo))
    writer.write(b"GET / HTTP/1.1\r\nHost: canary\r\nAuthorization: \x01canary\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        refusal = await reader.read()
    assert b" 400 " in refusal.partition(b"\r\n")[0]
    assert b"canary" not in refusal
    assert not caplog.records

    reader, writer = await connect(serving(broken))
    writer.write(REQUEST)
    async with asyncio.timeout(PATIENCE):
        failure = await reader.read()
    assert b" 500 " in failure.partition(b"\r\n")[0]
    assert b"canary" not in failure
    assert [record.name for record in caplog.records] == ["aiohttp.server"]
