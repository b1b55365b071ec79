"""One answer, fed by hand: however its bytes are cut, it is the same."""

import asyncio
import gzip
import zlib

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.connection import Connection
from gateway.proxy.remote import MAX_HEAD, RemoteAnswer


class Wire(asyncio.Transport):
    """A transport that only notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Body:
    """A sink that gathers."""

    def __init__(self) -> None:
        self.data_ = b""
        self.ends: list[ErrorCode | None] = []

    def data(self, data: bytes) -> None:
        self.data_ += data

    def eof(self, error: GatewayError | None) -> None:
        self.ends.append(error.code if error else None)


class Pool:
    """A connection on a wire, and where it went."""

    def __init__(self, max_answer: int = 1 << 20) -> None:
        self.free: list[Connection] = []
        self.lost: list[Connection] = []
        self.wire = Wire()
        self.connection = Connection(self.free.append, self.lost.append)
        self.connection.connection_made(self.wire)
        self.answer: RemoteAnswer = self.connection.exchange(b"request", max_answer)
        self.body = Body()

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)


ANSWER = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-A: 1\r\nx-a: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
    b"5\r\nHello\r\n1;ext\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
)


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
async def test_no_cut_changes_the_answer(cut: int) -> None:
    """Split once at each byte."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(ANSWER[:cut], ANSWER[cut:])

    _holds_the_answer(pool)


async def test_byte_by_byte_is_the_same() -> None:
    """Every byte is a read of its own."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(*(bytes([byte]) for byte in ANSWER))

    _holds_the_answer(pool)


async def test_the_body_waits_for_its_sink() -> None:
    """What came with the head is kept until somebody asks for it."""
    pool = Pool()
    pool.feed(ANSWER)
    pool.answer.relay(pool.body)

    _holds_the_answer(pool)


def _holds_the_answer(pool: Pool) -> None:
    assert pool.wire.written == b"request"
    assert pool.answer.head.done()
    assert pool.answer.status == 200
    assert pool.answer.headers["x-a"] == "2"
    assert "trailer" not in pool.answer.headers
    assert pool.body.data_ == b"Hello world"
    assert pool.body.ends == [None]
    pool.answer.release()
    assert pool.free == [pool.connection]
    assert not pool.wire.aborted


async def test_a_second_answer_is_nobodys() -> None:
    """Neither its status nor its body are taken for the first's, and the connection goes."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(ANSWER + b"HTTP/1.1 500 No\r\nContent-Length: 2\r\nX-B: 1\r\n\r\nno")

    assert (pool.answer.status, pool.body.data_) == (200, b"Hello world")
    assert "x-b" not in pool.answer.headers
    pool.answer.release()
    assert (pool.free, pool.wire.aborted) == ([], True)


async def test_garbage_after_the_end_costs_the_connection() -> None:
    """The answer is whole; what follows it is no answer to anything."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(ANSWER, b"garbage\r\n\r\n")

    assert pool.body.ends == [None]
    pool.answer.release()
    assert (pool.free, pool.wire.aborted) == ([], True)


async def test_a_paused_connection_reads_again_when_it_is_free() -> None:
    """A slow client's pause does not stay with the connection."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.answer.pause()
    assert pool.wire.paused
    pool.feed(ANSWER)
    pool.answer.release()

    assert not pool.wire.paused
    assert pool.free == [pool.connection]


async def test_a_closed_answer_bears_every_call() -> None:
    """Whoever comes late does no harm."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.answer.close()
    for late in (pool.answer.pause, pool.answer.resume, pool.answer.release, pool.answer.close):
        late()
    pool.feed(b"late")
    pool.connection.connection_lost(None)

    assert pool.wire.aborted
    assert (pool.free, pool.lost) == ([], [pool.connection])
    assert pool.body.ends == []


async def test_an_answer_ends_once() -> None:
    """Too large, then broken, then closed: the first is what counts."""
    pool = Pool(max_answer=200)
    pool.answer.relay(pool.body)
    pool.feed(ANSWER[:150], b"zz" * 50, b"more")
    pool.connection.connection_lost(None)

    assert pool.body.ends == [ErrorCode.UPSTREAM_MALFORMED]


async def test_a_cancelled_wait_for_the_head_is_no_trouble() -> None:
    """The turn has gone; what still comes finds nobody."""
    pool = Pool()
    waiting = asyncio.ensure_future(pool.answer.head)
    waiting.cancel()
    pool.feed(ANSWER)
    pool.answer.close()

    assert pool.answer.head.cancelled()


def head_of(fields: int, start: bytes = b"HTTP/1.1 200 OK\r\n") -> bytes:
    return start + b"".join(b"a%d: b\r\n" % number for number in range(fields)) + b"\r\n"


@pytest.mark.parametrize("size", [1 << 20, 1000, 7])
async def test_a_head_that_is_too_large(size: int) -> None:
    """Whether it comes in one read, in which it ends, or in many."""
    data = head_of(20_000)
    assert len(data) > MAX_HEAD
    pool = Pool()
    pool.feed(*(data[start : start + size] for start in range(0, len(data), size)))

    error = pool.answer.head.exception()
    assert isinstance(error, GatewayError)
    assert error.code is ErrorCode.UPSTREAM_MALFORMED
    assert len(pool.answer.headers) < MAX_HEAD / 8


async def test_interim_heads_count_too() -> None:
    """Each is small, and there is no end of them."""
    pool = Pool()
    pool.feed(head_of(1000, b"HTTP/1.1 103 Early Hints\r\n") * 20 + ANSWER)

    assert isinstance(pool.answer.head.exception(), GatewayError)


async def test_the_largest_head_passes() -> None:
    """Just within the limit, in one read."""
    pool = Pool()
    pool.feed(head_of(5000))

    assert pool.answer.head.result() is None
    assert len(pool.answer.headers) == 5000


class Slow(Body):
    """A client that falls behind with every piece."""

    def __init__(self, answer: RemoteAnswer) -> None:
        super().__init__()
        self.pieces = 0
        self._answer = answer

    def data(self, data: bytes) -> None:
        super().data(data)
        self.pieces += 1
        self._answer.pause()


def packed(body: bytes, end: bytes = b"") -> bytes:
    data = gzip.compress(body) + end
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % len(data) + data


LONG = b"Hello world. " * 200_000


async def turns(number: int = 60) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_slow_client_pauses_the_unpacking() -> None:
    """One read may unpack to a long answer: it is given as the client takes it."""
    pool = Pool(max_answer=len(LONG) * 2)
    slow = Slow(pool.answer)
    pool.answer.relay(slow)
    pool.feed(packed(LONG))
    await turns()
    assert slow.pieces == 1

    while not slow.ends:
        pieces = slow.pieces
        pool.answer.resume()
        await turns()
        assert slow.pieces <= pieces + 1

    assert (slow.data_ == LONG, slow.ends) == (True, [None])


async def test_a_long_answer_is_unpacked_in_turns() -> None:
    """Other turns have theirs in between, and nothing more is read until it is done."""
    pool = Pool(max_answer=len(LONG) * 2)
    pool.answer.relay(pool.body)
    data = packed(LONG)
    pool.feed(data[:-1])
    assert 0 < len(pool.body.data_) < len(LONG) / 4
    assert pool.wire.paused

    pool.feed(data[-1:])  # TLS may have had it in hand
    assert pool.body.ends == []
    await turns()

    assert (pool.body.data_ == LONG, pool.body.ends) == (True, [None])
    assert not pool.wire.paused
    pool.answer.release()
    assert pool.free == [pool.connection]


async def test_a_connection_that_is_lost_while_unpacking() -> None:
    """What has come is handed on first, then the error."""
    pool = Pool(max_answer=len(LONG) * 2)
    pool.answer.relay(pool.body)
    pool.feed(packed(LONG)[:-1])
    pool.connection.connection_lost(None)
    assert pool.body.ends == []
    await turns()

    assert (pool.body.data_ == LONG, pool.body.ends) == (True, [ErrorCode.UPSTREAM_TRUNCATED])


@pytest.mark.parametrize("end", ["release", "close"])
async def test_nothing_is_unpacked_for_nobody(end: str) -> None:
    """The turn is over: what is left is let go, also if the client was behind."""
    pool = Pool(max_answer=len(LONG) * 2)
    slow = Slow(pool.answer)
    pool.answer.relay(slow)
    pool.feed(packed(LONG))
    pool.answer.resume()
    getattr(pool.answer, end)()
    await turns()

    assert (slow.pieces, slow.ends) == (1, [])
    assert pool.free == [pool.connection]
    assert not pool.wire.paused


async def test_an_unpacked_answer_that_is_too_large() -> None:
    """It ends at the limit, once."""
    pool = Pool(max_answer=200_000)
    pool.answer.relay(pool.body)
    pool.feed(packed(LONG), b"")
    await turns()

    assert len(pool.body.data_) <= 200_000
    assert pool.body.ends == [ErrorCode.UPSTREAM_OVERSIZED]


async def test_an_unknown_coding_ends_the_answer() -> None:
    """Also if its body comes in a read of its own: the error goes the way of all others."""
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(b"HTTP/1.1 200 OK\r\nContent-Encoding: x\r\nContent-Length: 2\r\n\r\n", b"ab")

    assert pool.body.ends == [ErrorCode.UPSTREAM_MALFORMED]


async def test_what_was_good_comes_before_the_error() -> None:
    """What had come before a compressed body broke is handed on."""
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(b"Hello") + packer.flush(zlib.Z_SYNC_FLUSH)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    pool = Pool()
    pool.answer.relay(pool.body)
    pool.feed(head, good, b"\xff" * 40)
    await turns()

    assert pool.body.data_[:5] == b"Hello"
    assert pool.body.ends == [ErrorCode.UPSTREAM_MALFORMED]
