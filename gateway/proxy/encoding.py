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

# Of compressed bytes, the most that are looked at in one go. The libraries copy what is behind the
# end of a stream, which is quadratic where many short ones come in one read.
_SLICE = 16 << 10

# RFC 9659: no zstd window on the web is larger. A frame may claim gigabytes.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class _Inflater(Protocol):
    """One compressed stream, of which a body may have several."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def pieces(self, data: bytes) -> Iterator[bytes]: ...


def decompressor(coding: str) -> Decompressor | None:
    """What undoes a Content-Encoding; None if there is nothing to undo. Raises for an unknown one
    with the first bytes, so that the error takes the way of every broken body."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    return _CODINGS.get(coding, _unknown)()


class _Zlib:
    def __init__(self, window: int) -> None:
        self._inflater = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        # All input may be taken with output still to come.
        while data or len(piece) == _PIECE:
            piece = self._inflater.decompress(data, _PIECE)
            if piece:
                yield piece
            data = self._inflater.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        self._inflater = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data or not (self._inflater.needs_input or self._inflater.eof):
            piece = self._inflater.decompress(data, _PIECE)
            data = b""
            if piece:
                yield piece


def _one_after_another(begin: Callable[[bytes], _Inflater]) -> Decompressor:
    """All the streams of a body: gzip's members (RFC 1952, 2.2) or zstd's frames. `begin` is given
    the first bytes of each."""
    inflater: _Inflater | None = None

    def inflate(data: bytes) -> Iterator[bytes]:
        nonlocal inflater
        if inflater is None and data:
            inflater = begin(data)
        while inflater and data:
            if inflater.eof:
                data = data.lstrip(b"\0")  # some pad with zeros
                if not data:
                    return
                inflater = begin(data)
            yield from inflater.pieces(data)
            data = inflater.unused_data if inflater.eof else b""

    return inflate


def _deflated(data: bytes) -> _Inflater:
    # "deflate" is zlib's format (RFC 9110, 8.4.1.2), and some send bare deflate: the method in the
    # header's first byte is 8, which no encoder begins a bare stream with.
    return _Zlib(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)


def _gzip() -> Decompressor:
    return _one_after_another(lambda _: _Zlib(zlib.MAX_WBITS | 16))


def _deflate() -> Decompressor:
    return _one_after_another(_deflated)


def _zstd() -> Decompressor:
    return _one_after_another(lambda _: _Zstd())


def _brotli() -> Decompressor:
    inflater = brotli.Decompressor()

    def inflate(data: bytes) -> Iterator[bytes]:
        piece = b""
        # It also says that it can accept more where output is still to come.
        while data or piece or not inflater.can_accept_more_data():
            piece = inflater.process(data, output_buffer_limit=_PIECE)
            data = b""
            if piece:
                yield piece

    return inflate


def _unknown() -> Decompressor:
    def inflate(_data: bytes) -> Iterator[bytes]:
        raise GatewayError(
            ErrorCode.UPSTREAM_MALFORMED, "the upstream sent an unknown content coding"
        )

    return inflate


def _checked(inflate: Decompressor) -> Decompressor:
    """The same, with the libraries' errors as ours."""

    def checked(data: bytes) -> Iterator[bytes]:
        try:
            # In slices: what a library has unpacked is lost when the same call ends in an error.
            for start in range(0, len(data), _SLICE):
                yield from inflate(data[start : start + _SLICE])
        except (zlib.error, zstd.ZstdError, brotli.error) as exc:
            raise GatewayError(
                ErrorCode.UPSTREAM_MALFORMED, "the upstream's compressed answer cannot be read"
            ) from exc

    return checked


_CODINGS: dict[str, Callable[[], Decompressor]] = {
    "gzip": lambda: _checked(_gzip()),
    "x-gzip": lambda: _checked(_gzip()),
    "deflate": lambda: _checked(_deflate()),
    "br": lambda: _checked(_brotli()),
    "zstd": lambda: _checked(_zstd()),
}
