"""Content codings of answers. We ask for none, and some upstreams and proxies compress anyway."""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli

from gateway.core.errors import ErrorCode, GatewayError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Decompressor = Callable[[bytes], Iterator[bytes]]
"""Compressed bytes to pieces of the body. Raises `GatewayError(UPSTREAM_MALFORMED)`."""

# The most one call unpacks: what is unpacked is handed on before more is.
_PIECE = 64 << 10


class _ZlibLike(Protocol):
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decompressor(coding: str) -> Decompressor | None:
    """What undoes a Content-Encoding; None if there is nothing to undo. Raises for an unknown one
    with the first bytes, so that the error takes the way of every broken body."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    return _CODINGS.get(coding, _unknown)()


def _zlib(window: int) -> Decompressor:
    inflater = zlib.decompressobj(window)

    def inflate(data: bytes) -> Iterator[bytes]:
        while data:
            piece = inflater.decompress(data, _PIECE)
            if piece:
                yield piece
            data = inflater.unconsumed_tail

    return _checked(inflate)


def _zstd() -> Decompressor:
    inflater = zstd.ZstdDecompressor()

    def inflate(data: bytes) -> Iterator[bytes]:
        while data or not (inflater.needs_input or inflater.eof):
            piece = inflater.decompress(data, _PIECE)
            data = b""
            if piece:
                yield piece

    return _checked(inflate)


def _brotli() -> Decompressor:
    inflater = brotli.Decompressor()

    def inflate(data: bytes) -> Iterator[bytes]:
        while data or not inflater.can_accept_more_data():
            piece = inflater.process(data, output_buffer_limit=_PIECE)
            data = b""
            if piece:
                yield piece

    return _checked(inflate)


def _unknown() -> Decompressor:
    def inflate(_data: bytes) -> Iterator[bytes]:
        raise GatewayError(
            ErrorCode.UPSTREAM_MALFORMED, "the upstream sent an unknown content coding"
        )

    return inflate


_CODINGS: dict[str, Callable[[], Decompressor]] = {
    "gzip": lambda: _zlib(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: _zlib(zlib.MAX_WBITS | 16),
    "deflate": lambda: _zlib(zlib.MAX_WBITS),
    "br": _brotli,
    "zstd": _zstd,
}


def _checked(inflate: Decompressor) -> Decompressor:
    """The same, with the libraries' errors as ours."""

    def checked(data: bytes) -> Iterator[bytes]:
        try:
            yield from inflate(data)
        except (zlib.error, zstd.ZstdError, brotli.error, EOFError) as exc:
            raise GatewayError(
                ErrorCode.UPSTREAM_MALFORMED, "the upstream's compressed answer cannot be read"
            ) from exc

    return checked
