"""Handshakes that succeed, fail, or do neither."""

import asyncio
import gc
import ssl

import pytest

from gateway.http import tls
from tests.e2e.conftest import Start
from tests.e2e.running import Running, config, eventually
from tests.e2e.scripted import PATIENCE, ScriptedUpstream, openai_text
from tests.tls.shaking import address, anyone, shake

secure = pytest.mark.parametrize("start", ["tls"], indirect=True)
ECHOING = config("", kind="echo", target="")


@secure
async def test_what_is_agreed_upon(start: Start) -> None:
    """HTTP/1.1, also by clients that would rather have another one, or say nothing; TLS 1.3, or
    1.2 with those that know no better."""
    gateway = await start(ECHOING)
    both, only, older = anyone(), anyone(), anyone()
    both.set_alpn_protocols(["h2", "http/1.1"])
    only.set_alpn_protocols(["h2"])
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    made = [await shake(gateway.url, context) for context in (both, only, anyone(), older)]

    assert [each.protocol for each in made] == ["http/1.1", None, None, None]
    assert [each.version for each in made] == ["TLSv1.3", "TLSv1.3", "TLSv1.3", "TLSv1.2"]


@secure
async def test_every_dialect_is_served(start: Start, upstream: ScriptedUpstream) -> None:
    """As without TLS, and many requests on one connection."""
    upstream.answers(openai_text("Hello"))
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v1()).text == "Hello"
    assert (await gateway.chat_v2()).text == "Hello"
    assert (await gateway.chat_v2(stream=False)).json["data"]
    assert (await gateway.request("GET", "/nowhere")).status == 404
    assert {line["client"] for line in gateway.log_lines()} == {"127.0.0.1"}


@secure
async def test_a_body_in_many_records(start: Start) -> None:
    """One that is larger than a record, and one that comes byte by byte."""
    gateway = await start(ECHOING)
    text = "注文" * 50_000
    answer = await gateway.chat_v2(text, stream=False)
    assert answer.status == 200
    assert text in answer.body.decode()


@secure
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\x03\x01", id="the beginning of one"),
    ],
)
async def test_a_handshake_that_never_ends(
    start: Start, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its time, and is cut; nobody is told of it."""
    monkeypatch.setattr(tls, "_HANDSHAKE", 0.1)
    gateway = await start(ECHOING)
    reader, writer = await asyncio.open_connection(*address(gateway.url))
    writer.write(said)
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()
    assert not gateway.log_lines()


@secure
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: canary\r\n\r\n", id="plain HTTP"),
        pytest.param(b"\0" * 4000, id="noise"),
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 600, id="no hello"),
    ],
)
async def test_what_is_no_handshake(
    start: Start, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends with nothing but an alert, and no log holds what was sent."""
    gateway = await start(ECHOING)
    for _ in range(20):
        reader, writer = await asyncio.open_connection(*address(gateway.url))
        writer.write(said)
        async with asyncio.timeout(PATIENCE):
            assert b"HTTP" not in await _until_end(reader)
        writer.close()

    assert (await gateway.chat_v2()).status == 200
    assert len(gateway.log_lines()) == 1
    assert not caplog.records
    await _nobody_arrives(gateway)


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def _nobody_arrives(gateway: Running) -> None:
    def gone() -> bool:
        gc.collect()  # what failed was a cycle
        return not gateway.gateway.public._runner.arriving(0.0)

    await eventually(gone)


@secure
async def test_clients_that_leave_in_the_handshake(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A balancer's check connects and hangs up, again and again."""
    gateway = await start(ECHOING)
    for cut in (True, False):
        for _ in range(50):
            _, writer = await asyncio.open_connection(*address(gateway.url))
            if cut:
                writer.transport.abort()
            writer.close()
    await _nobody_arrives(gateway)
    assert not gateway.log_lines()
    assert not caplog.records


async def test_plain_listeners_speak_no_tls(start: Start) -> None:
    """Nor does the admin's, whatever the other one does."""
    gateway = await start(ECHOING)
    for url in (gateway.url, gateway.gateway.admin.url):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shake(url)
