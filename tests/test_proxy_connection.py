"""One answer, fed by hand: however its bytes are cut, it is the same."""

import asyncio

import pytest

from gateway.core.errors import ErrorCode, GatewayError
from gateway.proxy.connection import Connection, RemoteAnswer


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
