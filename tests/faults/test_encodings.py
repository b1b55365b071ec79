"""An upstream that compresses although it was asked not to."""

import asyncio
import gzip
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest

from tests.e2e.conftest import Start
from tests.e2e.running import config
from tests.e2e.scripted import (
    END,
    Hang,
    Script,
    ScriptedUpstream,
    Wait,
    chunk,
    delta,
    document,
    event,
    finish,
    head,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = event(delta("Hello")) + event(delta(" world")) + event(finish()) + b"data: [DONE]\n\n"

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "identity": bytes,
}


def packed(coding: str, body: bytes, piece: int = 7) -> Script:
    """A stream of this coding, in small chunks."""
    pieces = [body[i : i + piece] for i in range(0, len(body), piece)]
    return [head(Content_Encoding=coding), *map(chunk, pieces), END]


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_stream_is_read(
    coding: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """It is unpacked, and the client is told neither the coding nor the length of what it was."""
    upstream.answers(packed(coding, CODINGS[coding](PLAIN)))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert answer.text == "Hello world"
    assert answer.frames[-1] == ("message", "[DONE]")
    assert "content-encoding" not in answer.headers
    assert "content-length" not in answer.headers
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert (await gateway.chat_v2()).text == "Hello world"
    assert upstream.accepted == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_error_is_read(
    coding: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """The message of a 400 passes on also where it came compressed."""
    body = CODINGS[coding](b'{"error": {"message": "max_tokens is too large"}}')
    fields = {"Content_Length": str(len(body)), "Content_Encoding": coding}
    upstream.answers([head(400, "application/json", **fields) + body])
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2()).error["message"] == "max_tokens is too large"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_what_cannot_be_unpacked_is_malformed(
    coding: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Bytes that are not of the coding they claim."""
    upstream.answers(packed(coding, b"\xff\xfe" + PLAIN, piece=1000))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert answer.status == 502
    assert await gateway.upstream_errors() == {"upstream_malformed": 1}


@pytest.mark.parametrize("coding", ["compress", "gzip, br"])
async def test_an_unknown_coding_is_malformed(
    coding: str, start: Start, upstream: ScriptedUpstream
) -> None:
    """Never is it taken for text."""
    upstream.answers(packed(coding, PLAIN))
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2()).status == 502
    assert await gateway.upstream_errors() == {"upstream_malformed": 1}


async def test_a_compressed_stream_that_breaks_is_an_error(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The first half is read, the rest is not of the coding: an error frame, and no finish."""
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(event(delta("Hello"))) + packer.flush(zlib.Z_SYNC_FLUSH)
    seen = asyncio.Event()
    coded = head(Content_Encoding="gzip")
    upstream.answers([coded, chunk(good), Wait(seen), chunk(b"\xff" * 50), Hang])
    gateway = await start(config(upstream.url))
    answer = await gateway.stepwise("v1", (b"Hello", seen))

    assert b"event: error" in answer
    assert b"event: done" not in answer
    await upstream.until_open(0, timeout=1.0)
    assert await gateway.upstream_errors() == {"upstream_malformed": 1}


async def test_a_compressed_stream_that_is_cut_is_truncated(
    start: Start, upstream: ScriptedUpstream
) -> None:
    """The HTTP message ends well and the coding does not."""
    upstream.answers(packed("gzip", gzip.compress(PLAIN)[:-30]))
    gateway = await start(config(upstream.url))
    await gateway.chat_v2()

    assert await gateway.upstream_errors() == {"upstream_truncated": 1}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_bomb_is_cut(coding: str, start: Start, upstream: ScriptedUpstream) -> None:
    """What a small body unpacks to counts against `max_answer` too."""
    bomb = CODINGS[coding](b": nothing\n\n" * 1_000_000)
    assert len(bomb) < 100_000
    upstream.answers(packed(coding, bomb, piece=1 << 20))
    gateway = await start(config(upstream.url, upstream='max_answer = "1MiB"'))

    assert (await gateway.chat_v2()).status == 502
    assert await gateway.upstream_errors() == {"upstream_oversized": 1}


async def test_a_bomb_of_an_error_is_cut(start: Start, upstream: ScriptedUpstream) -> None:
    """Of an error's body only the start is read, however it was packed."""
    bomb = gzip.compress(b"x" * 20_000_000)
    fields = {"Content_Length": str(len(bomb)), "Content_Encoding": "gzip"}
    upstream.answers([head(400, **fields) + bomb], document({}, 503))
    gateway = await start(config(upstream.url))

    assert (await gateway.chat_v2()).status == 400
    assert (await gateway.chat_v2()).status == 502
    await gateway.settled()
