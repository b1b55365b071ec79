"""An upstream that compresses although it was asked not to."""

import asyncio
import gzip
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.encoding import decompressor
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
from tests.golden_cases import cut

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = event(delta("Hello")) + event(delta(" world")) + event(finish()) + b"data: [DONE]\n\n"


def bare_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


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


def several(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Each event a stream of its own, and empty ones between them."""
    return lambda body: b"".join(
        pack(event + b"\n\n") + pack(b"") for event in body.removesuffix(b"\n\n").split(b"\n\n")
    )


ODD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip members": ("gzip", several(gzip.compress)),
    "zstd frames": ("zstd", several(zstd.compress)),
    "bare deflate": ("deflate", bare_deflate),
    "padded gzip": ("gzip", lambda body: gzip.compress(body) + bytes(50)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("piece", [1, 1 << 20])
async def test_an_odd_form_is_read(
    odd: str, piece: int, start: Start, upstream: ScriptedUpstream
) -> None:
    """All that the codings allow, and what servers have made of them."""
    coding, pack = ODD[odd]
    upstream.answers(packed(coding, pack(PLAIN), piece))
    gateway = await start(config(upstream.url))
    answer = await gateway.chat_v2()

    assert answer.text == "Hello world"
    assert answer.frames[-1] == ("message", "[DONE]")


def unpacked(coding: str, chunks: list[bytes]) -> tuple[bytes, bool]:
    """What is read of a body that comes in these reads, and whether it then breaks."""
    unpack, body = decompressor(coding), b""
    assert unpack is not None
    try:
        for data in chunks:
            for piece in unpack(data):
                body += piece
    except GatewayError as exc:
        return body, exc.code is ErrorCode.UPSTREAM_MALFORMED
    return body, False


FORMS = [*CODINGS.items(), *ODD.values()]


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from([form for form in FORMS if form[0] != "identity"]),
    body=st.binary(max_size=300),
    times=st.sampled_from([1, 1, 1000]),
    places=st.lists(st.integers(0, 400), max_size=4),
)
def test_no_cut_changes_what_is_read(
    form: tuple[str, Callable[[bytes], bytes]],
    body: bytes,
    times: int,
    places: list[int],
) -> None:
    """A body is the same in however many reads it comes."""
    coding, pack = form
    data = pack(body * times)

    whole = unpacked(coding, [data])

    assert unpacked(coding, cut(data, places)) == whole
    assert unpacked(coding, [bytes([byte]) for byte in data]) == whole


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1_000_000])
def test_all_of_it_is_read(coding: str, size: int) -> None:
    """Nothing is left in the inflater, at whatever length a piece ends."""
    for pack in (CODINGS[coding], bare_deflate) if coding == "deflate" else (CODINGS[coding],):
        body, broken = unpacked(coding, [pack(b"x" * size)])
        assert (len(body), body.strip(b"x"), broken) == (size, b"", False)


def windowed(log: int) -> bytes:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: log}
    packer = zstd.ZstdCompressor(options=options)
    # Flushed before its end, the length is unknown and the window is what it says.
    return packer.compress(b"Hello", packer.FLUSH_BLOCK) + packer.flush()


def test_a_zstd_window_is_bounded() -> None:
    """A frame that asks for more memory than the web allows is refused."""
    assert unpacked("zstd", [windowed(23)]) == (b"Hello", False)
    assert unpacked("zstd", [windowed(24)]) == (b"", True)


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
    await upstream.until_open(0)
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
